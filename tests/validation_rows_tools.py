"""Rows of tools, choices and the older functions. Source: contract sections 1.2.3, 9 and 11."""

from collections.abc import Iterator
from typing import Any

from tests.validation_rows import (
    ABSENT,
    ANY,
    CHAT,
    EMPTY,
    LONG_ARRAY,
    LONG_TEXT,
    MISSING,
    TYPE,
    UNKNOWN,
    VALUE,
    WITHIN,
    Row,
)

EMPTY_OBJECT = {"type": "object", "properties": {}, "additionalProperties": False}


def function(**fields: Any) -> dict[str, Any]:
    """A function's own fields."""
    fields = {"name": "f"} | fields
    return {name: value for name, value in fields.items() if value is not ABSENT}


def tool(**fields: Any) -> dict[str, Any]:
    """A function as a tool."""
    return {"type": "function", "function": function(**fields)}


def named(name: Any, kind: str = "function") -> dict[str, Any]:
    """A choice of one tool."""
    return {"type": kind, kind: {"name": name}}


def allowed(*tools: Any, mode: Any = "auto") -> dict[str, Any]:
    """A choice of some."""
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": list(tools)}}


NAMES: list[tuple[Any, str]] = [
    (ABSENT, MISSING), (None, TYPE), (1, TYPE), (True, TYPE), (["f"], TYPE), ("", VALUE), ("x" * 65, LONG_TEXT),
    ("a b", VALUE), ("a.b", VALUE), ("é", VALUE), ("a/b", VALUE), ("f\n", VALUE),
]  # fmt: skip
"""Names that no function may have."""


def _function_parts(field: str, at: str, wrap: Any) -> Iterator[Row]:
    """What holds for a function in either generation."""
    yield from CHAT.ok(field, *([wrap(name=name)] for name in ("x" * 64, "aZ_-09", "a")))
    yield from CHAT.ok(field, [wrap(description="d")], [wrap(description=None)], [wrap(description="")])
    yield from CHAT.ok(field, [wrap(parameters=EMPTY_OBJECT)], [wrap(parameters={})], [wrap(parameters=None)])
    for name, code in NAMES:
        yield from CHAT.bad(field, code, [wrap(name=name)], param=f"{at}.name")
    for odd in (1, True, [], {}):
        yield from CHAT.bad(field, TYPE, [wrap(description=odd)], param=f"{at}.description")
    for odd in (1, True, [], "{}"):
        yield from CHAT.bad(field, TYPE, [wrap(parameters=odd)], param=f"{at}.parameters")
    yield from CHAT.bad(field, UNKNOWN, [wrap(zzz=1)], param=f"{at}.zzz")
    yield from CHAT.bad(field, UNKNOWN, [wrap(Name="f")], param=f"{at}.Name")
    yield from CHAT.bad(field, EMPTY, [])
    yield from CHAT.bad(field, TYPE, [None], [1], ["f"], [[]], param=f"{field}[0]")
    yield from CHAT.types(field, "array")
    yield from CHAT.optional(field)
    yield from CHAT.ok(field, [wrap(name="f"), wrap(name="g")], [wrap(name="f"), wrap(name="F")])
    yield from CHAT.bad(field, VALUE, [wrap(), wrap()], param=at.replace("[0]", "[1]") + ".name")
    yield from CHAT.bad(field, VALUE, [wrap(), wrap(name="g"), wrap()], param=at.replace("[0]", "[2]") + ".name")


def _tools() -> Iterator[Row]:
    name, one = "tools", tool()
    yield from _function_parts(name, "tools[0].function", tool)
    yield from CHAT.ok(name, *([tool(strict=strict, parameters=EMPTY_OBJECT)] for strict in (True, False, None)))
    for odd in (1, 0, "true", []):
        yield from CHAT.bad(name, TYPE, [tool(strict=odd)], param="tools[0].function.strict")
    yield from CHAT.ok(name, [tool(name=f"f{i}") for i in range(128)], tool_choice="none")
    yield from CHAT.bad(name, LONG_ARRAY, [tool(name=f"f{i}") for i in range(129)], tool_choice="none")
    yield from CHAT.each(name, [
        ([{}], MISSING, "[0].type"), ([{"function": function()}], MISSING, "[0].type"),
        ([one | {"type": None}], ANY, "[0].type"), ([one | {"type": "search"}], VALUE, "[0].type"),
        ([one | {"type": 1}], TYPE, "[0].type"), ([{"type": "function"}], MISSING, "[0].function"),
        ([{"type": "function", "function": None}], TYPE, "[0].function"),
        ([{"type": "function", "function": "f"}], TYPE, "[0].function"), ([one, {}], MISSING, "[1].type"),
        ([one | {"name": "f"}], UNKNOWN, "[0].name"),
    ])  # fmt: skip
    yield from CHAT.ok(name, [one], stream=True)
    yield from CHAT.ok(name, [one], parallel_tool_calls=False)
    yield from CHAT.ok(name, [one], parallel_tool_calls=True)


def _custom_tools() -> Iterator[Row]:
    def custom(**fields: Any) -> dict[str, Any]:
        return {"type": "custom", "custom": function(**fields)}

    def grammar(**fields: Any) -> dict[str, Any]:
        return {"type": "grammar", "grammar": {"definition": 'start: "a"', "syntax": "lark"} | fields}

    at = "[0].custom"
    for made in (custom(), custom(format={"type": "text"}), custom(format=grammar())):
        yield from CHAT.bad("tools", ANY, [made], param=f"tools{WITHIN}")
    yield from CHAT.each("tools", [
        ([{"type": "custom"}], MISSING, at), *(([custom(name=n)], code, f"{at}.name") for n, code in NAMES),
        ([custom(format={})], MISSING, f"{at}.format.type"),
        ([custom(format={"type": "x"})], VALUE, f"{at}.format.type"),
        ([custom(format="text")], TYPE, f"{at}.format"), ([custom(zzz=1)], UNKNOWN, f"{at}.zzz"),
        ([custom(format={"type": "grammar"})], MISSING, f"{at}.format.grammar"),
        ([custom(format=grammar(syntax="ebnf"))], VALUE, f"{at}.format.grammar.syntax"),
        ([custom(format=grammar(definition=1))], TYPE, f"{at}.format.grammar.definition"),
    ])  # fmt: skip


def _choice() -> Iterator[Row]:
    name, tools = "tool_choice", [tool(name="f"), tool(name="g")]
    yield from CHAT.ok(name, "none", "auto", "required", named("f"), named("g"), None, ABSENT, tools=tools)
    yield from CHAT.ok(name, "auto", "required", named("f"), tools=tools, stream=True)
    yield from CHAT.ok(name, allowed(named("f")), allowed(named("f"), named("g"), mode="required"), tools=tools)
    yield from CHAT.ok(name, "none", None, ABSENT)
    yield from CHAT.ok(name, "none", tools=None)
    for without in (ABSENT, None):
        yield from CHAT.bad(name, VALUE, "auto", "required", named("f"), allowed(named("f")), tools=without)
    yield from CHAT.bad(name, VALUE, named("h"), named("F"), named("f", "custom"), tools=tools)
    yield from CHAT.bad(name, VALUE, allowed(named("h")), allowed(named("f"), named("h")), tools=tools)
    here: list[tuple[Any, str, str]] = [
        ("any", VALUE, ""), ("", VALUE, ""), ("NONE", VALUE, ""), (1, TYPE, ""), (1.5, TYPE, ""), (True, TYPE, ""),
        ([], TYPE, ""), (["f"], TYPE, ""), ({}, MISSING, ".type"), ({"type": "tool"}, VALUE, ".type"),
        ({"type": 1}, TYPE, ".type"), ({"type": "function"}, MISSING, ".function"),
        ({"type": "function", "function": "f"}, TYPE, ".function"), ({"function": {"name": "f"}}, MISSING, ".type"),
        ({"type": "function", "function": {}}, MISSING, ".function.name"), (named(1), TYPE, ".function.name"),
        (named("f") | {"zzz": 1}, UNKNOWN, ".zzz"), ({"type": "allowed_tools"}, MISSING, ".allowed_tools"),
        (allowed(named("f"), mode="none"), VALUE, ".allowed_tools.mode"),
        (allowed(named("f"), mode=1), TYPE, ".allowed_tools.mode"), (allowed(), EMPTY, ".allowed_tools.tools"),
        (allowed("f"), TYPE, ".allowed_tools.tools[0]"), (allowed({}), MISSING, ".allowed_tools.tools[0].type"),
        ({"type": "allowed_tools", "allowed_tools": {"mode": "auto"}}, MISSING, ".allowed_tools.tools"),
    ]  # fmt: skip
    for value, code, place in here:
        yield from CHAT.bad(name, code, value, param=f"{name}{place}", tools=tools)


def _functions() -> Iterator[Row]:
    name, pair = "functions", [function(name="f"), function(name="g")]
    yield from _function_parts(name, "functions[0]", function)
    yield from CHAT.ok(name, [function(name=f"f{i}") for i in range(128)], function_call="none")
    yield from CHAT.bad(name, LONG_ARRAY, [function(name=f"f{i}") for i in range(129)], function_call="none")
    yield from CHAT.ok(name, pair, stream=True)
    name = "function_call"
    yield from CHAT.ok(name, "none", "auto", {"name": "f"}, {"name": "g"}, None, ABSENT, functions=pair)
    yield from CHAT.ok(name, "none", None, ABSENT)
    for without in (ABSENT, None):
        yield from CHAT.bad(name, VALUE, "auto", {"name": "f"}, functions=without)
    yield from CHAT.bad(name, VALUE, {"name": "h"}, {"name": "F"}, "required", "f", "", functions=pair)
    yield from CHAT.bad(name, TYPE, 1, 1.5, True, [], functions=pair)
    yield from CHAT.bad(name, MISSING, {}, param="function_call.name", functions=pair)
    yield from CHAT.bad(name, TYPE, {"name": 1}, param="function_call.name", functions=pair)
    yield from CHAT.bad(name, UNKNOWN, {"name": "f", "zzz": 1}, param="function_call.zzz", functions=pair)


def _generations() -> Iterator[Row]:
    """Tools and the older functions in one request."""
    old, new = {"functions": [function()]}, {"tools": [tool()]}
    for older in (old, old | {"function_call": "auto"}, {"function_call": "none"}):
        for newer in (new, new | {"tool_choice": "auto"}, {"tool_choice": "none"}):
            both = newer | older
            field = next(iter(both))
            yield from CHAT.bad(field, ANY, both.pop(field), param=ANY, **both)
    yield from CHAT.ok("functions", [function()], tools=None, tool_choice=None)
    yield from CHAT.ok("tools", [tool()], functions=None, function_call=None)


def rows() -> Iterator[Row]:
    for part in (_tools, _custom_tools, _choice, _functions, _generations):
        yield from part()
