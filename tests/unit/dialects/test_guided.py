"""What callers constrain answers by: one constraint at a time, of bounded size, and named where it is wrong."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.constrained import (
    ANY_OBJECT,
    ChoiceFormat,
    Constraint,
    GrammarFormat,
    JsonFormat,
    RegexFormat,
)
from narthex.core.ports import Decoded, Surface

Decode = Callable[..., Decoded]
Refuse = Callable[..., tuple[str | None, str | None]]
SURFACES: tuple[Surface, ...] = ("chat", "completions")
SCHEMA = {"type": "object", "properties": {"a": {"const": 1}}}
TEXT = json.dumps(SCHEMA, separators=(",", ":")).encode()
TOOLS = [{"type": "function", "function": {"name": "add"}}]
NAMED = {"type": "function", "function": {"name": "add"}}


def schema(path: str, text: bytes = TEXT, *, spacing: str | None = None) -> JsonFormat:
    beside = "structured_outputs.whitespace_pattern" if path.startswith("structured") else "guided_whitespace_pattern"
    return JsonFormat(schema=text, path=path, spacing=spacing, spacing_path=beside)


READ: list[tuple[dict[str, Any], Constraint | None]] = [
    ({}, None),
    ({"guided_decoding_backend": "outlines"}, None),
    ({"guided_json": SCHEMA}, schema("guided_json")),
    ({"guided_json": '{"type": "object"}'}, schema("guided_json", b'{"type": "object"}')),
    ({"guided_json": SCHEMA, "guided_whitespace_pattern": " ?"}, schema("guided_json", spacing=" ?")),
    ({"guided_regex": "a+"}, RegexFormat(pattern="a+", path="guided_regex")),
    ({"guided_choice": ["a", "b"]}, ChoiceFormat(options=("a", "b"), path="guided_choice")),
    ({"guided_grammar": 'root ::= "a"'}, GrammarFormat(grammar='root ::= "a"', path="guided_grammar")),
    (
        {"guided_regex": "a", "response_format": None, "guided_json": None},
        RegexFormat(pattern="a", path="guided_regex"),
    ),
    ({"structured_outputs": {"json": SCHEMA, "regex": None}}, schema("structured_outputs.json")),
    (
        {"structured_outputs": {"json": SCHEMA, "whitespace_pattern": " ?", "disable_any_whitespace": False}},
        schema("structured_outputs.json", spacing=" ?"),
    ),
    (
        {"structured_outputs": {"json_object": True, "disable_any_whitespace": True}},
        schema("structured_outputs", ANY_OBJECT, spacing=""),
    ),
    ({"structured_outputs": {"regex": "a"}}, RegexFormat(pattern="a", path="structured_outputs.regex")),
    ({"structured_outputs": {"choice": ["a"]}}, ChoiceFormat(options=("a",), path="structured_outputs.choice")),
    (
        {"structured_outputs": {"grammar": "start: x"}},
        GrammarFormat(grammar="start: x", path="structured_outputs.grammar"),
    ),
]


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("fields", "expected"), READ, ids=str)
def test_each_is_read(surface: Surface, fields: dict[str, Any], expected: Constraint | None, decode: Decode) -> None:
    if surface == "completions":
        fields = {name: value for name, value in fields.items() if name != "response_format"}
    request = decode(surface, fields).request
    assert request.guided == request.constraint == expected  # type: ignore[union-attr]


def test_a_response_format_is_a_constraint_too(decode: Decode) -> None:
    request = decode("chat", {"response_format": {"type": "json_object"}}).request
    assert request.guided is None  # type: ignore[union-attr]
    assert request.constraint == JsonFormat(schema=ANY_OBJECT, path="response_format")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_json": {}, "guided_regex": "a"}, "guided_json"),
        ({"guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
        ({"guided_regex": "a", "guided_whitespace_pattern": " "}, "guided_whitespace_pattern"),
        ({"guided_choice": ["a"], "structured_outputs": {"regex": "b"}}, "guided_choice"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "guided_regex"),
        ({"structured_outputs": {"regex": "a"}, "response_format": {"type": "json_object"}}, "structured_outputs"),
        ({"guided_regex": "a", "tools": TOOLS, "tool_choice": NAMED}, "guided_regex"),
        ({"guided_regex": "a", "functions": [{"name": "add"}], "function_call": {"name": "add"}}, "guided_regex"),
    ],
)
def test_contradictions_are_refused(fields: dict[str, Any], param: str, refuse: Refuse) -> None:
    assert refuse("chat", fields) == ("invalid_value", param)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}},
        {"tools": TOOLS, "tool_choice": "required"},
        {"tools": TOOLS, "tool_choice": "none"},
        {"tools": TOOLS},
    ],
)
def test_what_does_not_contradict_passes(fields: dict[str, Any], refuse: Refuse) -> None:
    assert refuse("chat", {"guided_regex": "a"} | fields) == (None, None)


TYPE, VALUE, EMPTY, LONG = "invalid_type", "invalid_value", "empty_array", "string_above_max_length"
REFUSED: list[tuple[str, Any, str, str]] = [
    ("guided_json", 7, TYPE, ""),
    ("guided_json", "{", VALUE, ""),
    ("guided_json", "[]", VALUE, ""),
    ("guided_regex", "", VALUE, ""),
    ("guided_regex", 7, TYPE, ""),
    ("guided_regex", "a" * 1025, LONG, ""),
    ("guided_choice", [], EMPTY, ""),
    ("guided_choice", "ab", TYPE, ""),
    ("guided_choice", ["a", ""], VALUE, "[1]"),
    ("guided_choice", ["a", 1], TYPE, "[1]"),
    ("guided_choice", ["a"] * 1001, "array_above_max_length", ""),
    ("guided_grammar", "", VALUE, ""),
    ("guided_grammar", "x" * 16_385, LONG, ""),
    ("guided_grammar", "é" * 8_193, LONG, ""),
    ("guided_grammar", "(" * 201, VALUE, ""),
    ("guided_whitespace_pattern", "", VALUE, ""),
    ("guided_decoding_backend", "mine", VALUE, ""),
    ("structured_outputs", [], TYPE, ""),
    ("structured_outputs", {}, VALUE, ""),
    ("structured_outputs", {"regex": "a", "json": {}}, VALUE, ""),
    ("structured_outputs", {"regex": "a", "disable_any_whitespace": True}, VALUE, ".disable_any_whitespace"),
    ("structured_outputs", {"choice": ["a"], "whitespace_pattern": " "}, VALUE, ".whitespace_pattern"),
    (
        "structured_outputs", {"json": {}, "whitespace_pattern": " ", "disable_any_whitespace": True}, VALUE,
        ".whitespace_pattern",
    ),
    ("structured_outputs", {"json": {}, "disable_any_whitespace": 1}, TYPE, ".disable_any_whitespace"),
    ("structured_outputs", {"json_object": False}, VALUE, ".json_object"),
    ("structured_outputs", {"json": 7}, TYPE, ".json"),
    ("structured_outputs", {"structural_tag": "x"}, "unknown_parameter", ".structural_tag"),
]  # fmt: skip


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(("name", "value", "code", "place"), REFUSED, ids=lambda value: str(value)[:40])
def test_what_is_wrong_is_named(surface: Surface, name: str, value: Any, code: str, place: str, refuse: Refuse) -> None:
    assert refuse(surface, {name: value}) == (code, f"{name}{place}")


def test_brackets_that_close_too_early_open_no_others(refuse: Refuse) -> None:
    assert refuse("chat", {"guided_grammar": ")" * 300 + "(" * 200}) == (None, None)
