"""Schemas that have brought other servers down, or were made to: each is refused or accepted, and soon."""

from typing import Any


def nested(levels: int) -> dict[str, Any]:
    """Objects within objects."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(levels - 1):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def brackets(levels: int) -> list[Any]:
    """Lists within lists."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def doubling(levels: int) -> dict[str, Any]:
    """References that multiply."""
    definitions: dict[str, Any] = {f"d{levels}": True}
    for level in range(levels):
        further = {"$ref": f"#/$defs/d{level + 1}", "minProperties": 0}
        definitions[f"d{level}"] = {"properties": {"l": further, "m": further}}
    return {"$defs": definitions, "$ref": "#/$defs/d0", "type": "object"}


REFUSED: dict[str, tuple[Any, str]] = {
    "type that is none": ({"type": "invalid"}, "type"),
    "type that is a number": ({"type": 3}, "type"),
    "type that is an object": ({"properties": {"a": {"type": {}}}}, "properties.a.type"),
    "pattern that is broken": ({"type": "string", "pattern": "["}, "pattern"),
    "pattern that is a number": ({"type": "string", "pattern": 1}, "pattern"),
    "pattern of a KiB and one": ({"type": "string", "pattern": "a" * 1025}, "pattern"),
    "pattern of 10 MB": ({"type": "string", "pattern": "a" * 10_000_000}, ""),
    "pattern of groups": ({"type": "string", "pattern": "(" * 500 + ")" * 500}, "pattern"),
    "repeats that multiply": ({"type": "string", "pattern": "(a{1000}){1000}"}, "pattern"),
    "large repeat": ({"type": "string", "pattern": "a{99999999999}"}, "pattern"),
    "too many levels": (nested(33), "properties.a" + ".properties.a" * 31),
    "far too many levels": (nested(200), ""),
    "deep value": ({"const": brackets(60)}, "const"),
    "value that is too deep": ({"default": brackets(200)}, ""),
    "too many schemas": ({"anyOf": [{}] * 2000}, "anyOf[1999]"),
    "too many properties": ({"type": "object", "properties": {f"p{n}": True for n in range(1400)}}, ""),
    "branches that overlap": ({"oneOf": [{"type": "string", "maxLength": n} for n in range(500)]}, "oneOf"),
    "branches of branches": ({"allOf": [{"enum": [f"v{n}" for n in range(800)]}] * 2}, "allOf"),
    "endless reference": ({"$ref": "#"}, "$ref"),
    "endless references": (
        {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"},
        "$ref",
    ),
    "endless all of": ({"allOf": [{"$ref": "#"}]}, "allOf[0].$ref"),
    "references that multiply": (doubling(20), ""),
    "minItems of a billion": ({"type": "array", "minItems": 10**9}, "minItems"),
    "minLength of a billion": ({"type": "string", "minLength": 10**9}, "minLength"),
    "minProperties of a billion": ({"type": "object", "minProperties": 10**9}, "minProperties"),
    "multipleOf of a billion": ({"type": "integer", "multipleOf": 10**9 - 1}, "multipleOf"),
    "multipleOf next to nothing": ({"type": "number", "multipleOf": 1e-300}, "multipleOf"),
    "bound of 400 digits": ({"type": "integer", "minimum": 10**400}, "minimum"),
    "remote reference": ({"$ref": "http://127.0.0.1:1/a"}, "$ref"),
    "file reference": ({"$ref": "file:///etc/passwd"}, "$ref"),
    "patterns that meet": ({"allOf": [{"type": "string", "pattern": f"a.{{{n}}}b"} for n in range(20, 40)]}, ""),
}

ACCEPTED: dict[str, Any] = {
    "32 levels": nested(32),
    "2000 schemas": {"anyOf": [True] + [{"const": n} for n in range(1999)]},
    "maxItems of a billion": {"type": "array", "maxItems": 10**9},
    "maxLength of a billion": {"type": "string", "maxLength": 10**9},
    "maxProperties of a billion": {"type": "object", "maxProperties": 10**9},
    "backtracking": {"type": "string", "pattern": "^(([a-z])+.)+[A-Z]([a-z])+$"},
    "more backtracking": {"type": "string", "pattern": "(x+x+)+y"},
    "many values": {"enum": [f"value {number}" for number in range(4000)]},
    "recursion": {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"items": {"$ref": "#"}}}},
    "arrays of arrays": {"type": "array", "minItems": 4096, "items": {"type": "array", "minItems": 4096}},
    "bounds far apart": {"type": "number", "minimum": -(10**300), "maximum": 10**300},
}
