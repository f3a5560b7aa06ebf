"""Errors as `/v1` writes them. Source: contract section 1.9, and 5.7 for the envelope of one profile."""

from typing import Any

from narthex.core.errors import AuthenticationFailed, NarthexError
from narthex.wire.json import encode


def error_body(error: NarthexError, *, profile: str = "openai") -> bytes:
    """The body of an error; the message of a fault of ours says nothing of its cause."""
    if profile == "ionos" and isinstance(error, AuthenticationFailed):
        text = "Unauthorized, wrong or no api key provided to process this request"
        return encode({"httpStatus": 401, "messages": [{"errorCode": "paas-auth-1", "message": text}]})
    return encode({"error": error_object(error)})


def error_object(error: NarthexError) -> dict[str, Any]:
    """What is said of an error, not yet written."""
    return {"message": error.public_message, "type": error.type, "param": error.param, "code": error.code}
