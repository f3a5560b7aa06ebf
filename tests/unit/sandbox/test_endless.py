"""References by which every value would be endless."""

from typing import Any

import pytest

from narthex.sandbox.endless import endless_reference

SELF = {"$ref": "#/$defs/a"}

FINITE: list[Any] = [
    True,
    False,
    {"type": "string"},
    {"type": ["object", "null"], "properties": {"x": SELF}, "required": ["x"]},
    {"type": "object", "properties": {"x": SELF}},
    {"type": "array", "items": SELF},
    {"type": "array", "prefixItems": [True, SELF], "minItems": 1},
    {"type": "array", "prefixItems": [True], "items": SELF, "minItems": 1},
    {"anyOf": [SELF, {"type": "null"}]},
    {"type": "object", "properties": {"x": {"anyOf": [SELF, True]}}, "required": ["x", "y"]},
    {"$ref": "#/$defs/b"},
]
ENDLESS: list[Any] = [
    SELF,
    {"allOf": [SELF]},
    {"anyOf": [SELF, {"oneOf": [SELF]}]},
    {"type": "object", "properties": {"x": SELF}, "required": ["x"]},
    {"type": "array", "items": SELF, "minItems": 1},
    {"type": "array", "prefixItems": [SELF], "minItems": 1},
    {"type": ["object", "array"], "properties": {"x": SELF}, "required": ["x"], "items": SELF, "minItems": 2},
]


@pytest.mark.parametrize("schema", FINITE)
def test_finite(schema: Any) -> None:
    assert endless_reference({"$ref": "#/$defs/a", "$defs": {"a": schema, "b": {"type": "null"}}}) is None


@pytest.mark.parametrize("schema", ENDLESS)
def test_endless(schema: Any) -> None:
    assert endless_reference({"$defs": {"b": True, "a": schema}}) == "a"


def test_without_references() -> None:
    assert endless_reference({"type": "string"}) is None
