"""The messages of a chat call, in every form that clients send."""

from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.chat import AudioPart, FilePart, FunctionCall, ImagePart, Message, TextPart, ToolCall
from narthex.core.ports import Decoded

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]

CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
CUSTOM = {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "text"}}
TEXT = {"type": "text", "text": "a"}
CALLED = Message(role="assistant", tool_calls=(ToolCall(id="c1", name="f", arguments="{}"),))

READ: list[tuple[dict[str, Any], Message]] = [
    ({"role": "system", "content": "a"}, Message(role="system", content="a")),
    (
        {"role": "developer", "content": [TEXT], "name": "x"},
        Message(role="developer", content=(TextPart("a"),), name="x"),
    ),
    ({"role": "user", "content": "", "name": None}, Message(role="user", content="")),
    ({"role": "user", "content": TEXT}, Message(role="user", content=(TextPart("a"),))),
    (
        {"role": "user", "content": {"type": "image_url", "image_url": {"url": "data:,", "media_type": "image/png"}}},
        Message(role="user", content=(ImagePart("data:,", media_type="image/png"),)),
    ),
    (
        {"role": "user", "content": [
            TEXT | {"prompt_cache_breakpoint": {"mode": "explicit"}},
            {"type": "image_url", "image_url": {"url": "u", "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}},
            {"type": "file", "file": {"file_id": "f", "filename": None}},
        ]},
        Message(
            role="user",
            content=(TextPart("a"), ImagePart("u", "low"), AudioPart("AA", "wav"), FilePart(file_id="f")),
        ),
    ),
    ({"role": "assistant", "content": "a"}, Message(role="assistant", content="a")),
    ({"role": "assistant", "content": ""}, Message(role="assistant", content="")),
    ({"role": "assistant", "content": [TEXT]}, Message(role="assistant", content=(TextPart("a"),))),
    ({"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}, Message(role="assistant", refusal="no")),
    ({"role": "assistant", "refusal": "no"}, Message(role="assistant", refusal="no")),
    ({"role": "assistant", "content": None, "tool_calls": [CALL]}, CALLED),
    ({"role": "assistant", "tool_calls": [CALL | {"index": 0}]}, CALLED),
    (
        {"role": "assistant", "tool_calls": [CUSTOM]},
        Message(role="assistant", tool_calls=(ToolCall(id="c2", name="g", arguments="text", custom=True),)),
    ),
    (
        {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": ""}},
        Message(role="assistant", function_call=FunctionCall(name="f", arguments="")),
    ),
    ({"role": "assistant", "audio": {"id": "a1"}}, Message(role="assistant", audio_id="a1")),
    ({"role": "function", "content": "r", "name": "f"}, Message(role="function", content="r", name="f")),
    ({"role": "function", "content": None, "name": "f"}, Message(role="function", name="f")),
    # answers, sent back as they are: ours, a stored one's, and as SDKs print them
    ({"role": "assistant", "content": "a", "refusal": None, "annotations": []}, Message(role="assistant", content="a")),
    (
        {"role": "assistant", "content": "a", "refusal": None, "annotations": None, "audio": None,
         "function_call": None, "tool_calls": None},
        Message(role="assistant", content="a"),
    ),
    (
        {"role": "assistant", "content": "a", "tool_calls": [], "reasoning_content": "hm", "name": "x",
         "annotations": [{"type": "url_citation", "url_citation": {"url": "u"}}]},
        Message(role="assistant", content="a", name="x"),
    ),
    (
        {"role": "assistant", "content": None, "refusal": None,
         "audio": {"id": "a1", "expires_at": 1, "data": "AA", "transcript": "t"}},
        Message(role="assistant", audio_id="a1"),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "read"), READ)
def test_a_message_is_read(sent: dict[str, Any], read: Message, decode: Decode) -> None:
    assert decode("chat", {"messages": [sent]}).request.messages == (read,)


MISSING, UNKNOWN, TYPE, VALUE = "missing_required_parameter", "unknown_parameter", "invalid_type", "invalid_value"
REFUSED: list[tuple[Any, str, str]] = [
    ("hi", TYPE, ""),
    (None, TYPE, ""),
    ({}, MISSING, ".role"),
    ({"role": None, "content": "a"}, MISSING, ".role"),
    ({"role": 1, "content": "a"}, TYPE, ".role"),
    ({"role": "boss", "content": "a"}, VALUE, ".role"),
    ({"role": "user"}, MISSING, ".content"),
    ({"role": "user", "content": None}, TYPE, ".content"),
    ({"role": "user", "content": 1}, TYPE, ".content"),
    ({"role": "user", "content": True}, TYPE, ".content"),
    ({"role": "user", "content": []}, "empty_array", ".content"),
    ({"role": "user", "content": ["a"]}, TYPE, ".content[0]"),
    ({"role": "user", "content": [{}]}, MISSING, ".content[0].type"),
    ({"role": "user", "content": [{"type": "video"}]}, VALUE, ".content[0].type"),
    ({"role": "user", "content": {"type": "text"}}, MISSING, ".content.text"),
    ({"role": "user", "content": [TEXT, {"type": "text", "text": 1}]}, TYPE, ".content[1].text"),
    ({"role": "user", "content": [{"type": "text", "text": None}]}, TYPE, ".content[0].text"),
    ({"role": "user", "content": [{"type": "refusal", "refusal": "no"}]}, VALUE, ".content[0].type"),
    ({"role": "user", "content": [{"type": "image_url"}]}, MISSING, ".content[0].image_url"),
    ({"role": "user", "content": [{"type": "image_url", "image_url": "u"}]}, TYPE, ".content[0].image_url"),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": ""}}]},
        VALUE, ".content[0].image_url.url",
    ),
    (
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": "u", "detail": "big"}}]},
        VALUE, ".content[0].image_url.detail",
    ),
    (
        {"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "A", "format": "ogg"}}]},
        VALUE, ".content[0].input_audio.format",
    ),
    ({"role": "user", "content": [TEXT | {"Text": "b"}]}, UNKNOWN, ".content[0].Text"),
    ({"role": "user", "content": "a", "tool_calls": []}, UNKNOWN, ".tool_calls"),
    ({"role": "user", "content": "a", "name": 1}, TYPE, ".name"),
    ({"role": "system", "content": [{"type": "image_url", "image_url": {"url": "u"}}]}, VALUE, ".content[0].type"),
    ({"role": "assistant"}, MISSING, ".content"),
    ({"role": "assistant", "content": None, "tool_calls": [], "refusal": None}, MISSING, ".content"),
    ({"role": "assistant", "content": [TEXT, {"type": "refusal", "refusal": "no"}]}, VALUE, ".content"),
    ({"role": "assistant", "tool_calls": [{"type": "function"}]}, MISSING, ".tool_calls[0].id"),
    ({"role": "assistant", "tool_calls": [{"id": "c"}]}, MISSING, ".tool_calls[0].type"),
    ({"role": "assistant", "tool_calls": [CALL | {"id": ""}]}, VALUE, ".tool_calls[0].id"),
    (
        {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f"}}]},
        MISSING, ".tool_calls[0].function.arguments",
    ),
    (
        {"role": "assistant", "tool_calls": [CALL | {"function": {"name": "f", "arguments": {}}}]},
        TYPE, ".tool_calls[0].function.arguments",
    ),
    ({"role": "assistant", "function_call": {"name": "f"}}, MISSING, ".function_call.arguments"),
    ({"role": "tool", "content": "a"}, MISSING, ".tool_call_id"),
    ({"role": "tool", "content": "a", "tool_call_id": "c1"}, VALUE, ".tool_call_id"),
    ({"role": "tool", "tool_call_id": "c1"}, MISSING, ".content"),
    ({"role": "function", "content": "a"}, MISSING, ".name"),
    ({"role": "function", "name": "f"}, MISSING, ".content"),
    ({"role": "function", "content": 1, "name": "f"}, TYPE, ".content"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "code", "param"), REFUSED)
def test_a_message_is_refused_where_it_is_wrong(sent: Any, code: str, param: str, refuse: Refuse) -> None:
    messages = [{"role": "user", "content": "Hi"}, sent]
    assert refuse("chat", {"messages": messages}) == (code, f"messages[1]{param}")


def test_there_must_be_a_message(refuse: Refuse) -> None:
    assert refuse("chat", {"messages": []}) == ("empty_array", "messages")


def test_a_tool_answers_a_call_before_it(refuse: Refuse, decode: Decode) -> None:
    call = {"role": "assistant", "tool_calls": [CALL]}
    answer = {"role": "tool", "content": [TEXT], "tool_call_id": "c1", "name": "f"}
    read = decode("chat", {"messages": [call, answer]}).request.messages
    assert read == (CALLED, Message(role="tool", content=(TextPart("a"),), tool_call_id="c1", name="f"))
    assert refuse("chat", {"messages": [answer, call]}) == (VALUE, "messages[0].tool_call_id")
