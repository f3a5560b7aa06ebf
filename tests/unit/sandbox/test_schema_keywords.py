"""Every keyword of JSON Schema 2020-12 is held, by both programs that read our grammars, or refused by its place."""

import json
from typing import Any

import jsonschema_rs
import pytest
from tests.grammar_engines import ENGINES

from narthex.sandbox.grammar import rule
from narthex.sandbox.schema_text import SchemaRefused

STRING, NUMBER, INTEGER = {"type": "string"}, {"type": "number"}, {"type": "integer"}
OBJECT, ARRAY = {"type": "object"}, {"type": "array"}
TAGGED = [
    {"type": "object", "properties": {"kind": {"const": kind}, "v": value}, "required": ["kind", "v"]}
    for kind, value in (("n", NUMBER), ("s", STRING))
]
TREE = {
    "$defs": {
        "tree": {
            "$anchor": "tree",
            "type": "object",
            "properties": {"v": INTEGER, "next": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
            "required": ["v"],
            "additionalProperties": False,
        }
    }
}

HELD: dict[str, tuple[Any, list[Any], list[Any]]] = {
    "true": (True, [None, 1, "a", [1, {}], {"a": [True]}], []),
    "type null": ({"type": "null"}, [None], [0, "", False]),
    "type boolean": ({"type": "boolean"}, [True, False], [0, "true"]),
    "type string": (STRING, ["", 'é\n"\\'], [1, None]),
    "type integer": (INTEGER, [0, -5, 10**12], [0.5, "1"]),
    "type number": (NUMBER, [0, -0.5, 12], ["1", None]),
    "type array": (ARRAY, [[], [1, "a"]], [{}, 1]),
    "type object": (OBJECT, [{}, {"a": 1}], [[], 1]),
    "type list": ({"type": ["string", "null"]}, ["a", None], [1, {}]),
    "type list with keywords of one": (
        {"type": ["string", "integer"], "minLength": 2, "minimum": 5},
        ["ab", 5],
        ["a", 4, True],
    ),
    "enum": ({"enum": ["a", 1, None, 1.5]}, ["a", 1, None, 1.5], ["b", 2, "", 2.5]),
    "enum of things with parts": (
        {"enum": [{"a": 1}, [1, 2], []]},
        [{"a": 1}, [1, 2], []],
        [{}, {"a": 2}, [1], [1, 2, 3]],
    ),
    "enum beside type": ({"type": "string", "enum": ["a", 1]}, ["a"], [1]),
    "const": ({"const": "a b"}, ["a b"], ["a", 1]),
    "const with parts": ({"const": {"a": [1, None]}}, [{"a": [1, None]}], [{"a": [1]}, {"a": [1, None], "b": 1}]),
    "const beside properties": (
        {"const": {"a": 1}, "type": "object", "properties": {"b": True}},
        [{"a": 1}],
        [{"a": 1, "b": 2}, {}],
    ),
    "multipleOf": ({"type": "integer", "multipleOf": 7}, [0, 7, 70], [1, 8]),
    "multipleOf with a point": ({"type": "number", "multipleOf": 0.25}, [0, 1.25, 0.75], [0.3, 1.1]),
    "minimum": ({"type": "number", "minimum": -1.5}, [-1.5, 0, 12], [-1.6, -20]),
    "minimum of whole numbers": ({"type": "integer", "minimum": 1.5}, [2, 30], [1, 0, -5]),
    "maximum": ({"type": "number", "maximum": 10}, [10, -3, 9.99], [10.01, 11]),
    "exclusiveMinimum": ({"type": "number", "exclusiveMinimum": 0}, [0.01, 5], [0, -1]),
    "exclusiveMaximum": ({"type": "integer", "exclusiveMaximum": 10}, [9, -4], [10, 11]),
    "bounds at once": ({"type": "integer", "minimum": 3, "exclusiveMaximum": 6}, [3, 5], [2, 6]),
    "minLength": ({"type": "string", "minLength": 2}, ["ab", "éé", "😀😀"], ["", "a", "😀"]),
    "maxLength": ({"type": "string", "maxLength": 2}, ["", "ab", "\n\t"], ["abc"]),
    "pattern": ({"type": "string", "pattern": "^a+$"}, ["a", "aa"], ["", "ab", "ba"]),
    "pattern as a search": ({"type": "string", "pattern": "[0-9]"}, ["1", "a1b", "\n2\n"], ["", "abc"]),
    "pattern with quotes": ({"type": "string", "pattern": '^"\\\\$'}, ['"\\'], ['"', "\\"]),
    "pattern and length": (
        {"type": "string", "pattern": "^a*$", "minLength": 2, "maxLength": 3},
        ["aa"],
        ["a", "aaaa", "bb"],
    ),
    "pattern and format": ({"type": "string", "pattern": "^2", "format": "date"}, ["2024-02-29"], ["1999-01-01", "2x"]),
    "format": ({"type": "string", "format": "ipv4"}, ["10.0.0.1"], ["10.0.0.256", "a"]),
    "format of numbers": ({"type": "integer", "format": "int32"}, [2**31 - 1, -5], [2**31, -(2**31) - 1]),
    "maxItems": ({"type": "array", "maxItems": 2}, [[], [1, 2]], [[1, 2, 3]]),
    "minItems": ({"type": "array", "minItems": 2}, [[1, 2], [1, 2, 3]], [[], [1]]),
    "items": ({"type": "array", "items": INTEGER}, [[], [1, 2]], [["a"], [1, "a"]]),
    "items false": ({"type": "array", "items": False}, [[]], [[1]]),
    "prefixItems": ({"type": "array", "prefixItems": [INTEGER, STRING]}, [[], [1], [1, "a", None]], [["a"], [1, 2]]),
    "prefixItems and items": (
        {"type": "array", "prefixItems": [INTEGER], "items": STRING, "minItems": 1},
        [[1], [1, "a"]],
        [[], [1, 2], ["a"]],
    ),
    "uniqueItems false": ({"type": "array", "uniqueItems": False}, [[1, 1]], []),
    "properties": ({"type": "object", "properties": {"a": INTEGER}}, [{}, {"a": 1}, {"a": 1, "b": "x"}], [{"a": "x"}]),
    "required": ({"type": "object", "properties": {"a": True}, "required": ["a"]}, [{"a": None}], [{}, {"b": 1}]),
    "required, not declared": (
        {"type": "object", "required": ["z"], "additionalProperties": INTEGER},
        [{"z": 1}],
        [{}, {"a": 1}, {"z": "x"}],
    ),
    "additionalProperties": (
        {"type": "object", "properties": {"a": STRING, "ab": STRING}, "additionalProperties": INTEGER},
        [{"a": "x", "b": 1}, {"abc": 2}, {"": 1}],
        [{"a": 1}, {"b": "x"}, {"ab": 1}],
    ),
    "additionalProperties false": (
        {"type": "object", "properties": {"a": True}, "additionalProperties": False},
        [{}, {"a": 1}],
        [{"b": 1}],
    ),
    "additionalProperties alone": ({"type": "object", "additionalProperties": INTEGER}, [{}, {"x": 1}], [{"x": "y"}]),
    "patternProperties": (
        {"type": "object", "patternProperties": {"^a": INTEGER, "^b": STRING}, "additionalProperties": False},
        [{}, {"ab": 1}, {"b": "x"}],
        [{"a": "x"}, {"c": 1}, {"b": 1}],
    ),
    "minProperties": ({"type": "object", "minProperties": 1}, [{"a": 1}], [{}]),
    "minProperties beside required": (
        {"type": "object", "properties": {"a": True}, "required": ["a"], "minProperties": 2},
        [{"a": 1, "b": 2}],
        [{"a": 1}, {}],
    ),
    "minProperties of optional ones": (
        {"type": "object", "properties": {"a": True, "b": True}, "additionalProperties": False, "minProperties": 1},
        [{"a": 1}, {"b": 1}, {"a": 1, "b": 2}],
        [{}],
    ),
    "maxProperties": ({"type": "object", "maxProperties": 1}, [{}, {"a": 1}], [{"a": 1, "b": 2}]),
    "maxProperties of optional ones": (
        {"type": "object", "properties": {"a": True, "b": True}, "additionalProperties": False, "maxProperties": 1},
        [{}, {"b": 1}],
        [{"a": 1, "b": 2}],
    ),
    "allOf": ({"allOf": [{"type": "string"}, {"minLength": 2}]}, ["ab"], ["a", 1]),
    "allOf of objects": (
        {
            "allOf": [
                {"type": "object", "properties": {"a": INTEGER}, "required": ["a"]},
                {"properties": {"b": STRING, "a": {"minimum": 3}}, "additionalProperties": STRING, "required": ["b"]},
            ]
        },
        [{"a": 3, "b": "x"}, {"a": 3, "b": "x", "c": "y"}],
        [{"a": 3}, {"b": "x"}, {"a": 2, "b": "x"}, {"a": 3, "b": "x", "c": 1}],
    ),
    "allOf of arrays": (
        {"type": "array", "items": OBJECT, "allOf": [{"items": {"required": ["a"]}, "maxItems": 2}, {"minItems": 1}]},
        [[{"a": 1}]],
        [[], [{}], [{"a": 1}] * 3],
    ),
    "anyOf": ({"anyOf": [STRING, {"type": "integer", "minimum": 5}]}, ["a", 5], [4, None]),
    "anyOf beside properties": (
        {
            "type": "object",
            "properties": {"a": INTEGER, "b": INTEGER},
            "additionalProperties": False,
            "anyOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
        [{"a": 1}, {"b": 1}, {"a": 1, "b": 2}],
        [{}],
    ),
    "oneOf": ({"oneOf": [STRING, INTEGER]}, ["a", 1], [None, 0.5]),
    "oneOf by a tag": (
        {"oneOf": TAGGED},
        [{"kind": "n", "v": 1}, {"kind": "s", "v": "x"}],
        [{"kind": "n", "v": "x"}, {}],
    ),
    "oneOf beside properties": (
        {"oneOf": TAGGED, "properties": {"v": {"minimum": 3}}, "required": ["id"]},
        [{"v": 3, "kind": "n", "id": 1}],
        [{"v": 3, "kind": "n"}, {"v": 2, "kind": "n", "id": 1}],
    ),
    "$ref, $defs": ({**TREE, "$ref": "#/$defs/tree"}, [{"v": 1, "next": [{"v": 2}]}], [{}, {"v": 1, "next": [{}]}]),
    "$ref beside others": (
        {**TREE, "type": "object", "properties": {"t": {"$ref": "#/$defs/tree", "required": ["next"]}}},
        [{"t": {"v": 1, "next": []}}],
        [{"t": {"v": 1}}],
    ),
    "$ref to the root": (
        {"type": "object", "properties": {"in": {"$ref": "#"}}, "additionalProperties": False},
        [{}, {"in": {"in": {}}}],
        [{"in": 1}],
    ),
    "$ref with escapes": (
        {"$defs": {"a/b~c d": STRING}, "$ref": "#/$defs/a~1b~0c%20d"},
        ["x"],
        [1],
    ),
    "$ref to a place of another kind": ({"components": {"x": [STRING]}, "$ref": "#/components/x/0"}, ["x"], [1]),
    "$anchor": ({**TREE, "$ref": "#tree"}, [{"v": 1}], [{}]),
    "definitions": (
        {"definitions": {"a": INTEGER}, "items": {"$ref": "#/definitions/a"}, "type": "array"},
        [[1]],
        [["a"]],
    ),
    "annotations": (
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "$id": "https://example.com/a",
            "$comment": "c",
            "$dynamicAnchor": "here",
            "title": "t",
            "description": "d",
            "default": {"uniqueItems": True},
            "examples": [1],
            "deprecated": True,
            "readOnly": True,
            "writeOnly": False,
            "x-own": {"not": 1},
            "x-guidance": {"lenient": True},
            "type": "integer",
        },
        [1],
        ["a"],
    ),
    "names that are keywords": (
        {"type": "object", "properties": {"uniqueItems": INTEGER, "$ref": STRING}, "required": ["uniqueItems", "$ref"]},
        [{"uniqueItems": 1, "$ref": "x"}],
        [{"uniqueItems": True, "$ref": "x"}, {}],
    ),
}

REFUSED: dict[str, tuple[Any, str]] = {
    "uniqueItems": ({"type": "array", "uniqueItems": True}, "uniqueItems"),
    "not": ({"properties": {"a": {"not": {}}}}, "properties.a.not"),
    "if": ({"if": {}, "then": {}, "else": {}}, "if"),
    "then": ({"then": {}}, "then"),
    "else": ({"items": {"else": {}}}, "items.else"),
    "dependentSchemas": ({"dependentSchemas": {"a": {}}}, "dependentSchemas"),
    "dependentRequired": ({"dependentRequired": {"a": ["b"]}}, "dependentRequired"),
    "dependencies": ({"dependencies": {"a": ["b"]}}, "dependencies"),
    "contains": ({"contains": {}}, "contains"),
    "minContains": ({"minContains": 2}, "minContains"),
    "maxContains": ({"maxContains": 2}, "maxContains"),
    "propertyNames": ({"anyOf": [{"propertyNames": {"maxLength": 2}}]}, "anyOf[0].propertyNames"),
    "unevaluatedItems": ({"prefixItems": [{"unevaluatedItems": False}]}, "prefixItems[0].unevaluatedItems"),
    "unevaluatedProperties": ({"unevaluatedProperties": False}, "unevaluatedProperties"),
    "contentEncoding": ({"contentEncoding": "base64"}, "contentEncoding"),
    "contentMediaType": ({"contentMediaType": "text/html"}, "contentMediaType"),
    "contentSchema": ({"contentSchema": {}}, "contentSchema"),
    "additionalItems": ({"additionalItems": False}, "additionalItems"),
    "items as a list": ({"items": [{}]}, "items"),
    "$dynamicRef": ({"$dynamicRef": "#a"}, "$dynamicRef"),
    "$recursiveRef": ({"$recursiveRef": "#"}, "$recursiveRef"),
    "format": ({"properties": {"a": {"type": "string", "format": "iri"}}}, "properties.a.format"),
    "format without a type": ({"format": "int32"}, "format"),
    "lookaround": ({"pattern": "(?=a)b"}, "pattern"),
    "broken pattern": ({"pattern": "("}, "pattern"),
    "pattern of a name": ({"patternProperties": {"(": True}, "additionalProperties": False}, "patternProperties.("),
    "patternProperties, open": ({"patternProperties": {"a": True}}, "patternProperties"),
    "patternProperties that meet": (
        {"allOf": [{"patternProperties": {"a": True}, "additionalProperties": False}, {"properties": {"a": True}}]},
        "allOf[0].patternProperties",
    ),
    "patternProperties that overlap": (
        {"type": "object", "patternProperties": {"^a": True, "b$": True}, "additionalProperties": False},
        "patternProperties",
    ),
    "a property that a pattern matches": (
        {"properties": {"ab": True}, "patternProperties": {"^a": True}, "additionalProperties": False},
        "properties.ab",
    ),
    "minProperties of free names": ({"type": "object", "minProperties": 2}, "minProperties"),
    "minProperties, open": ({"properties": {"a": True}, "minProperties": 1}, "minProperties"),
    "maxProperties of many": (
        {"properties": {"a": True, "b": True, "c": True}, "additionalProperties": False, "maxProperties": 2},
        "maxProperties",
    ),
    "oneOf that overlaps": (
        {"properties": {"a": {"oneOf": [STRING, {"type": "string", "minLength": 2}]}}},
        "properties.a.oneOf",
    ),
    "multiples that meet": (
        {"type": "integer", "allOf": [{"multipleOf": 3}, {"multipleOf": 5}]},
        "allOf[1].multipleOf",
    ),
    "a multiple of many digits": ({"multipleOf": 0.123456}, "multipleOf"),
    "no multiple": ({"type": "integer", "multipleOf": 7, "minimum": 1, "maximum": 6}, "multipleOf"),
    "no multiple below": ({"type": "integer", "multipleOf": 7, "exclusiveMaximum": 0}, "multipleOf"),
    "remote $ref": ({"$ref": "https://example.com/a"}, "$ref"),
    "$ref to nowhere": ({"items": {"$ref": "#/$defs/a"}}, "items.$ref"),
    "$ref beyond a list": ({"anyOf": [{}], "items": {"$ref": "#/anyOf/1"}}, "items.$ref"),
    "$ref to no anchor": ({"$ref": "#a"}, "$ref"),
    "$ref to what is no schema": ({"maxItems": 1, "items": {"$ref": "#/maxItems"}}, "items.$ref"),
    "$ref to a malformed schema": ({"x": {"type": 1}, "$ref": "#/x"}, "x.type"),
    "$ref beside an $id": ({"$defs": {"a": {"$id": "b"}}, "$ref": "#/$defs/a"}, "$ref"),
    "$ref to itself": ({"$ref": "#"}, "$ref"),
    "$ref that never ends": (
        {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
        "properties.a.$ref",
    ),
    "unsatisfiable": (
        {"type": "object", "properties": {"a": {"const": 1, "type": "string"}}, "required": ["a"]},
        "properties.a.const",
    ),
    "unsatisfiable bounds": ({"type": "integer", "minimum": 3, "maximum": 2}, "minimum"),
    "unsatisfiable lengths": (
        {"type": "array", "items": {"type": "string", "minLength": 3, "maxLength": 2}, "minItems": 1},
        "items.minLength",
    ),
    "unsatisfiable reference": (
        {
            "$defs": {"a": {"type": "integer", "minimum": 3, "maximum": 2}},
            "type": "object",
            "properties": {"x": {"$ref": "#/$defs/a"}},
            "required": ["x"],
        },
        "$defs.a.minimum",
    ),
    "typed others beside many names": (
        {"properties": {f"{n:x>99}": True for n in range(30)}, "additionalProperties": {"type": "null"}},
        "additionalProperties",
    ),
    "many references that meet": (
        {
            "$defs": {f"d{n}": {"$ref": f"#/$defs/d{n + 1}", "minLength": n} for n in range(40)} | {"d40": True},
            "$ref": "#/$defs/d0",
            "type": "string",
        },
        "$defs.d31.$ref",
    ),
    "false": (False, ""),
    "empty enum": ({"enum": []}, "enum"),
    "const beyond doubles": ({"const": 2**53 + 1}, "const"),
    "enum beyond doubles": ({"enum": [1, [2**60 + 1]]}, "enum[1][0]"),
    "bound beyond doubles": ({"type": "integer", "minimum": 2**60}, "minimum"),
    "exclusive bound at the last double": ({"type": "integer", "exclusiveMaximum": -(2**53)}, "exclusiveMaximum"),
    "no whole number": ({"type": "integer", "minimum": 0.2, "maximum": 0.7}, "minimum"),
    "no whole number between": (
        {"properties": {"a": {"type": ["integer", "null"], "exclusiveMinimum": 0, "exclusiveMaximum": 1}}},
        "properties.a.exclusiveMinimum",
    ),
    "no whole number in a branch": (
        {"type": "integer", "anyOf": [{"minimum": 0.5, "maximum": 0.5}]},
        "anyOf[0].minimum",
    ),
    "no whole constant": ({"type": "integer", "anyOf": [{"const": 0.5}, {"const": 1}]}, "anyOf[0].const"),
    "bound of many digits": ({"type": "number", "maximum": 1e-30}, "maximum"),
    "malformed type": ({"properties": {"a": {"type": "strnig"}}}, "properties.a.type"),
    "malformed minLength": ({"minLength": -1}, "minLength"),
    "exclusiveMinimum as of draft 4": ({"minimum": 1, "exclusiveMinimum": True}, "exclusiveMinimum"),
    "required twice": ({"required": ["a", "a"]}, "required"),
    "a name with a quote": ({"properties": {'a"b': True}}, 'properties.a"b'),
    "a required name with a control character": ({"required": ["a", "\n"]}, "required[1]"),
    "no schema": ([], ""),
}


def refusal(schema: Any) -> SchemaRefused:
    with pytest.raises(SchemaRefused) as caught:
        rule(json.dumps(schema).encode())
    assert caught.value.message.endswith(".") or "…" in caught.value.message or len(caught.value.message) > 20
    return caught.value


def text(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("name", HELD)
def test_held(name: str, engine: Any) -> None:
    schema, accepted, rejected = HELD[name]
    compiled = rule(json.dumps(schema).encode())
    if isinstance(schema, dict):
        validator = jsonschema_rs.Draft202012Validator(
            {k: v for k, v in schema.items() if k != "$schema"}, validate_formats=True
        )
        assert [value for value in accepted if not validator.is_valid(value)] == []
        if "format" not in schema or schema["type"] == "string":
            assert [value for value in rejected if validator.is_valid(value)] == []
    assert [value for value in accepted if not engine(compiled).accepts(text(value))] == []
    assert [value for value in rejected if engine(compiled).accepts(text(value))] == []


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    schema, place = REFUSED[name]
    assert refusal(schema).at == place


@pytest.mark.parametrize("engine", ENGINES)
def test_one_layout(engine: Any) -> None:
    compiled = rule(b'{"type":"object","properties":{"a":{"type":"array"}},"required":["a"]}')
    assert engine(compiled).accepts(b'{"a": [1, 2], "b": {"c": 1}}')
    for other in (
        b'{"a":[1, 2]}',
        b'{"a": [1,2]}',
        b'{ "a": []}',
        b'{"a": []} ',
        b'{"a": [],\n"b": 1}',
        b'{"a": [1, 2], "b": {"c":1}}',
    ):
        assert not engine(compiled).accepts(other), other


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("more", [{}, {"additionalProperties": {"type": "string"}}])
def test_a_listed_name_does_not_come_again_in_another_spelling(engine: Any, more: Any) -> None:
    compiled = rule(json.dumps({"type": "object", "properties": {"aé": {"type": "integer"}}, **more}).encode())
    assert engine(compiled).accepts('{"aé": 1, "b": "x"}'.encode())
    for name in ("\\u0061é", "a\\u00e9", "a\\u00E9", "aé"):
        assert not engine(compiled).accepts(f'{{"{name}": "x"}}'.encode()), name
        assert not engine(compiled).accepts(f'{{"aé": 1, "{name}": "x"}}'.encode()), name


def test_properties_come_in_their_order() -> None:
    compiled = rule(b'{"type":"object","properties":{"b":true,"a":true},"required":["a","b"]}')
    assert ENGINES[0](compiled).accepts(b'{"b": 1, "a": 2}')
    assert not ENGINES[0](compiled).accepts(b'{"a": 2, "b": 1}')
