"""Refusals of servers that tell the reason in their own words, and the contract's code for each. No I/O.

Sources: llama.cpp's server (`type`), vLLM's protocol (`param`), Gemini (an array around the error), those who want to
be paid first (402); contract section 1.9.
"""

from collections.abc import Iterable

import msgspec

from narthex.core.errors import ContextLengthExceeded, UpstreamCredentials, UpstreamError, UpstreamRejected
from narthex.providers.openai_errors import parse_error
from narthex.wire.json import UNREADABLE

_TOO_LONG_TYPES = frozenset(("exceed_context_size_error",))
_TOO_LONG_PARAMS = frozenset(("input_tokens",))


class _Marks(msgspec.Struct):
    type: str | None = None
    param: str | None = None


class _Document(msgspec.Struct):
    error: _Marks


_decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode = msgspec.json.Decoder(_Document).decode


def refusal(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
    """The error that a response without a stream stands for; a prompt that is too long has the contract's code."""
    if status == 402:  # the operator's to mend, like a key that is refused
        return UpstreamCredentials()
    body = _unwrapped(body)
    error = parse_error(status, list(headers), body)
    if not isinstance(error, UpstreamRejected) or error.code is not None:
        return error
    try:
        marks = _decode(body).error
    except UNREADABLE:
        return error
    if marks.type in _TOO_LONG_TYPES or marks.param in _TOO_LONG_PARAMS:
        return UpstreamRejected(error.message, code=ContextLengthExceeded.default_code)
    return error


def _unwrapped(body: bytes) -> bytes:
    """The document, or the first of an array of them."""
    try:
        return bytes(_decode_array(body)[0])
    except (*UNREADABLE, IndexError):
        return body
