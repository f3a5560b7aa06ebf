"""Checks finished texts by the schema as the caller wrote it."""

import functools

import jsonschema_rs
import msgspec

from narthex.sandbox.schema_text import SchemaRefused, decode, join


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
        return jsonschema_rs.Draft202012Validator(decode(schema), validate_formats=True, offline=True)
    except ValueError as error:
        raise SchemaRefused(f"The schema can't be checked: {str(error).splitlines()[0][:200]}", "") from None
