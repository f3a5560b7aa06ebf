"""Finished texts against the schema as it came."""

import json
from typing import Any

import pytest

from narthex.sandbox.schema_text import SchemaRefused
from narthex.sandbox.validity import fault


def told(schema: Any, text: str) -> str | None:
    return fault(json.dumps(schema).encode(), text)


@pytest.mark.parametrize(
    ("schema", "text", "said"),
    [
        ({"type": "integer"}, "1", None),
        ({"type": "integer"}, "1.5", '1.5 is not of type "integer"'),
        ({"properties": {"a": {"items": {"maximum": 3}}}}, '{"a": [1, 5]}', "a[1]: 5 is greater than the maximum of 3"),
        ({"uniqueItems": True}, "[1, 1]", "[1,1] has non-unique elements"),
        ({"format": "date"}, '"2023-02-29"', '"2023-02-29" is not a "date"'),
        ({"$schema": "http://json-schema.org/draft-04/schema#", "const": 1}, "2", "1 was expected"),
        ({"properties": {"pattern": {"pattern": r"^\<[a&&b]{1}[\b]?$"}}}, '{"pattern": "<&"}', None),
        ({"patternProperties": {r"^\<\0?$": False}}, '{"<": 1}', "<: False schema does not allow 1"),
        ({"patternProperties": {r"\d": {}, "[0-9]": False}}, '{"a": 1}', None),
        ({"const": {"pattern": r"\<"}}, '{"pattern": "\\\\<"}', None),
        ({"$defs": {"enum": {"pattern": "a{"}}, "$ref": "#/$defs/enum"}, '"a{"', None),
        ({"allOf": [{"pattern": "(?=a)a"}]}, '"a"', None),
        (True, "[", "not valid JSON: Input data was truncated"),
        (True, "", "not valid JSON: Input data was truncated"),
        ({}, "1e999", "not valid JSON: Number out of range"),
    ],
)
def test_fault(schema: Any, text: str, said: str | None) -> None:
    assert told(schema, text) == said


def test_a_fault_is_told_in_short() -> None:
    assert len(str(told({"type": "integer"}, json.dumps("x" * 5000)))) == 300
    assert len(str(told({"items": {"type": "integer"}}, json.dumps(["x" * 5000])))) == 300


@pytest.mark.parametrize(
    "schema", [{"type": 1}, {"$ref": "http://127.0.0.1:1/a"}, {"$ref": "#/nowhere"}, {"pattern": "("}]
)
def test_a_schema_that_cannot_be_read(schema: Any) -> None:
    with pytest.raises(SchemaRefused):
        told(schema, "1")
