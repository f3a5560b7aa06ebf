"""Checks finished texts by the schema as the caller wrote it."""

import functools
from collections.abc import Mapping
from typing import Any, Final

import jsonschema_rs
import msgspec

from narthex.sandbox.patterns import readable
from narthex.sandbox.schema_text import SchemaRefused, decode, join

_MAPS: Final = frozenset(("properties", "$defs", "definitions", "dependentSchemas"))
"""Keywords whose values are schemas by name."""
_VALUES: Final = frozenset(("const", "enum", "default", "examples"))
"""Keywords whose values are no schemas, whatever is in them."""


def fault(schema: bytes, text: str) -> str | None:
    """Why a text is not valid by a schema; None if it is.

    Raises:
        SchemaRefused: the schema can't be read.
    """
    validator = _validator(schema)
    try:
        value = msgspec.json.decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError) as error:
        return f"not valid JSON: {error}"[:300]
    found = next(validator.iter_errors(value), None)
    if found is None:
        return None
    place = join("", *found.instance_path)
    return f"{place}: {found.message}"[:300] if place else found.message[:300]


@functools.lru_cache(maxsize=32)
def _validator(schema: bytes) -> jsonschema_rs.Draft202012Validator:
    try:
        return jsonschema_rs.Draft202012Validator(_spelled(decode(schema)), validate_formats=True, offline=True)
    except ValueError as error:
        raise SchemaRefused(f"The schema can't be checked: {str(error).splitlines()[0][:200]}", "") from None


def _spelled(schema: Any) -> Any:
    """A schema whose patterns the validator reads as we do, and knows other spellings of them."""
    if isinstance(schema, list):
        return [_spelled(inner) for inner in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _spelled_at(key, value) for key, value in schema.items()}


def _spelled_at(key: str, value: Any) -> Any:
    if key in _VALUES:
        return value
    if key == "pattern" and isinstance(value, str):
        return readable(value)
    if isinstance(value, Mapping) and key in _MAPS:
        return {name: _spelled(inner) for name, inner in value.items()}
    if isinstance(value, Mapping) and key == "patternProperties":
        spelled = {readable(name): _spelled(inner) for name, inner in value.items()}
        return spelled if len(spelled) == len(value) else value
    return _spelled(value)
