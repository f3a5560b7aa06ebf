import json
from typing import Any

import pytest

from narthex.core.chat import ChatRequest
from narthex.core.errors import InvalidRequest
from narthex.core.stored import ChatPage, ChatQuery, StoredChat
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_stored import (
    LARGEST_IMAGE_BYTES,
    chat_of,
    deleted,
    list_query,
    messages_of,
    messages_query,
    shown,
    shown_messages,
    shown_page,
    update_of,
)

HELLO = [{"role": "user", "content": "Hello"}]
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 7,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "logprobs": None}],
    "further": {"kept": [1.50, "ü"]},
}


def asked(**fields: Any) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": HELLO, **fields}).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return request


def kept(answer: dict[str, Any] = ANSWER, **fields: Any) -> dict[str, Any]:
    chat = chat_of(asked(store=True, **fields), json.dumps(answer).encode(), request_id="req_1")
    assert (chat.id, chat.created_s, chat.model) == ("chatcmpl-1", 7, "m")
    found: dict[str, Any] = json.loads(shown(chat))
    return found


def items(*messages: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(messages_of(asked(messages=[*HELLO, *messages]), chat_id="c"))
    assert [each["id"] for each in found] == [f"c-{index}" for index in range(len(messages) + 1)]
    return found[1:]


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"metadata": {"a": "b"}}, ("metadata",)),
        ({"metadata": {}, "store": False}, ("metadata",)),
        ({"metadata": {"a": "b"}, "store": True}, ()),
        ({"store": True}, ()),
        ({"metadata": None}, ()),
    ],
)
def test_metadata_that_are_stored_with_nothing_are_ignored(fields: dict[str, Any], ignored: tuple[str, ...]) -> None:
    body = json.dumps({"model": "m", "messages": HELLO, **fields}).encode()
    assert ChatDialect().decode(body, profile="openai", strict=True).ignored == ignored


def test_the_answer_is_kept_as_it_is_and_what_was_asked_is_added() -> None:
    message = ANSWER["choices"][0]["message"] | {"tool_calls": None, "function_call": None}
    assert kept() == ANSWER | {
        "choices": [ANSWER["choices"][0] | {"message": message}],
        "request_id": "req_1",
        "tool_choice": None,
        "seed": None,
        "top_p": 1.0,
        "temperature": 1.0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "input_user": None,
        "tools": None,
        "metadata": {},
        "response_format": None,
    }


def test_fields_are_kept_as_they_were_sent() -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "x": 1.0}}}
    fields: dict[str, Any] = {
        "tools": [tool],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
        "response_format": {"type": "json_object"},
        "seed": -5,
        "top_p": 0.5,
        "temperature": 0,
        "presence_penalty": 1,
        "frequency_penalty": -1,
        "metadata": {"a": "b"},
    }
    found = kept(**fields, user="u")
    assert {name: found[name] for name in fields} == fields
    assert found["input_user"] == "u"


def test_nothing_else_of_a_request_is_kept() -> None:
    found = kept(
        safety_identifier="secret-1", prompt_cache_key="secret-2", prediction={"type": "content", "content": "secret-3"}
    )
    assert "secret" not in json.dumps(found)


def test_calls_of_an_answer_stay() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    found = kept(ANSWER | {"choices": [{"index": 0, "message": message}]})
    assert found["choices"][0]["message"] == message | {"function_call": None}


def test_messages_are_shown_as_they_were_asked() -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    custom = {"id": "2", "type": "custom", "custom": {"name": "g", "input": "x"}}
    older = {"name": "f", "arguments": "{}"}
    plain = {"refusal": None, "name": None, "content_parts": None}
    found = items(
        {"role": "assistant", "content": None, "tool_calls": [call, custom]},
        {"role": "tool", "content": "1", "tool_call_id": "1"},
        {"role": "tool", "content": "2", "tool_call_id": "2"},
        {"role": "assistant", "content": "a", "function_call": older, "name": "bot"},
        {"role": "function", "content": "3", "name": "f"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
    )
    for each in found:
        del each["id"]
    assert found == [
        plain | {"role": "assistant", "content": None, "tool_calls": [call, custom]},
        plain | {"role": "tool", "content": "1", "tool_call_id": "1"},
        plain | {"role": "tool", "content": "2", "tool_call_id": "2"},
        plain | {"role": "assistant", "content": "a", "function_call": older, "name": "bot"},
        plain | {"role": "function", "content": "3", "name": "f"},
        plain | {"role": "assistant", "content": None, "refusal": "No."},
    ]


def test_texts_and_images_of_parts_are_kept_unless_they_are_too_large() -> None:
    def picture(url: str) -> dict[str, Any]:
        return {"type": "image_url", "image_url": {"url": url, "detail": "low"}}

    head = "data:image/png;base64,"
    small, large = head + "A" * 1000, head.upper() + "A" * (LARGEST_IMAGE_BYTES * 4 // 3)
    far = "https://example.org/" + "a" * 1000
    sound = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
    file = {"type": "file", "file": {"file_id": "f"}}
    text = {"type": "text", "text": "Look"}
    (found,) = items({"role": "user", "content": [text, *map(picture, (small, large, far)), sound, file]})
    assert found["content"] is None
    assert found["content_parts"] == [text, picture(small), picture(far)]


def stored(name: str, **metadata: str) -> StoredChat:
    return StoredChat(id=name, created_s=1, model="m", metadata=metadata, answer=b'{"id":"%b"}' % name.encode())


def test_pages_tell_their_ends() -> None:
    page = ChatPage(chats=(stored("a", k="v"), stored("b")), more=True)
    assert json.loads(shown_page(page)) == {
        "object": "list",
        "data": [{"id": "a", "metadata": {"k": "v"}}, {"id": "b", "metadata": {}}],
        "first_id": "a",
        "last_id": "b",
        "has_more": True,
    }
    empty = {"object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False}
    assert json.loads(shown_page(ChatPage())) == empty
    assert json.loads(deleted("a")) == {"object": "chat.completion.deleted", "id": "a", "deleted": True}


@pytest.mark.parametrize(
    ("query", "found", "more"),
    [
        (ChatQuery(), "012", False),
        (ChatQuery(limit=2), "01", True),
        (ChatQuery(limit=2, after="c-0"), "12", False),
        (ChatQuery(order="desc", limit=1), "2", True),
        (ChatQuery(order="desc", after="c-1"), "0", False),
        (ChatQuery(after="c-2"), "", False),
    ],
)
def test_messages_come_in_pages(query: ChatQuery, found: str, more: bool) -> None:
    text = shown_messages(b'[{"id":"c-0"},{"id":"c-1"},{"id":"c-2"}]', query, chat_id="c")
    assert text is not None
    page = json.loads(text)
    assert [each["id"] for each in page["data"]] == [f"c-{number}" for number in found]
    assert page["has_more"] is more


def test_messages_come_after_none_that_is_not_there() -> None:
    assert shown_messages(b"[]", ChatQuery(after="c-0"), chat_id="c") is None


def test_a_query_is_read() -> None:
    sent = [
        ("model", "m"),
        ("metadata[a]b]", "1"),
        ("metadata[]", ""),
        ("after", "x"),
        ("limit", "5"),
        ("order", "desc"),
    ]
    wanted = ChatQuery(model="m", metadata=(("a]b", "1"), ("", "")), after="x", limit=5, order="desc")
    assert list_query(sent, strict=True) == (wanted, ())
    assert list_query([], strict=True) == (ChatQuery(), ())
    assert list_query([("odd", "1")], strict=False) == (ChatQuery(), ("odd",))
    assert messages_query([("limit", "1")], strict=True) == (ChatQuery(limit=1), ())


@pytest.mark.parametrize(
    ("sent", "code", "param"),
    [
        ([("limit", "0")], "integer_below_min_value", "limit"),
        ([("limit", "101")], "integer_above_max_value", "limit"),
        ([("limit", "9" * 5000)], "integer_above_max_value", "limit"),
        ([("limit", "1.5")], "invalid_type", "limit"),
        ([("limit", "\u0661")], "invalid_type", "limit"),
        ([("order", "")], "invalid_value", "order"),
        ([("after", "a"), ("after", "b")], "invalid_value", "after"),
        ([("metadata[k]", "v" * 513)], "string_above_max_length", "metadata.k"),
        ([(f"metadata[{n}]", "v") for n in range(17)], "object_above_max_properties", "metadata"),
        ([("metadata", "v")], "unknown_parameter", "metadata"),
        ([("Limit", "1")], "unknown_parameter", "Limit"),
    ],
)
def test_a_query_is_refused(sent: list[tuple[str, str]], code: str, param: str) -> None:
    with pytest.raises(Exception, match=param.partition(".")[0]) as error:
        list_query(sent, strict=True)
    assert (getattr(error.value, "code", None), getattr(error.value, "param", None)) == (code, param)


def test_messages_have_neither_model_nor_metadata() -> None:
    for name in ("model", "metadata[k]"):
        with pytest.raises(Exception, match="Unknown parameter"):
            messages_query([(name, "x")], strict=True)


def test_an_update_is_read() -> None:
    assert update_of(b'{"metadata": {"a": "b"}}', strict=True) == ({"a": "b"}, ())
    assert update_of(b'{"metadata": null}', strict=True) == ({}, ())
    assert update_of(b'{"metadata": {}, "x": 1}', strict=False) == ({}, ("x",))
    with pytest.raises(InvalidRequest) as error:
        update_of(b"{}", strict=True)
    assert (error.value.code, error.value.param) == ("missing_required_parameter", "metadata")
