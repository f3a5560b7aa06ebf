"""Checks of request fields: each takes a JSON value and its path, and returns the parsed value or raises the contract's
error for what is wrong with it. Each also knows its JSON Schema, so that the published OpenAPI can't differ.

Source: contract sections 1.9 (codes) and 9 (figures).
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET

from narthex.core.errors import InvalidRequest, UnknownParameter

Schema = dict[str, Any]

_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a decimal"),
    (str, "a string"),
    (list, "an array"),
    (dict, "an object"),
    (type(None), "null"),
)


_WIDEST = 2**63 - 1
"""The bound of an integer that has no other, so that no float is taken for a number of 300 digits."""

_MOST_IGNORED = 100
_LONGEST_NAME = 100


class Quick:
    """Reads values of the most usual form: what msgspec decodes as `kind` and then, if there is something to make of
    that, `built`, which returns None for a value that has to be parsed after all. The rest, sound or not, is no `kind`.
    """

    __slots__ = ("_decode", "built", "kind")

    def __init__(self, kind: Any, built: Callable[[Any], Any] | None = None) -> None:
        self.kind = kind
        self.built = built
        self._decode = msgspec.json.Decoder(kind).decode

    def read(self, raw: msgspec.Raw) -> Any:
        """What `parse` makes of a value; None: parse it after all. Raises one of `UNREADABLE` for what is no `kind`."""
        found = self._decode(raw)
        return found if self.built is None else self.built(found)


class Field(msgspec.Struct, frozen=True):
    """A check: `parse(value, path)` and the JSON Schema of what it takes. `UNSET` means: as if it had not been sent."""

    parse: Callable[[Any, str], Any]
    schema: Schema
    quick: Quick | None = None


def kind_of(value: Any) -> str:
    """How a caller would name the type of a JSON value."""
    return next(name for kind, name in _KINDS if isinstance(value, kind))


def wrong_type(path: str, *, expected: str, value: Any) -> InvalidRequest:
    """The error for a value of the wrong JSON type."""
    return InvalidRequest(
        f"Invalid type for '{path}': expected {expected}, but got {kind_of(value)} instead.",
        param=path,
        code="invalid_type",
    )


def invalid(path: str, message: str, *, code: str = "invalid_value") -> InvalidRequest:
    """The error for a value of the right type that can't be."""
    return InvalidRequest(f"Invalid '{path}': {message}", param=path, code=code)


def missing(path: str) -> InvalidRequest:
    """The error for a required field that is absent."""
    return InvalidRequest(f"Missing required parameter: '{path}'.", param=path, code="missing_required_parameter")


# --- scalars -------------------------------------------------------------------------------------------------------


def _parse_boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise wrong_type(path, expected="a boolean", value=value)
    return value


BOOLEAN = Field(_parse_boolean, {"type": "boolean"}, Quick(bool))


def integer(low: int | None = None, high: int | None = None) -> Field:
    """A whole number within bounds; 1.0 is one too, as in JSON Schema."""

    def parse(value: Any, path: str) -> int:
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type(path, expected="an integer", value=value)
        least, most = -_WIDEST if low is None else low, _WIDEST if high is None else high
        _within(value, path, low=least, high=most, kind="integer")
        return value

    schema = _bounded({"type": "integer"}, low, high)
    if max(-(low or 0), high or 0) > _WIDEST:
        return Field(parse, schema)
    least, most = -_WIDEST if low is None else low, _WIDEST if high is None else high
    return Field(parse, schema, Quick(Annotated[int, msgspec.Meta(ge=least, le=most)]))


def number(low: float | None = None, high: float | None = None) -> Field:
    """A finite number within bounds."""

    def parse(value: Any, path: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise wrong_type(path, expected="a decimal", value=value)
        if not math.isfinite(value):
            raise invalid(path, "expected a finite number.")
        _within(value, path, low=low, high=high, kind="decimal")
        return float(value)

    return Field(parse, _bounded({"type": "number"}, low, high), Quick(Annotated[float, msgspec.Meta(ge=low, le=high)]))


def _bounded(schema: Schema, low: float | None, high: float | None) -> Schema:
    bounds = {"minimum": low, "maximum": high}
    return schema | {name: bound for name, bound in bounds.items() if bound is not None}


def _within(value: float, path: str, *, low: float | None, high: float | None, kind: str) -> None:
    if low is not None and value < low:
        message = f"{kind} below minimum value. Expected a value >= {low}, but got {value} instead."
        raise invalid(path, message, code=f"{kind}_below_min_value")
    if high is not None and value > high:
        message = f"{kind} above maximum value. Expected a value <= {high}, but got {value} instead."
        raise invalid(path, message, code=f"{kind}_above_max_value")


def string(*, shortest: int = 0, longest: int | None = None, pattern: str | None = None) -> Field:
    """Text of a bounded length, matching `pattern` whole."""
    matches = re.compile(pattern).fullmatch if pattern else None

    def parse(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(path, expected="a string", value=value)
        if len(value) < shortest:
            raise invalid(path, "empty string. Expected a string with at least one character.")
        if longest is not None and len(value) > longest:
            message = f"string too long. Expected at most {longest} characters, but got {len(value)} instead."
            raise invalid(path, message, code="string_above_max_length")
        if matches is not None and matches(value) is None:
            raise invalid(path, f"string does not match pattern. Expected a string that matches '^{pattern}$'.")
        return value

    schema: Schema = {"type": "string"}
    if shortest:
        schema["minLength"] = shortest
    if longest is not None:
        schema["maxLength"] = longest
    if pattern:
        schema["pattern"] = f"^{pattern}$"
    if longest is not None or pattern:
        return Field(parse, schema)
    return Field(parse, schema, Quick(Annotated[str, msgspec.Meta(min_length=shortest)]))


STRING = string()
NAME = string(shortest=1, longest=64, pattern="[a-zA-Z0-9_-]{1,64}")
JSON = Field(lambda value, _: value, {})


def choice(*values: str) -> Field:
    """One of a few strings."""
    listed = " and ".join(filter(None, [", ".join(f"'{value}'" for value in values[:-1]), f"'{values[-1]}'"]))

    def parse(value: Any, path: str) -> str:
        if not isinstance(value, str):
            raise wrong_type(path, expected=f"one of {listed}", value=value)
        if value not in values:
            raise invalid(path, f"value '{value[:100]}' is not supported. Supported values are: {listed}.")
        return value

    return Field(parse, {"type": "string", "enum": list(values)}, Quick(Literal[values]))


# --- composites ----------------------------------------------------------------------------------------------------


def array(item: Field, shortest: int = 0, longest: int | None = None) -> Field:
    """A list of items of one kind, as a tuple."""

    def parse(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise wrong_type(path, expected="an array", value=value)
        if len(value) < shortest:
            raise invalid(path, f"empty array. Expected an array with minimum length {shortest}.", code="empty_array")
        if longest is not None and len(value) > longest:
            message = f"array too long. Expected an array with maximum length {longest}, but got {len(value)}."
            raise invalid(path, message, code="array_above_max_length")
        return tuple(item.parse(each, f"{path}[{index}]") for index, each in enumerate(value))

    schema: Schema = {"type": "array", "items": item.schema}
    if shortest:
        schema["minItems"] = shortest
    if longest is not None:
        schema["maxItems"] = longest
    return Field(parse, schema)


def mapping(
    item: Field,
    *,
    most: int | None = None,
    key: Callable[[str, str], None] | None = None,
    longest_key: int | None = None,
) -> Field:
    """An object with free names and values of one kind. `key(name, path)` may refuse a name."""

    def parse(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise wrong_type(path, expected="an object", value=value)
        if most is not None and len(value) > most:
            message = f"too many properties. Expected at most {most}, but got {len(value)}."
            raise invalid(path, message, code="object_above_max_properties")
        for name in value:
            if longest_key is not None and len(name) > longest_key:
                message = f"name too long. Expected at most {longest_key} characters, but got {len(name)}."
                raise invalid(path, message, code="string_above_max_length")
            if key is not None:
                key(name, path)
        return {name: item.parse(each, f"{path}.{name}") for name, each in value.items()}

    schema: Schema = {"type": "object", "additionalProperties": item.schema}
    if most is not None:
        schema["maxProperties"] = most
    if longest_key is not None:
        schema["propertyNames"] = {"maxLength": longest_key}
    return Field(parse, schema)


def record(
    fields: Mapping[str, Field],
    *,
    required: Sequence[str] = (),
    build: Callable[[dict[str, Any], str], Any] | None = None,
) -> Field:
    """An object with known names. Null counts as absent, except for required ones that take null themselves.

    `build(values, path)` turns the parsed values into what the core holds, and may refuse combinations.
    """

    def parse(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(path, expected="an object", value=value)
        refuse_unknown(value, fields, prefix=f"{path}." if path else "")
        values = parse_fields(value, fields, required=required, prefix=f"{path}." if path else "")
        return build(values, path) if build is not None else values

    properties = {name: field.schema if name in required else nullable(field).schema for name, field in fields.items()}
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    if required:
        schema["required"] = list(required)
    return Field(parse, schema)


def tagged(variants: Mapping[str, Field], *, tag: str = "type") -> Field:
    """An object whose `tag` says which variant it is."""
    tag_field = choice(*variants)

    def parse(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise wrong_type(path, expected="an object", value=value)
        if value.get(tag) is None:
            raise missing(f"{path}.{tag}")
        return variants[tag_field.parse(value[tag], f"{path}.{tag}")].parse(value, path)

    return Field(parse, {"oneOf": [variant.schema for variant in variants.values()]})


def either(*fields: tuple[type | tuple[type, ...], Field], expected: str) -> Field:
    """The first field whose JSON type the value has."""

    def parse(value: Any, path: str) -> Any:
        for kind, field in fields:
            if isinstance(value, kind) and not (isinstance(value, bool) and kind is not bool):
                return field.parse(value, path)
        raise wrong_type(path, expected=expected, value=value)

    return Field(parse, {"anyOf": [field.schema for _, field in fields]})


def nullable(field: Field) -> Field:
    """The same field, or null, which parses to None."""
    if "anyOf" in field.schema:
        schema: Schema = {"anyOf": [*field.schema["anyOf"], {"type": "null"}]}
    else:
        schema = {"anyOf": [field.schema, {"type": "null"}]}
    return Field(lambda value, path: None if value is None else field.parse(value, path), schema)


# --- objects of fields ---------------------------------------------------------------------------------------------


def parse_fields(
    values: Mapping[str, Any], fields: Mapping[str, Field], *, required: Sequence[str] = (), prefix: str = ""
) -> dict[str, Any]:
    """The known fields that are set, parsed. Null counts as absent unless the field is required and takes it."""
    parsed = {}
    for name in required:
        if name not in values:
            raise missing(f"{prefix}{name}")
    for name, value in values.items():
        if name in fields and (value is not None or name in required):
            found = fields[name].parse(value, f"{prefix}{name}")
            if found is not UNSET:
                parsed[name] = found
    return parsed


def refuse_unknown(
    names: Mapping[str, Any], known: Mapping[str, Any], *, prefix: str = "", strict: bool = True
) -> tuple[str, ...]:
    """Refuse names that we don't know; a lenient key gets up to a hundred of them listed instead.

    Raises:
        UnknownParameter: always for a name that differs from a known one by case only (contract 8.2).
    """
    if names.keys() <= known.keys():  # nearly always
        return ()
    unknown = tuple(name for name in names if name not in known)
    folded = {name.casefold(): name for name in known}
    for name in unknown:
        if meant := folded.get(name.casefold()):
            message = f"Unknown parameter: '{prefix}{name}'. Did you mean '{prefix}{meant}'?"
            raise UnknownParameter(message, param=f"{prefix}{name}")
    # They are to be named in a header, so there must not be too much of them.
    if strict or len(unknown) > _MOST_IGNORED or len(max(unknown, key=len)) > _LONGEST_NAME:
        name = f"{prefix}{max(unknown, key=len) if not strict else unknown[0]}"[:200]
        raise UnknownParameter(f"Unknown parameter: '{name}'.", param=name)
    return unknown
