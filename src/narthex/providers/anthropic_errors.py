"""Errors of Anthropic's API: refused requests, and error events within a stream.

Source: contract section 1.9; the API's own page on errors.

Rule: only a refusal of the request itself passes its message on, since it is for the caller. The others' texts may name
our key, our organisation or what it has paid, and stay here.
"""

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from narthex.core.errors import (
    UpstreamCredentials,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from narthex.providers.retry_hints import Headers, retry_after_s
from narthex.wire.json import UNREADABLE

_MESSAGE_CHARACTERS = 2000
_FAILED = "The model's server failed."

_STATUS: Mapping[str, int] = {
    "invalid_request_error": 400,
    "authentication_error": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "api_error": 500,
    "timeout_error": 504,
    "overloaded_error": 529,
}
"""Types of errors by the status that comes with each: within a stream only the type is told."""

# Both come as 400 `invalid_request_error`, like every other refusal: nothing but the text tells them apart.
_TOO_LONG = re.compile(r"prompt is too long|exceeds? (the )?context (limit|window)", re.IGNORECASE).search
_UNPAID = re.compile(r"credit balance|API usage limits|spend limit", re.IGNORECASE).search

_decode = msgspec.json.Decoder().decode


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The error that a response without a stream stands for. `headers` have lower-case names."""
    try:
        document = _decode(body)
    except UNREADABLE:
        document = None
    error = document.get("error") if isinstance(document, dict) else None
    wait_s = retry_after_s(headers, document, limited=status == 429)
    return _error(status, _member(error, "message"), retry_after_s=wait_s)


def stream_error(error: Any) -> UpstreamError:
    """The error that an error event stands for; `error` is the value of its `error` member."""
    return _error(_STATUS.get(_member(error, "type") or "", 500), _member(error, "message"), retry_after_s=None)


def _error(status: int, message: str | None, *, retry_after_s: float | None) -> UpstreamError:
    if status in {401, 403}:
        return UpstreamCredentials()
    if status in {402, 429} or (status == 400 and _UNPAID(message or "")):
        return UpstreamRateLimited(retry_after_s=retry_after_s)
    if status in {408, 504}:
        return UpstreamTimeout()
    if status >= 500:
        return UpstreamUnavailable(_FAILED, retry_after_s=retry_after_s)
    if status < 400:
        return UpstreamProtocolError()
    if _TOO_LONG(message or ""):
        return UpstreamRejected(message, param="messages", code="context_length_exceeded")
    return UpstreamRejected(message)


def _member(error: Any, name: str) -> str | None:
    value = error.get(name) if isinstance(error, dict) else None
    return value[:_MESSAGE_CHARACTERS] if isinstance(value, str) and value else None
