"""Callers who leave: whatever was done for them ends, streamed or not, before and after the first token."""

import asyncio
import itertools
import json
import time
from collections.abc import Iterator

import pytest
from tests.callers import COMPLETIONS, ask, calling, endless
from tests.pace import soon
from tests.server_inside import free, queue, until, working
from tests.server_process import Server, StartServer

from narthex.testing.scripted import HANG, Reply, ScriptedUpstream, response, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio

WAYS = pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server() as running:
        yield running


async def is_free(server: Server) -> bool:
    return await free(server)


async def works(server: Server, slots: int = 1) -> bool:
    return await working(server) == slots


@WAYS
@STREAMED
async def test_a_hang_up_in_the_middle_of_an_answer_frees_the_slot(
    server: Server, *, stream: bool, reset: bool
) -> None:
    async def freed() -> float:
        async with calling(server, COMPLETIONS, endless(stream=stream)) as caller:
            if stream:
                await caller.until(b"data: {")
            else:
                await until(lambda: works(server))
            caller.leave(reset=reset)
            return await until(lambda: is_free(server))

    await soon(freed, within_s=0.6)


@WAYS
@STREAMED
async def test_a_hang_up_in_the_middle_of_a_long_prompt_frees_the_slot(
    server: Server, *, stream: bool, reset: bool
) -> None:
    """llama.cpp looks up after each batch of 128 tokens: two of them, on a machine as fast as this one is now."""
    numbers = [f"{number * 7919 % 9973}" for number in range(1000)]
    prompt = " ".join(numbers)  # about 4 900 tokens
    began = time.monotonic()
    assert (await ask(server, COMPLETIONS, endless(f"{stream} {reset} {numbers[:48]}", max_tokens=1))).whole
    batch_s = (time.monotonic() - began) / 2

    async def freed() -> float:
        async with calling(server, COMPLETIONS, endless(prompt, stream=stream)) as caller:
            await until(lambda: works(server))
            assert (await queue(server)).cells_used > 4000
            caller.leave(reset=reset)
            return await until(lambda: is_free(server))

    await soon(freed, within_s=max(0.6, 2 * batch_s))


@WAYS
@STREAMED
async def test_a_hang_up_ends_every_choice(server: Server, *, stream: bool, reset: bool) -> None:
    async def freed() -> float:
        async with calling(server, COMPLETIONS, endless(stream=stream, n=3)) as caller:
            if stream:
                await caller.until(b'"index":2')
            else:
                await until(lambda: works(server, 3))
            caller.leave(reset=reset)
            return await until(lambda: is_free(server))

    await soon(freed, within_s=0.6)


# --- in the queue


@pytest.fixture(scope="module")
def narrow(start_server: StartServer) -> Iterator[Server]:
    with start_server({"engine": {"slots": 1, "context": 2048}}) as running:
        yield running


@WAYS
@STREAMED
async def test_who_leaves_the_queue_is_waited_for_no_more(narrow: Server, *, stream: bool, reset: bool) -> None:
    async def waiting(count: int) -> bool:
        return (await queue(narrow)).waiting == count

    async with calling(narrow, COMPLETIONS, endless(stream=True)) as first:
        await first.until(b"data: {")

        async def gone() -> float:
            async with calling(narrow, COMPLETIONS, endless(stream=stream)) as second:
                await until(lambda: waiting(1))
                second.leave(reset=reset)
                return await until(lambda: waiting(0))

        await soon(gone, within_s=0.6)
        assert (await queue(narrow)).running == 1
        first.leave()
    await until(lambda: is_free(narrow))
    assert (await ask(narrow, COMPLETIONS, endless(max_tokens=2))).status == 200


# --- as an upstream sees it

PROPS = json.dumps({"default_generation_settings": {"n_ctx": 4096}, "total_slots": 4, "chat_template": "x"}).encode()
TOKENS = json.dumps({"tokens": [1, 2, 3]}).encode()
TRIES = 5
PIECE = json.dumps({"index": 0, "content": "a", "stop": False}).encode()


async def test_an_upstream_is_left_within_100_ms(start_server: StartServer) -> None:
    """In all eight cases: streamed or not, before and after its first word, with FIN and with RST."""

    cases = list(itertools.product((True, False), repeat=3))
    replies = [Reply(response(PROPS))]
    for _, spoken, _ in cases * TRIES:
        replies += [Reply(response(TOKENS)), Reply(stream_head(), *([sse(PIECE)] if spoken else []), HANG)]
    async with ScriptedUpstream(*replies) as upstream:
        config = {"engine": {"default": None, "models": {"far": {"url": upstream.url}}}, "embedder": {"default": None}}
        stack = start_server(config, models=())
        server = await asyncio.to_thread(stack.__enter__)

        async def slowest() -> float:
            return max([await left_after_s(server, upstream, case) for case in cases])

        try:
            await soon(slowest, within_s=0.1, tries=TRIES)
        finally:
            await asyncio.to_thread(stack.__exit__, None, None, None)


async def left_after_s(server: Server, upstream: ScriptedUpstream, case: tuple[bool, ...]) -> float:
    """How long after the caller the upstream is left."""
    stream, spoken, reset = case
    already = len(upstream.requests)

    async def asked() -> bool:
        return any(request.target.endswith(("/completion", "/completions")) for request in upstream.requests[already:])

    async with calling(server, COMPLETIONS, endless(model="far", stream=stream)) as caller:
        await until(asked)
        if spoken and stream:
            await caller.until(b"data: {")
        peer = upstream.peers[upstream.requests[-1].peer]
        left_s = time.monotonic()
        caller.leave(reset=reset)
        await asyncio.wait_for(peer.closed.wait(), 60)
    assert peer.closed_at_s is not None
    return peer.closed_at_s - left_s
