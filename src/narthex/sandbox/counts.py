"""Limits on how long strings are and how many items and properties there are, as grammars can count them."""

from collections.abc import Mapping
from typing import Any

from narthex.sandbox.schema_text import SchemaRefused, join

MAX_COUNT = 4096
"""Of items and properties. Greater upper limits are drawn in to it."""
MAX_LENGTH = 65_536
"""Of a string, likewise."""


def counts(schema: Mapping[str, Any], path: str, *, least: str, most: str, limit: int) -> dict[str, int]:
    """A lower and an upper limit, as far as they are given.

    Raises:
        SchemaRefused: more is asked for than can be held.
    """
    found: dict[str, int] = {}
    if least in schema:
        found[least] = int(schema[least])
        if found[least] > limit:
            raise SchemaRefused(f"More than {limit} can't be held.", join(path, least))
    if most in schema:
        found[most] = min(int(schema[most]), limit)
    return found


def property_counts(schema: Mapping[str, Any], path: str, *, merged: bool) -> dict[str, int]:
    """The limits on the number of properties, as far as they say more than `required` and `properties` do.

    A grammar can count free names, which may come twice, and tell whether one of the optional properties is there.

    Raises:
        SchemaRefused: they ask for more than that.
    """
    found = counts(schema, path, least="minProperties", most="maxProperties", limit=MAX_COUNT)
    needed = len(schema.get("required", ()))
    optional = set(schema.get("properties", ())) - set(schema.get("required", ()))
    listed = schema.get("additionalProperties") is False and not schema.get("patternProperties")
    if found.get("minProperties", 0) <= needed:
        found.pop("minProperties", None)
    if listed and not merged and found.get("maxProperties", 0) >= needed + len(optional):
        found.pop("maxProperties", None)
    for key, value in found.items():
        if merged:
            raise SchemaRefused(
                "The number of properties can't be held where schemas meet in one value.", join(path, key)
            )
        if optional and not (listed and value == needed + 1):
            raise SchemaRefused("Beside optional properties, only one of them can be counted.", join(path, key))
        if key == "minProperties" and value > needed + 1:
            # A free name may come twice in a grammar; the text then has fewer properties than it shows.
            raise SchemaRefused("Only one property beyond those in `required` can be counted.", join(path, key))
    return found
