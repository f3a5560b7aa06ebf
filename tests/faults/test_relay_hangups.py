"""Callers who leave while somebody elsewhere works for them: whoever that is, is left as well, and at once."""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.callers import CHAT, COMPLETIONS, EMBEDDINGS, calling, connected
from tests.pace import soon
from tests.served_gateway import HELLO, ROLE, chat, chunk, config, gateway, refusing, saying, serving, started, text
from tests.server_inside import until
from tests.server_process import Server, StartServer

from narthex.testing.scripted import CUT, END, HANG, Peer, Reply, ScriptedUpstream, head, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio

TYPES = {"one": "vllm", "two": "vllm", "claude": "anthropic"}
WAYS = pytest.mark.parametrize("reset", [False, True], ids=["fin", "rst"])
STREAMED = pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
RESCUED = {(begun, reset): f"rescued {begun} {reset}" for begun in (False, True) for reset in (False, True)}
"""A name for each case: whoever breaks off too often is not asked first any more."""

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


def models() -> list[dict[str, Any]]:
    quick = {"attempts": 2, "backoff": 0.01, "cooldown": 0.01}
    return [
        {"name": "plain", "deployments": ["one/plain"], "retry": {"attempts": 1}},
        {"name": "many", "deployments": ["claude/many"], "retry": {"attempts": 1}},
        {"name": "again", "deployments": ["one/again"], "retry": {"attempts": 3, "backoff": 5}},
        {"name": "next", "deployments": ["one/next", "two/next"], "retry": quick},
        *(
            {"name": name, "deployments": [f"one/{name}", f"two/{name}"], "retry": quick, "rescue": True}
            for name in RESCUED.values()
        ),
    ]


@pytest.fixture(scope="module")
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    with gateway(start_server, config(folder, TYPES, models())) as running:
        yield running


BODIES: dict[str, dict[str, Any]] = {
    CHAT: {"messages": HELLO},
    COMPLETIONS: {"prompt": "Hello"},
    EMBEDDINGS: {"input": "Hello"},
}
TEXT = json.dumps({"id": "x", "choices": [{"index": 0, "text": "a", "finish_reason": None}]}).encode()
BEGUN = {CHAT: sse(ROLE, chunk({"content": "a"})), COMPLETIONS: sse(TEXT)}
HALF = head("content-type: application/json", "content-length: 1000") + b'{"id":"x","choices":[{"index":0,'


async def left_s(
    server: Server, path: str, body: dict[str, Any], *, working: Callable[[], list[Peer]], seen: bytes, reset: bool
) -> float:
    """How long after the caller those who work for them are left. `working`: who they are, once they do.

    `seen`: what the caller has of the answer before they leave.
    """
    known = len(working())

    async def work() -> bool:
        return len(working()) > known

    async with calling(server, path, body) as caller:
        await until(work)
        if seen:
            await caller.until(seen)
        peers = working()[known:]
        assert not any(peer.closed.is_set() for peer in peers)
        left_at_s = time.monotonic()
        caller.leave(reset=reset)
        async with asyncio.timeout(60):
            for peer in peers:
                await peer.closed.wait()
    return max(peer.closed_at_s or 0.0 for peer in peers) - left_at_s


async def at_once(attempt: Callable[[], Awaitable[float]]) -> None:
    """Within 100 ms, twice: other programs may hold some attempts up."""
    await soon(attempt, within_s=0.1, times=2)


def asked(upstream: ScriptedUpstream, *, each: int = 1) -> Callable[[], list[Peer]]:
    """The connections on which something was asked; `each`: so many together."""

    def working() -> list[Peer]:
        complete = [request for request in upstream.requests if request.complete]
        return [upstream.peers[request.peer] for request in complete[: len(complete) // each * each]]

    return working


@WAYS
@pytest.mark.parametrize("begun", [False, True], ids=["before", "after"])
@pytest.mark.parametrize(
    ("path", "stream"), [(CHAT, True), (CHAT, False), (COMPLETIONS, True), (COMPLETIONS, False), (EMBEDDINGS, False)]
)
async def test_whoever_answers_is_left(
    server: Server, folder: Path, path: str, *, stream: bool, begun: bool, reset: bool
) -> None:
    """Before and after the first word of a stream; before and in the middle of a document."""
    first = [] if not begun else [stream_head(), BEGUN[path]] if stream else [HALF]
    body = {"model": "plain", **BODIES[path], **({"stream": True} if stream else {})}
    seen = b"data: {" if stream and begun else b""
    async with serving(folder, "one", Reply(*first, HANG)) as one:

        async def attempt() -> float:
            return await left_s(server, path, body, working=asked(one), seen=seen, reset=reset)

        await at_once(attempt)


EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "a"}},
]


@WAYS
@STREAMED
@pytest.mark.parametrize("begun", [False, True], ids=["before", "after"])
async def test_all_who_work_on_several_choices_are_left(
    server: Server, folder: Path, *, stream: bool, begun: bool, reset: bool
) -> None:
    first = [stream_head(), sse(*(json.dumps(each).encode() for each in EVENTS))] if begun else []
    body = {"model": "many", "messages": HELLO, "n": 3, "stream": stream}
    async with serving(folder, "claude", Reply(*first, HANG)) as claude:

        async def attempt() -> float:
            seen = b'"content":"a"' if stream and begun else b""
            working = asked(claude, each=3)
            return await left_s(server, CHAT, body, working=working, seen=seen, reset=reset)

        await at_once(attempt)
        assert len(claude.requests) % 3 == 0


@WAYS
@STREAMED
async def test_the_next_in_order_is_left(server: Server, folder: Path, *, stream: bool, reset: bool) -> None:
    body = {"model": "next", "messages": HELLO, "stream": stream}
    async with serving(folder, "one", refusing(500)) as one, serving(folder, "two", Reply(HANG)) as two:

        async def attempt() -> float:
            return await left_s(server, CHAT, body, working=asked(two), seen=b"", reset=reset)

        await at_once(attempt)
        assert one.requests


def left_lines(server: Server) -> int:
    return sum(line.get("outcome") == "caller left" for line in server.log_lines())


@WAYS
@STREAMED
async def test_nobody_is_asked_after_a_wait_in_which_the_caller_left(
    server: Server, folder: Path, *, stream: bool, reset: bool
) -> None:
    body = {"model": "again", "messages": HELLO, "stream": stream}
    async with serving(folder, "one", refusing(429, "retry-after: 5")) as one:
        before = left_lines(server)

        async def refused() -> bool:
            return len([line for line in server.log_lines() if line["event"] == "an attempt failed"]) > failures

        async def over() -> bool:
            return left_lines(server) > before

        failures = len([line for line in server.log_lines() if line["event"] == "an attempt failed"])
        async with calling(server, CHAT, body) as caller:
            await until(refused)
            caller.leave(reset=reset)
            assert await until(over) < 1
        assert len(one.requests) == 1


@WAYS
@pytest.mark.parametrize("begun", [False, True], ids=["before", "after"])
async def test_whoever_goes_on_with_a_broken_stream_is_left(
    server: Server, folder: Path, *, begun: bool, reset: bool
) -> None:
    told = Reply(stream_head(), sse(ROLE, chunk({"content": "Once"}), chunk({"content": " upon"})), CUT)
    rest = Reply(*([stream_head(), sse(ROLE, chunk({"content": " a time"}))] if begun else []), HANG)
    body = {"model": RESCUED[begun, reset], "messages": HELLO, "stream": True}
    async with serving(folder, "one", told), serving(folder, "two", rest) as two:

        async def attempt() -> float:
            seen = b" a time" if begun else b" upon"
            return await left_s(server, CHAT, body, working=asked(two), seen=seen, reset=reset)

        await at_once(attempt)


@pytest.mark.parametrize("begun", [False, True], ids=["before", "after"])
async def test_the_server_of_an_image_is_left(start_server: StartServer, tmp_path: Path, *, begun: bool) -> None:
    first = [head("content-type: image/png", "content-length: 100000") + PNG] if begun else []
    async with ScriptedUpstream(Reply(*first, HANG)) as images, serving(tmp_path, "one", saying("Seen.")) as one:
        settings = config(tmp_path, TYPES, models()) | {"egress": {"allow": [f"127.0.0.1:{images.port}"]}}
        part = {"type": "image_url", "image_url": {"url": f"{images.url}/a.png"}}
        turn = {"role": "user", "content": [{"type": "text", "text": "What is it?"}, part]}
        async with started(start_server, settings) as server:
            for stream, reset in itertools.product((True, False), repeat=2):
                body = {"model": "plain", "messages": [turn], "stream": stream}
                leaving = partial(left_s, server, CHAT, body, working=asked(images), seen=b"", reset=reset)
                await at_once(leaving)
        assert one.requests == []


@WAYS
async def test_half_a_request_reaches_nobody(server: Server, folder: Path, *, reset: bool) -> None:
    async with serving(folder, "one", saying("Hello")) as one:
        before = left_lines(server)

        async def over() -> bool:
            return left_lines(server) > before

        async with connected(server) as caller:
            lines = f"POST {CHAT} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-api-key: {server.admin_key}\r\n"
            caller.writer.write(f"{lines}content-length: 1000000\r\n\r\n".encode() + b'{"model":"plain",')
            await caller.writer.drain()
            caller.leave(reset=reset)
            await until(over)
        assert one.requests == []
        assert text(await chat(server, "plain")) == "Hello"


async def test_those_who_stay_notice_nothing_of_those_who_leave(server: Server, folder: Path) -> None:
    """Forty callers at a time over a few connections, every other of whom leaves."""
    go = asyncio.Event()
    held = Reply(stream_head(), sse(ROLE, chunk({"content": "a"})), go, sse(chunk({"content": "b"}, "stop")), END)
    async with serving(folder, "one", held) as one:

        async def asks(number: int) -> str | None:
            body = {"model": "plain", "messages": HELLO, "stream": bool(number & 2)}
            async with calling(server, CHAT, body) as caller:
                if number & 1:
                    await until(all_asked)
                    caller.leave(reset=bool(number & 4))
                    return None
                return text(await caller.end())

        async def all_asked() -> bool:
            return len(one.requests) >= 40

        async def half_left() -> bool:
            return sum(peer.closed.is_set() for peer in one.peers) == 20

        load = [asyncio.ensure_future(asks(number)) for number in range(40)]
        await until(half_left)
        go.set()
        assert sorted(map(str, await asyncio.gather(*load))) == ["None"] * 20 + ["ab"] * 20
