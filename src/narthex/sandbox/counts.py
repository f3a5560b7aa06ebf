"""Limits on how many there are: characters, items, properties."""

from collections.abc import Mapping
from typing import Any

from narthex.sandbox.schema_text import SchemaRefused, join


def counts(schema: Mapping[str, Any], path: str, *, least: str, most: str, limit: int) -> dict[str, int]:
    """A lower and an upper limit, as far as they are given.

    Raises:
        SchemaRefused: more than `limit` is asked for. An upper limit beyond it is drawn in to it.
    """
    found: dict[str, int] = {}
    if least in schema:
        found[least] = int(schema[least])
        if found[least] > limit:
            raise SchemaRefused(f"More than {limit} can't be held.", join(path, least))
    if most in schema:
        found[most] = min(int(schema[most]), limit)
    return found
