"""Errors as `/api` writes them. Source: contract section 3.1."""

from narthex.core.errors import NarthexError
from narthex.wire.json import encode


def error_body(error: NarthexError) -> bytes:
    """The body of an error: a text, and no object. It says nothing of the cause of a fault of ours."""
    return encode({"error": error.public_message})
