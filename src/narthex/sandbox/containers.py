"""Keywords of objects and arrays, of all the schemas that meet in one value at once.

Grammar compilers differ in how they intersect objects, so they never get to: what meets is written as one.

A property that is not listed needs a name that is none of the listed ones, however it is spelled:
`additionalProperties` alone would also take a listed name again, written with escapes. So it is a pattern of names.
"""

from collections.abc import Callable, Sequence
from typing import Any, Final

import jsonschema_rs

from narthex.sandbox.counts import counts
from narthex.sandbox.leaves import plain_at
from narthex.sandbox.patterns import other_than, readable
from narthex.sandbox.schema_text import Place, SchemaRefused, join

MAX_COUNT = 4096
"""Of items and properties. Greater upper limits are drawn in to it."""
MAX_NAMES = 2048
"""How long the names may be together that those of other properties have to differ from."""

ARRAYS: Final = ("items", "prefixItems", "minItems", "maxItems")
OBJECTS: Final = (
    *("properties", "patternProperties", "additionalProperties", "required", "minProperties", "maxProperties"),
)
_ANY_NAME: Final = r"^(?:[\u0000-\U0010ffff]*)$"

Schema = dict[str, Any] | bool
Write = Callable[[Sequence[Place]], Schema]
"""Writes what a value is that all of the schemas hold for."""


def array(places: Sequence[Place], write: Write) -> dict[str, Any]:
    """The array keywords of schemas that meet.

    Raises:
        SchemaRefused: one of them can't be held.
    """
    out = _both(places, least="minItems", most="maxItems")
    firsts = max(len(place.schema.get("prefixItems", ())) for place in places)
    if firsts:
        out["prefixItems"] = [write(list(_item(places, position))) for position in range(firsts)]
    if any("items" in place.schema for place in places):
        out["items"] = write([place.into("items") for place in places if "items" in place.schema])
    return out


def _item(places: Sequence[Place], position: int) -> list[Place]:
    found = []
    for place in places:
        if position < len(place.schema.get("prefixItems", ())):
            found.append(place.into("prefixItems", position))
        elif "items" in place.schema:
            found.append(place.into("items"))
    return found


def _both(places: Sequence[Place], *, least: str, most: str) -> dict[str, Any]:
    limits = [counts(place.schema, place.path, least=least, most=most, limit=MAX_COUNT) for place in places]
    lows = [found[least] for found in limits if least in found]
    highs = [found[most] for found in limits if most in found]
    return ({least: max(lows)} if lows else {}) | ({most: min(highs)} if highs else {})


def obj(places: Sequence[Place], write: Write) -> dict[str, Any]:
    """The object keywords of schemas that meet.

    Raises:
        SchemaRefused: one of them can't be held.
    """
    out: dict[str, Any] = {}
    required = _required(places)
    listed = {name: place for place in places for name, place in _listed(place)}
    patterns = _patterns(places, listed, write)
    properties = {name: write(_property(places, name)) for name in listed}
    open_to = [place.into("additionalProperties") for place in places if "additionalProperties" in place.schema]
    rest = write(open_to) if open_to else True
    closed = rest is False and not patterns
    out |= _counted(places, required, optional=len(listed.keys() - set(required)), closed=closed)
    if required:
        out["required"] = required
    if properties:
        out["properties"] = properties
    if patterns:
        return out | {"patternProperties": patterns, "additionalProperties": False}
    if rest is True and (properties or required):
        return out | {"patternProperties": {_ANY_NAME: True}, "additionalProperties": False}
    if rest is False or not (properties or required):
        return out | ({} if rest is True else {"additionalProperties": rest})
    if sum(map(len, listed)) > MAX_NAMES:
        raise SchemaRefused("Other properties can't be held beside so many names.", open_to[0].path)
    return out | {"patternProperties": {other_than(listed): rest}, "additionalProperties": False}


def _required(places: Sequence[Place]) -> list[str]:
    found: dict[str, None] = {}
    for place in places:
        for position, name in enumerate(place.schema.get("required", ())):
            check_name(name, join(place.path, "required", position))
            found[name] = None
    return list(found)


def _listed(place: Place) -> list[tuple[str, Place]]:
    found = [(name, place.into("properties", name)) for name in place.schema.get("properties", ())]
    for name, inner in found:
        check_name(name, inner.path)
    return found


def check_name(name: str, path: str) -> None:
    """A name must have one way to be written in JSON.

    Raises:
        SchemaRefused: at `path`.
    """
    if any(character < " " or character in '"\\\x7f' for character in name):
        raise SchemaRefused("Names with control characters, quotes or backslashes can't be held.", path)


def _property(places: Sequence[Place], name: str) -> list[Place]:
    found = []
    for place in places:
        if name in place.schema.get("properties", ()):
            found.append(place.into("properties", name))
        elif "additionalProperties" in place.schema:
            found.append(place.into("additionalProperties"))
    return found


def _patterns(places: Sequence[Place], listed: dict[str, Place], write: Write) -> dict[str, Schema]:
    with_patterns = [place for place in places if place.schema.get("patternProperties")]
    if not with_patterns:
        return {}
    place = with_patterns[0]
    path = join(place.path, "patternProperties")
    if len(places) > 1:
        raise SchemaRefused("Pattern properties can't be held where schemas meet in one value.", path)
    if place.schema.get("additionalProperties") is not False:
        raise SchemaRefused("Pattern properties can only be held beside `additionalProperties: false`.", path)
    written: dict[str, Schema] = {}
    for pattern in place.schema["patternProperties"]:
        inner = place.into("patternProperties", pattern)
        written[plain_at(pattern, inner.path)] = write([inner])
        named = readable(pattern)
        for name, other in listed.items():
            if jsonschema_rs.is_valid({"pattern": named}, name):
                raise SchemaRefused("A property that a pattern matches too can't be held.", other.path)
    return written


def _counted(places: Sequence[Place], required: Sequence[str], *, optional: int, closed: bool) -> dict[str, Any]:
    """The limits on the number of properties, as far as they say more than the other keywords do.

    A grammar can count free names, which may come twice, and tell whether one of the optional properties is there.
    """
    found = _both(places, least="minProperties", most="maxProperties")
    needed = len(required)
    if found.get("minProperties", 0) <= needed:
        found.pop("minProperties", None)
    if closed and found.get("maxProperties", 0) >= needed + optional:
        found.pop("maxProperties", None)
    for key, value in found.items():
        path = next(join(place.path, key) for place in places if key in place.schema)
        if optional and not (closed and value == needed + 1):
            raise SchemaRefused("Beside optional properties, only one of them can be counted.", path)
        if key == "minProperties" and value > needed + 1:
            # A free name may come twice in a grammar; the text then has fewer properties than it shows.
            raise SchemaRefused("Only one property beyond those in `required` can be counted.", path)
    return found
