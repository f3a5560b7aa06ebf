"""The bytes between our processes: a 4-byte big-endian length, then a msgpack array.

    call    [id, operation, payload]        answer  [id, 0, payload]
    cancel  [id, "", nil]                   failure [id, 1, [class name, message, param, code, retry_after_s]]

Rule: an error of ours arrives as the same class on the other side; anything else arrives as a bare `NarthexError`.
"""

from typing import Any

import msgspec

from narthex.core import errors

MAX_MESSAGE_BYTES = 256 * 1024 * 1024
CANCEL = ""
OK, FAILED = 0, 1

_encode = msgspec.msgpack.Encoder().encode
_decode_call = msgspec.msgpack.Decoder(tuple[int, str, msgspec.Raw]).decode
_decode_answer = msgspec.msgpack.Decoder(tuple[int, int, msgspec.Raw]).decode
_decode_failure = msgspec.msgpack.Decoder(tuple[str, str, str | None, str | None, float | None]).decode


def frame(message: tuple[Any, ...]) -> bytes:
    """One message with its length before it."""
    body = _encode(message)
    return len(body).to_bytes(4, "big") + body


def decode_call(body: bytes) -> tuple[int, str, msgspec.Raw]:
    """(id, operation, payload) of one message to a server."""
    return _decode_call(body)


def decode_answer(body: bytes) -> tuple[int, int, msgspec.Raw]:
    """(id, OK or FAILED, payload) of one message to a client."""
    return _decode_answer(body)


def describe(error: Exception) -> tuple[str, str, str | None, str | None, float | None]:
    """An error as it crosses to the other process; foreign errors lose their text."""
    if isinstance(error, errors.NarthexError):
        return type(error).__name__, error.message, error.param, error.code, error.retry_after_s
    return "NarthexError", f"{type(error).__name__} in a child process", None, None, None


def revive(payload: msgspec.Raw) -> errors.NarthexError:
    """The error that `describe` took apart."""
    name, message, param, code, retry_after_s = _decode_failure(payload)
    kind = errors.BY_NAME.get(name, errors.NarthexError)
    if kind is errors.MethodNotAllowed:
        kind = errors.RequestError
    return kind(message, param=param, code=code, retry_after_s=retry_after_s)
