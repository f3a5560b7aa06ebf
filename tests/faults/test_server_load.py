"""Callers who take more than their share: readers who stall, one key that asks for everything."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest
from tests.callers import CHAT, COMPLETIONS, Caller, ask, calling, chat, endless
from tests.server_inside import free, memory_bytes, pid, queue, until
from tests.server_process import CHAT_MODEL, Server, StartServer

from narthex.testing.scripted import Reply, ScriptedUpstream, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server({"embedder": {"default": None}, "engine": {"slots": 16}}, models=(CHAT_MODEL,)) as running:
        yield running


async def is_free(server: Server) -> bool:
    return await free(server)


# --- one key that asks for everything


async def test_a_large_request_does_not_starve_another_key(server: Server) -> None:
    greedy, modest = [await asyncio.to_thread(server.key, name=name) for name in ("greedy", "modest")]
    short = chat("Hello", max_tokens=8)
    await ask(server, CHAT, short, key=modest)

    async def took_s() -> float:
        began = time.monotonic()
        assert (await ask(server, CHAT, short, key=modest)).status == 200
        return time.monotonic() - began

    alone_s = min([await took_s() for _ in range(3)])
    many = endless(n=128, max_tokens=8, temperature=0.5)
    async with calling(server, COMPLETIONS, many, key=greedy) as caller:

        async def busy() -> bool:
            return (await queue(server)).running >= 8

        await until(busy)
        beside_s = await took_s()
        assert not caller.answer.status
        await until(busy)  # it goes on meanwhile
    assert beside_s < max(3.0, 20 * alone_s), (beside_s, alone_s)
    await until(lambda: is_free(server))


# --- readers who stall

EVENT = json.dumps(
    {
        "id": "x",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "x",
        "choices": [{"index": 0, "delta": {"content": "abcdefgh" * 1024}, "finish_reason": None}],
    }
).encode()
FLOOD = Reply(stream_head(), *[sse(EVENT)] * 8192)
"""64 MiB of text, without an end."""


@asynccontextmanager
async def stalled(server: Server, count: int) -> AsyncIterator[list[Caller]]:
    """Callers who have read the beginning of their stream and read no more."""
    async with AsyncExitStack() as stack:
        callers = []
        for _ in range(count):
            caller = await stack.enter_async_context(calling(server, CHAT, chat(model="flood", stream=True)))
            await caller.until(b"abcdefgh")
            caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
            callers.append(caller)
        yield callers


async def test_readers_who_stall_cost_little_and_hinder_nobody(start_server: StartServer) -> None:
    async with ScriptedUpstream(FLOOD) as upstream:
        config = {
            "embedder": {"default": None},
            "providers": {"far": {"base_url": f"{upstream.url}/v1"}},
            "models": [{"name": "flood", "deployments": ["far/flood"]}],
        }
        started = start_server(config, models=(CHAT_MODEL,))
        server = await asyncio.to_thread(started.__enter__)
        try:
            for count, most_mib in ((1, 10), (50, 110)):
                await stall(server, upstream, count=count, most_mib=most_mib)
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


async def stall(server: Server, upstream: ScriptedUpstream, *, count: int, most_mib: int) -> None:
    assert (await ask(server, CHAT, chat("Hello", max_tokens=2))).status == 200
    worker = await pid(server, "worker-0")
    before = memory_bytes(worker)

    async def held_back() -> bool:
        return sum(peer.paused.is_set() and not peer.closed.is_set() for peer in upstream.peers) == count

    async def left() -> bool:
        return all(peer.closed.is_set() for peer in upstream.peers)

    async with stalled(server, count) as callers:
        await until(held_back, within_s=60)
        assert (await ask(server, CHAT, chat("Hello", max_tokens=8))).status == 200
        assert memory_bytes(worker) - before < most_mib * MIB
        for caller in callers:
            caller.writer.transport.abort()
        await until(left)
    assert await pid(server, "worker-0") == worker


async def test_a_slot_is_free_after_a_caller_who_never_read(server: Server) -> None:
    async with AsyncExitStack() as stack:
        callers = [
            await stack.enter_async_context(calling(server, COMPLETIONS, endless(stream=True))) for _ in range(3)
        ]

        async def busy() -> bool:
            return (await queue(server)).running == 3

        for caller in callers:
            caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(busy)
        assert (await ask(server, CHAT, chat("Hello", max_tokens=8))).status == 200
        for caller in callers:
            caller.leave()
        assert await until(lambda: is_free(server)) < 2
