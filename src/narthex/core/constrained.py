"""What output may be constrained by, as every part of the program names it."""

from typing import Final

ANY_OBJECT: Final = b'{"type":"object"}'
"""The schema of `response_format: {"type": "json_object"}`."""

INVALID_SCHEMA: Final = "invalid_json_schema"
"""The `code` of the 400 for a schema that is malformed, beyond the limits, or can't be held."""
