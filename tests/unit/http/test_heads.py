"""A head that comes again is recognised, and its request is served no otherwise than one that is parsed."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from narthex.http.asgi import DIRECT, ON_LOST, Direct
from narthex.http.heads import Head, head_of
from narthex.http.protocol import Protocol

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LINES = b"content-type: text/plain\r\ncontent-length: %d"


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


class Transport:
    """Remembers what is written; the other side takes everything."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.closed = False
        self.paused = 0

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused += 1

    def resume_reading(self) -> None:
        self.paused += 1

    def get_extra_info(self, name: str) -> Any:
        return ("127.0.0.1", 5) if name in {"peername", "sockname"} else None


class Recorder:
    """An application that answers as soon as a request is here, and what it was asked."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.heads: list[Head | None] = []

    async def __call__(self, scope: dict[str, Any], *_: Any) -> None:
        """Requests whose body comes later."""
        direct = scope["extensions"][DIRECT]
        body = b""
        while (message := await direct.receive())["type"] == "http.request":
            body += message["body"]
            if not message["more_body"]:
                self.asked.append((scope, direct.named, body))
                direct.answer(LINES % len(body), body)
                return

    def begin(self, scope: dict[str, Any], direct: Direct) -> bool:
        body = direct.whole()
        found = scope.pop("extensions")
        assert found[DIRECT] is direct
        assert found[ON_LOST] == direct.on_lost  # type: ignore[attr-defined]
        self.asked.append((scope, direct.named, body))
        self.heads.append(direct.head)
        direct.answer(LINES % len(body or b""), body or b"")
        return True


class Side:
    """One connection. `lessons`: how many heads it looks at."""

    def __init__(self, loop: asyncio.AbstractEventLoop, *, lessons: int | None = None) -> None:
        self.app = Recorder()
        config = uvicorn.Config(
            self.app, http=Protocol, loop="none", ws="none", lifespan="off", interface="asgi3", proxy_headers=False,
            log_config=None,
        )  # fmt: skip
        config.load()
        self._loop = loop
        self.protocol = Protocol(config, ServerState(), {}, _loop=loop)
        if lessons is not None:
            self.protocol._lessons = lessons
        self.transport = Transport()
        self.protocol.connection_made(self.transport)  # type: ignore[arg-type]

    def feed(self, *pieces: bytes) -> None:
        for each in pieces:
            if not self.transport.closed:
                self._loop.run_until_complete(self._fed(each))

    async def _fed(self, piece: bytes) -> None:
        self.protocol.data_received(piece)
        for _ in range(3):
            await asyncio.sleep(0)

    def end(self) -> None:
        self.protocol.connection_lost(None)
        while self.protocol.tasks:
            self._loop.run_until_complete(asyncio.sleep(0))

    @property
    def recognised(self) -> int:
        """How many requests bore a head that had come before."""
        seen = [head for head in self.app.heads if head is not None]
        return len(seen) - len(set(map(id, seen)))


def request(body: bytes = b"{}", *lines: bytes, length: bytes | None = None, name: bytes = b"content-length") -> bytes:
    told = b"%d" % len(body) if length is None else length
    return b"\r\n".join((b"POST /a%20b?c=d HTTP/1.1", b"host: x", *lines, name + b": " + told, b"x-end: 1", b"", body))


def both(loop: asyncio.AbstractEventLoop, *pieces: bytes) -> Side:
    """A side that learns; beside one that parses everything, which must see the same."""
    sides = Side(loop), Side(loop, lessons=0)
    for each in sides:
        each.feed(*pieces)
        each.end()
    learning, parsing = sides
    assert learning.app.asked == parsing.app.asked
    assert learning.transport.written == parsing.transport.written
    assert learning.transport.closed == parsing.transport.closed
    assert parsing.recognised == 0
    return learning


def test_one_that_comes_again_is_recognised(loop: asyncio.AbstractEventLoop) -> None:
    bodies = [b"{}", b"{}", b'{"a":1}', b"", b"x" * 100_000, b"{}"]
    side = both(loop, *map(request, bodies))
    assert [asked[2] for asked in side.app.asked] == bodies
    assert side.recognised == 5


@pytest.mark.parametrize(
    "other",
    [
        request(b"{}", b"x-more: 1"),
        request(b"{}").replace(b"host: x", b"host: y"),
        request(b"{}").replace(b"x-end: 1", b"x-end: 2"),
        request(b"{}").replace(b"POST", b"PUT "),
        request(b"{}") + request(b"{}"),
        request(b"{}", length=b"02"),
        request(b"{}", length=b"+2"),
        request(b"{}", length=b"-2"),
        request(b"{}", length=b"2 "),
        request(b"{}", length=b""),
        request(b"{}", length=b"2\r\ncontent-length: 2"),
        request(b"{}", length=b"2\r\ntransfer-encoding: chunked"),
        request(b"{}", length=b"12345678901"),
        b"\r\n" + request(b"{}"),
        GET,
        b"nonsense\r\n\r\n",
    ],
)
def test_whatever_differs_is_parsed(loop: asyncio.AbstractEventLoop, other: bytes) -> None:
    both(loop, request(), request(), other, request(b"[]"), request(b"[1]"))


@pytest.mark.parametrize(
    "lines",
    [
        (b"expect: 100-continue",),
        (b"connection: close",),
        (b"trailer: x",),
        (b"x-long: " + b"x" * 5000,),
        (b"x-folded: a\r\n content-length: 2",),
    ],
)
def test_some_are_never_recognised(loop: asyncio.AbstractEventLoop, lines: tuple[bytes, ...]) -> None:
    assert both(loop, *[request(b"{}", *lines)] * 3).recognised == 0


def test_the_name_of_the_length_may_be_written_anyhow(loop: asyncio.AbstractEventLoop) -> None:
    assert both(loop, *[request(name=b"Content-Length")] * 3).recognised == 2


def test_a_body_in_pieces_is_parsed(loop: asyncio.AbstractEventLoop) -> None:
    whole = request(b"0123456789")
    side = both(loop, request(), whole[:-3], whole[-3:], request(), whole[:20], whole[20:], request())
    assert side.recognised == 2


def test_who_sends_another_head_each_time_is_not_learnt_from(loop: asyncio.AbstractEventLoop) -> None:
    side = both(loop, *(request(b"{}", b"x-trace: %d" % number) for number in range(50)))
    assert sum(head is not None for head in side.app.heads) == 4


def test_what_a_request_was_told_stays(loop: asyncio.AbstractEventLoop) -> None:
    side = both(loop, *map(request, (b"{}", b"[1]", b"[12]")))
    assert [asked[0]["headers"][-2] for asked in side.app.asked] == [
        (b"content-length", b"2"),
        (b"content-length", b"3"),
        (b"content-length", b"4"),
    ]


_PIECES = st.lists(
    st.sampled_from(
        [
            request(),
            request(b"[]"),
            request(b"[1,2]"),
            request(b"{}", b"x-more: 1"),
            b"GET / HTTP/1.1\r\nhost: x\r\n\r\n",
        ]
    )
    | st.sampled_from([b"x", b"\r\n", request()[:-1], request()[:10]]),
    min_size=1,
    max_size=8,
)


@given(_PIECES, st.lists(st.integers(0, 700), max_size=6), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_comes_in_whatever_pieces(
    loop: asyncio.AbstractEventLoop, pieces: list[bytes], cuts: list[int], joined: bool
) -> None:
    if joined:
        stream, ends = b"".join(pieces), sorted({0, *cuts})
        pieces = [stream[start:end] for start, end in zip(ends, [*ends[1:], len(stream)], strict=True)]
    both(loop, *(each for each in pieces if each))


def test_a_head_without_a_length_is_none() -> None:
    assert head_of(GET, {"headers": []}, {b"host": b"x"}) is None
    assert head_of(b"GET / HTTP/1.1\r\nhost: x\r\n", {"headers": []}, {}) is None
