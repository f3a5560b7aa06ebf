"""Tools, their older form "functions", and the shape of the answer. Source: contract sections 1.2.2 and 1.2.3."""

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import msgspec

from narthex.core.constrained import ANY_OBJECT, JsonFormat
from narthex.core.tools import NO_PARAMETERS, Tool, Tools
from narthex.dialects.fields import (
    BOOLEAN,
    JSON,
    NAME,
    STRING,
    Quick,
    array,
    choice,
    either,
    invalid,
    mapping,
    record,
    tagged,
)
from narthex.wire.json import encode

_OBJECT = mapping(JSON)

FUNCTION = record({"name": NAME, "description": STRING, "parameters": _OBJECT, "strict": BOOLEAN}, required=("name",))
_GRAMMAR = record({"definition": STRING, "syntax": choice("lark", "regex")}, required=("definition", "syntax"))
_CUSTOM_FORMAT = tagged(
    {
        "text": record({"type": choice("text")}, required=("type",)),
        "grammar": record({"type": choice("grammar"), "grammar": _GRAMMAR}, required=("type", "grammar")),
    }
)
_CUSTOM = record({"name": NAME, "description": STRING, "format": _CUSTOM_FORMAT}, required=("name",))
_CACHE_CONTROL = record({"type": choice("ephemeral")}, required=("type",))
_MOST_TOOLS = 128
_TOOLS = array(
    tagged(
        {
            "function": record(
                {"type": choice("function"), "function": FUNCTION, "cache_control": _CACHE_CONTROL},
                required=("type", "function"),
            ),
            "custom": record({"type": choice("custom"), "custom": _CUSTOM}, required=("type", "custom")),
        }
    ),
    1,
    _MOST_TOOLS,
)
_KINDS = {"name": str, "description": str, "parameters": dict, "strict": bool}
_is_name = re.compile("[a-zA-Z0-9_-]{1,64}").fullmatch


def _functions(tools: list[dict[str, Any]]) -> tuple[dict[str, Any], ...] | None:
    """Functions and nothing else, as nearly all tools are; parsed they are what they were."""
    return tuple(tools) if 1 <= len(tools) <= _MOST_TOOLS and all(map(_is_plain, tools)) else None


def _is_plain(tool: dict[str, Any]) -> bool:
    function = tool.get("function")
    if tool.get("type") != "function" or len(tool) != 2 or not isinstance(function, dict):
        return False
    for name, value in function.items():
        if type(value) is not _KINDS.get(name):
            return False
    return "name" in function and _is_name(function["name"]) is not None


TOOLS = msgspec.structs.replace(_TOOLS, quick=Quick(list[dict[str, Any]], _functions))
_NAMED = record({"name": NAME}, required=("name",))
_ONE = {
    "function": record({"type": choice("function"), "function": _NAMED}, required=("type", "function")),
    "custom": record({"type": choice("custom"), "custom": _NAMED}, required=("type", "custom")),
}
_ALLOWED = record({"mode": choice("auto", "required"), "tools": array(tagged(_ONE), 1)}, required=("mode", "tools"))
TOOL_CHOICE = either(
    (str, choice("none", "auto", "required")),
    (
        dict,
        tagged(
            _ONE
            | {
                "allowed_tools": record(
                    {"type": choice("allowed_tools"), "allowed_tools": _ALLOWED}, required=("type", "allowed_tools")
                ),
            }
        ),
    ),
    expected="one of 'none', 'auto' and 'required', or an object that names a tool",
)
TOOL_CHOICE = msgspec.structs.replace(TOOL_CHOICE, quick=Quick(Literal["none", "auto", "required"]))
FUNCTIONS = array(record({"name": NAME, "description": STRING, "parameters": _OBJECT}, required=("name",)), 1, 128)
FUNCTION_CHOICE = either(
    (str, choice("none", "auto")),
    (dict, _NAMED),
    expected="one of 'none' and 'auto', or an object that names a function",
)

_SCHEMA = record({"name": NAME, "description": STRING, "schema": _OBJECT, "strict": BOOLEAN}, required=("name",))
RESPONSE_FORMAT = tagged(
    {
        "text": record({"type": choice("text")}, required=("type",)),
        "json_object": record({"type": choice("json_object")}, required=("type",)),
        "json_schema": record(
            {"type": choice("json_schema"), "json_schema": _SCHEMA}, required=("type", "json_schema")
        ),
    }
)


_OF_TOOLS = frozenset(("tools", "tool_choice", "parallel_tool_calls", "functions", "function_call"))


def check_tools(fields: dict[str, Any]) -> None:
    """Refuse what can't go together.

    Raises:
        InvalidRequest: two functions of one name, a choice without tools, one that names an unknown tool, tools of both
            generations.
    """
    if not _OF_TOOLS & fields.keys():
        return
    both = {"tools", "tool_choice", "parallel_tool_calls"} & fields.keys()
    if both and {"functions", "function_call"} & fields.keys():
        raise invalid("functions", "tools and the older functions can't be used in one request.")
    _check_names([each.get("function") for each in fields.get("tools", ())], "tools[{}].function.name")
    _check_names(fields.get("functions", ()), "functions[{}].name")
    _check_choice(fields, "tool_choice", named=_named, owner="tools")
    _check_choice(fields, "function_call", named=lambda each: ("function", each["name"]), owner="functions")


def _check_names(functions: Iterable[dict[str, Any] | None], place: str) -> None:
    """Refuse two functions of one name: an answer that calls it could mean either."""
    names = [None if function is None else function["name"] for function in functions]
    if len(names) != len(set(names)) + max(0, names.count(None) - 1):
        index = next(index for index, name in enumerate(names) if name is not None and name in names[:index])
        raise invalid(place.format(index), f"there is another function named '{names[index]}'.")


def _check_choice(fields: dict[str, Any], name: str, *, named: Callable[[Any], tuple[str, str]], owner: str) -> None:
    chosen = fields.get(name)
    if chosen is None or chosen == "none":
        return
    if owner not in fields:
        raise invalid(name, f"it is only allowed when '{owner}' are specified.")
    wanted_ones = _chosen(chosen)
    available = set(map(named, fields[owner])) if wanted_ones else ()
    for kind, wanted in wanted_ones:
        if (kind, wanted) not in available:
            raise invalid(name, f"there is no {kind} named '{wanted}' in '{owner}'.")


def _chosen(chosen: Any) -> list[tuple[str, str]]:
    """(kind, name) of every tool that a choice names."""
    if isinstance(chosen, str):
        return []
    if "type" not in chosen:  # the older form
        return [("function", chosen["name"])]
    if chosen["type"] == "allowed_tools":
        return list(map(_named, chosen["allowed_tools"]["tools"]))
    return [_named(chosen)]


def _named(tool: Any) -> tuple[str, str]:
    kind = tool["type"]
    return kind, tool[kind]["name"]


# --- what the core knows of them -------------------------------------------------------------------------------------


def tools_of(fields: dict[str, Any]) -> Tools | None:
    """The tools of a request, of whichever generation; None where the model is to know of none."""
    if "functions" in fields:
        functions = fields["functions"]
        return _allowed(lambda: _older(functions), fields.get("function_call", "auto"), parallel=False)
    tools = fields.get("tools", ())
    if not any(each["type"] == "function" for each in tools):
        return None
    parallel = fields.get("parallel_tool_calls", True)
    return _allowed(lambda: _known(tools), fields.get("tool_choice", "auto"), parallel=parallel)


def _older(functions: Sequence[dict[str, Any]]) -> tuple[Tool, ...]:
    return tuple(_tool(each, f"functions[{index}]") for index, each in enumerate(functions))


def _known(tools: Sequence[dict[str, Any]]) -> tuple[Tool, ...]:
    numbered = [(index, each["function"]) for index, each in enumerate(tools) if each["type"] == "function"]
    return tuple(_tool(function, f"tools[{index}].function") for index, function in numbered)


def _tool(function: dict[str, Any], path: str) -> Tool:
    return Tool(
        name=function["name"],
        description=function.get("description", ""),
        parameters=function.get("parameters", NO_PARAMETERS),
        path=f"{path}.parameters",
    )


def _allowed(known: Callable[[], tuple[Tool, ...]], chosen: Any, *, parallel: bool) -> Tools | None:
    if chosen == "none":
        return None
    return Tools(
        all_=known,
        callable_=frozenset(name for _, name in _chosen(chosen)) or None,
        required=chosen == "required" or (isinstance(chosen, dict) and _mode(chosen) == "required"),
        # Whoever names the one tool wants it called once.
        parallel=parallel and not (isinstance(chosen, dict) and chosen.get("type") == "function"),
    )


def _mode(chosen: dict[str, Any]) -> str:
    return str(chosen["allowed_tools"]["mode"]) if chosen.get("type") == "allowed_tools" else "required"


def format_of(fields: dict[str, Any]) -> JsonFormat | None:
    """The form that the text of the answer must have; None where any will do."""
    wanted = fields.get("response_format", {"type": "text"})
    if wanted["type"] == "text":
        return None
    if wanted["type"] == "json_object" or "schema" not in wanted["json_schema"]:
        return JsonFormat(schema=ANY_OBJECT, path="response_format")
    return JsonFormat(schema=encode(wanted["json_schema"]["schema"]), path="response_format.json_schema.schema")
