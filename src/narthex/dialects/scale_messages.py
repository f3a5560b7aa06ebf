"""The messages of `/v4/beta/chat/completions`: those of `/v1`, and vendors' answers sent back as they were told there.

Source: contract section 4.3.

Rule: servers of OpenAI's format are sent the form of `/v1`, since they refuse members that they don't know.
"""

import re
from typing import Any

import msgspec
from msgspec import UNSET

from narthex.core.chat import ToolCall
from narthex.dialects.fields import JSON, NAME, STRING, Field, array, choice, invalid, record, string
from narthex.dialects.messages import FUNCTION_CALL, SPOKEN, conversation, message

NO_ARGUMENTS = "{}"

_FUNCTION = record({"name": NAME, "arguments": STRING, "type": choice("function")}, required=("name",))
TOOL_CALL = record(
    {"id": string(shortest=1), "type": choice("function"), "function": _FUNCTION, "index": JSON},
    required=("id", "type", "function"),
    build=lambda values, _: ToolCall(
        id=values["id"],
        name=values["function"]["name"],
        arguments=values["function"].get("arguments", NO_ARGUMENTS),
    ),
)


def _or_nothing(field: Field) -> Field:
    """The same, or nothing: typed clients have to say something there."""

    def parse(value: Any, path: str) -> Any:
        return UNSET if _is_nothing(value) else field.parse(value, path)

    return Field(parse, {"anyOf": [field.schema, _EMPTY]})


def _nothing(value: Any, path: str) -> Any:
    if not _is_nothing(value):
        raise invalid(path, "only a message of the assistant has it.")
    return UNSET


def _is_nothing(value: Any) -> bool:
    return value in ("", [], {})


_EMPTY: dict[str, Any] = {"enum": ["", [], {}]}
_ANSWERED: dict[str, Field] = {
    "refusal": _or_nothing(STRING),
    "tool_calls": array(TOOL_CALL),
    "function_call": _or_nothing(FUNCTION_CALL),
    "audio": _or_nothing(SPOKEN),
}
"""Members of a vendor's answer. Where nothing is in them, a message of any role may have them."""
MESSAGES = conversation(message(answered=_ANSWERED, by_others=dict.fromkeys(_ANSWERED, Field(_nothing, _EMPTY))))

_members = msgspec.json.Decoder(list[dict[str, Any]]).decode
_retold = re.compile("|".join(f'"{name}"' for name in _ANSWERED).encode()).search


def as_common(sent: msgspec.Raw) -> msgspec.Raw:
    """Messages that were checked in the form that `/v1` has for them; the caller's own bytes where that is theirs."""
    if _retold(memoryview(sent)) is None:  # a quote within a text has a backslash before it
        return sent
    return msgspec.Raw(msgspec.json.encode([_common(each) for each in _members(sent)]))


def _common(said: dict[str, Any]) -> dict[str, Any]:
    """The same without what has nothing in it."""
    told = {name: value for name, value in said.items() if name not in _ANSWERED or value}
    if "tool_calls" in told:
        told["tool_calls"] = [each | {"function": _function(each["function"])} for each in told["tool_calls"]]
    if "audio" in told:
        told["audio"] = {"id": told["audio"]["id"]}
    return told


def _function(called: dict[str, Any]) -> dict[str, Any]:
    arguments = called.get("arguments")
    return {"name": called["name"], "arguments": NO_ARGUMENTS if arguments is None else arguments}
