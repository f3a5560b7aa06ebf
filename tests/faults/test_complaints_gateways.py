"""What gateways are reproached with, asked of ours: retries, fallbacks, silence, cut streams, large prompts."""

import asyncio
import gzip
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from tests.callers import CHAT, COMPLETIONS, EMBEDDINGS, Answer, ask, connected
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
    refusing,
    saying,
    serving,
    streaming,
    text,
    whole,
)
from tests.server_process import Server, StartServer

from narthex.ipc.tasks import TaskSet
from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, response, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

STREAMED = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
TYPES = {"one": "openai", "two": "openai", "wide": "openai", "vllm": "vllm", "claude": "anthropic"}

ERROR_EVENT = json.dumps({"error": {"message": "No.", "type": "server_error", "code": 500}}).encode()
EARLY_FAULTS = {
    "a 500": refusing(500),
    "a 429 that tells a long wait": refusing(429, "retry-after: 50"),
    "a refused key": refusing(401),
    "no answer": Reply(HANG),
    "a head and then nothing": Reply(stream_head(), HANG),
    "a role and then nothing": Reply(stream_head(), sse(ROLE), HANG),
    "a role and then an error": Reply(stream_head(), sse(ROLE, ERROR_EVENT), END),
    "an error at once": Reply(stream_head(), sse(ERROR_EVENT), END),
    "a line that is no JSON": Reply(stream_head(), sse(b"<html>"), END),
    "a cut before the first word": Reply(stream_head(), sse(ROLE), CUT),
    "a reset": Reply(RESET),
    "a packed answer": Reply(response(gzip.compress(b"data: {}\n\n"), headers=("content-encoding: gzip",))),
}
LATE_FAULTS = {
    "cut": Reply(stream_head(), sse(ROLE, chunk({"content": "par"})), CUT),
    "reset": Reply(stream_head(), sse(ROLE, chunk({"content": "par"})), RESET),
    "ended": Reply(stream_head(), sse(ROLE, chunk({"content": "par"})), END),
    "marked as done": Reply(stream_head(), sse(ROLE, chunk({"content": "par"}), DONE), END),
    "silent": Reply(stream_head(), sse(ROLE, chunk({"content": "par"})), HANG),
}


def models() -> list[dict[str, Any]]:
    """A name for each case, so that no case meets another's breakers."""
    limits = {"timeouts": {"first_token": 0.8, "idle": 0.8, "total": 20}}
    pair = {**limits, "retry": {"attempts": 2, "backoff": 0.01, "cooldown": 0.01}}
    single = {**limits, "retry": {"attempts": 1}}
    rows = [
        {"name": f"{fault} {stream}", "deployments": [f"one/{fault} {stream}", f"two/{fault} {stream}"], **pair}
        for fault in [*EARLY_FAULTS, "alive", "patient", "long", "filtered", "completions", "embeddings"]
        for stream in (False, True)
    ]
    for row in rows:
        row["fallbacks"] = {"context_window": ["wide/long"], "content_filter": ["wide/filtered"]}
    rows += [{"name": fault, "deployments": [f"one/{fault}"], **single} for fault in [*LATE_FAULTS, "hush"]]
    rows += [{"name": f"pinned {stream}", "deployments": [f"one/pinned {stream}"], **pair} for stream in (False, True)]
    rows += [{"name": name, "deployments": [f"{name}/m"]} for name in ("vllm", "claude")]
    return [*rows, {"name": "slow", "deployments": ["one/slow"]}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    with gateway(start_server, config(folder, TYPES, models())) as running:
        yield running


def by(answer: Answer) -> tuple[str, str]:
    """Which provider was asked last, and how many attempts there were."""
    return answer.headers["x-narthex-deployment"].partition("/")[0], answer.headers["x-narthex-attempts"]


# --- retries and fallbacks -------------------------------------------------------------------------------------------


@STREAMED
@pytest.mark.parametrize("fault", EARLY_FAULTS)
async def test_the_next_answers_whatever_the_first_does_before_its_first_word(
    server: Server, folder: Path, fault: str, stream: bool
) -> None:
    async with (
        serving(folder, "one", EARLY_FAULTS[fault]) as one,
        serving(folder, "two", saying("Hi", " there")) as two,
    ):
        answer = await chat(server, f"{fault} {stream}", stream=stream)
        assert (text(answer), by(answer)) == ("Hi there", ("two", "2"))
        assert (len(one.requests), len(two.requests)) == (1, 1)


@STREAMED
async def test_completions_and_embeddings_fall_back_like_chats(server: Server, folder: Path, stream: bool) -> None:
    line = json.dumps({"object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}]})
    numbers = whole({"data": [{"index": 0, "embedding": [1.0]}], "usage": {"prompt_tokens": 1, "total_tokens": 1}})
    async with (
        serving(folder, "one", refusing(500)) as one,
        serving(folder, "two", streaming(line.encode(), DONE), numbers),
    ):
        body = {"model": f"completions {stream}", "prompt": "Once", "stream": stream}
        answer = await ask(server, COMPLETIONS, body)
        assert (answer.whole, b'"text":"Hi"' in answer.body, by(answer)) == (True, True, ("two", "2")), answer
        answer = await ask(server, EMBEDDINGS, {"model": f"embeddings {stream}", "input": "Once"})
        assert (answer.json["data"][0]["embedding"], by(answer)) == ([1.0], ("two", "2"))
        assert len(one.requests) == 2


@STREAMED
async def test_a_prompt_that_is_too_long_and_a_filters_verdict_go_where_the_model_says(
    server: Server, folder: Path, stream: bool
) -> None:
    for kind, code in (("long", "context_length_exceeded"), ("filtered", "content_filter")):
        async with (
            serving(folder, "one", refusing(400, code=code)),
            serving(folder, "two", saying("two")) as two,
            serving(folder, "wide", saying("wide")),
        ):
            answer = await chat(server, f"{kind} {stream}", stream=stream)
            assert (text(answer), by(answer), len(two.requests)) == ("wide", ("wide", "2"), 0)


@STREAMED
async def test_a_pinned_request_waits_out_a_cooling_deployment(server: Server, folder: Path, stream: bool) -> None:
    async with serving(folder, "one", refusing(429, "retry-after-ms: 400"), saying("now")) as one:
        began_s = time.monotonic()
        answer = await chat(server, f"pinned {stream}", stream=stream)
        assert (text(answer), by(answer), len(one.requests)) == ("now", ("one", "2"), 2)
        assert time.monotonic() - began_s >= 0.4


@STREAMED
async def test_when_everybody_asks_for_patience_the_caller_is_told_for_how_long(
    server: Server, folder: Path, stream: bool
) -> None:
    """By the one that is free first; and those who come later are told too."""
    async with (
        serving(folder, "one", refusing(429, "retry-after: 50")),
        serving(folder, "two", refusing(429, "retry-after: 40")),
        client(server) as official,
    ):
        for _ in range(2):
            with pytest.raises(openai.RateLimitError) as caught:
                await official.chat.completions.create(model=f"patient {stream}", messages=HELLO, stream=stream)
            assert 30 <= int(caught.value.response.headers["retry-after"]) <= 50
            assert caught.value.code == "rate_limit_exceeded"


# --- silence ---------------------------------------------------------------------------------------------------------


@STREAMED
async def test_a_server_that_only_shows_signs_of_life_is_left_for_the_next(
    server: Server, folder: Path, stream: bool
) -> None:
    """Comments, empty deltas and a role are no output."""
    ticks = [asyncio.Event() for _ in range(60)]
    signs = [step for tick in ticks for step in (tick, b"8\r\n: ping\n\n\r\n", sse(ROLE))]

    async def tick() -> None:
        for each in ticks:
            each.set()
            await asyncio.sleep(0.05)

    tasks = TaskSet()
    async with (
        serving(folder, "one", Reply(stream_head(), *signs, HANG)) as one,
        serving(folder, "two", saying("two")),
    ):
        tasks.start(tick())
        answer = await chat(server, f"alive {stream}", stream=stream)
        assert (text(answer), by(answer)) == ("two", ("two", "2"))
        await asyncio.wait_for(one.peers[0].closed.wait(), 60)
        await tasks.aclose()


@STREAMED
async def test_a_server_that_says_nothing_is_given_up_in_time(server: Server, folder: Path, stream: bool) -> None:
    async with serving(folder, "one", Reply(HANG)) as one:
        began_s = time.monotonic()
        answer = await chat(server, "hush", stream=stream)
        assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
        assert 0.8 <= time.monotonic() - began_s < 20
        await asyncio.wait_for(one.peers[0].closed.wait(), 60)


# --- cut streams -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", LATE_FAULTS)
async def test_a_stream_that_breaks_is_an_exception_in_the_official_client(
    server: Server, folder: Path, fault: str
) -> None:
    async with serving(folder, "one", LATE_FAULTS[fault]), client(server) as official:
        stream = await official.chat.completions.create(model=fault, messages=HELLO, stream=True)
        found: list[Any] = []

        async def read() -> None:
            async for piece in stream:
                found.append(piece)  # noqa: PERF401 - those before the fault are kept

        with pytest.raises(openai.APIError):
            await read()
        assert "".join(each.choices[0].delta.content or "" for each in found) == "par"
        assert not any(each.choices[0].finish_reason for each in found)


@pytest.mark.parametrize("fault", LATE_FAULTS)
async def test_an_answer_that_breaks_is_never_a_200(server: Server, folder: Path, fault: str) -> None:
    async with serving(folder, "one", LATE_FAULTS[fault]):
        answer = await chat(server, fault)
        assert (answer.status, answer.complete) == (504 if fault == "silent" else 502, True)
        assert answer.json["error"]["code"] == ("timeout" if fault == "silent" else "upstream_error")


# --- translations ----------------------------------------------------------------------------------------------------


@STREAMED
async def test_an_empty_list_of_calls_is_no_call(server: Server, folder: Path, stream: bool) -> None:
    events = (
        chunk({"role": "assistant", "content": "", "tool_calls": []}),
        chunk({"content": "Just", "tool_calls": []}),
        chunk({"content": " text", "tool_calls": []}),
        chunk({"tool_calls": []}, "stop"),
    )
    tools = [{"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}]
    async with serving(folder, "vllm", streaming(*events, DONE)):
        answer = await chat(server, "vllm", stream=stream, tools=tools)
        assert text(answer) == "Just text"
        if stream:
            assert not any(delta.get("tool_calls") for delta in deltas(answer))
        else:
            [choice] = answer.json["choices"]
            assert (choice["finish_reason"], choice["message"].get("tool_calls")) == ("stop", None)


THOUGHTS = {
    "vllm": [
        chunk({"role": "assistant", "content": ""}),
        chunk({"reasoning": "27 is"}),
        chunk({"reasoning_content": " 3 times 9."}),
        chunk({"content": "9"}),
        STOP,
        DONE,
    ],
    "claude": [
        {"type": "message_start", "message": {"role": "assistant", "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "thinking", "thinking": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": "27 is"}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "thinking_delta", "thinking": " 3 times 9."}},
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 1, "delta": {"type": "text_delta", "text": "9"}},
        {"type": "content_block_stop", "index": 1},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ],
}


@STREAMED
@pytest.mark.parametrize("model", THOUGHTS)
async def test_thoughts_are_never_told_as_text_and_a_stream_begins_once(
    server: Server, folder: Path, model: str, stream: bool
) -> None:
    events = [each if isinstance(each, bytes) else json.dumps(each).encode() for each in THOUGHTS[model]]
    async with serving(folder, model, streaming(*events)):
        answer = await chat(server, model, stream=stream)
    assert text(answer) == "9"
    if stream:
        said = deltas(answer)
        assert "".join(delta.get("reasoning_content") or "" for delta in said) == "27 is 3 times 9."
        assert sum("role" in delta for delta in said) == 1
    else:
        assert answer.json["choices"][0]["message"]["reasoning_content"] == "27 is 3 times 9."


async def test_arguments_of_calls_survive_the_way_to_another_format_and_back(server: Server, folder: Path) -> None:
    arguments = {"city": "Köln", "when": {"day": 1}, "tags": []}
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": json.dumps(arguments)}}
    turns = [
        *HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "Rain"},
    ]
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object", "properties": {}}}}
    use = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    pieces = [json.dumps(arguments)[:9], json.dumps(arguments)[9:]]
    events = [
        {"type": "message_start", "message": {"role": "assistant", "usage": {"input_tokens": 5, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": use},
        *(
            {"type": "content_block_delta", "index": 0, "delta": {"type": "input_json_delta", "partial_json": piece}}
            for piece in pieces
        ),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 7}},
        {"type": "message_stop"},
    ]
    async with serving(folder, "claude", streaming(*(json.dumps(each).encode() for each in events))) as upstream:
        for stream in (False, True):
            answer = await chat(server, "claude", messages=turns, tools=[tool], stream=stream)
            if stream:
                calls = [one for delta in deltas(answer) for one in delta.get("tool_calls", ())]
                told = "".join(one["function"].get("arguments", "") for one in calls)
            else:
                [made] = answer.json["choices"][0]["message"]["tool_calls"]
                told = made["function"]["arguments"]
            assert json.loads(told) == arguments
        blocks = [block for message in bodies(upstream)[0]["messages"] for block in message["content"]]
        assert [block["input"] for block in blocks if block["type"] == "tool_use"] == [arguments]


@pytest.mark.parametrize("asked", [True, False], ids=["asked for", "not asked for"])
async def test_usage_is_told_once_and_only_to_those_who_ask(server: Server, folder: Path, asked: bool) -> None:
    usage = {"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4}
    events = [chunk({"role": "assistant", "content": ""}, usage=usage), chunk({"content": "Hi"}, usage=usage)]
    last = json.dumps({"id": "x", "object": "chat.completion.chunk", "choices": [], "usage": usage}).encode()
    options = {"stream_options": {"include_usage": True}} if asked else {}
    async with serving(folder, "vllm", streaming(*events, STOP, last, DONE)):
        answer = await chat(server, "vllm", stream=True, **options)
    assert text(answer) == "Hi"
    told = [each for each in chunks(answer) if each.get("usage")]
    assert [(each["choices"], each["usage"]["total_tokens"]) for each in told] == ([([], 4)] if asked else [])


@pytest.mark.parametrize("format_", ["absent", None, "float", "base64"])
async def test_an_embedding_is_asked_for_without_a_null(server: Server, folder: Path, format_: str | None) -> None:
    fields = {} if format_ == "absent" else {"encoding_format": format_}
    async with serving(folder, "vllm", whole({"data": [{"index": 0, "embedding": [0.5, 0.5]}]})) as upstream:
        answer = await ask(server, EMBEDDINGS, {"model": "vllm", "input": "text", "dimensions": None, **fields})
        assert answer.status == 200, answer
        assert None not in bodies(upstream)[0].values()
        assert "dimensions" not in bodies(upstream)[0]


# --- weight ----------------------------------------------------------------------------------------------------------


async def test_answers_are_not_packed_while_others_wait(server: Server, folder: Path) -> None:
    async with serving(folder, "one", saying("Hi" * 5000)) as one, connected(server) as caller:
        body = json.dumps({"model": "slow", "messages": HELLO}).encode()
        headers = {"content-type": "application/json", "x-api-key": server.admin_key, "accept-encoding": "gzip, br"}
        await caller.send("POST", CHAT, body=body, headers=headers)
        answer = await caller.end()
        assert text(answer) == "Hi" * 5000
        assert "content-encoding" not in answer.headers
        assert one.requests[0].headers["accept-encoding"] == "identity"


@STREAMED
async def test_a_prompt_of_two_megabytes_arrives_whole(server: Server, folder: Path, stream: bool) -> None:
    prompt = "".join(f"Line {number} of a long text. é\n" for number in range(70_000))
    assert len(prompt.encode()) > 2_000_000
    async with serving(folder, "one", saying("Read.")) as one:
        answer = await chat(server, "slow", messages=[{"role": "user", "content": prompt}], stream=stream)
        assert text(answer) == "Read."
        assert bodies(one)[0]["messages"][0]["content"] == prompt


async def test_a_body_that_is_too_large_is_a_413_that_tells_the_limit(server: Server, folder: Path) -> None:
    async with serving(folder, "one", saying("Read.")) as one, client(server) as official:
        with pytest.raises(openai.APIStatusError) as caught:
            await official.chat.completions.create(
                model="slow", messages=[{"role": "user", "content": "x" * (17 * 1024 * 1024)}]
            )
        assert (caught.value.status_code, caught.value.code) == (413, "request_too_large")
        assert str(16 * 1024 * 1024) in caught.value.message
        assert one.requests == []
