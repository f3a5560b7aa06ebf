"""SIGTERM while requests run: no new ones, the running ones end well, and nobody is cut off without a word."""

import asyncio
import signal

import pytest
from tests.callers import CHAT, COMPLETIONS, Answer, Caller, ask, calling, chat, connected, endless
from tests.server_inside import alive, children, until
from tests.server_process import CHAT_MODEL, Server, StartServer

from narthex.testing.scripted import END, Reply, ScriptedUpstream, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio

ONE_MODEL = {"embedder": {"default": None}}


async def ended(server: Server, *, within_s: float) -> int:
    return await asyncio.to_thread(server.process.wait, within_s)


async def draining(server: Server) -> None:
    """Until its worker says so."""

    async def unready() -> bool:
        async with connected(server) as caller:
            await caller.send("GET", "/readyz", headers={})
            return (await caller.end()).status == 503

    await until(unready)


async def test_running_requests_end_well_and_new_ones_are_sent_away(start_server: StartServer) -> None:
    with start_server(ONE_MODEL, models=(CHAT_MODEL,)) as server:
        key = server.admin_key
        whole = asyncio.ensure_future(ask(server, COMPLETIONS, endless(max_tokens=150)))
        async with (
            calling(server, COMPLETIONS, endless(stream=True, max_tokens=150)) as caller,
            calling(server, "/v1/models") as idle,
        ):
            await idle.end()
            await caller.until(b"data: {")
            server.process.send_signal(signal.SIGTERM)
            await draining(server)
            for sent in (idle.again(), None):  # on a connection that was there, and on a new one
                answer = await refused(server, sent, key=key)
                assert answer.status == 503
                assert answer.headers["connection"] == "close"
                assert int(answer.headers["retry-after"]) >= 1
                assert answer.error
                assert answer.error["code"] == "overloaded"
            assert (await caller.end()).whole
        assert (await whole).whole
        assert await ended(server, within_s=20) == 0


async def refused(server: Server, caller: Caller | None, *, key: str) -> Answer:
    if caller is None:
        return await ask(server, CHAT, chat("Hello"), key=key)
    await caller.ask(CHAT, chat("Hello"), key=key)
    return await caller.end()


async def test_at_the_limit_a_long_stream_is_told_why_it_ends(start_server: StartServer) -> None:
    config = {"http": {"drain_s": 1.0}, "engine": {"slots": 4}, **ONE_MODEL}
    with start_server(config, models=(CHAT_MODEL,)) as server:
        whole = asyncio.ensure_future(ask(server, COMPLETIONS, endless("whole", max_tokens=3000)))
        async with calling(server, COMPLETIONS, endless(stream=True, max_tokens=3000)) as caller:
            await caller.until(b"data: {")
            server.process.send_signal(signal.SIGTERM)
            answer = await caller.end()
            assert answer.complete
            assert not answer.done
            assert answer.error
            assert answer.error["code"] == "overloaded"
        cut = await whole
        assert cut.status == 503
        assert cut.error
        assert int(cut.headers["retry-after"]) >= 1
        assert await ended(server, within_s=10) == 0


async def test_under_load_whatever_can_finish_in_time_does(start_server: StartServer) -> None:
    go = asyncio.Event()
    part = b'{"id":"x","object":"chat.completion.chunk","created":1,"choices":[{"index":0,"delta":{"content":"a"}%b}]}'
    held = Reply(stream_head(), sse(part % b""), go, sse(part % b',"finish_reason":"stop"'), sse(b"[DONE]"), END)
    async with ScriptedUpstream(held) as upstream:
        config = {
            "engine": {"default": None},
            "providers": {"far": {"base_url": f"{upstream.url}/v1"}},
            "models": [{"name": "held", "deployments": ["far/m"]}],
            **ONE_MODEL,
        }
        started = start_server(config, models=(), workers=2)
        server = await asyncio.to_thread(started.__enter__)
        try:
            kinds = [{"stream": True}, {}] * 8
            load = [asyncio.ensure_future(ask(server, CHAT, chat(model="held", **kind))) for kind in kinds]

            async def all_under_way() -> bool:
                return len(upstream.requests) == len(load)

            await until(all_under_way)
            late = asyncio.ensure_future(asks_until_away(server))
            server.process.send_signal(signal.SIGTERM)
            await draining(server)
            go.set()
            assert all(answer.whole for answer in await asyncio.gather(*load))
            assert await ended(server, within_s=20) == 0
            assert all(answer.status == 503 or answer.whole for answer in await late)
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


async def asks_until_away(server: Server) -> list[Answer]:
    """Ask for the models again and again, until nobody answers any more; whoever takes a request answers it."""
    answers = []
    key = server.admin_key
    while True:
        try:
            async with connected(server) as caller:
                await caller.ask("/v1/models", key=key)
                answers.append(await caller.end())
        except ConnectionError:
            return answers
        if not answers[-1].status:  # accepted by the kernel, for workers that have ended
            return answers[:-1]


async def test_a_reader_who_stalls_does_not_hold_up_the_end(start_server: StartServer) -> None:
    chunk = b'{"id":"x","object":"chat.completion.chunk","created":1,"model":"x","choices":[{"index":0,"delta":%b}]}'
    flood = Reply(stream_head(), *[sse(chunk % b'{"content":"%b"}' % (b"abcd" * 2048))] * 4096)
    async with ScriptedUpstream(flood) as upstream:
        config = {
            "http": {"drain_s": 1.0},
            "providers": {"far": {"base_url": f"{upstream.url}/v1"}},
            "models": [{"name": "flood", "deployments": ["far/flood"]}],
            **ONE_MODEL,
        }
        started = start_server(config, models=(CHAT_MODEL,))
        server = await asyncio.to_thread(started.__enter__)
        try:
            async with calling(server, CHAT, chat(model="flood", stream=True)) as caller:
                await caller.until(b"abcd")
                caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
                await asyncio.wait_for(upstream.peers[0].paused.wait(), 60)
                server.process.send_signal(signal.SIGTERM)
                assert await ended(server, within_s=10) == 0
                cut = [line for line in server.log_lines() if line["event"] == "cutting requests"]
                assert [line["running"] for line in cut] == [1]
        finally:
            await asyncio.to_thread(started.__exit__, None, None, None)


async def test_a_second_signal_ends_all_at_once(start_server: StartServer) -> None:
    with start_server(ONE_MODEL, models=(CHAT_MODEL,)) as server:
        async with calling(server, COMPLETIONS, endless(stream=True, max_tokens=3000)) as caller:
            await caller.until(b"data: {")
            running = [child.pid for child in (await children(server)).values() if child.pid is not None]
            server.process.send_signal(signal.SIGTERM)
            await draining(server)
            server.process.send_signal(signal.SIGTERM)
            assert await ended(server, within_s=3) == 0
            assert not any(map(alive, running))
            assert not (await caller.end()).complete
