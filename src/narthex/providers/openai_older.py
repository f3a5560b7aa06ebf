"""Chats of an older or newer kind than a server knows, rewritten for it, and its answers mapped back. No I/O.

Source: contract sections 1.2.1, 1.2.3 and 11. Whatever need not be touched stays the caller's own bytes.
"""

import re
from collections.abc import Iterator, Mapping
from operator import attrgetter
from typing import Any

import msgspec

from narthex.core.chat import ChatRequest, address_of
from narthex.core.sent import Sent
from narthex.core.stream import ChoiceFinished, Event, Frame, ToolCallDelta
from narthex.providers.beginning import ends_for_good
from narthex.providers.codec import AnswerDecoder

_Members = dict[str, msgspec.Raw]

_members = msgspec.json.Decoder(list[_Members]).decode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode
_parts = msgspec.json.Decoder(list[dict[str, Any]]).decode
_OF_ANSWERS = ("reasoning_content", "annotations")
_OWN = re.compile("|".join(f'"{name}"' for name in _OF_ANSWERS).encode()).search
_role, _content = attrgetter("role"), attrgetter("content")
_FOREIGN = re.compile(rb'"content"\s*:\s*\{|"media_type"').search
"""A part that stands alone, or an image that tells its type apart (contract 4.3)."""


class Rewriting:
    """What to do to messages. `developer`, `functions`: the server knows these; `continues`: the mark of a message to
    be continued, "" for none; `own_members`: it takes back what only answers hold.
    """

    def __init__(self, *, developer: bool, functions: bool, continues: str, own_members: bool) -> None:
        self._developer = developer
        self._functions = functions
        self._continues = continues
        self._own_members = own_members
        unknown = {"developer": developer, "function": functions}
        self._unknown_roles = frozenset(role for role, known in unknown.items() if not known)

    def messages(self, request: ChatRequest) -> msgspec.Raw:
        """The conversation as the server takes it."""
        sent = request.sent["messages"]
        marked = bool(self._continues) and continued(request) and not ends_for_good(request)
        if not (marked or self._touches(request, sent)):
            return sent
        messages = _members(sent)
        for message in messages:
            self._rewrite(message)
        if not self._functions:
            _with_tools(messages)
        if marked:
            messages[-1][self._continues] = msgspec.Raw(b"true")
        return _raw(messages)

    def _touches(self, request: ChatRequest, sent: msgspec.Raw) -> bool:
        """Whether anything has to be rewritten: this is asked of every request."""
        messages = request.messages
        if self._unknown_roles and not self._unknown_roles.isdisjoint(map(_role, messages)):
            return True
        if isinstance(request.sent, Sent):  # nothing but texts
            return False
        if not self._functions and any(message.function_call is not None for message in messages):
            return True
        if tuple in map(type, map(_content, messages)) and _FOREIGN(memoryview(sent)) is not None:
            return True
        return not self._own_members and _OWN(memoryview(sent)) is not None

    def _rewrite(self, message: _Members) -> None:
        if not self._developer and _text(message["role"]) == "developer":
            message["role"] = _raw("system")
        if bytes(message.get("content", b"")).startswith(b"{"):  # a part that stands alone
            message["content"] = _raw([message["content"]])
        if bytes(message.get("content", b"")).startswith(b"[") and b'"media_type"' in bytes(message["content"]):
            message["content"] = _raw([_image(part) for part in _parts(message["content"])])
        if not self._own_members:
            for name in _OF_ANSWERS:
                message.pop(name, None)


def _image(part: dict[str, Any]) -> dict[str, Any]:
    """An image whose type is told apart is told by its address alone."""
    if "image_url" not in part:
        return part
    told = dict(part["image_url"])
    told["url"] = address_of(told["url"], told.pop("media_type", None))
    return part | {"image_url": told}


def continued(request: ChatRequest) -> bool:
    """Whether the conversation ends with words of the assistant."""
    last = request.messages[-1]
    return last.role == "assistant" and bool(last.text) and not last.tool_calls and last.function_call is None


def uncached(tools: msgspec.Raw) -> msgspec.Raw:
    """Tools without marks for the cache."""
    return _raw([{name: raw for name, raw in tool.items() if name != "cache_control"} for tool in _members(tools)])


def tools(request: ChatRequest) -> Mapping[str, Any]:
    """`functions` and `function_call` as `tools` and `tool_choice`; nothing where the caller sent none."""
    rewritten: dict[str, Any] = {}
    if "functions" in request.fields:
        functions = _raws(request.sent["functions"])
        rewritten["tools"] = _raw([{"type": "function", "function": each} for each in functions])
    chosen = request.fields.get("function_call")
    if isinstance(chosen, dict):
        rewritten["tool_choice"] = _raw({"type": "function", "function": {"name": chosen["name"]}})
    elif chosen is not None and "functions" in request.fields:
        rewritten["tool_choice"] = _raw(chosen)
    return rewritten


class FunctionAnswer:
    """Decodes the answer to functions that were sent as tools: the first call of each choice, in the older form."""

    def __init__(self, decoder: AnswerDecoder) -> None:
        self._decoder = decoder

    def feed(self, data: bytes) -> Iterator[Frame]:
        """See the decoder that was given."""
        return map(_older, self._decoder.feed(data))

    def end(self) -> Iterator[Frame]:
        """See the decoder that was given."""
        return self._decoder.end()


def _older(frame: Frame) -> Frame:
    """There is room for one call only."""
    kept = (event for event in frame.events if not (isinstance(event, ToolCallDelta) and event.call > 0))
    return Frame.of(*map(_older_event, kept))


def _older_event(event: Event) -> Event:
    if isinstance(event, ChoiceFinished) and event.reason == "tool_calls":
        return ChoiceFinished(event.choice, "function_call")
    return event


def _with_tools(messages: list[_Members]) -> None:
    """Calls and results of functions as those of tools. A result answers the last call before it."""
    last = "call_0"
    for index, message in enumerate(messages):
        if _is_set(message, "function_call"):
            last = f"call_{index}"
            call = {"id": last, "type": "function", "function": message.pop("function_call")}
            message["tool_calls"] = _raw([call])
        elif _text(message["role"]) == "function":
            message |= {"role": _raw("tool"), "tool_call_id": _raw(last)}
            if not _is_set(message, "content"):
                message["content"] = _raw("")


def _is_set(message: _Members, name: str) -> bool:
    return bytes(message.get(name, b"null")) != b"null"


def _raw(value: Any) -> msgspec.Raw:
    return msgspec.Raw(msgspec.json.encode(value))


def _text(raw: msgspec.Raw) -> str:
    return msgspec.json.decode(raw, type=str)
