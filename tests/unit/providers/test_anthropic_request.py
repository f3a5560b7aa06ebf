"""Requests in Anthropic's form: what each field becomes, and what can't go together."""

import json
from typing import Any

import msgspec
import pytest

from narthex.core.chat import ChatRequest, Message, Sampling
from narthex.core.errors import UnsupportedParameter
from narthex.dialects.openai_chat import ChatDialect
from narthex.providers.anthropic_request import Options, build

HELLO = [{"role": "user", "content": "Hi"}]
OBJECT = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Now", "parameters": OBJECT}}
TIME = {"type": "function", "function": {"name": "time"}}
THEIR_WEATHER = {"name": "weather", "description": "Now", "input_schema": OBJECT}
THEIR_TIME = {"name": "time", "input_schema": {"type": "object", "properties": {}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "place", "description": "A place", "schema": OBJECT}}
ANSWER = {
    "name": "answer_in_json",
    "description": "Gives the answer: its input is all of it.",
    "input_schema": {"description": "A place"} | OBJECT,
}
CALL_ANSWER = {"type": "tool", "name": "answer_in_json", "disable_parallel_tool_use": True}
PLAIN = {
    "model": "claude",
    "stream": True,
    "max_tokens": 4096,
    "messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}],
}


def parsed(fields: dict[str, Any]) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": HELLO} | fields).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return request


def sent(fields: dict[str, Any], **options: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(build(parsed(fields), model="claude", options=Options(**options)))
    return found


def test_the_least_request() -> None:
    assert sent({}) == PLAIN
    assert sent({}, max_tokens=8192) == PLAIN | {"max_tokens": 8192}


@pytest.mark.parametrize(
    ("fields", "theirs"),
    [
        ({"max_tokens": 7}, {"max_tokens": 7}),
        ({"max_tokens": 7, "max_completion_tokens": 9}, {"max_tokens": 9}),
        ({"stop": "END"}, {"stop_sequences": ["END"]}),
        ({"stop": ["a", "b"]}, {"stop_sequences": ["a", "b"]}),
        ({"stop": []}, {}),
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"top_p": 0.5}, {"top_p": 0.5}),
        ({"top_k": 40}, {"top_k": 40}),
        ({"top_k": -1}, {}),
        ({"user": "user-1"}, {"metadata": {"user_id": "user-1"}}),
        ({"user": "a", "safety_identifier": "b"}, {"metadata": {"user_id": "b"}}),
        ({"user": ""}, {}),
        ({"service_tier": "auto"}, {"service_tier": "auto"}),
        ({"service_tier": "default"}, {"service_tier": "standard_only"}),
        ({"stream": True, "stream_options": {"include_usage": True}}, {}),
        ({"n": 1, "frequency_penalty": 0, "presence_penalty": 0, "logprobs": False, "store": False}, {}),
        ({"metadata": {"a": "b"}, "prompt_cache_key": "k", "reasoning_effort": "none"}, {}),
        ({"response_format": {"type": "text"}}, {}),
        ({"temperature": None, "tools": None, "stop": None, "reasoning_effort": None}, {}),
    ],
)
def test_plain_fields(fields: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert sent(fields) == PLAIN | theirs


@pytest.mark.parametrize("user", ["me@example.com", "+49 30 123456", "49301234567", "x" * 257, "ü"])
def test_a_user_who_may_be_known_by_it_is_told_as_a_hash(user: str) -> None:
    told = sent({"user": user})["metadata"]["user_id"]
    assert len(told) == 64
    assert told == sent({"user": user})["metadata"]["user_id"]
    assert user not in told


# --- tools ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "tools", "choice"),
    [
        ({}, [THEIR_WEATHER, THEIR_TIME], {"type": "auto"}),
        ({"tool_choice": "auto"}, [THEIR_WEATHER, THEIR_TIME], {"type": "auto"}),
        ({"tool_choice": "none"}, [THEIR_WEATHER, THEIR_TIME], {"type": "none"}),
        ({"tool_choice": "required"}, [THEIR_WEATHER, THEIR_TIME], {"type": "any"}),
        (
            {"tool_choice": {"type": "function", "function": {"name": "time"}}},
            [THEIR_WEATHER, THEIR_TIME],
            {"type": "tool", "name": "time", "disable_parallel_tool_use": True},
        ),
        (
            {"parallel_tool_calls": False},
            [THEIR_WEATHER, THEIR_TIME],
            {"type": "auto", "disable_parallel_tool_use": True},
        ),
        (
            {"parallel_tool_calls": False, "tool_choice": "required"},
            [THEIR_WEATHER, THEIR_TIME],
            {"type": "any", "disable_parallel_tool_use": True},
        ),
        ({"parallel_tool_calls": False, "tool_choice": "none"}, [THEIR_WEATHER, THEIR_TIME], {"type": "none"}),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "time"}}]},
                }
            },
            [THEIR_TIME],
            {"type": "auto"},
        ),
        (
            {
                "tool_choice": {
                    "type": "allowed_tools",
                    "allowed_tools": {
                        "mode": "required",
                        "tools": [{"type": "function", "function": {"name": "time"}}],
                    },
                }
            },
            [THEIR_WEATHER, THEIR_TIME],
            {"type": "tool", "name": "time"},
        ),
    ],
)
def test_tools(fields: dict[str, Any], tools: list[Any], choice: dict[str, Any]) -> None:
    assert sent({"tools": [WEATHER, TIME]} | fields) == PLAIN | {"tools": tools, "tool_choice": choice}


@pytest.mark.parametrize(
    ("fields", "choice"),
    [
        ({}, {"type": "auto", "disable_parallel_tool_use": True}),
        ({"function_call": "none"}, {"type": "none"}),
        (
            {"function_call": {"name": "weather"}},
            {"type": "tool", "name": "weather", "disable_parallel_tool_use": True},
        ),
    ],
)
def test_functions(fields: dict[str, Any], choice: dict[str, Any]) -> None:
    found = sent({"functions": [WEATHER["function"]]} | fields)
    assert (found["tools"], found["tool_choice"]) == ([THEIR_WEATHER], choice)


def test_members_of_tools() -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "", "parameters": {"properties": {}}, "strict": True},
        "cache_control": {"type": "ephemeral"},
    }
    assert sent({"tools": [tool]}, schema=True)["tools"] == [
        {
            "name": "f",
            "input_schema": {"type": "object", "properties": {}},
            "strict": True,
            "cache_control": {"type": "ephemeral"},
        }
    ]


CALLED = [
    *HELLO,
    {"role": "assistant", "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "f", "arguments": ""}}]},
    {"role": "tool", "tool_call_id": "c1", "content": "1"},
]


def test_calls_of_the_past_bring_their_tools_along() -> None:
    found = sent({"messages": CALLED})
    assert found["tools"] == [{"name": "f", "input_schema": {"type": "object"}}]
    assert found["tool_choice"] == {"type": "none"}


# --- forms of the answer -------------------------------------------------------------------------------------------


def test_a_schema_by_a_forced_tool() -> None:
    assert sent({"response_format": FORMAT}) == PLAIN | {"tools": [ANSWER], "tool_choice": CALL_ANSWER}
    found = sent({"response_format": {"type": "json_object"}}, schema=True)
    assert found["tools"] == [ANSWER | {"input_schema": {"type": "object"}}]
    assert found["tool_choice"] == CALL_ANSWER
    assert "output_config" not in found


def test_a_schema_by_a_forced_tool_beside_tools_that_are_not_to_be_called() -> None:
    found = sent({"response_format": FORMAT, "tools": [TIME], "tool_choice": "none"})
    assert (found["tools"], found["tool_choice"]) == ([THEIR_TIME, ANSWER], CALL_ANSWER)
    assert [tool["name"] for tool in sent({"response_format": FORMAT, "messages": CALLED})["tools"]] == [
        "f",
        "answer_in_json",
    ]


def test_a_schema_of_their_own() -> None:
    closed = {"additionalProperties": False, "description": "A place"} | OBJECT
    theirs = {"type": "json_schema", "schema": closed}
    assert sent({"response_format": FORMAT}, schema=True) == PLAIN | {"output_config": {"format": theirs}}
    found = sent({"response_format": FORMAT, "tools": [TIME], "reasoning_effort": "low"}, schema=True, adaptive=True)
    assert (found["tools"], found["tool_choice"]) == ([THEIR_TIME], {"type": "auto"})
    assert found["output_config"] == {"format": theirs, "effort": "low"}


def test_objects_are_closed_where_they_name_their_properties() -> None:
    inner = {"type": "object", "properties": {"type": {"type": "string"}}}
    free = {"type": "object", "default": inner}
    kept = inner | {"additionalProperties": True}
    schema = {
        "type": "object",
        "properties": {"a": inner, "b": {"anyOf": [inner, {"type": "null"}]}, "c": free, "d": kept},
    }
    wanted = {"type": "json_schema", "json_schema": {"name": "a", "schema": schema}}
    found = sent({"response_format": wanted}, schema=True)["output_config"]["format"]["schema"]
    closed = inner | {"additionalProperties": False}
    assert found == {
        "type": "object",
        "properties": {"a": closed, "b": {"anyOf": [closed, {"type": "null"}]}, "c": free, "d": kept},
        "additionalProperties": False,
    }


# --- thinking ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "budget", "limit"),
    [
        ({"reasoning_effort": "minimal"}, 1024, 5120),
        ({"reasoning_effort": "low"}, 2048, 6144),
        ({"reasoning_effort": "medium"}, 8192, 12288),
        ({"reasoning_effort": "high"}, 16384, 20480),
        ({"reasoning_effort": "xhigh"}, 20480, 24576),
        ({"reasoning_effort": "max"}, 24576, 28672),
        ({"reasoning_effort": "high", "max_tokens": 1025}, 1024, 1025),
        ({"reasoning_effort": "high", "max_completion_tokens": 10_000}, 5000, 10_000),
        ({"reasoning_effort": "low", "max_completion_tokens": 10_000}, 2048, 10_000),
        ({"reasoning_effort": "low", "temperature": 1, "top_p": 0.95, "top_k": 0}, 2048, 6144),
        ({"reasoning_effort": "low", "tools": [TIME], "tool_choice": "none"}, 2048, 6144),
    ],
)
def test_thinking_by_a_budget(fields: dict[str, Any], budget: int, limit: int) -> None:
    found = sent(fields)
    assert found["thinking"] == {"type": "enabled", "budget_tokens": budget}
    assert found["max_tokens"] == limit


@pytest.mark.parametrize(("effort", "theirs"), [("minimal", "low"), ("low", "low"), ("max", "max")])
def test_thinking_by_effort(effort: str, theirs: str) -> None:
    found = sent({"reasoning_effort": effort, "max_tokens": 5}, adaptive=True)
    assert found == PLAIN | {
        "max_tokens": 5,
        "thinking": {"type": "adaptive", "display": "summarized"},
        "output_config": {"effort": theirs},
    }


def test_thinking_by_effort_has_room_where_the_caller_set_no_limit() -> None:
    assert sent({"reasoning_effort": "medium"}, adaptive=True)["max_tokens"] == 4096 + 8192


def test_not_to_think() -> None:
    assert sent({"reasoning_effort": "none"}, adaptive=True) == PLAIN | {"thinking": {"type": "disabled"}}
    assert sent({"reasoning_effort": "none"}) == PLAIN
    assert sent({"reasoning_effort": "none"}, thinking=False, adaptive=True) == PLAIN


def test_no_budget_within_an_answer() -> None:
    assert "thinking" not in sent({"reasoning_effort": "high", "messages": CALLED})
    assert "thinking" in sent({"reasoning_effort": "high", "messages": CALLED}, adaptive=True)
    asked = [*CALLED, {"role": "assistant", "content": "One."}, *HELLO]
    assert "thinking" in sent({"reasoning_effort": "high", "messages": asked})


PREFILL = [*HELLO, {"role": "assistant", "content": "He"}]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"reasoning_effort": "low", "temperature": 0.5}, "temperature"),
        ({"reasoning_effort": "low", "top_p": 0.5}, "top_p"),
        ({"reasoning_effort": "low", "top_k": 5}, "top_k"),
        ({"reasoning_effort": "low", "max_tokens": 1024}, "reasoning_effort"),
        ({"reasoning_effort": "low", "response_format": FORMAT}, "response_format"),
        ({"reasoning_effort": "low", "tools": [TIME, WEATHER], "tool_choice": "required"}, "tool_choice"),
        ({"reasoning_effort": "low", "tools": [TIME], "tool_choice": "required"}, "tool_choice"),
        (
            {"reasoning_effort": "low", "functions": [{"name": "f"}], "function_call": {"name": "f"}},
            "function_call",
        ),
        ({"reasoning_effort": "low", "messages": PREFILL}, "messages[1]"),
        ({"response_format": FORMAT, "messages": PREFILL}, "messages[1]"),
        ({"response_format": FORMAT, "tools": [TIME]}, "response_format"),
    ],
)
def test_what_can_not_go_together(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        sent(fields)
    assert (caught.value.param, caught.value.code) == (param, "unsupported_value")


# --- what is to be cached ------------------------------------------------------------------------------------------

MARKED = {"cache_control": {"type": "ephemeral"}}


def test_breakpoints_of_the_caller_s() -> None:
    mark = {"prompt_cache_breakpoint": {"mode": "explicit"}}
    found = sent(
        {
            "messages": [
                {"role": "system", "content": [{"type": "text", "text": "Long"} | mark]},
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"} | mark]},
                {"role": "assistant", "content": "c"},
                {"role": "user", "content": {"type": "text", "text": "d"} | mark},
                *CALLED[1:2],
                {"role": "tool", "tool_call_id": "c1", "content": [{"type": "text", "text": "1"} | mark]},
            ]
        }
    )
    result = found["messages"].pop()["content"][0]
    assert result == MARKED | {
        "type": "tool_result",
        "tool_use_id": "c1",
        "content": [{"type": "text", "text": "1"}],
    }
    assert found["messages"].pop()["role"] == "assistant"
    assert found["system"] == [{"type": "text", "text": "Long"} | MARKED]
    assert [block for turn in found["messages"] for block in turn["content"]] == [
        {"type": "text", "text": "a"},
        {"type": "text", "text": "b"} | MARKED,
        {"type": "text", "text": "c"},
        {"type": "text", "text": "d"} | MARKED,
    ]


def built(messages: list[Message], raw: Any) -> list[Any]:
    request = ChatRequest(
        model="m",
        messages=tuple(messages),
        sampling=Sampling(),
        fields={},
        sent={"messages": msgspec.Raw(json.dumps(raw).encode())},
    )
    blocks: list[Any] = json.loads(build(request, model="claude", options=Options()))["messages"][0]["content"]
    return blocks


def test_their_own_marks_where_the_caller_s_bytes_hold_them() -> None:
    hour = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
    marked = [{"role": "user", "content": [{"type": "text", "text": "a"} | hour]}]
    text = [{"type": "text", "text": "a"}]
    assert built([Message(role="user", content="a")], marked) == [text[0] | hour]
    assert built([Message(role="user", content="a")], [*marked, *marked]) == text
    assert built([Message(role="user", content="a")], [{"role": "user", "content": "cache_control"}]) == text
    assert built([Message(role="user", content="a")], [{"cache_control": 1, "content": []}]) == text
    assert built([Message(role="user", content="a")], [{"content": [{"cache_control": "x"}]}]) == text
