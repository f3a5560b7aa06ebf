"""A caller's end of a stream, over real sockets: what is passed on, and comments where nothing is."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from uvicorn.server import ServerState

from narthex.core.stream import Frame, Splice, TextDelta
from narthex.http.asgi import EVENTS
from narthex.http.exchange import Exchange
from narthex.http.protocol import Protocol
from narthex.http.sink import CallersSink, Pings

pytestmark = pytest.mark.anyio

DEADLINE_S = 60.0
SPLICE = Splice((b'{"', b'"}'), (b'data: "', b'"\n\n'))


class Echo:
    """An encoder that writes texts as they are."""

    def encode(self, frame: Frame) -> bytes:
        return "".join(event.text for event in frame.events if isinstance(event, TextDelta)).encode()

    def alike(self, frame: Frame) -> Splice | None:
        return SPLICE

    def end(self) -> bytes:
        return b"."

    def error(self, error: Exception) -> bytes:
        return b"!"


@asynccontextmanager
async def calling(
    answers: Callable[[Exchange], Awaitable[None]],
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A caller of an application that answers so."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await answers(Exchange(scope, receive, send, request_id="req_1"))

    config = uvicorn.Config(app, http=Protocol, loop="none", ws="none", lifespan="off", log_config=None)
    config.load()
    state = ServerState()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Protocol(config, state, {}), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname()[:2])
    try:
        async with asyncio.timeout(DEADLINE_S):
            writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n")
            yield reader, writer
    finally:
        writer.close()
        server.close()


def text(words: str) -> Frame:
    return Frame.of(TextDelta(0, words))


def sink_of(exchange: Exchange, pings: Pings) -> CallersSink:
    assert exchange.direct is not None
    return CallersSink(exchange, exchange.direct, Echo(), pings=pings, head=[EVENTS])


async def test_frames_and_events_leave_as_chunks() -> None:
    async def answers(exchange: Exchange) -> None:
        pings = Pings(exchange, every_s=1000)
        sink = sink_of(exchange, pings)
        assert sink.alike(text("a")) is None  # nothing has begun
        assert not sink.pass_on(b"1\r\nx\r\n")
        await exchange.begin(200, [EVENTS])
        await exchange.send(b"begins ")
        pings.due = True
        assert sink.take(text("one "))
        assert not pings.due
        assert sink.take(text(""))
        assert sink.alike(text("a")) is SPLICE
        assert sink.pass_on(b"4\r\ntwo \r\n")
        await exchange.send(b"ends", more=False)

    async with calling(answers) as (reader, _):
        assert (await reader.readuntil(b"\r\n0\r\n\r\n")).endswith(
            b"\r\n7\r\nbegins \r\n4\r\none \r\n4\r\ntwo \r\n4\r\nends\r\n0\r\n\r\n"
        )


@pytest.mark.parametrize("whole", [True, False])
async def test_a_caller_who_does_not_read_has_enough(whole: bool) -> None:
    full = asyncio.Event()

    async def answers(exchange: Exchange) -> None:
        with Pings(exchange, every_s=1000) as pings:
            sink = sink_of(exchange, pings)
            await exchange.begin(200, [EVENTS])
            await exchange.send(b"begins ")
            more = "x" * 0x8000
            while sink.take(text(more)) if whole else sink.pass_on(b"8000\r\n%b\r\n" % more.encode()):
                pass
            full.set()
            await exchange.send(b"and goes on", more=False)

    async with calling(answers) as (reader, writer):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await full.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert (await reader.read()).endswith(b"and goes on\r\n0\r\n\r\n")


async def test_silence_is_filled_with_comments_and_nothing_else_is() -> None:
    async def answers(exchange: Exchange) -> None:
        with Pings(exchange, every_s=1000) as pings:
            sink = sink_of(exchange, pings)
            await exchange.begin(200, [EVENTS])
            await exchange.send(b"begins ")
            for _ in range(3):
                assert sink.pass_on(b"1\r\n.\r\n")
                pings._ring()
            for _ in range(2):
                await asyncio.sleep(0)
                pings._ring()
            await asyncio.sleep(0)
        await exchange.send(b"ends", more=False)

    async with calling(answers) as (reader, _):
        answer = await reader.readuntil(b"0\r\n\r\n")
        assert answer.partition(b"begins \r\n")[2] == (
            b"1\r\n.\r\n" * 3 + b"8\r\n: ping\n\n\r\n" * 2 + b"4\r\nends\r\n0\r\n\r\n"
        )
