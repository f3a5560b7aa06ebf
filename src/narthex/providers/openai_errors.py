"""Errors of servers that speak OpenAI's format: refused requests, and error events within a stream.

Source: contract section 1.9. Rule: only a refusal of the request itself (400, 404, 422 …) passes its message on, since
it is for the caller. The others' texts may name our key, our organisation or the server's insides, and stay here.
"""

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
_RATE_LIMITS = frozenset(("rate_limit_exceeded", "insufficient_quota", "requests", "tokens", "rate_limit_error"))

_decode = msgspec.json.Decoder().decode


class _Fault(msgspec.Struct):
    """What an error object says, whatever its shape."""

    message: str | None = None
    param: str | None = None
    code: str | int | None = None
    kind: str | None = None


def parse_error(status: int, headers: Headers, body: bytes) -> UpstreamError:
    """The error that a response without a stream stands for. `headers` have lower-case names."""
    try:
        document = _decode(body)
    except UNREADABLE:
        document = None
    wait_s = retry_after_s(headers, document, limited=status == 429)
    return _error(status, _fault(document), retry_after_s=wait_s)


def stream_error(error: Any) -> UpstreamError:
    """The error that an error event stands for; `error` is the value of its `error` member."""
    fault = _fault({"error": error})
    if isinstance(fault.code, int) and 400 <= fault.code < 600:
        status = fault.code
    elif fault.code in _RATE_LIMITS or fault.kind in _RATE_LIMITS:
        status = 429
    elif fault.kind == "invalid_request_error":
        status = 400
    else:
        status = 500
    return _error(status, fault, retry_after_s=retry_after_s((), {"error": error}))


def _error(status: int, fault: _Fault, *, retry_after_s: float | None) -> UpstreamError:
    if status in {401, 403}:
        return UpstreamCredentials()
    if status == 429:
        return UpstreamRateLimited(retry_after_s=retry_after_s)
    if status == 408:
        return UpstreamTimeout()
    if status >= 500:
        return UpstreamUnavailable(_FAILED, retry_after_s=retry_after_s)
    if status < 400:
        return UpstreamProtocolError()
    code = fault.code
    if isinstance(code, int):  # vLLM and LiteLLM repeat the status there
        code = None if code == status else str(code)
    return UpstreamRejected(fault.message, param=fault.param, code=code)


def _fault(document: Any) -> _Fault:
    """Read `{"error": {…}}`, `{"error": "text"}`, `{"message": …}` and `{"detail": "text"}`."""
    if not isinstance(document, dict):
        return _Fault()
    error = document.get("error", document)
    if isinstance(error, str):
        return _Fault(message=_text(error))
    if not isinstance(error, dict):
        return _Fault()
    code = error.get("code")
    if isinstance(code, str) and code.isdecimal() and code.isascii() and len(code) == len("400"):
        code = int(code)  # LiteLLM writes the status as text
    return _Fault(
        message=_text(error.get("message")) or _text(error.get("detail")),
        param=_text(error.get("param")),
        code=code if isinstance(code, int) and not isinstance(code, bool) else _text(code),
        kind=_text(error.get("type")),
    )


def _text(value: Any) -> str | None:
    return value[:_MESSAGE_CHARACTERS] if isinstance(value, str) and value else None
