"""The row of Anthropic's API: every field of its table, by a value that passes and one that doesn't."""

import json
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from narthex.core.capabilities import Limited, State, refusal, state_of, without_effect
from narthex.core.chat import ChatRequest
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import NarthexError, UnsupportedParameter, UpstreamCredentials
from narthex.core.stream import TextDelta
from narthex.core.tools import CACHED
from narthex.dialects.openai_chat import FORM, ChatDialect
from narthex.providers.anthropic import HEADERS, KEY_HEADER, AnthropicChat
from narthex.wire.sse import encode

HELLO = [{"role": "user", "content": "Hi"}]
PREFILL = [*HELLO, {"role": "assistant", "content": "He"}]
AUDIO = [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "AA", "format": "wav"}}]}]
TOOLS: list[Any] = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]
STRICT = [{"type": "function", "function": {"name": "f", "strict": True}}]
CUSTOM = [{"type": "custom", "custom": {"name": "f"}}]
REFERRING = {"$ref": "#/$defs/a", "$defs": {"a": {"type": "object"}}}
CHOICE = {"type": "function", "function": {"name": "f"}}


def form(schema: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}


FREE = {"schema": True, "may_have_to_call": False}
"""A model that can't be made to call a tool."""
OLDER: dict[str, Any] = {"functions": [{"name": "f"}]}


def allowed(mode: str) -> dict[str, Any]:
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [CHOICE]}}


def with_parameters(parameters: Mapping[str, Any]) -> list[Any]:
    return [{"type": "function", "function": {"name": "f", "parameters": parameters}}]


PASSES: dict[str, list[dict[str, Any]]] = {
    "model": [{"model": "m"}],
    "messages": [{"messages": PREFILL}],
    "continue_final_message": [{"continue_final_message": True, "messages": PREFILL}],
    "max_tokens": [{"max_tokens": 5}],
    "max_completion_tokens": [{"max_completion_tokens": 5}],
    "stream": [{"stream": False}],
    "stream_options": [{"stream": True, "stream_options": {"include_usage": True}}],
    "temperature": [{"temperature": 0}, {"temperature": 1}],
    "top_p": [{"top_p": 0.5}],
    "top_k": [{"top_k": 40}, {"top_k": -1}],
    "stop": [{"stop": "END"}, {"stop": [" a"]}],
    "n": [{"n": 1}],
    "frequency_penalty": [{"frequency_penalty": 0}],
    "presence_penalty": [{"presence_penalty": 0.0}],
    "user": [{"user": "a"}],
    "safety_identifier": [{"safety_identifier": "a"}],
    "store": [{"store": True}],
    "metadata": [{"metadata": {"a": "b"}, "store": True}],
    "prompt_cache_key": [{"prompt_cache_key": "a"}],
    "prompt_cache_retention": [{"prompt_cache_retention": "24h"}],
    "prompt_cache_options": [{"prompt_cache_options": {"mode": "explicit"}}],
    "tools": [{"tools": TOOLS}, {"tools": with_parameters({})}, {"tools": [CHOICE]}],
    "tool_choice": [{"tools": TOOLS, "tool_choice": choice} for choice in ("auto", "none", "required", CHOICE)],
    "parallel_tool_calls": [{"tools": TOOLS, "parallel_tool_calls": False}],
    "functions": [{"functions": [{"name": "f"}]}],
    "function_call": [{"functions": [{"name": "f"}], "function_call": {"name": "f"}}],
    "response_format": [
        {"response_format": {"type": "text"}},
        {"response_format": {"type": "json_object"}},
        {"response_format": form({"properties": {}})},
    ],
    "reasoning_effort": [{"reasoning_effort": "none"}, {"reasoning_effort": "max"}],
    "service_tier": [{"service_tier": "auto"}, {"service_tier": "default"}],
}
FAILS: list[tuple[dict[str, Any], str]] = [
    ({"messages": AUDIO}, "messages[0].content[0]"),
    ({"temperature": 1.1}, "temperature"),
    ({"stop": "\n"}, "stop"),
    ({"stop": ["a", " "]}, "stop"),
    ({"n": 2}, "n"),
    ({"frequency_penalty": 0.1}, "frequency_penalty"),
    ({"presence_penalty": -1}, "presence_penalty"),
    ({"tools": CUSTOM}, "tools[0].type"),
    ({"tools": STRICT}, "tools[0].function.strict"),
    ({"tools": with_parameters({"type": "array"})}, "tools[0].function.parameters"),
    ({"tools": with_parameters({"type": ["object", "null"]})}, "tools[0].function.parameters"),
    ({"functions": [{"name": "f", "parameters": {"oneOf": []}}]}, "functions[0].parameters"),
    ({"response_format": form({"type": "array"})}, "response_format.json_schema.schema"),
    ({"response_format": form(REFERRING)}, "response_format.json_schema.schema"),
    ({"service_tier": "flex"}, "service_tier"),
]
REFUSED: list[dict[str, Any]] = [
    {"seed": 1},
    {"logprobs": True},
    {"logprobs": True, "top_logprobs": 1},
    {"logit_bias": {"1": 1}},
    {"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}},
    {"prediction": {"type": "content", "content": "a"}},
    {"verbosity": "low"},
    {"web_search_options": {}},
    {"moderation": {"model": "a"}},
    {"min_p": 0.1},
    {"guided_json": {}},
]


def parsed(fields: dict[str, Any]) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": HELLO} | fields).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return request


def refused(fields: dict[str, Any], codec: AnthropicChat) -> UnsupportedParameter | None:
    return refusal(parsed(fields).fields, codec.capabilities(), model="m")


def test_every_field_of_the_table_is_walked() -> None:
    table = AnthropicChat().capabilities()
    assert table[CACHED] is State.NATIVE
    assert set(PASSES) == set(table) - {CACHED} <= set(FORM.known)
    limited = {name for name, rule in table.items() if isinstance(rule, Limited)} - {"reasoning_effort"}
    assert {next(iter(fields)) for fields, _ in FAILS} == limited


@pytest.mark.parametrize("fields", [fields for each in PASSES.values() for fields in each], ids=str)
def test_what_passes_is_sent(fields: dict[str, Any]) -> None:
    codec = AnthropicChat()
    assert refused(fields, codec) is None
    assert json.loads(codec.build(parsed(fields), model="claude"))["model"] == "claude"


@pytest.mark.parametrize(("fields", "param"), FAILS, ids=str)
def test_values_that_are_refused(fields: dict[str, Any], param: str) -> None:
    error = refused(fields, AnthropicChat())
    assert error is not None
    assert (error.param, error.code) == (param, "unsupported_value")


@pytest.mark.parametrize("fields", REFUSED, ids=str)
def test_fields_that_are_refused(fields: dict[str, Any]) -> None:
    error = refused(fields, AnthropicChat())
    assert error is not None
    assert error.code == "unsupported_parameter"


@pytest.mark.parametrize(
    "fields", [{"store": False}, {"logprobs": False}, {"logit_bias": {}}, {"modalities": ["text"]}], ids=str
)
def test_values_that_ask_for_nothing_pass(fields: dict[str, Any]) -> None:
    assert refused(fields, AnthropicChat()) is None


def test_hints_are_named() -> None:
    fields = parsed({"prompt_cache_key": "k", "user": "u"}).fields
    assert without_effect(fields, AnthropicChat().capabilities()) == ("prompt_cache_key",)


@pytest.mark.parametrize(
    ("options", "passing", "failing"),
    [
        ({"prefill": False}, {"messages": HELLO}, {"messages": PREFILL}),
        ({"prefill": False}, {}, {"continue_final_message": True, "messages": PREFILL}),
        ({"thinking": False}, {"reasoning_effort": "none"}, {"reasoning_effort": "low"}),
        ({"adaptive": True}, {"reasoning_effort": "low"}, None),
        ({"sampling": False}, {"temperature": 1, "top_p": 1}, {"temperature": 0.9}),
        ({"sampling": False}, {}, {"top_p": 0.9}),
        ({"sampling": False}, {}, {"top_k": 5}),
        ({"schema": True}, {"tools": STRICT}, None),
        ({"schema": True}, {"response_format": form({"anyOf": []})}, None),
        ({"adaptive": True, "may_not_think": False}, {"reasoning_effort": "low"}, {"reasoning_effort": "none"}),
        *(
            (FREE, {"tools": TOOLS, "tool_choice": passing}, {"tools": TOOLS, "tool_choice": failing})
            for passing, failing in (("auto", "required"), ("none", CHOICE), (allowed("auto"), allowed("required")))
        ),
        (FREE, {**OLDER, "function_call": "none"}, {**OLDER, "function_call": {"name": "f"}}),
        (FREE, {"response_format": form({"properties": {}})}, {"response_format": {"type": "json_object"}}),
        (FREE, {"response_format": {"type": "text"}}, {"response_format": form({"type": "object"})}),
        ({"may_have_to_call": False}, {"response_format": {"type": "text"}}, {"response_format": form({})}),
    ],
)
def test_models_differ(options: dict[str, Any], passing: dict[str, Any], failing: dict[str, Any] | None) -> None:
    codec = AnthropicChat(**options)
    assert refused(passing, codec) is None
    assert failing is None or refused(failing, codec) is not None


def test_states() -> None:
    plain, held = AnthropicChat().capabilities(), AnthropicChat(schema=True).capabilities()
    assert state_of("response_format", plain) is State.EMULATED
    assert state_of("response_format", held) is State.NATIVE
    assert state_of("n", plain) is State.REFUSED
    assert {rule.limits for rule in plain.values() if isinstance(rule, Limited) and rule.state is State.REFUSED} == {
        "except 0",
        "except 1",
    }
    silent = AnthropicChat(thinking=False).capabilities()["reasoning_effort"]
    assert isinstance(silent, Limited)
    assert silent.limits == 'except "none"'


CALL = (
    {"type": "message_start", "message": {}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "tool_use", "id": "t", "name": "f"}},
    {"type": "message_delta", "delta": {"stop_reason": "tool_use"}},
)


@pytest.mark.parametrize(
    ("fields", "options", "events"),
    [
        ({}, {}, "ToolCallDelta tool_calls"),
        ({"functions": [{"name": "f"}]}, {}, "ToolCallDelta function_call"),
        ({"response_format": {"type": "json_object"}}, {"schema": True}, "TextDelta stop"),
        ({"response_format": form({"type": "object"})}, {}, "TextDelta stop"),
        ({"response_format": form({"type": "object", "properties": {}})}, {"schema": True}, "ToolCallDelta tool_calls"),
    ],
)
def test_the_answer_is_read_as_it_was_asked_for(fields: dict[str, Any], options: Any, events: str) -> None:
    decoder = AnthropicChat(**options).decoder(parsed(fields))
    data = b"".join(encode(json.dumps(each).encode()) for each in CALL)
    found = [event for frame in (*decoder.feed(data), *decoder.end()) for event in frame.events]
    assert f"{type(found[1]).__name__} {getattr(found[-1], 'reason', '')}" == events


def test_how_to_speak_to_it() -> None:
    codec = AnthropicChat()
    assert (codec.path, KEY_HEADER, dict(HEADERS)) == ("/messages", "x-api-key", {"anthropic-version": "2023-06-01"})
    assert isinstance(codec.parse_error(401, [], b"{}"), UpstreamCredentials)


def test_is_asked_for_nothing_but_chats() -> None:
    with pytest.raises(NarthexError):
        AnthropicChat().build(EmbeddingsRequest(model="m", fields={}, sent={}), model="m")


# --- answers that have begun -----------------------------------------------------------------------------------------


def begun_chat(text: str, **fields: Any) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": HELLO, **fields}).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return msgspec.structs.replace(request, begun=text)


@pytest.mark.parametrize(
    ("options", "text", "fields", "continues"),
    [
        ({}, "He", {}, True),
        ({}, "He", {"reasoning_effort": "none"}, True),
        ({}, "He", {"reasoning_effort": "low"}, False),
        ({"thinking": False}, "He", {"reasoning_effort": "none"}, True),
        ({"prefill": False}, "He", {}, False),
        ({}, " \n", {}, False),
    ],
)
def test_what_it_goes_on_with(options: dict[str, Any], text: str, fields: dict[str, Any], continues: bool) -> None:
    assert AnthropicChat(**options).continues(begun_chat(text, **fields)) is continues


def test_a_beginning_is_sent_without_the_white_space_at_its_end() -> None:
    body = json.loads(AnthropicChat().build(begun_chat("He \n"), model="m"))
    assert body["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "He"}]}


@pytest.mark.parametrize(("begun", "text"), [("He", " \nwas"), ("He ", "\nwas"), ("He \n", "was"), ("", " \nwas")])
def test_that_white_space_is_not_told_again(begun: str, text: str) -> None:
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " \nwas"}},
    ]
    decoder = AnthropicChat().decoder(begun_chat(begun))
    frames = [frame for each in events for frame in decoder.feed(encode(json.dumps(each).encode()))]
    assert [event.text for frame in frames for event in frame.events if isinstance(event, TextDelta)] == [text]


def test_a_last_message_is_gone_on_with_where_the_caller_says_so() -> None:
    asked = parsed({"continue_final_message": True, "messages": [*HELLO, {"role": "assistant", "content": "He "}]})
    body = json.loads(AnthropicChat().build(asked, model="m"))
    assert body["messages"][-1] == {"role": "assistant", "content": [{"type": "text", "text": "He"}]}
    assert "continue_final_message" not in body
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {}},
        {"type": "content_block_start", "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": " was"}},
    ]
    sent = "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events).encode()
    frames = AnthropicChat().decoder(asked).feed(sent)
    assert [event.text for each in frames for event in each.events if isinstance(event, TextDelta)] == ["was"]


@pytest.mark.parametrize("told", [{"continue_final_message": False}, {"add_generation_prompt": True}], ids=str)
def test_it_can_t_be_answered_behind_one(told: dict[str, Any]) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        AnthropicChat().build(parsed({"messages": PREFILL, **told}), model="m")
    assert caught.value.param == next(iter(told))
    AnthropicChat().build(parsed(told), model="m")
