"""Errors as `/v4` writes them. Source: contract section 4.7."""

from narthex.core.errors import NarthexError
from narthex.dialects.openai_errors import error_object
from narthex.wire import sse
from narthex.wire.json import encode


def error_body(error: NarthexError) -> bytes:
    """The body of an error: a text for one kind of clients, and the object that `/v1` has for the other."""
    return encode({"detail": error.public_message, "error": error_object(error)})


def error_event(error: NarthexError) -> bytes:
    """The same in a stream."""
    return sse.encode(error_body(error), b"error")
