"""Tools, functions and the shape of the answer."""

from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.ports import Decoded

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]


def function(name: str = "f", **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name} | more}


def named(name: str, kind: str = "function") -> dict[str, Any]:
    return {"type": kind, kind: {"name": name}}


def allowed(*tools: Any, mode: str = "auto") -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


def grammar(**fields: Any) -> dict[str, Any]:
    return {"type": "custom", "custom": {"name": "g", "format": {"type": "grammar", "grammar": fields}}}


F, G = function("f"), named("g", "custom")
SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": None}}

TAKEN: list[dict[str, Any]] = [
    {"tools": [F]},
    {"tools": [function(f"f{i}") for i in range(128)]},
    {"tools": [function("a" * 64, description="d", parameters={"type": "object"}, strict=True)]},
    {"tools": [function(parameters=None, strict=None) | {"cache_control": {"type": "ephemeral"}}]},
    {"tools": [G, grammar(definition="x", syntax="regex")]},
    {"tools": [{"type": "custom", "custom": {"name": "g", "format": {"type": "text"}}}]},
    *[{"tools": [F], "tool_choice": choice} for choice in ("none", "auto", "required", named("f"), None)],
    {"tools": [F, G], "tool_choice": named("g", "custom")},
    {"tools": [F, G], "tool_choice": allowed(named("f"), G), "parallel_tool_calls": False},
    {"tool_choice": "none"},
    {"tool_choice": None, "tools": None},
    {"functions": [{"name": "f", "description": "d", "parameters": {}}]},
    *[{"functions": [{"name": "f"}], "function_call": choice} for choice in ("none", "auto", {"name": "f"})],
    {"function_call": "none"},
    {"response_format": {"type": "text"}},
    {"response_format": {"type": "json_object"}},
    {"response_format": SCHEMA},
    {"response_format": {"type": "json_schema", "json_schema": {"name": "A-z_9"}}},
]


@pytest.mark.parametrize("fields", TAKEN)
def test_it_is_taken(fields: dict[str, Any], refuse: Refuse) -> None:
    assert refuse("chat", fields) == (None, None)


MISSING, UNKNOWN, TYPE, VALUE = "missing_required_parameter", "unknown_parameter", "invalid_type", "invalid_value"
REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"tools": []}, "empty_array", "tools"),
    ({"tools": [function(f"f{i}") for i in range(129)]}, "array_above_max_length", "tools"),
    ({"tools": ["f"]}, TYPE, "tools[0]"),
    ({"tools": [F, G, F]}, VALUE, "tools[2].function.name"),
    ({"tools": [{}]}, MISSING, "tools[0].type"),
    ({"tools": [{"type": "function"}]}, MISSING, "tools[0].function"),
    ({"tools": [{"type": "search"}]}, VALUE, "tools[0].type"),
    ({"tools": [function("")]}, VALUE, "tools[0].function.name"),
    ({"tools": [function("a" * 65)]}, "string_above_max_length", "tools[0].function.name"),
    ({"tools": [function("a b")]}, VALUE, "tools[0].function.name"),
    ({"tools": [function("f\n")]}, VALUE, "tools[0].function.name"),
    ({"tools": [function(parameters="{}")]}, TYPE, "tools[0].function.parameters"),
    ({"tools": [function(strict="yes")]}, TYPE, "tools[0].function.strict"),
    ({"tools": [function(arguments={})]}, UNKNOWN, "tools[0].function.arguments"),
    ({"tools": [F, F | {"name": "f"}]}, UNKNOWN, "tools[1].name"),
    ({"tools": [grammar(definition="x", syntax="ebnf")]}, VALUE, "tools[0].custom.format.grammar.syntax"),
    ({"tool_choice": "auto"}, VALUE, "tool_choice"),
    ({"tool_choice": "required", "tools": None}, VALUE, "tool_choice"),
    ({"tool_choice": named("f")}, VALUE, "tool_choice"),
    ({"tools": [F], "tool_choice": "any"}, VALUE, "tool_choice"),
    ({"tools": [F], "tool_choice": named("g")}, VALUE, "tool_choice"),
    ({"tools": [F, G], "tool_choice": named("g")}, VALUE, "tool_choice"),
    ({"tools": [F, G], "tool_choice": named("f", "custom")}, VALUE, "tool_choice"),
    ({"tools": [F], "tool_choice": {"type": "function"}}, MISSING, "tool_choice.function"),
    ({"tools": [F], "tool_choice": {"name": "f"}}, MISSING, "tool_choice.type"),
    ({"tools": [F], "tool_choice": allowed(named("g"))}, VALUE, "tool_choice"),
    ({"tools": [F], "tool_choice": allowed()}, "empty_array", "tool_choice.allowed_tools.tools"),
    ({"tools": [F], "tool_choice": allowed(F, mode="none")}, VALUE, "tool_choice.allowed_tools.mode"),
    ({"tools": [F], "tool_choice": allowed({"type": []})}, TYPE, "tool_choice.allowed_tools.tools[0].type"),
    ({"tools": [F], "tool_choice": allowed({"type": "function", "function": "f"})}, TYPE,
     "tool_choice.allowed_tools.tools[0].function"),
    ({"functions": []}, "empty_array", "functions"),
    ({"functions": [{"name": f"f{i}"} for i in range(129)]}, "array_above_max_length", "functions"),
    ({"functions": [{"description": "d"}]}, MISSING, "functions[0].name"),
    ({"functions": [{"name": "f", "strict": True}]}, UNKNOWN, "functions[0].strict"),
    ({"functions": [{"name": "f"}], "function_call": {"name": "g"}}, VALUE, "function_call"),
    ({"functions": [{"name": "f"}], "function_call": "required"}, VALUE, "function_call"),
    ({"function_call": "auto"}, VALUE, "function_call"),
    ({"function_call": {"name": "f"}}, VALUE, "function_call"),
    ({"functions": [{"name": "f"}], "tools": [F]}, VALUE, "functions"),
    ({"function_call": "none", "tools": [F]}, VALUE, "functions"),
    ({"response_format": {}}, MISSING, "response_format.type"),
    ({"response_format": {"type": "xml"}}, VALUE, "response_format.type"),
    ({"response_format": {"type": "text", "schema": {}}}, UNKNOWN, "response_format.schema"),
    ({"response_format": {"type": "json_schema"}}, MISSING, "response_format.json_schema"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, MISSING, "response_format.json_schema.name"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "s" * 65}}}, "string_above_max_length",
     "response_format.json_schema.name"),
    ({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": True}}}, TYPE,
     "response_format.json_schema.schema"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED)
def test_it_is_refused_where_it_is_wrong(fields: dict[str, Any], code: str, param: str, refuse: Refuse) -> None:
    assert refuse("chat", fields) == (code, param)


def test_what_was_sent_is_kept(decode: Decode) -> None:
    tool = function(parameters={"type": "object", "properties": {"x": {"const": None}}})
    assert decode("chat", {"tools": [tool]}).request.fields["tools"] == (tool,)
