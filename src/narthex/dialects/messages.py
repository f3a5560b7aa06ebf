"""The messages of a chat call. Source: contract section 1.2.1, and 4.3 for forms that other vendors send."""

from collections.abc import Mapping
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec

from narthex.core.chat import (
    AudioPart,
    FilePart,
    FunctionCall,
    ImagePart,
    Message,
    Part,
    TextPart,
    ToolCall,
    address_of,
)
from narthex.core.errors import InvalidRequest
from narthex.dialects.fields import (
    JSON,
    NAME,
    STRING,
    Field,
    Quick,
    array,
    choice,
    either,
    invalid,
    missing,
    nullable,
    record,
    string,
    tagged,
)

# --- content parts -------------------------------------------------------------------------------------------------

_CACHE = record({"mode": choice("explicit")}, required=("mode",))


def _part(type_: str, fields: dict[str, Field], required: tuple[str, ...], build: Any) -> Field:
    known = {"type": choice(type_), **fields, "prompt_cache_breakpoint": _CACHE}
    return record(known, required=("type", *required), build=build)


_IMAGE = record(
    {
        "url": string(shortest=1),
        "detail": choice("auto", "low", "high", "original"),
        "media_type": choice("image/jpeg", "image/png", "image/gif", "image/webp"),
    },
    required=("url",),
    build=lambda values, _: ImagePart(**values | {"url": address_of(values["url"], values.get("media_type"))}),
)
_AUDIO = record(
    {"data": STRING, "format": choice("wav", "mp3")},
    required=("data", "format"),
    build=lambda values, _: AudioPart(**values),
)
_FILE = record({"filename": STRING, "file_data": STRING, "file_id": STRING}, build=lambda values, _: FilePart(**values))

TEXT_PART = _part("text", {"text": STRING}, ("text",), lambda values, _: TextPart(values["text"]))
_REFUSAL_PART = _part("refusal", {"refusal": STRING}, ("refusal",), lambda values, _: _Refusal(values["refusal"]))
_USER_PART = tagged(
    {
        "text": TEXT_PART,
        "image_url": _part("image_url", {"image_url": _IMAGE}, ("image_url",), lambda values, _: values["image_url"]),
        "input_audio": _part(
            "input_audio", {"input_audio": _AUDIO}, ("input_audio",), lambda values, _: values["input_audio"]
        ),
        "file": _part("file", {"file": _FILE}, ("file",), lambda values, _: values["file"]),
    }
)
_ASSISTANT_PART = tagged({"text": TEXT_PART, "refusal": _REFUSAL_PART})


class _Refusal(str):
    """A refusal part's text, until the message is built."""

    __slots__ = ()


def _single(part: Field) -> Field:
    """A part that stands alone instead of in an array (contract 4.3)."""
    return Field(lambda value, path: (part.parse(value, path),), part.schema)


def _content(part: Field) -> Field:
    return either(
        (str, STRING),
        (list, array(part, 1)),
        (dict, _single(part)),
        expected="a string or an array of content parts",
    )


_TEXT_CONTENT = _content(tagged({"text": TEXT_PART}))
_USER_CONTENT = _content(_USER_PART)
_ASSISTANT_CONTENT = _content(_ASSISTANT_PART)

# --- tool calls of earlier turns -----------------------------------------------------------------------------------

_FUNCTION = record({"name": NAME, "arguments": STRING}, required=("name", "arguments"))
FUNCTION_CALL = record(
    {"name": NAME, "arguments": STRING},
    required=("name", "arguments"),
    build=lambda values, _: FunctionCall(**values),
)
_CUSTOM = record({"name": NAME, "input": STRING}, required=("name", "input"))
_ID = string(shortest=1)
_INDEX = Field(lambda value, _: value, {"type": "integer"})
TOOL_CALL = tagged(
    {
        "function": record(
            {"id": _ID, "type": choice("function"), "function": _FUNCTION, "index": _INDEX},
            required=("id", "type", "function"),
            build=lambda values, _: ToolCall(id=values["id"], **values["function"]),
        ),
        "custom": record(
            {"id": _ID, "type": choice("custom"), "custom": _CUSTOM, "index": _INDEX},
            required=("id", "type", "custom"),
            build=lambda values, _: ToolCall(
                id=values["id"], name=values["custom"]["name"], arguments=values["custom"]["input"], custom=True
            ),
        ),
    }
)

# --- messages by role ----------------------------------------------------------------------------------------------


def _plain(values: dict[str, Any], _: str) -> Message:
    return Message(**values)


def _assistant(values: dict[str, Any], path: str) -> Message:
    content = values.get("content")
    refusal = values.get("refusal")
    if isinstance(content, tuple):
        refusals = [part for part in content if isinstance(part, _Refusal)]
        if refusals and len(content) > 1:
            raise invalid(f"{path}.content", "a refusal part must be the only part of its message.")
        if refusals:
            content, refusal = None, str(refusals[0])
    calls: tuple[ToolCall, ...] = values.get("tool_calls") or ()
    call = values.get("function_call")
    if content is None and refusal is None and not calls and call is None and values.get("audio") is None:
        raise missing(f"{path}.content")
    return Message(
        role="assistant",
        content=content,
        refusal=refusal,
        name=values.get("name"),
        tool_calls=calls,
        function_call=call,
        audio_id=(values.get("audio") or {}).get("id"),
    )


SPOKEN = record({"id": _ID, "expires_at": JSON, "data": JSON, "transcript": JSON}, required=("id",))


def message(*, answered: Mapping[str, Field], by_others: Mapping[str, Field] | None = None) -> Field:
    """A message of any role. `answered`: what those of the assistant hold besides their words; `by_others`: what may
    stand there in the others.
    """
    said = by_others or {}
    return tagged(
        {
            **{role: _said_by(role, _TEXT_CONTENT, said) for role in ("system", "developer")},
            "user": _said_by("user", _USER_CONTENT, said),
            # What we answer may be sent back as it is, so annotations, audio and what models thought are known here.
            "assistant": record(
                {
                    "role": choice("assistant"),
                    "content": _ASSISTANT_CONTENT,
                    "refusal": STRING,
                    "name": STRING,
                    "annotations": array(JSON),
                    "reasoning_content": STRING,
                    **answered,
                },
                required=("role",),
                build=_assistant,
            ),
            "tool": record(
                # Many clients name the function here too, as the older role did.
                {
                    **said,
                    "role": choice("tool"),
                    "content": _TEXT_CONTENT,
                    "tool_call_id": STRING,
                    "name": STRING,
                },
                required=("role", "content", "tool_call_id"),
                build=_plain,
            ),
            "function": record(
                {
                    **said,
                    "role": choice("function"),
                    "content": nullable(STRING),
                    "name": string(shortest=1),
                },
                required=("role", "content", "name"),
                build=_plain,
            ),
        },
        tag="role",
    )


def _said_by(role: str, content: Field, more: Mapping[str, Field]) -> Field:
    fields = {**more, "role": choice(role), "content": content, "name": STRING}
    return record(fields, required=("role", "content"), build=_plain)


MESSAGE = message(answered={"audio": SPOKEN, "tool_calls": array(TOOL_CALL), "function_call": FUNCTION_CALL})


class _Plain(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A message that is nothing but text."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str


def _texts(messages: list[_Plain]) -> tuple[Message, ...]:
    """Messages that are nothing but text, as nearly all are: some twenty times as fast as field by field."""
    return tuple([Message(role=message.role, content=message.content) for message in messages])


_role = attrgetter("role")
_QUICK = Quick(Annotated[list[_Plain], msgspec.Meta(min_length=1)], _texts)


def conversation(each: Field) -> Field:
    """A conversation of such messages."""
    return msgspec.structs.replace(array(each, 1), quick=_QUICK)


MESSAGES = conversation(MESSAGE)


def unanswered_tool_result(messages: tuple[Message, ...]) -> InvalidRequest | None:
    """The error for a tool message that answers no call before it."""
    if "tool" not in map(_role, messages):  # nearly always
        return None
    called: set[str] = set()
    for index, message in enumerate(messages):
        if message.tool_calls:
            called |= {call.id for call in message.tool_calls}
        if message.role == "tool" and message.tool_call_id not in called:
            path = f"messages[{index}].tool_call_id"
            return invalid(path, "no assistant message before this one has a tool call with this id.")
    return None


__all__ = ["MESSAGES", "TOOL_CALL", "Part", "unanswered_tool_result"]
