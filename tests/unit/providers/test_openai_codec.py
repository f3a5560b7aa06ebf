"""Chats as servers of OpenAI's format take them: what is sent, what is rewritten, and what comes back."""

import json
from typing import Any

import msgspec
import pytest

from narthex.core.capabilities import State, refusal, state_of, without_effect
from narthex.core.chat import ChatRequest
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import NarthexError, UnsupportedParameter, UpstreamCredentials
from narthex.core.fold import folded
from narthex.core.stream import Frame, TextDelta
from narthex.core.tools import CACHED
from narthex.dialects.openai_chat import FIELDS, ChatDialect
from narthex.providers.openai_codec import HONOURED, OpenAIChat
from narthex.providers.openai_rows import Row, native, only_words, unnamed, without, without_choice
from narthex.providers.traits import ModelTraits
from narthex.wire.sse import encode

FUNCTION = {"name": "add", "parameters": {"type": "object"}}
TOOL = {"type": "function", "function": FUNCTION}
HI = {"role": "user", "content": "Hi"}
MARKED = HONOURED | native(CACHED)


def chat(**fields: Any) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": [HI]} | fields).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return request


def built(codec: OpenAIChat, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(codec.build(chat(**fields), model="theirs"))
    return body


def codec(row: Row | None = None, **traits: Any) -> OpenAIChat:
    return OpenAIChat(row or Row(honoured=HONOURED), ModelTraits(**traits))


# --- as it is --------------------------------------------------------------------------------------------------------


def test_honours_every_field_of_the_dialect() -> None:
    honoured = OpenAIChat().capabilities()
    assert set(FIELDS) <= set(honoured)
    assert refusal({"temperature": 1.0, "tools": ()}, honoured, model="m") is None
    assert refusal({"guided_json": {}}, honoured, model="m") is not None


def test_the_request_is_the_caller_s_own_bytes() -> None:
    body = b'{"model":"assistant","messages":[ {"role":"user", "content":"\\u00e9"} ],"temperature":1.0,"stream":false}'
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert OpenAIChat().build(request, model="gpt-5.4") == body.replace(b"assistant", b"gpt-5.4")


def test_a_stream_is_asked_for_with_usage() -> None:
    body = b'{"model":"assistant","messages":[ {"role":"user", "content":"\\u00e9"} ],"temperature":1.0,"stream":true}'
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert OpenAIChat().build(request, model="gpt-5.4") == (
        b'{"model":"gpt-5.4","messages":[ {"role":"user", "content":"\\u00e9"} ],"temperature":1.0,"stream":true,'
        b'"stream_options":{"include_usage":true}}'
    )


def test_speaks_of_chats() -> None:
    made = OpenAIChat()
    assert made.decoder(chat(n=2)) is not made.decoder(chat(n=2))
    assert isinstance(made.parse_error(401, [], b"{}"), UpstreamCredentials)


def test_is_asked_for_nothing_else() -> None:
    with pytest.raises(NarthexError):
        OpenAIChat().build(EmbeddingsRequest(model="m", fields={}, sent={}), model="m")


# --- by what a model can do ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "sent", "expected"),
    [
        (None, {"max_tokens": 5}, {"max_tokens": 5}),
        (None, {"max_tokens": 5, "max_completion_tokens": 6}, {"max_tokens": 5, "max_completion_tokens": 6}),
        ("max_tokens", {"max_completion_tokens": 6}, {"max_tokens": 6}),
        ("max_tokens", {"max_tokens": 5, "max_completion_tokens": 6}, {"max_tokens": 6}),
        ("max_completion_tokens", {"max_tokens": 5}, {"max_completion_tokens": 5}),
        ("max_completion_tokens", {}, {}),
    ],
)
def test_the_limit_goes_by_the_name_that_the_model_knows(
    field: str | None, sent: dict[str, int], expected: dict[str, int]
) -> None:
    made = codec(max_tokens_field=field)
    body = built(made, **sent)
    assert {name: body[name] for name in ("max_tokens", "max_completion_tokens") if name in body} == expected
    for name in ("max_tokens", "max_completion_tokens"):
        kept = field in {None, name}
        assert state_of(name, made.capabilities()) is (State.NATIVE if kept else State.EMULATED)


def test_a_server_that_knows_one_limit_is_honoured_for_both() -> None:
    row = Row(honoured=without(HONOURED, ("max_completion_tokens",)))
    assert state_of("max_completion_tokens", codec(row, max_tokens_field="max_tokens").capabilities()) is State.EMULATED
    refusing = codec(row, max_tokens_field="max_tokens", refused=frozenset(("max_completion_tokens",)))
    assert "max_completion_tokens" not in refusing.capabilities()


def test_a_model_that_thinks_takes_no_sampling_fields() -> None:
    honoured = codec(reasoning=True).capabilities()
    assert refusal({"temperature": 1.0, "top_p": 1.0, "presence_penalty": 0.0}, honoured, model="m") is None
    for name, value in (("temperature", 0.5), ("frequency_penalty", 1.0), ("logprobs", True), ("logit_bias", {"1": 1})):
        refused = refusal({name: value}, honoured, model="m")
        assert refused is not None
        assert refused.param == name
    assert "logprobs" not in built(codec(reasoning=True), logprobs=False)
    assert "reasoning_effort" in honoured
    assert "reasoning_effort" not in codec(reasoning=False).capabilities()


def test_what_has_no_effect_stays_here() -> None:
    row = Row(honoured=native("messages", "model") | {"user": State.NO_EFFECT}, constant={"provider": {"a": True}})
    assert set(built(codec(row), user="me", logprobs=False)) == {"messages", "model", "provider"}
    assert set(built(codec(row), stream=True)) == {"messages", "model", "provider", "stream", "stream_options"}


def test_fields_have_the_server_s_names() -> None:
    row = Row(honoured=HONOURED, renamed={"seed": "random_seed"}, asks_usage=False)
    body = built(codec(row), seed=7, stream=True, stream_options={"include_usage": True})
    assert body["random_seed"] == 7
    assert "seed" not in body


# --- messages --------------------------------------------------------------------------------------------------------


def messages(made: OpenAIChat, *sent: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = built(made, messages=sent)["messages"]
    return found


def test_developers_speak_as_the_system_where_nobody_knows_them() -> None:
    sent = ({"role": "developer", "content": "Be kind."}, HI)
    assert messages(codec(), *sent) == [{"role": "system", "content": "Be kind."}, HI]
    assert messages(codec(developer=True), *sent) == list(sent)


def test_a_part_that_stands_alone_comes_in_a_list() -> None:
    part = {"type": "text", "text": "Hi"}
    assert messages(codec(), {"role": "user", "content": part}) == [{"role": "user", "content": [part]}]
    assert messages(codec(), {"role": "user", "content": [part]}) == [{"role": "user", "content": [part]}]


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("iVBORw0KGgo=", "data:image/png;base64,iVBORw0KGgo="),
        ("data:image/jpeg;base64,AAAA", "data:image/jpeg;base64,AAAA"),
        ("HTTPS://example.org/a.png", "HTTPS://example.org/a.png"),
        ("//example.org/a.png", "//example.org/a.png"),
    ],
)
def test_images_that_tell_their_type_apart_are_told_by_an_address(url: str, address: str) -> None:
    text = {"type": "text", "text": 'See "media_type".'}
    image = {"type": "image_url", "image_url": {"url": url, "detail": "low"}}
    typed = {"type": "image_url", "image_url": {"url": url, "media_type": "image/png", "detail": "low"}}
    told = {"type": "image_url", "image_url": {"url": address, "detail": "low"}}
    sent = {"role": "user", "content": [text, typed, image]}
    assert messages(codec(), HI, sent) == [HI, {"role": "user", "content": [text, told, image]}]
    assert messages(codec(), {"role": "user", "content": typed}) == [{"role": "user", "content": [told]}]


@pytest.mark.parametrize(("row", "kept"), [(Row(honoured=HONOURED), False), (Row(honoured=MARKED), True)])
def test_marks_for_the_cache_reach_only_those_who_know_them(row: Row, kept: bool) -> None:
    tool = {"type": "function", "function": {"name": "look", "parameters": {"properties": {"cache_control": {}}}}}
    mark = {"cache_control": {"type": "ephemeral"}}
    made = codec(row, functions=True)
    assert built(made, tools=[tool | mark])["tools"] == [tool | (mark if kept else {})]
    assert without_effect({CACHED: True}, made.capabilities()) == (() if kept else (CACHED,))


def test_what_only_answers_hold_is_left_out_where_it_is_refused() -> None:
    answer = {"role": "assistant", "content": "4", "reasoning_content": "2+2", "annotations": []}
    assert messages(codec(Row(honoured=HONOURED, own_members=False)), answer, HI)[0] == {
        "role": "assistant",
        "content": "4",
    }
    assert messages(codec(), answer, HI) == [answer, HI]


@pytest.mark.parametrize(
    ("last", "prefill", "marked"),
    [
        ({"role": "assistant", "content": "The sum"}, True, True),
        ({"role": "assistant", "content": "The sum"}, False, False),
        ({"role": "assistant", "content": ""}, True, False),
        ({"role": "assistant", "content": "x", "function_call": {"name": "add", "arguments": "{}"}}, True, False),
        (HI, True, False),
    ],
)
def test_a_message_to_be_continued_is_marked(last: dict[str, Any], prefill: bool, marked: bool) -> None:
    row = Row(honoured=HONOURED, continues="prefix")
    assert messages(codec(row, prefill=prefill, functions=True), HI, last)[-1].get("prefix", False) is marked


def test_calls_and_results_of_functions_become_those_of_tools() -> None:
    call = {"name": "add", "arguments": "{}"}
    sent = (
        HI,
        {"role": "assistant", "content": None, "function_call": call},
        {"role": "function", "name": "add", "content": "4"},
        {"role": "function", "name": "add", "content": None},
    )
    assert messages(codec(functions=True), *sent) == list(sent)
    assert messages(codec(), *sent) == [
        HI,
        {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]},
        {"role": "tool", "name": "add", "content": "4", "tool_call_id": "call_1"},
        {"role": "tool", "name": "add", "content": "", "tool_call_id": "call_1"},
    ]


# --- functions -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "choice"),
    [
        ({}, None),
        ({"function_call": "auto"}, "auto"),
        ({"function_call": "none"}, "none"),
        ({"function_call": {"name": "add"}}, {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_functions_are_sent_as_tools(chosen: dict[str, Any], choice: Any) -> None:
    body = built(codec(), functions=[FUNCTION], **chosen)
    assert body["tools"] == [TOOL]
    assert body.get("tool_choice") == choice
    assert body["parallel_tool_calls"] is False
    assert not {"functions", "function_call"} & set(body)
    assert state_of("functions", codec().capabilities()) is State.EMULATED


def test_functions_are_sent_as_they_are_where_they_are_known() -> None:
    body = built(codec(functions=True), functions=[FUNCTION], function_call="auto")
    assert (body["functions"], body["function_call"]) == ([FUNCTION], "auto")
    assert "tools" not in body


def test_a_choice_without_functions_is_nothing() -> None:
    assert "tool_choice" not in built(codec(), function_call="none")


def test_there_are_no_functions_without_tools() -> None:
    row = Row(honoured=native("messages", "model"))
    assert "functions" not in codec(row).capabilities()


def choosing(choice: Any) -> dict[str, Any]:
    row = Row(honoured=native("messages", "model", "tools") | {"tool_choice": without_choice("tool_choice")})
    return built(codec(row), tools=[TOOL], tool_choice=choice)


def test_tools_that_must_not_be_called_are_not_told_to_a_server_that_can_t_choose() -> None:
    assert "tools" not in choosing("none")
    body = choosing("auto")
    assert body["tools"] == [TOOL]
    assert "tool_choice" not in body
    row = Row(honoured=native("messages", "model", "tools") | {"tool_choice": without_choice("tool_choice")})
    honoured = codec(row).capabilities()
    assert refusal({"tool_choice": "required"}, honoured, model="m") is not None
    assert refusal({"function_call": {"name": "add"}}, honoured, model="m") is not None
    assert "tools" not in built(codec(row), functions=[FUNCTION], function_call="none")


def answer(made: OpenAIChat, *deltas: dict[str, Any], finish: str, **fields: Any) -> list[Frame]:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": {"prompt_tokens": 3}})
    decoder = made.decoder(chat(**fields))
    return [*(frame for each in chunks for frame in decoder.feed(encode(json.dumps(each).encode()))), *decoder.end()]


def test_calls_come_back_as_one_of_a_function() -> None:
    calls = [{"index": at, "id": f"c{at}", "function": {"name": "add", "arguments": "{}"}} for at in (0, 1)]
    found = answer(codec(), {"tool_calls": calls}, finish="tool_calls", functions=[FUNCTION])
    choice = folded(found).choices[0]
    assert choice.finish_reason == "function_call"
    assert [call.name for call in choice.calls.values()] == ["add"]
    assert {frame.format for frame in found} == {""}  # not to be passed on as it is
    assert found[-1].usage is not None


def test_other_answers_to_functions_are_told_alike() -> None:
    choice = folded(answer(codec(), {"content": "4"}, finish="stop", functions=[FUNCTION])).choices[0]
    assert (choice.text, choice.finish_reason) == (["4"], "stop")
    passed_on = answer(codec(functions=True), {"content": "4"}, finish="stop", functions=[FUNCTION])
    assert passed_on[0].format == "openai.chat"


# --- rules of values -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "rule", "passes", "refused"),
    [
        ("messages", unnamed(), [HI], [HI | {"name": "me"}]),
        ("tool_choice", only_words(), "required", {"type": "function", "function": {"name": "add"}}),
    ],
)
def test_a_rule_lets_one_value_pass_and_refuses_another(name: str, rule: Any, passes: Any, refused: Any) -> None:
    honoured = HONOURED | {name: rule}
    assert refusal(chat(**{"tools": [TOOL], name: passes}).fields, honoured, model="m") is None
    error = refusal(chat(**{"tools": [TOOL], name: refused}).fields, honoured, model="m")
    assert error is not None
    assert (error.param or "").startswith(name)
    assert error.code == "unsupported_value"


# --- answers that have begun -----------------------------------------------------------------------------------------


def begun_chat(text: str, **sent: Any) -> Any:
    return msgspec.structs.replace(chat(**sent), begun=text)


@pytest.mark.parametrize(("prefill", "mark"), [(True, {"prefix": True}), (False, {})])
def test_a_beginning_is_a_message_to_continue(prefill: bool, mark: dict[str, bool]) -> None:
    made = codec(Row(honoured=HONOURED, continues="prefix"), prefill=prefill)
    assert made.continues(begun_chat("The")) is prefill
    assert not made.continues(begun_chat(" \n"))
    last = json.loads(made.build(begun_chat("The"), model="m"))["messages"][-1]
    assert last == {"role": "assistant", "content": "The", **mark}


@pytest.mark.parametrize(("repeats", "text"), [(True, " sum"), (False, "The sum")])
def test_a_beginning_that_is_repeated_is_not_told_again(repeats: bool, text: str) -> None:
    made = codec(Row(honoured=HONOURED, repeats=repeats), prefill=True)
    answer = {"choices": [{"index": 0, "delta": {"content": "The sum"}, "finish_reason": "stop"}]}
    frames = list(made.decoder(begun_chat("The")).feed(encode(json.dumps(answer).encode())))
    assert [event.text for frame in frames for event in frame.events if isinstance(event, TextDelta)] == [text]


# --- a last message to go on with ------------------------------------------------------------------------------------

OPEN = {"role": "assistant", "content": "The \n", "name": "me"}


def continuing(**sent: Any) -> Any:
    return chat(messages=[HI, OPEN], continue_final_message=True, **sent)


def test_a_model_that_continues_is_sent_it_without_the_space_at_its_end() -> None:
    made = codec(Row(honoured=HONOURED, continues="prefix"), prefill=True)
    assert made.capabilities()["continue_final_message"] is State.EMULATED
    body = json.loads(made.build(continuing(), model="m"))
    assert body["messages"][-1] == {"role": "assistant", "content": "The", "name": "me", "prefix": True}
    assert "continue_final_message" not in body
    bare = chat(messages=[HI, {"role": "assistant", "content": "The"}], continue_final_message=True)
    assert json.loads(made.build(bare, model="m"))["messages"][-1]["content"] == "The"
    assert "continue_final_message" not in codec(Row(honoured=HONOURED)).capabilities()


@pytest.mark.parametrize(("repeats", "said"), [(True, "The \nsum"), (False, " \nsum"), (False, "sum")])
@pytest.mark.parametrize("stream", [True, False])
def test_only_what_follows_it_is_told(repeats: bool, said: str, stream: bool) -> None:
    made = codec(Row(honoured=HONOURED, repeats=repeats), prefill=True)
    asked = continuing(stream=stream)
    if stream:
        answer = {"choices": [{"index": 0, "delta": {"content": said}, "finish_reason": "stop"}]}
        frames = list(made.decoder(asked).feed(encode(json.dumps(answer).encode())))
    else:
        whole = {"choices": [{"index": 0, "message": {"content": said}, "finish_reason": "stop"}]}
        frame = made.read(asked, json.dumps(whole).encode())
        assert frame is not None
        frames = [frame]
    assert [event.text for frame in frames for event in frame.events if isinstance(event, TextDelta)] == ["sum"]


@pytest.mark.parametrize("told", [{"continue_final_message": False}, {"add_generation_prompt": True}])
def test_an_answer_behind_it_is_had_only_where_the_server_leaves_a_choice(told: dict[str, bool]) -> None:
    asked = chat(messages=[HI, OPEN], **told)
    body = json.loads(codec(Row(honoured=HONOURED, continues="prefix"), prefill=True).build(asked, model="m"))
    assert "prefix" not in body["messages"][-1]
    with pytest.raises(UnsupportedParameter) as caught:
        codec(Row(honoured=HONOURED), prefill=True).build(asked, model="m")
    assert caught.value.param == next(iter(told))
    codec(Row(honoured=HONOURED)).build(asked, model="m")
    codec(Row(honoured=HONOURED), prefill=True).build(chat(**told), model="m")
