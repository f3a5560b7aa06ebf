"""What an answer's text may be constrained by, as all parts of the program name it. Source: contract section 1.2.2."""

from typing import Final

import msgspec

ANY_OBJECT: Final = b'{"type":"object"}'
"""The schema of `response_format: {"type": "json_object"}`."""

INVALID_SCHEMA: Final = "invalid_json_schema"
"""The `code` of the 400 for a schema that is malformed, beyond the limits, or can't be held."""


class JsonFormat(msgspec.Struct, frozen=True, kw_only=True):
    """The answer's text has to be JSON that is valid by `schema`, itself JSON text.

    `path` tells where the schema stands in the request, for errors.
    """

    schema: bytes
    path: str
