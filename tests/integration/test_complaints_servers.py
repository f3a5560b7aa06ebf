"""What servers of models are reproached with: what each honours is sent, what it would drop is refused, and a stream
keeps its rules whatever the server does."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.callers import CHAT, COMPLETIONS, Answer, ask
from tests.served_gateway import (
    DONE,
    HELLO,
    ROLE,
    STOP,
    bodies,
    chat,
    chunk,
    chunks,
    client,
    config,
    deltas,
    gateway,
    saying,
    serving,
    streaming,
    text,
)
from tests.server_process import Server, StartServer

from narthex.providers.presets import PRESETS

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
TYPES = sorted(type_ for type_, preset in PRESETS.items() if "chat" in preset.surfaces)
ADD: dict[str, Any] = {
    "type": "function",
    "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}},
}
OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "thing", "strict": True, "schema": OBJECT}}
UNSUPPORTED = {"unsupported_parameter", "unsupported_value"}
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def name(type_: str) -> str:
    """Of the provider of a type, and of its model."""
    return type_.replace(".", "-")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    names = {name(type_): type_ for type_ in TYPES}
    models = [{"name": each, "deployments": [f"{each}/model"], "retry": {"attempts": 1}} for each in names]
    with gateway(start_server, config(folder, names, models)) as running:
        yield running


def refused(answer: Answer, param: str) -> bool:
    """Whether a field was refused by its name."""
    error = answer.json["error"]
    return answer.status == 400 and error["code"] in UNSUPPORTED and error["param"] == param


def claude(*deltas: dict[str, Any], block: dict[str, Any], reason: str = "end_turn") -> list[bytes]:
    """A stream in Anthropic's form with one block."""
    events = [
        {"type": "message_start", "message": {"role": "assistant", "usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    return [json.dumps(event).encode() for event in events]


def says(type_: str, words: str) -> list[bytes]:
    """A text as a server of that type streams it."""
    if type_ == "anthropic":
        return claude({"type": "text_delta", "text": words}, block={"type": "text", "text": ""})
    return [ROLE, chunk({"content": words}), STOP, DONE]


# --- honoured, or refused by name; never dropped in silence ----------------------------------------------------------


FIELDS: dict[str, dict[str, Any]] = {
    "logit_bias": {"logit_bias": {"1234": -100}},
    "seed": {"seed": 7},
    "logprobs": {"logprobs": True, "top_logprobs": 2},
    "parallel_tool_calls": {"parallel_tool_calls": False, "tools": [ADD]},
    "tool_choice": {"tool_choice": {"type": "function", "function": {"name": "add"}}, "tools": [ADD]},
    "response_format": {"response_format": SCHEMA},
    "n": {"n": 2},
    "frequency_penalty": {"frequency_penalty": 0.5},
    "stop": {"stop": ["END"]},
    "reasoning_effort": {"reasoning_effort": "low"},
}
SENT_AS = {("mistral", "seed"): "random_seed", ("anthropic", "stop"): "stop_sequences"}


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("type_", TYPES)
async def test_a_field_arrives_or_is_refused_by_its_name(server: Server, folder: Path, type_: str, field: str) -> None:
    """At every kind of server that is known; a server that refuses it is not asked."""
    async with serving(folder, name(type_), streaming(*says(type_, '{"a": 1}'))) as upstream:
        answer = await chat(server, name(type_), **FIELDS[field])
        if answer.status == 400:
            error = answer.json["error"]
            assert error["code"] in UNSUPPORTED
            assert error["param"].startswith(field)
            assert upstream.requests == []
            return
        sent = bodies(upstream)[0]
        if field == "n":  # what is sent as it is should have got two choices
            assert (answer.status, sent.get("n"), len(upstream.requests)) in {(200, None, 2), (502, 2, 1)}
            return
        # Nobody here calls the tool that was named, which is no good answer; what counts is that it was asked for.
        assert answer.status == (502 if field == "tool_choice" else 200), answer
        by_us = field == "parallel_tool_calls" and field not in sent
        if by_us or field in answer.headers.get("x-narthex-ignored", ""):
            return
        if type_ == "anthropic" and field != "stop":
            assert {"tool_choice", "tools", "output_config", "output_format", "thinking"} & sent.keys()
        else:
            assert SENT_AS.get((type_, field), field) in sent
            assert "logprobs" not in FIELDS[field] or sent["top_logprobs"] == 2


async def test_a_choice_that_a_server_would_answer_with_a_400_never_gets_there(server: Server, folder: Path) -> None:
    """LM Studio takes words only as `tool_choice`, and no `json_object`."""
    async with serving(folder, "lm-studio", saying("Hi")) as upstream:
        choice = FIELDS["tool_choice"]
        assert refused(await chat(server, "lm-studio", **choice), "tool_choice")
        assert refused(await chat(server, "lm-studio", response_format={"type": "json_object"}), "response_format.type")
        assert upstream.requests == []
        for word in ("auto", "required", "none"):
            answer = await chat(server, "lm-studio", tool_choice=word, tools=[ADD])
            if word == "required":
                assert answer.json["error"]["code"] == "invalid_output"
            else:
                assert text(answer) == "Hi"
            assert bodies(upstream)[-1]["tool_choice"] == word


@STREAMED
async def test_a_server_without_choices_is_never_told_of_tools_that_must_not_be_called(
    server: Server, folder: Path, stream: bool
) -> None:
    """Ollama ignores `tool_choice`: with "none" it calls tools, and a forced one gives prose."""
    async with serving(folder, "ollama", saying("Hi")) as upstream:
        assert text(await chat(server, "ollama", tools=[ADD], tool_choice="none", stream=stream)) == "Hi"
        assert "tools" not in bodies(upstream)[0]
        answer = await chat(server, "ollama", tools=[ADD], tool_choice="required", stream=stream)
        assert refused(answer, "tool_choice")
        assert len(upstream.requests) == 1


@pytest.mark.parametrize("type_", ["vllm", "openai", "openai-compatible"])
async def test_log_probabilities_without_a_number_of_rivals_are_asked_for(
    server: Server, folder: Path, type_: str
) -> None:
    entry = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
    told = json.dumps(
        {
            "id": "x",
            "object": "chat.completion.chunk",
            "choices": [{"index": 0, "delta": {"content": "Hi"}, "logprobs": {"content": [entry]}}],
        }
    ).encode()
    async with serving(folder, name(type_), streaming(ROLE, told, STOP, DONE)) as upstream, client(server) as official:
        answer = await official.chat.completions.create(model=name(type_), messages=HELLO, logprobs=True)
        assert bodies(upstream)[0]["logprobs"] is True
        assert bodies(upstream)[0].get("top_logprobs") in {None, 0}
        [choice] = answer.choices
        assert choice.logprobs is not None
        assert [(each.token, each.logprob) for each in choice.logprobs.content or ()] == [("Hi", -0.5)]


async def test_more_choices_than_a_server_has_are_several_requests(server: Server, folder: Path) -> None:
    async with serving(folder, "llama-cpp", saying("Hi")) as upstream, client(server) as official:
        answer = await official.chat.completions.create(model="llama-cpp", messages=HELLO, n=5)
        assert [(choice.index, choice.message.content) for choice in answer.choices] == [(i, "Hi") for i in range(5)]
        assert len(upstream.requests) == 5
        assert not any(body.get("n", 1) > 1 for body in bodies(upstream))


async def test_fields_of_completions_reach_vllm_whole(server: Server, folder: Path) -> None:
    fields = {"echo": True, "logprobs": 2, "suffix": "end", "logit_bias": {"5": 1}, "prompt": "Once", "max_tokens": 3}
    line = {"id": "x", "object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]}
    async with serving(folder, "vllm", streaming(json.dumps(line).encode(), DONE)) as upstream:
        answer = await ask(server, COMPLETIONS, {"model": "vllm", **fields})
        if answer.status == 400:
            assert answer.json["error"]["param"] in fields
            del fields[answer.json["error"]["param"]]
            answer = await ask(server, COMPLETIONS, {"model": "vllm", **fields})
        assert answer.status == 200, answer
        sent = bodies(upstream)[0]
        assert {field: sent[field] for field in fields if field != "prompt"} == {
            field: value for field, value in fields.items() if field != "prompt"
        }


async def test_a_field_that_nobody_knows_is_never_dropped_in_silence(server: Server, folder: Path) -> None:
    async with serving(folder, "openai", saying("Hi")) as upstream:
        answer = await chat(server, "openai", temprature=0.5)
        error = answer.json["error"]
        assert (answer.status, error["code"], error["param"]) == (400, "unknown_parameter", "temprature")
        assert upstream.requests == []


# --- a stream keeps its rules whatever the server does ---------------------------------------------------------------

_LAST = json.dumps({"id": "y", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}).encode()
HABITS: dict[str, list[bytes]] = {
    "as it should be": [ROLE, chunk({"content": "Hi"}), STOP, _LAST, DONE],
    "an id for each chunk": [chunk({"role": "assistant"}, id="a"), chunk({"content": "Hi"}, id="b"), STOP, _LAST, DONE],
    "a role in each chunk": [
        ROLE,
        chunk({"role": "assistant", "content": "H"}),
        chunk({"role": "assistant", "content": "i"}),
        chunk({"role": "assistant"}, "stop"),
        _LAST,
        DONE,
    ],
    "usage beside the last word": [ROLE, chunk({"content": "Hi"}), chunk({}, "stop", usage=USAGE), DONE],
    "usage in each chunk": [ROLE, chunk({"content": "Hi"}, usage=USAGE), STOP, _LAST, DONE],
    "no mark at the end": [ROLE, chunk({"content": "Hi"}), STOP, _LAST],
    "two marks at the end": [ROLE, chunk({"content": "Hi"}), STOP, _LAST, DONE, DONE],
    "all in one chunk": [chunk({"role": "assistant", "content": "Hi"}, "stop", usage=USAGE), DONE],
    "empty chunks": [chunk({}), ROLE, chunk({"content": ""}), chunk({"content": "Hi"}), chunk({}), STOP, _LAST, DONE],
    "two ends": [ROLE, chunk({"content": "Hi"}), STOP, STOP, _LAST, DONE],
    "a word of its own for the end": [ROLE, chunk({"content": "Hi"}), chunk({}, "eos"), _LAST, DONE],
}


@pytest.mark.parametrize("asked", [True, False], ids=["usage", "no usage"])
@pytest.mark.parametrize("type_", ["openai", "openai-compatible", "vllm", "ollama", "mistral"])
@pytest.mark.parametrize("habit", HABITS)
async def test_a_stream_keeps_its_rules_whatever_the_server_does(
    server: Server, folder: Path, habit: str, type_: str, asked: bool
) -> None:
    """One id, one role, one end for each choice, usage in a chunk without choices, `[DONE]` once at the end."""
    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with serving(folder, name(type_), streaming(*HABITS[habit])):
        answer = await chat(server, name(type_), stream=True, **options)
    assert text(answer) == "Hi"
    assert answer.data.count(DONE) == 1
    told = chunks(answer)
    assert len({each["id"] for each in told}) == 1
    assert {each["model"] for each in told} == {name(type_)}
    assert [delta["role"] for delta in deltas(answer) if "role" in delta] == ["assistant"]
    ends = [one["finish_reason"] for each in told for one in each["choices"] if one.get("finish_reason")]
    assert ends == ["stop"]
    counted = [each for each in told if each.get("usage")]
    assert len(counted) == asked
    if asked:
        assert counted == told[-1:]
        assert (counted[0]["choices"], counted[0]["usage"]["total_tokens"]) == ([], 5)


@STREAMED
async def test_a_call_in_pieces_is_the_call(server: Server, folder: Path, stream: bool) -> None:
    """As servers send it that once gave only `{"`: name and arguments in pieces, arguments as an object, no index."""
    call = {"id": "call_1", "type": "function", "function": {"name": "add", "arguments": ""}}
    pieces = ['{"', 'a": ', "1}"]
    events = [
        chunk({"role": "assistant", "content": None, "tool_calls": [{"index": 0, **call}]}),
        *(chunk({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]}) for piece in pieces),
        chunk({}, "tool_calls"),
        DONE,
    ]
    async with serving(folder, "openai-compatible", streaming(*events)):
        answer = await chat(server, "openai-compatible", tools=[ADD], stream=stream)
    assert answer.whole, answer
    if stream:
        calls = [one for delta in deltas(answer) for one in delta.get("tool_calls") or ()]
        assert "".join(one["function"].get("arguments") or "" for one in calls) == '{"a": 1}'
        assert [one["function"]["name"] for one in calls if one["function"].get("name")] == ["add"]
    else:
        [made] = answer.json["choices"][0]["message"]["tool_calls"]
        assert (made["function"]["name"], made["function"]["arguments"]) == ("add", '{"a": 1}')


async def test_an_unknown_refusal_is_the_clients_exception(server: Server, folder: Path) -> None:
    async with serving(folder, "openai", saying("Hi")) as upstream, client(server) as official:
        with pytest.raises(openai.NotFoundError) as caught:
            await official.chat.completions.create(model="nobody's", messages=HELLO)
        assert caught.value.code == "model_not_found"
        assert upstream.requests == []


async def test_a_server_is_asked_by_its_own_name_for_the_model(server: Server, folder: Path) -> None:
    async with serving(folder, "vllm", saying("Hi")) as upstream:
        answer = await ask(server, CHAT, {"model": "vllm", "messages": HELLO})
        assert (bodies(upstream)[0]["model"], answer.json["model"]) == ("model", "vllm")
