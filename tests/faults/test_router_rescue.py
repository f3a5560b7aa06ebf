"""A stream that breaks off in the middle of its text, over real sockets: what the caller has, who is asked for what."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.raw_asgi import Caller, until
from tests.scripted_gateway import DONE, ERROR_EVENT, ROLE, Gateway, chunk, gateway, refused, whole

from narthex.http.worker import RemoteProvider
from narthex.providers.traits import ModelTraits
from narthex.routing.route import Rules
from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, ScriptedUpstream, sse, stream_head

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

RULES = Rules(attempts=2, backoff_s=0.01, first_token_s=0.5, idle_s=0.5, total_s=8.0, rescue=True)
TOLD = ("Once", " upon", " a")
"""The pieces of what the first upstream says."""
BEGUN = "".join(TOLD)
USAGE = {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25}
WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}, "max_tokens": 50}


def broken(*steps: Any, pieces: tuple[str, ...] = TOLD, before: tuple[bytes, ...] = ()) -> Reply:
    """A stream that begins well."""
    return Reply(stream_head(), sse(ROLE, *before, *map(chunk, pieces)), *steps)


FAULTS = {
    "cut": broken(CUT),
    "reset": broken(RESET),
    "ended before it finished": broken(sse(DONE), END),
    "no JSON": broken(sse(b'{"choices":[{"delta":')),
    "no event": broken(b"zz\r\n", CUT),
    "an error event": broken(sse(ERROR_EVENT), END),
    "silence": broken(HANG),
}


def openai_rest(*pieces: str) -> Reply:
    usage = json.dumps({"choices": [], "usage": USAGE}).encode()
    return Reply(stream_head(), sse(ROLE, *map(chunk, pieces), chunk(finish="stop"), usage, DONE), END)


def anthropic_rest(*pieces: str) -> Reply:
    deltas = [
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": each}} for each in pieces
    ]
    events: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 20, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
        {"type": "message_stop"},
    ]
    return Reply(stream_head(), sse(*(json.dumps(each).encode() for each in events)), END)


def provider(kind: str, url: str, **traits: Any) -> RemoteProvider:
    """One whose model `model` continues what it is given."""
    return RemoteProvider(type=kind, base_url=url, models={"model": ModelTraits(prefill=True, **traits)})


class Target(msgspec.Struct):
    """A kind of upstream that goes on: its type, how it answers, and what tells it to go on."""

    kind: str
    rest: Any
    limit: str = "max_tokens"
    top: dict[str, Any] = {}
    message: dict[str, Any] = {}
    repeats: bool = False


TARGETS = {
    "a trailing message": Target("openai-compatible", openai_rest),
    "prefix": Target("deepseek", openai_rest, message={"prefix": True}),
    "prefix, repeated": Target("mistral", openai_rest, message={"prefix": True}, repeats=True),
    "llama.cpp": Target("llama.cpp", openai_rest),
    "vllm": Target("vllm", openai_rest, top={"continue_final_message": True, "add_generation_prompt": False}),
    "anthropic": Target("anthropic", anthropic_rest),
}


class Answer(msgspec.Struct):
    """A stream as its caller has it."""

    text: str
    finish: list[str]
    roles: int
    ids: set[str]
    usage: dict[str, Any] | None
    error: dict[str, Any] | None
    done: bool


def read(caller: Caller) -> Answer:
    events = [json.loads(event) for event in caller.events() if event != "[DONE]" and not event.startswith(":")]
    choices = [choice for event in events for choice in event.get("choices", ())]
    deltas = [choice.get("delta", {}) for choice in choices]
    return Answer(
        text="".join(delta.get("content") or "" for delta in deltas)
        + "".join(choice.get("text") or "" for choice in choices),
        finish=[choice["finish_reason"] for choice in choices if choice.get("finish_reason")],
        roles=sum("role" in delta for delta in deltas),
        ids={event["id"] for event in events if "id" in event},
        usage=next((event["usage"] for event in events if event.get("usage")), None),
        error=next((event["error"] for event in events if "error" in event), None),
        done=caller.events()[-1] == "[DONE]",
    )


def asked(upstream: ScriptedUpstream, number: int = 0) -> dict[str, Any]:
    return dict(json.loads(upstream.requests[number].body))


def last_message(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """The text of the last message and its other members."""
    message = body["messages"][-1]
    content = message.pop("content")
    return content if isinstance(content, str) else content[0]["text"], message


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_the_next_goes_on_where_the_text_broke_off(fault: str, target: str, tmp_path: Path) -> None:
    to = TARGETS[target]
    pieces = (BEGUN, " time", ".") if to.repeats else (" time", ".")
    async with (
        ScriptedUpstream(FAULTS[fault]) as one,
        ScriptedUpstream(to.rest(*pieces)) as two,
        gateway(tmp_path, {"one": one.url, "two": provider(to.kind, two.url)}, rules=RULES) as server,
    ):
        caller = await server.ask(**WITH_USAGE, temperature=0.5)
        answer = read(caller)
        assert (caller.status, answer.text, answer.error) == (200, "Once upon a time.", None)
        assert (answer.finish, answer.roles, len(answer.ids), answer.done) == (["stop"], 1, 1, True)
        assert answer.usage is not None
        assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (17, 8)
        assert answer.usage["total_tokens"] == 25
        assert b"canary" not in caller.body
        assert (len(one.requests), len(two.requests)) == (1, 1)
        body = asked(two)
        text, others = last_message(body)
        assert (text, others) == (BEGUN, {"role": "assistant", **to.message})
        assert len(body["messages"]) == 2
        assert (body[to.limit], body["temperature"]) == (47, 0.5)
        assert to.top.items() <= body.items()
        await until(lambda: all(peer.closed.is_set() for peer in one.peers) or END in FAULTS[fault].steps)


@pytest.mark.parametrize("fault", FAULTS)
async def test_a_text_completion_goes_on_with_a_longer_prompt(fault: str, tmp_path: Path) -> None:
    def of(text: str, finish: str | None = None) -> bytes:
        return json.dumps({"choices": [{"index": 0, "text": text, "finish_reason": finish}]}).encode()

    steps = FAULTS[fault].steps[2:]
    usage = json.dumps({"choices": [], "usage": USAGE}).encode()
    async with (
        ScriptedUpstream(Reply(stream_head(), sse(*map(of, TOLD)), *steps)) as one,
        ScriptedUpstream(Reply(stream_head(), sse(of(" time."), of("", "length"), usage, DONE), END)) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=RULES) as server,
    ):
        answer = read(await server.ask(path="/v1/completions", **WITH_USAGE))
        assert (answer.text, answer.finish, answer.error) == ("Once upon a time.", ["length"], None)
        assert answer.usage is not None
        assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (17, 8)
        assert (asked(two)["prompt"], asked(two)["max_tokens"]) == ("HelloOnce upon a", 47)


@pytest.mark.parametrize(
    ("told", "rest", "sent", "whole_text"),
    [
        (("Hi", " "), (" there",), "Hi", "Hi there"),
        (("Hi", " "), ("there",), "Hi", "Hi there"),
        (("Hi", "\n\n"), ("\n", "\nYou"), "Hi", "Hi\n\nYou"),
        (("Hi", "\n\n"), ("\nYou",), "Hi", "Hi\n\nYou"),
        (("Hi", " "), ("\nYou",), "Hi", "Hi \nYou"),
        (("Hi", "\n\n"), ("\n",), "Hi", "Hi\n\n"),
    ],
)
@pytest.mark.parametrize("target", ["anthropic", "vllm", "prefix, repeated"])
async def test_white_space_is_neither_lost_nor_told_twice(
    target: str, told: tuple[str, ...], rest: tuple[str, ...], sent: str, whole_text: str, tmp_path: Path
) -> None:
    to = TARGETS[target]
    pieces = (sent, *rest) if to.repeats else rest
    async with (
        ScriptedUpstream(broken(CUT, pieces=told)) as one,
        ScriptedUpstream(to.rest(*pieces)) as two,
        gateway(tmp_path, {"one": one.url, "two": provider(to.kind, two.url)}, rules=RULES) as server,
    ):
        answer = read(await server.ask(stream=True))
        assert (answer.text, answer.finish, answer.error) == (whole_text, ["stop"], None)
        assert last_message(asked(two))[0] == sent


async def test_it_may_break_off_again_and_again(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(broken(CUT)) as one,
        ScriptedUpstream(Reply(stream_head(), sse(ROLE, chunk(" time")), RESET)) as two,
        ScriptedUpstream(openai_rest(" there")) as three,
    ):
        providers = {"one": one.url, "two": provider("vllm", two.url), "three": provider("vllm", three.url)}
        async with gateway(tmp_path, providers, rules=msgspec.structs.replace(RULES, attempts=3)) as server:
            answer = read(await server.ask(**WITH_USAGE))
            assert (answer.text, answer.finish, answer.roles) == ("Once upon a time there", ["stop"], 1)
            assert answer.usage is not None
            assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (16, 9)
            assert (last_message(asked(three))[0], asked(three)["max_tokens"]) == ("Once upon a time", 46)


async def test_a_single_deployment_is_asked_again(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(broken(CUT), openai_rest(" time.")) as one,
        gateway(tmp_path, {"one": provider("vllm", one.url)}, rules=RULES) as server,
    ):
        assert read(await server.ask(stream=True)).text == "Once upon a time."
        assert len(one.requests) == 2


async def test_those_that_cannot_go_on_are_passed_over(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(broken(CUT)) as one,
        ScriptedUpstream(whole("anew")) as two,
        ScriptedUpstream(openai_rest(" time.")) as three,
    ):
        providers = {"one": one.url, "two": two.url, "three": provider("vllm", three.url)}
        async with gateway(tmp_path, providers, rules=RULES) as server:
            assert read(await server.ask(stream=True)).text == "Once upon a time."
            assert (len(two.requests), len(three.requests)) == (0, 1)


THOUGHT = json.dumps({"choices": [{"index": 0, "delta": {"reasoning_content": "Hm."}}]}).encode()
CALL = json.dumps(
    {"choices": [{"index": 0, "delta": {"tool_calls": [{"index": 0, "id": "c", "function": {"name": "f"}}]}}]}
).encode()
REFUSAL = json.dumps({"choices": [{"index": 0, "delta": {"refusal": "No."}}]}).encode()
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
TALK = [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Well"}]

NEVER: dict[str, tuple[Reply, dict[str, Any]]] = {
    "tools": (broken(CUT), {"tools": [TOOL]}),
    "functions": (broken(CUT), {"functions": [TOOL["function"]]}),
    "a form of the answer": (broken(CUT), {"response_format": {"type": "json_object"}}),
    "log probabilities": (broken(CUT), {"logprobs": True}),
    "several choices": (broken(CUT), {"n": 2}),
    "an answer that was begun": (broken(CUT), {"messages": TALK}),
    "thoughts alone": (Reply(stream_head(), sse(ROLE, THOUGHT), CUT), {}),
    "a call": (broken(sse(CALL), CUT), {}),
    "a refusal": (broken(sse(REFUSAL), CUT), {}),
}


@pytest.mark.parametrize("case", NEVER)
async def test_what_cannot_be_gone_on_with_ends_in_an_error(case: str, tmp_path: Path) -> None:
    first, fields = NEVER[case]
    async with (
        ScriptedUpstream(first) as one,
        ScriptedUpstream(openai_rest(" time.")) as two,
        gateway(tmp_path, {"one": one.url, "two": provider("openai", two.url)}, rules=RULES) as server,
    ):
        caller = await server.ask(stream=True, **fields)
        answer = read(caller)
        assert answer.error is not None
        assert (answer.error["type"], answer.error["code"]) == ("server_error", "upstream_error")
        assert (answer.done, caller.ended, len(two.requests)) == (False, True, 0)


async def test_an_answer_that_has_ended_is_whole_whatever_follows(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(broken(sse(chunk(finish="stop")), RESET)) as one,
        ScriptedUpstream(openai_rest(" time.")) as two,
        gateway(tmp_path, {"one": one.url, "two": provider("openai", two.url)}, rules=RULES) as server,
    ):
        answer = read(await server.ask(stream=True))
        assert (answer.text, answer.error, answer.done, len(two.requests)) == (BEGUN, None, True, 0)


@pytest.mark.parametrize("fields", [{"echo": True}, {"prompt": ["a", "b"]}, {"prompt": [1, 2]}, {"n": 2}])
async def test_nor_can_such_text_completions(fields: dict[str, Any], tmp_path: Path) -> None:
    words = json.dumps({"choices": [{"index": 0, "text": "Once"}]}).encode()
    async with (
        ScriptedUpstream(Reply(stream_head(), sse(words), CUT)) as one,
        ScriptedUpstream(whole("two")) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=RULES) as server,
    ):
        answer = read(await server.ask(path="/v1/completions", stream=True, **fields))
        assert answer.error is not None
        assert (answer.error["code"], len(two.requests)) == ("upstream_error", 0)


async def test_thoughts_before_the_text_count_but_are_not_gone_on_with(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(broken(CUT, before=(THOUGHT,))) as one,
        ScriptedUpstream(openai_rest(" time.")) as two,
        gateway(tmp_path, {"one": one.url, "two": provider("vllm", two.url)}, rules=RULES) as server,
    ):
        answer = read(await server.ask(**WITH_USAGE))
        assert answer.text == "Once upon a time."
        assert (last_message(asked(two))[0], asked(two)["max_tokens"]) == (BEGUN, 46)
        assert answer.usage is not None
        assert (answer.usage["prompt_tokens"], answer.usage["completion_tokens"]) == (17, 9)
        assert answer.usage["completion_tokens_details"]["reasoning_tokens"] == 1


async def test_at_the_limit_there_is_nothing_to_go_on_with(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(broken(CUT)) as one,
        ScriptedUpstream(openai_rest(" time.")) as two,
        gateway(tmp_path, {"one": one.url, "two": provider("vllm", two.url)}, rules=RULES) as server,
    ):
        answer = read(await server.ask(**WITH_USAGE | {"max_tokens": 3}))
        assert (answer.text, answer.finish, answer.error, answer.done) == (BEGUN, ["length"], None, True)
        assert answer.usage is not None
        assert (answer.usage["completion_tokens"], len(two.requests)) == (3, 0)


REFUSALS = {
    "400": refused(400, code="invalid_value"),
    "500": refused(500),
    "too long": refused(400, code="context_length_exceeded"),
    "cut": Reply(CUT),
    "thoughts": Reply(stream_head(), sse(ROLE, THOUGHT, chunk("But"), chunk(finish="stop"), DONE), END),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_if_nobody_goes_on_the_caller_is_told_what_broke_it_off(refusal: str, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(FAULTS["silence"]) as one,
        ScriptedUpstream(REFUSALS[refusal]) as two,
        gateway(tmp_path, {"one": one.url, "two": provider("vllm", two.url)}, rules=RULES) as server,
    ):
        caller = await server.ask(stream=True)
        answer = read(caller)
        assert (answer.text, answer.finish, answer.done, caller.ended) == (BEGUN, [], False, True)
        assert answer.error is not None
        assert (answer.error["code"], len(one.requests), len(two.requests)) == ("timeout", 1, 1)
        assert b"canary" not in caller.body


async def test_it_is_off_unless_it_is_on(tmp_path: Path) -> None:
    rules = msgspec.structs.replace(RULES, rescue=False)
    async with (
        ScriptedUpstream(broken(CUT)) as one,
        ScriptedUpstream(openai_rest(" time.")) as two,
        gateway(tmp_path, {"one": one.url, "two": provider("vllm", two.url)}, rules=rules) as server,
    ):
        answer = read(await server.ask(stream=True))
        assert answer.error is not None
        assert (answer.text, len(two.requests)) == (BEGUN, 0)


async def test_the_total_clock_covers_the_rest_too(tmp_path: Path) -> None:
    rules = Rules(attempts=2, backoff_s=0.01, total_s=1.0, rescue=True)
    async with (
        ScriptedUpstream(broken(CUT)) as one,
        ScriptedUpstream(Reply(stream_head(), sse(ROLE, chunk(" time")), HANG)) as two,
        gateway(tmp_path, {"one": one.url, "two": provider("vllm", two.url)}, rules=rules) as server,
    ):
        began_s = time.monotonic()
        answer = read(await server.ask(stream=True))
        assert answer.error is not None
        assert (answer.text, answer.error["code"]) == ("Once upon a time", "timeout")
        assert 0.9 < time.monotonic() - began_s < 20
        await until(two.peers[0].closed.is_set)


async def test_a_caller_who_leaves_meanwhile_leaves_nothing_behind(tmp_path: Path) -> None:
    async def leaves(server: Gateway, two: ScriptedUpstream, times: int) -> None:
        caller = server.asking(stream=True)
        call = asyncio.ensure_future(server.call(caller))
        await until(lambda: len(two.requests) == times)
        caller.left.set()
        await call
        await until(two.peers[-1].closed.is_set)

    rules = Rules(attempts=4, backoff_s=0.01, total_s=8.0, rescue=True)
    async with (
        ScriptedUpstream(broken(CUT)) as one,
        ScriptedUpstream(Reply(HANG), Reply(stream_head(), sse(ROLE, chunk(" time")), HANG)) as two,
        gateway(tmp_path, {"one": one.url, "two": provider("vllm", two.url)}, rules=rules) as server,
    ):
        for times in (1, 2):
            await leaves(server, two, times)
            assert (len(one.requests), len(two.requests)) == (times, times)
