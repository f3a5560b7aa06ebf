"""Conversations in Anthropic's form: turns, parts, calls and their results."""

import json
from typing import Any

import pytest

from narthex.core.capabilities import Verdict
from narthex.core.chat import ChatRequest, Message
from narthex.dialects.openai_chat import ChatDialect
from narthex.providers.anthropic_messages import Conversation, conversation

PDF = "JVBERi0xLjcK"


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def read(messages: list[dict[str, Any]], *, prefill: bool = True) -> Conversation:
    body = json.dumps({"model": "m", "messages": messages}).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return conversation(request.messages, prefill=prefill)


def call(id_: str, name: str = "f", arguments: str = "{}") -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": name, "arguments": arguments}}


def use(id_: str, name: str = "f", **input_: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": id_, "name": name, "input": input_}


def result(id_: str, *content: dict[str, Any]) -> dict[str, Any]:
    return {"type": "tool_result", "tool_use_id": id_} | ({"content": list(content)} if content else {})


def user(*content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content[0] if isinstance(content[0], str) else list(content)}


def calls(*made: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"role": "assistant", "tool_calls": list(made)} | fields


def answer(id_: str, content: Any) -> dict[str, Any]:
    return {"role": "tool", "tool_call_id": id_, "content": content}


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        pytest.param([user("a"), user("b")], [("user", [text("a"), text("b")])], id="merged"),
        pytest.param(
            [user("a"), {"role": "assistant", "content": [text("b")]}, user(text("c"), text("d"))],
            [("user", [text("a")]), ("assistant", [text("b")]), ("user", [text("c"), text("d")])],
            id="in turns",
        ),
        pytest.param(
            [user(text(""), text(" \n"), text("a")), {"role": "assistant", "content": ""}, user("b")],
            [("user", [text("a"), text("b")])],
            id="blank",
        ),
        pytest.param([user("a") | {"name": "Ann"}, user(" ") | {"name": "Bob"}], [("user", [text("Ann: a")])],
            id="a participant"),
        pytest.param(
            [user("a"), {"role": "assistant", "content": None, "refusal": "No."}, user("b")],
            [("user", [text("a")]), ("assistant", [text("No.")]), ("user", [text("b")])],
            id="a refusal",
        ),
        pytest.param([{"role": "assistant", "content": "a"}, user("b")],
            [("assistant", [text("a")]), ("user", [text("b")])], id="the assistant first"),
        pytest.param(
            [user("a"), calls(call("x"), call("y", "g", '{"n": 1}'), content="Let me see."),
             answer("x", "1"), answer("y", [text("2"), text("")]), user("b")],
            [("user", [text("a")]),
             ("assistant", [text("Let me see."), use("x"), use("y", "g", n=1)]),
             ("user", [result("x", text("1")), result("y", text("2")), text("b")])],
            id="parallel calls",
        ),
        pytest.param(
            [user("a"), calls(call("x", arguments=" ")), user("b"), answer("x", "")],
            [("user", [text("a")]), ("assistant", [use("x")]), ("user", [result("x"), text("b")])],
            id="a result after a word",
        ),
        pytest.param(
            [user("a"), calls(call("x")), answer("x", "1"), calls(call("x")), answer("x", "2")],
            [("user", [text("a")]), ("assistant", [use("x")]), ("user", [result("x", text("1"))]),
             ("assistant", [use("x_2")]), ("user", [result("x_2", text("2"))])],
            id="an id used twice",
        ),
        pytest.param(
            [user("a"), calls({"id": "x", "type": "custom", "custom": {"name": "f", "input": "y = 1"}}),
             answer("x", "1")],
            [("user", [text("a")]), ("assistant", [use("x", input="y = 1")]), ("user", [result("x", text("1"))])],
            id="a custom tool",
        ),
    ],
)  # fmt: skip
def test_turns(messages: list[Any], turns: list[Any]) -> None:
    assert read(messages).messages == [{"role": role, "content": content} for role, content in turns]


def test_the_system_s_text() -> None:
    found = read(
        [
            {"role": "system", "content": "a"},
            {"role": "developer", "content": [text("b"), text("")]},
            user("c"),
            {"role": "system", "content": "d", "name": "example_user"},
        ]
    )
    assert found.system == [text("a"), text("b"), text("example_user: d")]
    assert found.messages == [{"role": "user", "content": [text("c")]}]


def test_functions_of_the_older_form() -> None:
    asked = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": '{"a":1}'}}
    told = {"role": "function", "name": "f", "content": "1"}
    once = read([user("a"), asked, told])
    first, second = (
        turn["content"] for turn in read([user("a"), asked, told, asked, told | {"content": None}]).messages[1::2]
    )
    assert [first, once.messages[2]["content"]] == [
        [use(first[0]["id"], a=1)],
        [result(first[0]["id"], text("1"))],
    ]
    assert second == [use(f"{first[0]['id']}_2", a=1)]
    assert once.called == ("f",)


def test_no_id_is_used_twice() -> None:
    made = [part for id_ in ("x", "x_2", "x", "x") for part in (calls(call(id_)), answer(id_, "1"))]
    turns = read([user("a"), *made]).messages[1:]
    ids = ["x", "x_2", "x_3", "x_4"]
    assert [turn["content"][0]["id"] for turn in turns[::2]] == ids
    assert [turn["content"][0]["tool_use_id"] for turn in turns[1::2]] == ids


@pytest.mark.parametrize("id_", ["functions.f:0", "ü", "x" * 65, "a b"])
def test_ids_that_the_api_does_not_take(id_: str) -> None:
    found = read([user("a"), calls(call(id_)), answer(id_, "1")]).messages
    ours = found[1]["content"][0]["id"]
    assert found[2]["content"][0]["tool_use_id"] == ours
    assert ours.isascii()
    assert len(ours) == len("call_") + 24


@pytest.mark.parametrize(
    ("part", "block"),
    [
        (
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "HTTP://example.com/a.png"}},
            {"type": "image", "source": {"type": "url", "url": "HTTP://example.com/a.png"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "data:image/jpg;x=y;base64,AAAA"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/jpeg", "data": "AAAA"}},
        ),
        (
            {"type": "image_url", "image_url": {"url": "AAAA", "media_type": "image/webp"}},
            {"type": "image", "source": {"type": "base64", "media_type": "image/webp", "data": "AAAA"}},
        ),
        (
            {"type": "file", "file": {"filename": "a.pdf", "file_data": f"data:application/pdf;base64,{PDF}"}},
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
                "title": "a.pdf",
            },
        ),
        (
            {"type": "file", "file": {"file_data": PDF}},
            {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": PDF}},
        ),
    ],
)
def test_parts(part: dict[str, Any], block: dict[str, Any]) -> None:
    assert read([user(part)]).messages == [{"role": "user", "content": [block]}]
    assert read([user(part) | {"name": "Ann"}]).messages == [{"role": "user", "content": [text("Ann:"), block]}]


def test_a_message_to_go_on_with() -> None:
    found = read([user("a"), {"role": "assistant", "content": "b \n"}])
    assert (found.messages[-1], found.prefill) == ({"role": "assistant", "content": [text("b")]}, 1)
    assert read([user("a"), {"role": "assistant", "content": " "}]).prefill is None
    pending = read([user("a"), calls(call("x"))])
    assert (pending.messages[-1]["content"], pending.prefill) == ([use("x")], 1)
    assert read([user("a")], prefill=False).prefill is None


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "system", "content": "a"}], "messages"),
        ([user(" ")], "messages"),
        ([{"role": "assistant", "content": "a"}, user("")], "messages[1].content"),
        ([user({"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}})], "messages[0].content[0]"),
        (
            [user(text("a"), {"type": "image_url", "image_url": {"url": "ftp://example.com"}})],
            "messages[0].content[1].image_url.url",
        ),
        (
            [user({"type": "image_url", "image_url": {"url": "data:image/svg+xml;base64,AA"}})],
            "messages[0].content[0].image_url.url",
        ),
        ([user({"type": "file", "file": {"file_id": "file-1"}})], "messages[0].content[0].file.file_id"),
        ([user({"type": "file", "file": {"file_data": "AAAA"}})], "messages[0].content[0].file.file_data"),
        (
            [user({"type": "file", "file": {"file_data": "data:text/plain;base64,JVBERi"}})],
            "messages[0].content[0].file.file_data",
        ),
        ([user("a"), {"role": "assistant", "audio": {"id": "x"}}, user("b")], "messages[1].audio"),
        ([user("a"), calls(call("x", arguments="{"))], "messages[1].tool_calls[0].function.arguments"),
        ([user("a"), calls(call("x", arguments="[]"))], "messages[1].tool_calls[0].function.arguments"),
        ([user("a"), calls(call("x", arguments="[" * 9999))], "messages[1].tool_calls[0].function.arguments"),
        (
            [user("a"), {"role": "assistant", "function_call": {"name": "f", "arguments": "x"}}],
            "messages[1].function_call.arguments",
        ),
        ([user("a"), {"role": "function", "name": "f", "content": "1"}], "messages[1].name"),
    ],
)
def test_what_can_not_be_told(messages: list[Any], param: str) -> None:
    with pytest.raises(Verdict) as caught:
        read(messages)
    assert caught.value.param == param


def test_results_of_calls_that_are_gone() -> None:
    with pytest.raises(Verdict) as caught:
        conversation([Message(role="tool", tool_call_id="x", content="1")], prefill=True)
    assert caught.value.param == "messages[0].tool_call_id"


def test_a_model_that_can_not_go_on() -> None:
    with pytest.raises(Verdict) as caught:
        read([user("a"), {"role": "assistant", "content": "b"}], prefill=False)
    assert caught.value.param == "messages[1]"
