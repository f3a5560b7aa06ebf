"""Numbers and fixed values of a schema, in the form in which a grammar holds them exactly."""

from collections.abc import Mapping
from decimal import Decimal
from math import ceil, floor
from typing import Any, Final

from narthex.sandbox.schema_text import SchemaRefused, join

LARGEST = 2**53
"""Up to here every whole number is a double. Bounds beyond it are drawn in to it."""
MAX_DIGITS = 20
"""Of a bound, behind the point."""
MAX_MULTIPLE = 10_000
"""What `multipleOf` may be, its decimal point left out: a grammar counts the remainders."""

_LOWER: Final = ("minimum", "exclusiveMinimum")
_UPPER: Final = ("maximum", "exclusiveMaximum")
NUMERIC: Final = (*_LOWER, *_UPPER, "multipleOf")


def numeric(schema: Mapping[str, Any], path: str, *, span: tuple[int, int] | None) -> dict[str, Any]:
    """The number keywords of one schema. `span`: bounds that a format adds.

    Raises:
        SchemaRefused: a number that can't be held, or none is left.
    """
    found: dict[str, Any] = {}
    for key in _LOWER:
        if key in schema:
            found[key] = _bound(max(schema[key], -LARGEST), join(path, key))
    for key in _UPPER:
        if key in schema:
            found[key] = _bound(min(schema[key], LARGEST), join(path, key))
    if span is not None:
        found["minimum"] = max(found.get("minimum", span[0]), span[0])
        found["maximum"] = min(found.get("maximum", span[1]), span[1])
    if "multipleOf" in schema:
        found["multipleOf"] = _multiple(schema["multipleOf"], join(path, "multipleOf"))
        found["minimum"] = max(found.get("minimum", 0), 0)  # engines count the remainders of digits, without a sign
        _check_reachable(found, path)
    return found


def _bound(value: float, path: str) -> float:
    if abs(value) > LARGEST:
        raise SchemaRefused("A bound beyond 2^53 leaves no number that can be held exactly.", path)
    if _places(value) > MAX_DIGITS:
        raise SchemaRefused(f"A bound with more than {MAX_DIGITS} digits behind the point can't be held.", path)
    return value


def _places(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else MAX_DIGITS + 1


def _multiple(value: float, path: str) -> float:
    if value != value // 1 and _places(value) > 9:
        raise SchemaRefused("A multiple with more than 9 digits behind the point can't be held.", path)
    if Decimal(repr(value)).scaleb(_places(value)) > MAX_MULTIPLE:
        raise SchemaRefused(f"Multiples of a number with a value beyond {MAX_MULTIPLE} can't be held.", path)
    return value


def _check_reachable(found: Mapping[str, Any], path: str) -> None:
    """Whether some multiple lies within the bounds."""
    step = Decimal(repr(found["multipleOf"]))
    low = max(_first(found[key], step, strict=key == "exclusiveMinimum") for key in _LOWER if key in found)
    for key in _UPPER:
        if key not in found:
            continue
        over = low * step - Decimal(repr(found[key]))
        if over > 0 or (over == 0 and key == "exclusiveMaximum"):
            raise SchemaRefused("No multiple that is not negative lies within the bounds.", join(path, "multipleOf"))


def _first(bound: float, step: Decimal, *, strict: bool) -> int:
    """How many steps the first multiple at or above (if strict: above) a bound is away from zero."""
    exact = Decimal(repr(bound)) / step
    return floor(exact) + 1 if strict else ceil(exact)


def is_container(value: Any) -> bool:
    """Whether it has parts, and so needs a schema to be fixed."""
    return isinstance(value, (dict, list))


def fixed(value: Any, path: str) -> dict[str, Any]:
    """A schema for exactly one value.

    Raises:
        SchemaRefused: a number in it has no exact double.
    """
    if isinstance(value, dict):
        for name in value:
            check_name(name, path)
        return {
            "type": "object",
            "properties": {name: fixed(inner, path) for name, inner in value.items()},
            "required": list(value),
            **closed(),
        }
    if isinstance(value, list):
        held = [fixed(inner, path) for inner in value]
        prefix = {"prefixItems": held} if held else {}
        return {"type": "array", **prefix, "items": False, "minItems": len(held), "maxItems": len(held)}
    if isinstance(value, int) and abs(value) > LARGEST:
        raise SchemaRefused("A whole number beyond 2^53 can't be held exactly.", path)
    return {"const": value}


def closed() -> dict[str, Any]:
    """No names beside the given ones, in the form that stays true when schemas are merged."""
    return others(schema=False)


def others(schema: Any) -> dict[str, Any]:
    """A schema for the values of all other names.

    Written as a pattern that takes any name: `additionalProperties` alone would also take a listed name again, written
    with escapes.
    """
    return {"patternProperties": {ANY_NAME: schema}, "additionalProperties": False}


ANY_NAME: Final = r"^(?:[\u0000-\U0010ffff]*)$"


def check_name(name: str, path: str) -> None:
    """A property's name must have one way to be written in JSON.

    Raises:
        SchemaRefused: at `path`.
    """
    if any(character < " " or character in '"\\\x7f' for character in name):
        raise SchemaRefused("Names with control characters, quotes or backslashes can't be held.", path)
