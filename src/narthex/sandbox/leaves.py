"""Keywords of numbers and strings, in the form in which a grammar holds them exactly."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from math import ceil, floor, ulp
from typing import Any, Final

from narthex.sandbox.counts import counts
from narthex.sandbox.formats import BOUNDS, PATTERNS
from narthex.sandbox.patterns import PatternRefused, plain
from narthex.sandbox.schema_text import Place, SchemaRefused, join

LARGEST = 2**53
"""Up to here every whole number is a double. Bounds beyond it are drawn in to it."""
MAX_DIGITS = 20
"""Of a bound, behind the point."""
MAX_MULTIPLE = 10_000
"""What `multipleOf` may be, its decimal point left out: a grammar counts the remainders."""
MAX_LENGTH = 65_536
"""Of a string. Greater upper limits are drawn in to it."""

_LOWER: Final = ("minimum", "exclusiveMinimum")
_UPPER: Final = ("maximum", "exclusiveMaximum")
_STRICT: Final = ("exclusiveMinimum", "exclusiveMaximum")
NUMBERS: Final = (*_LOWER, *_UPPER, "multipleOf")
KEYWORDS: Final = (*NUMBERS, "minLength", "maxLength", "pattern", "format")


def leaf(place: Place) -> dict[str, Any]:
    """The type of a schema and its keywords of numbers and strings.

    Raises:
        SchemaRefused: one of them can't be held.
    """
    schema = place.schema
    found: dict[str, Any] = {"type": schema["type"]} if "type" in schema else {}
    return found | _numbers(schema, place.path) | _strings(schema, place.path)


def check_whole(places: Sequence[Place], values: Mapping[str, Any], origins: Mapping[str, str]) -> None:
    """Where only whole numbers are left of numbers, there has to be one. Not every compiler notices that by itself.

    Raises:
        SchemaRefused: there is none within the bounds, or a fixed value is none.
    """
    if not any("integer" in _types(place.schema) and "type" in place.schema for place in places):
        return
    lows = [(place.schema[key], key in _STRICT) for place in places for key in _LOWER if key in place.schema]
    highs = [(place.schema[key], key in _STRICT) for place in places for key in _UPPER if key in place.schema]
    if lows and highs and max(lows)[0] <= min(highs)[0]:  # otherwise every compiler notices
        first = max(floor(low) + 1 if strict else ceil(low) for low, strict in lows)
        last = min(ceil(high) - 1 if strict else floor(high) for high, strict in highs)
        if first > last:
            key = next(key for key in _LOWER if key in origins)
            raise SchemaRefused("No whole number lies within the bounds.", origins[key])
    numbers = any("number" in _types(place.schema) for place in places if "type" in place.schema)
    fixed = [values["const"]] if "const" in values else values.get("enum", [])
    if not numbers and any(isinstance(value, float) and not value.is_integer() for value in fixed):
        raise SchemaRefused("Only whole numbers are valid here.", origins["const" if "const" in values else "enum"])


def _types(schema: Mapping[str, Any]) -> tuple[str, ...]:
    named = schema.get("type", ("string", "integer", "number"))
    return (named,) if isinstance(named, str) else tuple(named)


# --- numbers ---------------------------------------------------------------------------------------------------------


def _numbers(schema: Mapping[str, Any], path: str) -> dict[str, Any]:
    types = _types(schema)
    found: dict[str, Any] = {}
    for key in _LOWER:
        if key in schema:
            found[key] = _bound(max(schema[key], -LARGEST), join(path, key), strict=key in _STRICT)
    for key in _UPPER:
        if key in schema:
            found[key] = _bound(-min(schema[key], LARGEST), join(path, key), strict=key in _STRICT) * -1
    if "number" in types:
        _include(found)
    span = BOUNDS.get(schema.get("format", "")) if "integer" in types else None
    if span is not None:
        found["minimum"] = max(found.get("minimum", span[0]), span[0])
        found["maximum"] = min(found.get("maximum", span[1]), span[1])
    if "multipleOf" in schema:
        found["multipleOf"] = _multiple(schema["multipleOf"], join(path, "multipleOf"))
        found["minimum"] = max(found.get("minimum", 0), 0)  # engines count the remainders of digits, without a sign
        most = LARGEST // 10 ** _places(schema["multipleOf"])  # beyond, whoever reads one may round it to none
        found["maximum"] = min(found.get("maximum", most), most)
        _check_reachable(found, path)
    return found


def _include(found: dict[str, Any]) -> None:
    """Write exclusive whole bounds as others that are included.

    The compilers let `1` itself through where more than 1 and less than 1.5 is asked for.
    """
    if found.get("exclusiveMinimum", 0.5) % 1 == 0:
        least = found.pop("exclusiveMinimum")
        found["minimum"] = max(found.get("minimum", least), least + _gap(least))
    if found.get("exclusiveMaximum", 0.5) % 1 == 0:
        most = found.pop("exclusiveMaximum")
        found["maximum"] = min(found.get("maximum", most), most - _gap(most))


def _gap(bound: float) -> float:
    return max(1e-9, 4 * ulp(float(bound)))


def _bound(least: float, path: str, *, strict: bool) -> float:
    """A lower bound, as it is."""
    if least > LARGEST or (strict and least == LARGEST):
        raise SchemaRefused("A bound beyond 2^53 leaves no number that can be held exactly.", path)
    if _places(least) > MAX_DIGITS:
        raise SchemaRefused(f"A bound with more than {MAX_DIGITS} digits behind the point can't be held.", path)
    return least


def _places(value: float) -> int:
    exponent = Decimal(repr(value)).normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else MAX_DIGITS + 1


def _multiple(value: float, path: str) -> float:
    places = _places(value)
    if places > 9 or Decimal(repr(value)).scaleb(places) > MAX_MULTIPLE:
        raise SchemaRefused(f"Multiples of a number with digits beyond {MAX_MULTIPLE} can't be held.", path)
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


# --- strings ---------------------------------------------------------------------------------------------------------


def _strings(schema: Mapping[str, Any], path: str) -> dict[str, Any]:
    found: dict[str, Any] = {**counts(schema, path, least="minLength", most="maxLength", limit=MAX_LENGTH)}
    if "pattern" in schema:
        found["pattern"] = plain_at(schema["pattern"], join(path, "pattern"))
    named = schema.get("format")
    if named is None or (named in BOUNDS and "string" not in _types(schema)):
        return found
    if named not in PATTERNS:
        raise SchemaRefused(f"The format '{named[:100]}' can't be held.", join(path, "format"))
    pattern = plain(PATTERNS[named])
    return found | ({"allOf": [{"pattern": pattern}]} if "pattern" in found else {"pattern": pattern})


def plain_at(pattern: str, path: str) -> str:
    """A pattern in plain syntax.

    Raises:
        SchemaRefused: at `path`.
    """
    try:
        return plain(pattern)
    except PatternRefused as refused:
        raise SchemaRefused(f"This pattern can't be held: {refused}.", path) from None
