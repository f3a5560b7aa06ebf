"""Servers that do not keep to the form that was asked for: no caller gets their answers as if they had."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.callers import COMPLETIONS, Answer, ask
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
    whole,
)
from tests.server_process import Server, StartServer

from narthex.testing.scripted import Reply

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])

SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
PERSON: Any = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
OBJECT: Any = {"type": "json_object"}
GOOD, TYPE_FAULT = '{"name": "Ada", "age": 36}', '{"name": "Ada", "age": "old"}'

PLACE = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "strict": True, "parameters": PLACE}}
TIME = {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}}
TOOLS: Any = [WEATHER, TIME]
NAMED: Any = {"type": "function", "function": {"name": "weather"}}

USAGE = {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}


def models() -> list[dict[str, Any]]:
    quick = {"retry": {"attempts": 3, "backoff": 0.01, "cooldown": 0.01}, "timeouts": {"total": 30}}
    return [
        {"name": "single", "deployments": ["one/m"], **quick},
        {"name": "vllm", "deployments": ["vllm/m"], **quick},
        {"name": "ollama", "deployments": ["ollama/m"], **quick},
        {"name": "claude", "deployments": ["claude/m"], **quick},
        {"name": "pair", "deployments": ["one/m", "two/m"], **quick},
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    types = {"one": "openai", "two": "openai", "vllm": "vllm", "ollama": "ollama", "claude": "anthropic"}
    with gateway(start_server, config(folder, types, models())) as running:
        yield running


# --- what upstreams say ----------------------------------------------------------------------------------------------


def a_call(name: str, arguments: str, number: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"index": number, "id": f"call_{number}", "type": "function", "function": function}


def answering(message: dict[str, Any], finish: str = "stop", *, stream: bool) -> Reply:
    """One answer, as a document or as a stream; with its usage."""
    if not stream:
        choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": finish}
        return whole({"id": "x", "object": "chat.completion", "choices": [choice], "usage": USAGE})
    pieces: list[dict[str, Any]] = []
    for name, value in message.items():
        pieces += [{name: each} for each in value] if isinstance(value, str) else [{name: [each]} for each in value]
    used = json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": USAGE}).encode()
    return streaming(ROLE, *map(chunk, pieces), chunk(finish=finish), used, DONE)


def refused(answer: Answer, *, finished: int = 0) -> str:
    """The message of the error that an answer is, or ends with: never a 200 in silence.

    `finished`: the most choices that may have ended well before.
    """
    streamed = answer.headers["content-type"].startswith("text/event-stream")
    assert (answer.status, answer.complete) == (200 if streamed else 502, True), answer
    assert answer.error is not None
    assert answer.error["code"] == "invalid_output"
    if streamed:
        told = [choice for part in chunks(answer)[:-1] for choice in part["choices"]]
        assert sum(choice["finish_reason"] is not None for choice in told) <= finished
    return str(answer.error["message"])


# --- JSON ------------------------------------------------------------------------------------------------------------

FAULTS = {
    "prose": (PERSON, {"content": "Ada is 36."}, "not valid JSON"),
    "a wrong type": (PERSON, {"content": TYPE_FAULT}, "age"),
    "a missing member": (PERSON, {"content": '{"name": "Ada"}'}, "age"),
    "a fence": (PERSON, {"content": f"```json\n{GOOD}\n```"}, "not valid JSON"),
    "no text": (PERSON, {"content": ""}, "empty"),
    "JSON among the thoughts": (PERSON, {"reasoning_content": GOOD}, "thought"),
    "thoughts in the text": (PERSON, {"content": f"<think>Hm.</think>{GOOD}"}, "not valid JSON"),
    "prose instead of an object": (OBJECT, {"content": "Ada is 36."}, "not valid JSON"),
    "a list instead of an object": (OBJECT, {"content": "[1]"}, "not an object"),
}


@STREAMED
@pytest.mark.parametrize("case", FAULTS)
async def test_what_is_not_the_json_that_was_asked_for_is_no_answer(
    server: Server, folder: Path, case: str, stream: bool
) -> None:
    wanted, message, why = FAULTS[case]
    async with serving(folder, "one", answering(message, stream=stream)) as one:
        answer = await chat(server, "single", response_format=wanted, stream=stream)
        assert why in refused(answer)
        told_already = stream and any(message.values())
        assert (answer.status, len(one.requests)) == ((200, 1) if told_already else (502, 2))


FITTING = {
    "what fits": (PERSON, {"content": GOOD}, "stop"),
    "any object": (OBJECT, {"content": '{"a": [1, {}]}\n'}, "stop"),
    "a beginning": (PERSON, {"content": GOOD[:17]}, "length"),
    "nothing but thoughts up to the limit": (PERSON, {"reasoning_content": "Hm"}, "length"),
    "a refusal": (PERSON, {"refusal": "No."}, "stop"),
    "a filter's verdict": (PERSON, {"content": "Ad"}, "content_filter"),
}


@STREAMED
@pytest.mark.parametrize("case", FITTING)
async def test_what_has_the_form_is_passed_on(server: Server, folder: Path, case: str, stream: bool) -> None:
    wanted, message, finish = FITTING[case]
    async with serving(folder, "one", answering(message, finish, stream=stream)) as one:
        answer = await chat(server, "single", response_format=wanted, stream=stream)
        assert (answer.whole, len(one.requests)) == (True, 1), answer
        assert text(answer) in {message.get("content", ""), "None"}


@STREAMED
async def test_prose_up_to_the_limit_is_no_beginning(server: Server, folder: Path, stream: bool) -> None:
    async with serving(folder, "one", answering({"content": "Ada is"}, "length", stream=stream)):
        for wanted in (PERSON, OBJECT):
            answer = await chat(server, "single", response_format=wanted, stream=stream)
            assert "begin" in refused(answer)


@STREAMED
async def test_a_schema_that_cannot_be_read_here_holds_nobody_up(server: Server, folder: Path, stream: bool) -> None:
    """Whoever answered took it; that the answer is JSON can be told all the same."""
    foreign = {"$ref": "http://127.0.0.1:1/schema"}
    wanted = {"type": "json_schema", "json_schema": {"name": "person", "schema": foreign}}
    async with serving(folder, "one", answering({"content": TYPE_FAULT}, stream=stream)):
        assert text(await chat(server, "single", response_format=wanted, stream=stream)) == TYPE_FAULT
    async with serving(folder, "one", answering({"content": "No."}, stream=stream)):
        assert "JSON" in refused(await chat(server, "single", response_format=wanted, stream=stream))
    assert "an answer was not checked" in server.log_file.read_text()
    assert "was asked for: " not in server.log_file.read_text()


async def test_each_choice_is_looked_at(server: Server, folder: Path) -> None:
    choices = [
        {"index": number, "message": {"role": "assistant", "content": words}, "finish_reason": "stop"}
        for number, words in enumerate((GOOD, TYPE_FAULT))
    ]
    async with serving(folder, "one", whole({"choices": choices, "usage": USAGE})):
        assert "age" in refused(await chat(server, "single", response_format=PERSON, n=2))


@STREAMED
async def test_choices_that_are_asked_for_one_by_one_are_looked_at_too(
    server: Server, folder: Path, stream: bool
) -> None:
    good, bad = (answering({"content": words}, stream=stream) for words in (GOOD, TYPE_FAULT))
    async with serving(folder, "ollama", good, bad) as one:
        answer = await chat(server, "ollama", response_format=PERSON, n=2, stream=stream)
        assert "age" in refused(answer, finished=1)
        assert len(one.requests) == (2 if stream else 4)


@STREAMED
async def test_servers_of_another_format_are_held_to_the_same(server: Server, folder: Path, stream: bool) -> None:
    """Here the answer comes as the input of a tool that has to be called."""
    use = {"type": "tool_use", "id": "toolu_1", "name": "answer_in_json", "input": {}}
    for written, fits in ((GOOD, True), (TYPE_FAULT, False)):
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {"role": "assistant", "usage": {"input_tokens": 5}}},
            {"type": "content_block_start", "index": 0, "content_block": use},
            {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "input_json_delta", "partial_json": written},
            },
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
            {"type": "message_stop"},
        ]
        async with serving(folder, "claude", streaming(*(json.dumps(each).encode() for each in events))):
            answer = await chat(server, "claude", response_format=PERSON, stream=stream)
            assert text(answer) == GOOD if fits else "age" in refused(answer)


# --- made anew -------------------------------------------------------------------------------------------------------


async def test_the_next_makes_it_anew(server: Server, folder: Path) -> None:
    bad, good = answering({"content": TYPE_FAULT}, stream=False), answering({"content": GOOD}, stream=False)
    async with serving(folder, "one", bad), serving(folder, "two", good), client(server) as official:
        answer = await official.chat.completions.with_raw_response.create(
            model="pair", messages=HELLO, response_format=PERSON
        )
        assert answer.parse().choices[0].message.content == GOOD
        assert answer.headers["x-narthex-deployment"] == "two/m"
        assert answer.headers["x-narthex-attempts"] == "2"


async def test_once_and_no_more(server: Server, folder: Path) -> None:
    bad = answering({"content": TYPE_FAULT}, stream=False)
    async with serving(folder, "one", bad) as one, serving(folder, "two", bad) as two, client(server) as official:
        with pytest.raises(openai.InternalServerError) as caught:
            await official.chat.completions.create(model="pair", messages=HELLO, response_format=PERSON)
        assert (caught.value.status_code, caught.value.code) == (502, "invalid_output")
        assert (len(one.requests), len(two.requests)) == (1, 1)


async def test_where_there_is_no_other_the_same_one_makes_it_anew(server: Server, folder: Path) -> None:
    bad, good = answering({"content": "No."}, stream=False), answering({"content": GOOD}, stream=False)
    async with serving(folder, "one", bad, good) as one:
        assert text(await chat(server, "single", response_format=PERSON)) == GOOD
        assert len(one.requests) == 2


async def test_a_stream_ends_with_the_clients_exception(server: Server, folder: Path) -> None:
    async with serving(folder, "one", saying('{"name": ', "36}")), client(server) as official:
        stream = await official.chat.completions.create(
            model="pair", messages=HELLO, response_format=PERSON, stream=True
        )
        found = [await anext(stream) for _ in range(3)]

        async def read() -> None:
            async for piece in stream:
                found.append(piece)  # noqa: PERF401 - those before the fault are kept

        with pytest.raises(openai.APIError) as caught:
            await read()
        assert caught.value.code == "invalid_output"
        assert "".join(each.choices[0].delta.content or "" for each in found) == '{"name": 36}'


# --- tools -----------------------------------------------------------------------------------------------------------

SUNNY = a_call("weather", '{"city": "Rome"}')
TWO_CALLS = {"tool_calls": [SUNNY, a_call("time", "{}", 1)]}


def calls(answer: Answer, *, stream: bool) -> dict[int, str]:
    """The calls of an answer by number, with their arguments."""
    if not stream:
        made = answer.json["choices"][0]["message"]["tool_calls"]
        return {number: call["function"]["arguments"] for number, call in enumerate(made)}
    found: dict[int, str] = {}
    for delta in deltas(answer):
        for call in delta.get("tool_calls") or ():
            found[call["index"]] = found.get(call["index"], "") + call["function"]["arguments"]
    return found


@STREAMED
@pytest.mark.parametrize("model", ["single", "vllm", "ollama"])
async def test_who_asks_for_one_call_at_a_time_gets_one(server: Server, folder: Path, model: str, stream: bool) -> None:
    """Also from servers that know no such field, and are not told of it."""
    async with serving(
        folder, "one" if model == "single" else model, answering(TWO_CALLS, "tool_calls", stream=stream)
    ) as one:
        options = {"include_usage": True}
        more: dict[str, Any] = {"stream": True, "stream_options": options} if stream else {}
        answer = await chat(server, model, tools=TOOLS, parallel_tool_calls=False, **more)
        assert answer.whole
        assert calls(answer, stream=stream) == {0: '{"city": "Rome"}'}
        assert bodies(one)[0].get("parallel_tool_calls") is (None if model == "ollama" else False)
        used = chunks(answer)[-1]["usage"] if stream else answer.json["usage"]
        assert used["completion_tokens"] == 4


@STREAMED
async def test_who_does_not_gets_all(server: Server, folder: Path, stream: bool) -> None:
    async with serving(folder, "one", answering(TWO_CALLS, "tool_calls", stream=stream)):
        answer = await chat(server, "single", tools=TOOLS, stream=stream)
        assert calls(answer, stream=stream) == {0: '{"city": "Rome"}', 1: "{}"}


TOOL_FAULTS = {
    "a call where none may be made": ({"tool_choice": "none"}, {"tool_calls": [SUNNY]}, "a tool was called"),
    "words where a call has to be": ({"tool_choice": "required"}, {"content": "It is sunny."}, "no tool was called"),
    "words where a certain call has to be": ({"tool_choice": NAMED}, {"content": "Sunny."}, "no tool was called"),
    "another call than the one": ({"tool_choice": NAMED}, {"tool_calls": [a_call("time", "{}")]}, "it calls 'time'"),
    "strict arguments that lack a member": ({}, {"tool_calls": [a_call("weather", "{}")]}, "arguments of 'weather'"),
    "strict arguments that are no JSON": ({}, {"tool_calls": [a_call("weather", "Rome")]}, "not valid JSON"),
}


@STREAMED
@pytest.mark.parametrize("case", TOOL_FAULTS)
async def test_calls_that_are_not_what_was_asked_for_are_no_answer(
    server: Server, folder: Path, case: str, stream: bool
) -> None:
    asked, message, why = TOOL_FAULTS[case]
    finish = "tool_calls" if "tool_calls" in message else "stop"
    async with serving(folder, "one", answering(message, finish, stream=stream)) as one:
        answer = await chat(server, "single", tools=TOOLS, stream=stream, **asked)
        assert why in refused(answer)
        told_already = stream and asked != {"tool_choice": "none"}  # a call that must not be is not told at all
        assert (answer.status, len(one.requests)) == ((200, 1) if told_already else (502, 2))


@STREAMED
@pytest.mark.parametrize("chosen", ["auto", "required", NAMED], ids=["auto", "required", "named"])
async def test_calls_as_they_were_asked_for_are_passed_on(
    server: Server, folder: Path, chosen: Any, stream: bool
) -> None:
    finish = "stop" if chosen is NAMED else "tool_calls"
    async with serving(folder, "one", answering({"tool_calls": [SUNNY]}, finish, stream=stream)) as one:
        answer = await chat(server, "single", tools=TOOLS, tool_choice=chosen, stream=stream)
        assert (answer.whole, calls(answer, stream=stream)) == (True, {0: '{"city": "Rome"}'})
        assert len(one.requests) == 1


# --- vLLM's own constraints ------------------------------------------------------------------------------------------

GUIDED: dict[str, tuple[dict[str, Any], str, str]] = {
    "choice": ({"guided_choice": ["yes", "no"]}, "yes", "Yes, of course"),
    "json": ({"guided_json": SCHEMA}, GOOD, TYPE_FAULT),
    "regex": ({"guided_regex": "[a-c]+"}, "abc", "abcd"),
    "structured": ({"structured_outputs": {"choice": ["yes", "no"]}}, "no", "perhaps"),
}


@STREAMED
@pytest.mark.parametrize("case", GUIDED)
async def test_guided_output_is_held(server: Server, folder: Path, case: str, stream: bool) -> None:
    fields, fits, misses = GUIDED[case]
    async with serving(folder, "vllm", answering({"content": fits}, stream=stream)):
        assert text(await chat(server, "vllm", stream=stream, **fields)) == fits
    async with serving(folder, "vllm", answering({"content": misses}, stream=stream)):
        assert refused(await chat(server, "vllm", stream=stream, **fields))


@STREAMED
async def test_guided_completions_are_held_too(server: Server, folder: Path, stream: bool) -> None:
    """vLLM with a reasoning parser does not constrain them, and does not say so."""
    line = {"object": "text_completion", "choices": [{"index": 0, "text": "<think>yes", "finish_reason": "stop"}]}
    reply = streaming(json.dumps(line).encode(), DONE) if stream else whole({**line, "usage": USAGE})
    async with serving(folder, "vllm", reply):
        body = {"model": "vllm", "prompt": "Is it?", "guided_choice": ["yes", "no"], "stream": stream}
        answer = await ask(server, COMPLETIONS, body)
        assert answer.error is not None
        assert answer.error["code"] == "invalid_output"


async def test_a_document_where_a_stream_was_asked_for_is_held_as_well(server: Server, folder: Path) -> None:
    async with serving(folder, "one", streaming(ROLE, chunk({"content": "No."}), STOP, DONE)) as one:
        answer = await chat(server, "single", response_format=OBJECT)
        assert "not valid JSON" in refused(answer)
        assert len(one.requests) == 2
