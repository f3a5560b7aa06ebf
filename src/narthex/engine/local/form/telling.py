"""Tells tools to models: as objects where their template knows tools, else in words of ours."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.tools import Tool, Tools
from narthex.wire.json import encode


def tool_objects(tools: Tools) -> list[dict[str, Any]]:
    """Every tool as templates know them."""
    return [{"type": "function", "function": _function(tool)} for tool in tools.all_]


def _function(tool: Tool) -> dict[str, Any]:
    described = {"description": tool.description} if tool.description else {}
    return {"name": tool.name, **described, "parameters": msgspec.json.decode(tool.parameters)}


def told(tools: Tools) -> str:
    """What a system message has to say of the tools. Short: small models read about 200 tokens a second."""
    lines = [
        "You can call these tools:",
        *(encode(_function(tool)).decode() for tool in tools.all_),
        "To call one, write:",
        '<tool_call>\n{"name": tool name, "arguments": {…}}\n</tool_call>',
    ]
    if tools.required:
        names = " or ".join(tool.name for tool in tools.callable_)
        lines.append(f"Now call {names}." if len(tools.callable_) < len(tools.all_) else "Now call a tool.")
    elif len(tools.callable_) < len(tools.all_):
        lines.append(f"Now only {', '.join(tool.name for tool in tools.callable_)} can be called.")
    return "\n".join(lines)


def with_tools(messages: Sequence[Mapping[str, Any]], tools: Tools, *, template: str) -> list[dict[str, Any]]:
    """The messages with the tools told in the first system message, or in the first message of all where a template
    takes no system messages.
    """
    text = told(tools)
    rest = [dict(message) for message in messages]
    first = 0 if rest and (rest[0]["role"] == "system" or _refuses_system(template)) else None
    if first is None:
        return [{"role": "system", "content": text}, *rest]
    rest[first]["content"] = (
        f"{rest[first]['content']}\n\n{text}"
        if rest[0]["role"] == "system"
        else (f"{text}\n\n{rest[first]['content']}")
    )
    return rest


def _refuses_system(template: str) -> bool:
    return "system role not supported" in template.lower()
