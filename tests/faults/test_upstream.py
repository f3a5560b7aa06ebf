"""What goes wrong between us and a model server: each becomes one of our errors, and nothing is left open."""

import asyncio
import contextlib
import socket
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from narthex.core.errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from narthex.testing.scripted import (
    CUT,
    HANG,
    RESET,
    Reply,
    ScriptedUpstream,
    chunked,
    head,
    response,
    sse,
    stream_head,
)
from narthex.upstream.address import Address
from narthex.upstream.client import Clocks, UpstreamClient

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

HANG_UP_S = 0.1
OK = Reply(response(b"ok"))


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Either loop."""
    return "asyncio", {"use_uvloop": request.param}


@asynccontextmanager
async def serving(*replies: Reply, **settings: Any) -> AsyncIterator[tuple[ScriptedUpstream, UpstreamClient]]:
    async with ScriptedUpstream(*replies) as upstream:
        client = UpstreamClient(Address.parse(upstream.url), **settings)
        try:
            yield upstream, client
            assert not client._pool._lent
        finally:
            await client.aclose()


async def got(client: UpstreamClient, body: bytes = b"{}", clocks: Clocks = Clocks()) -> bytes:  # noqa: B008
    async with client.send("POST", "/", body, clocks=clocks) as answer:
        return await answer.read()


async def seen(upstream: ScriptedUpstream, number: int = 1) -> None:
    deadline_s = time.monotonic() + 60
    while len(upstream.requests) < number:
        assert time.monotonic() < deadline_s, "the request never came"
        await asyncio.sleep(0.001)


# --- answers that can't be used


@pytest.mark.parametrize(
    ("steps", "error"),
    [
        pytest.param([CUT], UpstreamUnavailable, id="closed before an answer"),
        pytest.param([RESET], UpstreamUnavailable, id="reset before an answer"),
        pytest.param([b"HTTP/1.1 200 OK\r\ncont", CUT], UpstreamProtocolError, id="cut in the headers"),
        pytest.param([head("content-length: 5") + b"he", CUT], UpstreamProtocolError, id="cut in a body with length"),
        pytest.param([stream_head() + b"5\r\nhe", CUT], UpstreamProtocolError, id="cut in a chunk"),
        pytest.param([stream_head() + chunked(b"he", end=False), CUT], UpstreamProtocolError, id="cut between chunks"),
        pytest.param([b"SSH-2.0-OpenSSH\r\n", HANG], UpstreamProtocolError, id="garbage"),
        pytest.param([b"\0\0\0", HANG], UpstreamProtocolError, id="zeros"),
        pytest.param([b"HTTP/1.1 abc\r\n\r\n", HANG], UpstreamProtocolError, id="no status"),
        pytest.param([stream_head() + b"xyz\r\n", HANG], UpstreamProtocolError, id="bad chunk size"),
        pytest.param([head("content-length: -1"), HANG], UpstreamProtocolError, id="bad length"),
        pytest.param([head("content-length: 1", "content-length: 2"), HANG], UpstreamProtocolError, id="two lengths"),
        pytest.param([head("connection: upgrade", "upgrade: x", status=101), HANG], UpstreamProtocolError, id="101"),
        pytest.param([head("x-a: " + "a" * 70_000), HANG], UpstreamProtocolError, id="one large header"),
        pytest.param([head(*["x-a: " + "a" * 1000] * 70), HANG], UpstreamProtocolError, id="many headers"),
        pytest.param(
            [b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40_000, b"a" * 40_000, HANG], UpstreamProtocolError, id="endless"
        ),
        pytest.param([b"HTTP/1.1 103 Early\r\n\r\n" * 4000, HANG], UpstreamProtocolError, id="endless interim"),
        pytest.param(
            [stream_head() + b"1\r\na\r\n0\r\nx: ", b"a" * 300_000, HANG], UpstreamProtocolError, id="trailers"
        ),
    ],
)
async def test_a_bad_answer(steps: list[Any], error: type[UpstreamError]) -> None:
    async with serving(Reply(*steps), OK) as (upstream, client):
        with pytest.raises(error) as caught:
            await got(client)
        assert type(caught.value) is error
        await asyncio.wait_for(upstream.peers[0].closed.wait(), 60)
        assert await got(client) == b"ok"


async def test_a_reset_in_the_body_comes_after_what_was_received() -> None:
    go = asyncio.Event()
    reply = Reply(stream_head(), sse(b"1"), go, RESET)
    async with serving(reply) as (_, client), client.send("POST", "/", b"{}") as answer:
        assert await answer.receive() == b"data: 1\n\n"
        go.set()
        for _ in range(2):  # an error is never followed by an end
            with pytest.raises(UpstreamUnavailable):
                await answer.receive()


async def test_a_broken_chunk_after_good_ones_is_no_end() -> None:
    bad = Reply(stream_head() + chunked(b"good", end=False) + b"xyz\r\n", HANG)
    async with serving(bad) as (_, client), client.send("POST", "/", b"{}") as answer:
        assert await answer.receive() == b"good"
        with pytest.raises(UpstreamProtocolError):
            await answer.receive()


async def test_the_cause_stays_attached() -> None:
    async with serving(Reply(RESET)) as (_, client):
        with pytest.raises(UpstreamUnavailable) as caught:
            await got(client)
    assert isinstance(caught.value.__cause__, ConnectionResetError)


async def test_an_answer_before_the_request_is_no_answer_to_the_next_one() -> None:
    async with serving(Reply(response(b"too early"), when="connected"), OK) as (_, client):
        with contextlib.suppress(UpstreamUnavailable):  # it depends on the turn in which it comes
            assert await got(client) == b"too early"
        assert await got(client) == b"ok"


# --- no connection


async def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: refuses
        for url in (f"http://127.0.0.1:{taken.getsockname()[1]}", f"unix:{tmp_path}/none.sock"):
            client = UpstreamClient(Address.parse(url), max_connections=1)
            for _ in range(2):  # the place was given back
                with pytest.raises(UpstreamUnavailable):
                    await got(client)
            assert client._pool._taken == 0


async def test_a_name_that_does_not_resolve() -> None:
    client = UpstreamClient(Address.parse("http://no-such-host.invalid"))
    with pytest.raises(UpstreamUnavailable):
        await got(client, clocks=Clocks(connect_s=30))


async def test_connecting_takes_too_long() -> None:
    with socket.socket() as full, socket.socket() as first:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        first.connect(full.getsockname())
        client = UpstreamClient(Address.parse(f"http://127.0.0.1:{full.getsockname()[1]}"))
        with pytest.raises(UpstreamTimeout):
            await got(client, clocks=Clocks(connect_s=0.05))
        assert client._pool._taken == 0


async def test_a_server_that_speaks_no_tls() -> None:
    async with ScriptedUpstream(Reply(b"HTTP/1.1 400 Bad\r\n\r\n", HANG, when="connected")) as upstream:
        client = UpstreamClient(Address.parse(upstream.url.replace("http:", "https:")))
        with pytest.raises(UpstreamUnavailable) as caught:
            await got(client)
        assert isinstance(caught.value.__cause__, ssl.SSLError | OSError)


# --- clocks


@pytest.mark.parametrize("steps", [[HANG], [b"HTTP/1.1 200 OK\r\n", HANG], [b"HTTP/1.1 100 Continue\r\n\r\n", HANG]])
async def test_a_server_that_never_answers(steps: list[Any]) -> None:
    async with serving(Reply(*steps)) as (upstream, client):
        with pytest.raises(UpstreamTimeout):
            await got(client, clocks=Clocks(first_byte_s=0.05))
        await asyncio.wait_for(upstream.peers[0].closed.wait(), 60)


async def test_a_reused_connection_that_never_answers_is_not_asked_twice() -> None:
    async with serving(OK, Reply(HANG)) as (upstream, client):
        await got(client)
        with pytest.raises(UpstreamTimeout):
            await got(client, clocks=Clocks(first_byte_s=0.05))
        assert len(upstream.requests) == 2


async def test_a_server_that_stops_in_the_body() -> None:
    async with serving(Reply(stream_head(), sse(b"1"), HANG)) as (upstream, client):
        with pytest.raises(UpstreamTimeout):
            await got(client, clocks=Clocks(first_byte_s=5, idle_s=0.05))
        await asyncio.wait_for(upstream.peers[0].closed.wait(), 60)


async def test_the_idle_clock_starts_anew_with_each_piece_and_rests_while_nobody_reads() -> None:
    steps = [asyncio.Event() for _ in range(5)]
    pieces = [part for step in steps for part in (step, sse(b"x"))]
    async with serving(Reply(stream_head(), *pieces, HANG)) as (_, client):
        began_s = time.monotonic()
        async with client.send("POST", "/", b"{}", clocks=Clocks(idle_s=0.3)) as answer:
            for step in steps:
                await asyncio.sleep(0.1)  # the reader's own time: not the peer's silence
                asyncio.get_running_loop().call_later(0.05, step.set)
                assert await answer.receive() == b"data: x\n\n"
            assert time.monotonic() - began_s > 0.3
            with pytest.raises(UpstreamTimeout):
                await answer.receive()


async def test_the_idle_clock_begins_with_the_body() -> None:
    thinks = asyncio.Event()
    async with serving(Reply(stream_head(), thinks, sse(b"x"), HANG)) as (upstream, client):
        async with client.send("POST", "/", b"{}", clocks=Clocks(idle_s=0.05)) as answer:
            asyncio.get_running_loop().call_later(0.2, thinks.set)
            assert await answer.receive() == b"data: x\n\n"
            with pytest.raises(UpstreamTimeout):
                await answer.receive()
        await asyncio.wait_for(upstream.peers[0].closed.wait(), 60)


async def test_waiting_for_a_connection_counts() -> None:
    async with serving(Reply(HANG), max_connections=1) as (upstream, client):
        first = asyncio.ensure_future(got(client))
        await seen(upstream)
        with pytest.raises(UpstreamTimeout):
            await got(client, clocks=Clocks(first_byte_s=0.05))
        first.cancel()
        await asyncio.wait([first])


async def test_a_server_that_takes_no_body() -> None:
    async with serving(Reply(HANG, reads=False)) as (_, client):
        with pytest.raises(UpstreamTimeout):
            await got(client, bytes(16 * 1024 * 1024), Clocks(first_byte_s=0.1))


# --- answers before the request's body is through


@pytest.mark.parametrize("steps", [[], [CUT]])
async def test_an_early_refusal(steps: list[Any]) -> None:
    refusal = response(b"too large", status=413, headers=("connection: close",))
    async with serving(Reply(refusal, *steps, when="headers", reads=False), OK) as (_, client):
        async with client.send("POST", "/", bytes(16 * 1024 * 1024)) as answer:
            assert answer.status == 413
            assert await answer.read() == b"too large"
        assert await got(client) == b"ok"


async def test_an_early_answer_that_keeps_the_connection_does_not_reuse_it() -> None:
    async with serving(Reply(response(b"no", status=413), when="headers", reads=False), OK) as (upstream, client):
        async with client.send("POST", "/", bytes(16 * 1024 * 1024)) as answer:
            assert await answer.read() == b"no"
        assert await got(client) == b"ok"
        assert len(upstream.peers) == 2


async def test_an_answer_that_streams_while_the_request_is_being_sent() -> None:
    body = bytes(4 * 1024 * 1024)
    async with serving(Reply(response(b"fine"), when="headers")) as (upstream, client):
        async with client.send("POST", "/", body) as answer:
            assert await answer.read() == b"fine"
            deadline_s = time.monotonic() + 60
            while not upstream.requests[0].complete:
                assert time.monotonic() < deadline_s
                await asyncio.sleep(0.001)
        assert upstream.requests[0].body == body


# --- connections that the server closed meanwhile


@pytest.mark.parametrize("end", [CUT, RESET])
async def test_a_connection_closed_while_idle_is_not_used(end: Any) -> None:
    go = asyncio.Event()
    async with serving(Reply(response(b"ok"), go, end), OK) as (upstream, client):
        await got(client)
        go.set()
        await asyncio.wait_for(upstream.peers[0].closed.wait(), 60)
        assert await got(client) == b"ok"


@pytest.mark.parametrize("end", [CUT, RESET])
async def test_a_request_on_a_used_connection_that_closes_unanswered_is_sent_once_more(end: Any) -> None:
    async with serving(OK, Reply(end), Reply(response(b"again"))) as (upstream, client):
        await got(client)
        assert await got(client) == b"again"
        assert [request.peer for request in upstream.requests] == [0, 0, 1]


async def test_but_only_once() -> None:
    async with serving(OK, Reply(CUT), max_connections=1) as (upstream, client):
        await got(client)
        with pytest.raises(UpstreamUnavailable):
            await got(client)
        assert len(upstream.requests) == 3
        assert client._pool._taken == 0


async def test_nor_when_the_answer_had_begun() -> None:
    async with serving(OK, Reply(b"H", CUT)) as (upstream, client):
        await got(client)
        with pytest.raises(UpstreamProtocolError):
            await got(client)
        assert len(upstream.requests) == 2


async def test_nor_on_a_new_connection() -> None:
    async with serving(Reply(CUT)) as (upstream, client):
        with pytest.raises(UpstreamUnavailable):
            await got(client)
        assert len(upstream.requests) == 1


async def test_the_server_is_gone_when_it_is_tried_again() -> None:
    async with serving(OK, Reply(HANG), max_connections=1) as (upstream, client):
        await got(client)
        second = asyncio.ensure_future(got(client))
        await seen(upstream, 2)
        await upstream.aclose()
        with pytest.raises(UpstreamUnavailable):
            await second
        assert client._pool._taken == 0


# --- hanging up


async def hung_up(upstream: ScriptedUpstream, since_s: float) -> None:
    await asyncio.wait_for(upstream.peers[0].closed.wait(), 60)
    closed_at_s = upstream.peers[0].closed_at_s
    assert closed_at_s is not None
    assert closed_at_s - since_s < HANG_UP_S


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([HANG], id="before the answer"),
        pytest.param([stream_head(), HANG], id="after the headers"),
        pytest.param([stream_head(), sse(b"1"), HANG], id="in the body"),
        pytest.param([stream_head(), *[sse(bytes(60_000))] * 40, HANG], id="with much unread"),
    ],
)
async def test_a_cancelled_caller_closes_the_connection_at_once(steps: list[Any]) -> None:
    async with serving(Reply(*steps), max_connections=1) as (upstream, client):
        received = asyncio.Event()

        async def stream() -> None:
            async with client.send("POST", "/", b"{}") as answer:
                async for _ in answer.chunks():
                    received.set()

        caller = asyncio.ensure_future(stream())
        await seen(upstream)
        if len(steps) > 2:
            await received.wait()
        since_s = time.monotonic()
        caller.cancel()
        await hung_up(upstream, since_s)
        await asyncio.wait([caller])
        assert caller.cancelled()
        assert client._pool._taken == 0


async def test_leaving_the_block_early_closes_the_connection_at_once() -> None:
    async with serving(Reply(stream_head(), sse(b"1"), HANG)) as (upstream, client):
        async with client.send("POST", "/", b"{}") as answer:
            await answer.receive()
            since_s = time.monotonic()
        await hung_up(upstream, since_s)


async def test_cancelled_while_a_large_body_is_being_sent() -> None:
    async with serving(Reply(HANG, when="headers")) as (upstream, client):
        caller = asyncio.ensure_future(got(client, bytes(16 * 1024 * 1024)))
        await seen(upstream)
        since_s = time.monotonic()
        caller.cancel()
        await hung_up(upstream, since_s)
        await asyncio.wait([caller])


async def test_cancelled_at_every_turn_of_the_loop() -> None:
    async with serving(Reply(response(b"ok")), max_connections=2) as (_, client):
        for turns in range(30):
            caller = asyncio.ensure_future(got(client))
            for _ in range(turns):
                await asyncio.sleep(0)
            caller.cancel()
            await asyncio.wait([caller])
            assert not client._pool._lent
        assert client._pool._taken == len(client._pool._idle)
        assert await got(client) == b"ok"
