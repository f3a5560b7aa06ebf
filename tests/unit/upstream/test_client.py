"""The client against a scripted server: framing, requests, pooling, clocks."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from narthex.core.errors import UpstreamProtocolError, UpstreamUnavailable
from narthex.testing.scripted import CUT, END, HANG, Reply, ScriptedUpstream, chunked, head, response, sse, stream_head
from narthex.upstream.address import Address
from narthex.upstream.client import Clocks, UpstreamClient, UpstreamResponse

pytestmark = pytest.mark.anyio

OK = Reply(response(b"ok"))


@asynccontextmanager
async def serving(
    *replies: Reply, unix: Path | None = None, **settings: Any
) -> AsyncIterator[tuple[ScriptedUpstream, UpstreamClient]]:
    async with ScriptedUpstream(*replies, unix=unix) as upstream:
        client = UpstreamClient(Address.parse(upstream.url), **settings)
        try:
            yield upstream, client
        finally:
            await client.aclose()


async def got(client: UpstreamClient, method: str = "POST", body: bytes | None = b"{}") -> bytes:
    async with client.send(method, "/", body) as answer:
        return await answer.read()


# --- framing


@pytest.mark.parametrize(
    ("raw", "body"),
    [
        pytest.param(response(b"hello"), b"hello", id="length"),
        pytest.param(response(b""), b"", id="length 0"),
        pytest.param(head("Transfer-Encoding: chunked") + chunked(b"he", b"llo"), b"hello", id="chunked"),
        pytest.param(
            head("transfer-encoding: chunked") + b"5;a=b\r\nhello\r\n0\r\nx-t: 1\r\n\r\n", b"hello", id="trailers"
        ),
        pytest.param(response(b"", status=204)[: -0 or None], b"", id="204"),
        pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", b"", id="204 without length"),
        pytest.param(b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b"", id="304 with a length"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"hello"), b"hello", id="100"),
        pytest.param(b"HTTP/1.1 103 Early\r\nlink: a\r\n\r\n" * 2 + response(b"hello"), b"hello", id="103 twice"),
        pytest.param(b"\r\n" + response(b"hello"), b"hello", id="blank line first"),
        pytest.param(b"HTTP/1.1 200\r\ncontent-length: 5\r\n\r\nhello", b"hello", id="no reason"),
    ],
)
async def test_bodies(raw: bytes, body: bytes) -> None:
    async with serving(Reply(raw), OK) as (_, client):
        assert await got(client) == body
        assert await got(client) == b"ok"


@pytest.mark.parametrize("raw", [head() + b"hello", head("transfer-encoding: gzip") + b"hello"])
async def test_a_body_that_ends_with_the_connection(raw: bytes) -> None:
    async with serving(Reply(raw, CUT), OK) as (upstream, client):
        assert await got(client) == b"hello"
        assert await got(client) == b"ok"
        assert len(upstream.peers) == 2


@pytest.mark.parametrize(
    "raw", [b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", response(b"ok", headers=("connection: close",))]
)
async def test_a_server_that_does_not_keep_the_connection(raw: bytes) -> None:
    async with serving(Reply(raw)) as (upstream, client):
        assert [await got(client), await got(client)] == [b"ok", b"ok"]
        assert len(upstream.peers) == 2


async def test_head_has_no_body_whatever_its_length_says() -> None:
    async with serving(Reply(head("content-length: 5")), OK) as (upstream, client):
        async with client.send("HEAD", "/") as answer:
            assert answer.header(b"content-length") == b"5"
            assert answer.header(b"x-none") is None
            assert await answer.read() == b""
        assert await got(client) == b"ok"
        assert upstream.requests[0].method == "HEAD"


async def test_a_body_after_head_is_never_the_next_answer() -> None:
    async with serving(Reply(response(b"hello")), OK) as (_, client):
        assert await got(client, "HEAD", None) == b""
        assert await got(client) == b"ok"


async def test_headers_keep_their_order_and_lose_their_case() -> None:
    reply = Reply(response(b"", headers=("X-B: 1", "x-a:2", "X-b: 3 ")))
    async with serving(reply) as (_, client), client.send("GET", "/") as answer:
        assert answer.headers == [(b"content-length", b"0"), (b"x-b", b"1"), (b"x-a", b"2"), (b"x-b", b"3")]
        assert answer.header(b"x-b") == b"1"


@pytest.mark.parametrize(
    "raw", [response(b"ok") + response(b"smuggled"), response(b"ok") + b"HTTP/1", response(b"ok") + b"\0"]
)
async def test_bytes_after_an_answer_are_never_the_next_one(raw: bytes) -> None:
    async with serving(Reply(raw), Reply(response(b"second"))) as (upstream, client):
        assert await got(client) == b"ok"
        assert await got(client) == b"second"
        assert len(upstream.peers) == 2


async def test_bytes_on_an_idle_connection_close_it() -> None:
    late = asyncio.Event()
    async with serving(Reply(response(b"ok"), late, response(b"smuggled")), Reply(response(b"second"))) as (
        upstream,
        client,
    ):
        assert await got(client) == b"ok"
        late.set()
        await upstream.peers[0].closed.wait()
        assert await got(client) == b"second"


async def test_chunks_come_as_they_are_sent() -> None:
    go = asyncio.Event()
    async with serving(Reply(stream_head(), sse(b"1"), go, sse(b"2"), END)) as (_, client):
        async with client.send("POST", "/", b"{}") as answer:
            pieces = []
            async for piece in answer.chunks():
                pieces.append(piece)
                go.set()
        assert pieces == [b"data: 1\n\n", b"data: 2\n\n"]


async def test_read_has_a_limit() -> None:
    async with serving(Reply(response(b"x" * 100))) as (_, client), client.send("GET", "/") as answer:
        with pytest.raises(UpstreamProtocolError):
            await answer.read(limit=99)


async def test_a_response_is_of_no_use_after_its_block() -> None:
    async with serving(OK) as (_, client):
        async with client.send("GET", "/") as answer:
            pass
        with pytest.raises(RuntimeError):
            await answer.receive()


# --- requests


async def test_what_is_sent() -> None:
    async with serving(OK, headers={"Authorization": "Bearer secret", "x-a": "1"}) as (upstream, client):
        async with client.send("POST", "/v1/x?y=%20", b'{"a":1}', headers=[("X-A", "2"), ("x-c", "é")]) as answer:
            assert answer.status == 200
        await got(client, "GET", None)
        await got(client, "POST", None)
        first, get, empty = upstream.requests
        assert (first.method, first.target, first.body) == ("POST", "/v1/x?y=%20", b'{"a":1}')
        assert first.headers["host"] == f"127.0.0.1:{upstream.port}"
        assert first.headers["accept-encoding"] == "identity"
        assert first.headers["authorization"] == "Bearer secret"
        assert first.headers["content-type"] == "application/json"
        assert (first.headers["x-a"], first.headers["x-c"]) == ("2", "é")
        assert "content-length" not in get.headers
        assert "content-type" not in get.headers
        assert get.headers["x-a"] == "1"
        assert empty.headers["content-length"] == "0"
        assert "secret" not in f"{client!r} {vars(client)['_address']!r}"


async def test_base_path_user_and_own_content_type() -> None:
    async with ScriptedUpstream(OK) as upstream:
        address = Address.parse(f"http://u:p@127.0.0.1:{upstream.port}/base/")
        client = UpstreamClient(address, headers={"content-type": "text/plain"})
        await got(client)
        async with client.send("POST", "/", b"x", headers=[("content-type", "a/b"), ("authorization", "mine")]):
            pass
        await client.aclose()
        first, second = upstream.requests
        assert first.target == "/base/"
        assert first.headers["authorization"] == "Basic dTpw"
        assert first.headers["content-type"] == "text/plain"
        assert (second.headers["content-type"], second.headers["authorization"]) == ("a/b", "mine")


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        ("GET /", "/", []),
        ("GET", "x", []),
        ("GET", "/a b", []),
        ("GET", "/\r\nx: y", []),
        ("GET", "/é", []),
        ("GET", "/", [("x\r\ny", "1")]),
        ("GET", "/", [("x", "1\r\ny: 2")]),
        ("GET", "/", [("x", "1\0")]),
        ("GET", "/", [("x", "€")]),
        ("GET", "/", [("Host", "a")]),
        ("GET", "/", [("Transfer-Encoding", "chunked")]),
        ("GET", "/", [("", "a")]),
    ],
)
async def test_what_can_not_be_sent(method: str, path: str, headers: list[tuple[str, str]]) -> None:
    client = UpstreamClient(Address.parse("http://127.0.0.1:9"))
    with pytest.raises(ValueError, match="not a"):
        client.send(method, path, headers=headers)


def test_a_secret_header_that_can_not_be_sent_is_not_shown() -> None:
    with pytest.raises(ValueError, match="x-key") as caught:
        UpstreamClient(Address.parse("http://127.0.0.1:9"), headers={"x-key": "se\ncret"})
    assert "cret" not in str(caught.value)


async def test_a_unix_socket(tmp_path: Path) -> None:
    async with serving(OK, unix=tmp_path / "a.sock") as (upstream, client):
        assert await got(client) == b"ok"
        assert upstream.requests[0].headers["host"] == "localhost"


@pytest.mark.parametrize("size", [256 * 1024 + 1, 16 * 1024 * 1024])
async def test_a_large_body_arrives_whole(size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"!"
    async with serving(OK) as (upstream, client):
        assert [await got(client, body=body), await got(client)] == [b"ok", b"ok"]
        assert upstream.requests[0].body == body
        assert len(upstream.peers) == 1


async def test_a_large_body_is_not_copied_into_the_transport() -> None:
    async with serving(Reply(HANG, reads=False), max_connections=1) as (upstream, client):
        request = asyncio.ensure_future(got(client, body=bytes(16 * 1024 * 1024)))
        while not upstream.requests:
            await asyncio.sleep(0.001)
        (connection,) = client._pool._lent
        assert connection._transport is not None
        assert connection._transport.get_write_buffer_size() <= 1024 * 1024
        request.cancel()
        await asyncio.wait([request])


# --- the pool


async def test_connections_are_used_again_the_last_one_first() -> None:
    async with serving(OK) as (upstream, client):
        await asyncio.gather(*(got(client) for _ in range(3)))
        await got(client)
        assert len(upstream.peers) == 3
        last = upstream.requests[-1].peer
        await got(client)
        assert upstream.requests[-1].peer == last


async def test_an_answer_that_nobody_read_leaves_the_connection_usable_if_it_is_here() -> None:
    async with serving(OK) as (upstream, client):
        async with client.send("GET", "/"):
            pass
        assert await got(client) == b"ok"
        assert len(upstream.peers) == 1


async def test_the_bound_and_the_order_of_waiters() -> None:
    go = asyncio.Event()
    async with serving(Reply(go, response(b"ok")), max_connections=2) as (upstream, client):
        order: list[int] = []

        async def ask(number: int) -> None:
            await got(client)
            order.append(number)

        tasks = []
        for number in range(6):
            tasks.append(asyncio.ensure_future(ask(number)))
            await asyncio.sleep(0)
        tasks[3].cancel()
        go.set()
        await asyncio.wait(tasks)
        assert [number for number in order if number > 1] == [2, 4, 5]
        assert len(upstream.peers) == 2
        assert client._pool._taken == 2


async def test_a_place_that_becomes_free_goes_to_the_first_waiter() -> None:
    close = response(b"ok", headers=("connection: close",))
    async with serving(Reply(close), max_connections=1) as (upstream, client):
        assert await asyncio.gather(*(got(client) for _ in range(4))) == [b"ok"] * 4
        assert len(upstream.peers) == 4
        assert client._pool._taken == 0


@pytest.mark.parametrize("keeps", [True, False])
async def test_what_is_handed_to_a_waiter_in_the_turn_of_its_cancellation_is_not_lost(keeps: bool) -> None:
    reply = OK if keeps else Reply(response(b"ok", headers=("connection: close",)))
    async with serving(reply, max_connections=1) as (_, client):
        waiting: asyncio.Task[bytes]
        async with client.send("GET", "/") as answer:
            waiting = asyncio.ensure_future(got(client))
            await answer.read()
            await asyncio.sleep(0)
        waiting.cancel()  # the block's end has just handed over
        await asyncio.wait([waiting])
        assert waiting.cancelled()
        assert await got(client) == b"ok"


async def test_idle_connections_expire() -> None:
    async with serving(OK, keepalive_s=0.05) as (upstream, client):
        await asyncio.gather(got(client), got(client))
        for peer in upstream.peers:
            await peer.closed.wait()
        assert not client._pool._idle
        assert client._pool._taken == 0
        await got(client)
        assert len(upstream.peers) == 3


async def test_an_expired_connection_is_not_used_even_before_it_is_swept() -> None:
    async with serving(OK) as (upstream, client):
        await got(client)
        client._pool._idle[0].idle_since_s -= 31
        client._pool._sweep()
        await got(client)
        client._pool._idle[0].idle_since_s -= 31
        await got(client)
        client._pool._sweep()
        assert len(upstream.peers) == 3


async def test_retire_lets_running_requests_end() -> None:
    go = asyncio.Event()
    async with serving(OK, Reply(go, response(b"late")), max_connections=1) as (upstream, client):
        await got(client)
        running = asyncio.ensure_future(got(client))
        await asyncio.sleep(0)
        waiting = asyncio.ensure_future(got(client))
        await asyncio.sleep(0)
        client.retire()
        with pytest.raises(UpstreamUnavailable):
            await waiting
        with pytest.raises(UpstreamUnavailable):
            await got(client)
        go.set()
        assert await running == b"late"
        await upstream.peers[0].closed.wait()


async def test_closing_ends_running_requests_and_idle_connections() -> None:
    async with serving(OK, OK, Reply(HANG)) as (upstream, client):
        await asyncio.gather(got(client), got(client))
        running = asyncio.ensure_future(got(client))
        while len(upstream.requests) < 3:
            await asyncio.sleep(0.001)
        await client.aclose()
        with pytest.raises(UpstreamUnavailable):
            await running
        for peer in upstream.peers:
            await peer.closed.wait()


async def test_closing_while_a_connection_is_being_made() -> None:
    async with serving(OK) as (_, client):
        running = asyncio.ensure_future(got(client))
        await asyncio.sleep(0)
        client.retire()
        with pytest.raises(UpstreamUnavailable):
            await running


# --- reading slowly


async def test_a_slow_reader_stops_the_peer() -> None:
    size = 16 * 1024 * 1024
    async with serving(Reply(head(f"content-length: {size}"), *[bytes(65536)] * (size // 65536)), OK) as (
        upstream,
        client,
    ):
        async with client.send("GET", "/", clocks=Clocks(idle_s=5)) as answer:
            await upstream.peers[0].paused.wait()
            (connection,) = client._pool._lent
            assert connection._held < 1024 * 1024
            assert len(await answer.read()) == size
        assert await got(client) == b"ok"
        assert len(upstream.peers) == 1


async def test_an_answer_that_is_complete_but_paused_can_be_left() -> None:
    size = 300 * 1024
    async with serving(Reply(response(bytes(size))), OK) as (_, client):
        async with client.send("GET", "/") as answer:
            (connection,) = client._pool._lent
            while not connection._complete and not connection._read_paused:
                await asyncio.sleep(0.001)
            assert isinstance(answer, UpstreamResponse)
        assert await got(client) == b"ok"
