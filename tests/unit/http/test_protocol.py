"""Our HTTP protocol over real sockets, beside uvicorn's own: the same bytes, in fewer writes."""

import asyncio
import contextlib
import gc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import uvicorn
from tests.unit.upstream.test_relay import Wire
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from narthex.http.asgi import DIRECT, JSON, ON_LOST, CallerLeft
from narthex.http.exchange import Exchange
from narthex.http.protocol import Protocol

pytestmark = pytest.mark.anyio

App = Callable[[Any, Any, Any], Awaitable[None]]
DEADLINE_S = 60.0
GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
LAST = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Either loop."""
    return "asyncio", {"use_uvloop": request.param}


class Written:
    """A transport that remembers what was written in one piece."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport
        self.writes: list[bytes] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        self._transport.write(data)


class Server:
    """An application behind a protocol, on a port of this host."""

    def __init__(self, app: App, protocol: type[HttpToolsProtocol]) -> None:
        self._config = uvicorn.Config(app, http=protocol, loop="none", ws="none", lifespan="off", log_config=None)
        self._config.load()
        self.state = ServerState()
        self.made: list[HttpToolsProtocol] = []
        self.transports: list[Written] = []
        self.port = 0

        server = self

        class Watched(protocol):  # type: ignore[valid-type,misc]
            @override
            def connection_made(self, transport: Any) -> None:
                server.transports.append(Written(transport))
                super().connection_made(server.transports[-1])

        self._protocol = Watched

    def connection(self) -> HttpToolsProtocol:
        self.made.append(self._protocol(config=self._config, server_state=self.state, app_state={}))
        return self.made[-1]

    @property
    def writes(self) -> list[bytes]:
        return self.transports[0].writes

    async def told(self, *pieces: bytes) -> bytes:
        """All that is answered to requests until the connection ends."""
        found = b""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        async with asyncio.timeout(DEADLINE_S):
            for each in pieces:
                writer.write(each)
                await writer.drain()
            try:
                found += await reader.read()
            except ConnectionResetError:  # it was closed while the rest of a request was still on its way
                found += bytes(reader._buffer)  # type: ignore[attr-defined]
        writer.close()
        return found


@contextlib.asynccontextmanager
async def serving(app: App, protocol: type[HttpToolsProtocol] = Protocol) -> AsyncIterator[Server]:
    made = Server(app, protocol)
    listener = await asyncio.get_running_loop().create_server(made.connection, "127.0.0.1", 0)
    made.port = listener.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        listener.close()
        for each in list(made.state.connections):
            each.transport.close()
        await until(lambda: not made.state.connections and not made.state.tasks)


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not true():
            await asyncio.sleep(0.001)


async def read_all(receive: Any) -> bytes:
    body = bytearray()
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)


def start(status: int = 200, *headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": list(headers)}


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": body, "more_body": more}


def sized(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", str(len(body)).encode()


# --- applications ----------------------------------------------------------------------------------------------------


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = await read_all(receive)
    said = f"{scope['method']} {scope['path']} {scope['raw_path']!r} {scope['query_string']!r} {len(body)}".encode()
    await send(start(200, JSON, sized(said)))
    await send(piece(said))


async def streaming(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(200, JSON))
    for data in (b"one", b"", b"two", b"x" * 20):
        await send(piece(data, more=True))
    await send(piece(b""))


async def streaming_to_the_last(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(200))
    await send(piece(b"one", more=True))
    await send(piece(b"two"))


async def in_pieces_of_a_length(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(200, (b"content-length", b"6")))
    await send(piece(b"one", more=True))
    await send(piece(b"two"))


async def closing(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(429, (b"connection", b"close"), sized(b"no")))
    await send(piece(b"no"))


async def empty(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(200, sized(b"")))
    await send(piece(b""))


async def nothing_to_say(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(204))
    await send(piece(b""))


async def not_modified(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(304))
    await send(piece(b""))


async def large(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(200, sized(b"x" * 300_000)))
    await send(piece(b"x" * 300_000))


async def failing(_scope: Any, _receive: Any, _send: Any) -> None:
    raise ValueError


async def silent(_scope: Any, _receive: Any, _send: Any) -> None:
    pass


async def talkative(_scope: Any, _receive: Any, _send: Any) -> Any:
    return 5


async def unfinished(_scope: Any, _receive: Any, send: Any) -> None:
    await send(start(200, sized(b"no")))
    await send(piece(b"n", more=True))


APPS: dict[str, App] = {
    app.__name__: app
    for app in (
        echo, streaming, streaming_to_the_last, in_pieces_of_a_length, closing, empty, nothing_to_say, not_modified,
        large, failing, silent, talkative, unfinished,
    )
}  # fmt: skip
POST = b"POST /a%20b%C3%A4?q=%41 HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n"
REQUESTS: dict[str, list[bytes]] = {
    "one": [LAST],
    "two on one connection": [GET, LAST],
    "two at once": [GET + LAST],
    "five at once, with bodies": [(POST + b"\r\nhello") * 4 + LAST],
    "in pieces": [bytes([byte]) for byte in POST + b"connection: close\r\n\r\nhello"],
    "HEAD": [b"HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"],
    "HEAD, then GET": [b"HEAD / HTTP/1.1\r\nhost: x\r\n\r\n", LAST],
    "HTTP/1.0": [b"GET / HTTP/1.0\r\n\r\n"],
    "HTTP/1.0 that would stay": [b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"],
    "told to go on": [POST + b"expect: 100-continue\r\nconnection: close\r\n\r\n", b"hello"],
    "chunked": [
        b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n",
        b"5\r\nhello\r\n",
        b"1\r\n!\r\n0\r\n\r\n",
    ],
    "would upgrade": [b"GET / HTTP/1.1\r\nhost: x\r\nconnection: upgrade, close\r\nupgrade: h2c\r\n\r\n"],
    "no HTTP": [b"SSH-2.0-OpenSSH_9\r\n\r\n"],
    "a bad header": [b"GET / HTTP/1.1\r\nhost x\r\n\r\n"],
    "a bad length": [b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: five\r\n\r\n"],
    "both lengths": [b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"],
    "a good one, then a bad one": [GET, b"\0\r\n\r\n"],
}


def directly(app: App) -> App:
    """The same, reading and writing without messages."""

    async def direct(scope: Any, receive: Any, send: Any) -> Any:
        line = scope["extensions"][DIRECT]

        async def read() -> Any:
            body = line.whole()
            return await receive() if body is None else {"type": "http.request", "body": body, "more_body": False}

        async def write(message: Any) -> None:
            if line.clogged:
                await line.unclogged()
            if message["type"] == "http.response.start":
                line.begin(message["status"], message["headers"])
            else:
                line.write(message["body"], more=message["more_body"])

        return await app(scope, read, write)

    return direct


@pytest.mark.parametrize("request_", REQUESTS)
@pytest.mark.parametrize("app", APPS)
async def test_the_same_bytes_as_uvicorn_s(app: str, request_: str) -> None:
    found = []
    for protocol, called in ((HttpToolsProtocol, APPS[app]), (Protocol, APPS[app]), (Protocol, directly(APPS[app]))):
        async with serving(called, protocol) as server:
            found.append(await server.told(*REQUESTS[request_]))
    assert found[1:] == [found[0], found[0]]


# --- answers ---------------------------------------------------------------------------------------------------------


async def test_head_and_body_leave_in_one_write() -> None:
    async with serving(echo) as server:
        assert await server.told(GET, LAST) == b"".join(server.writes)
        assert [write.count(b"HTTP/1.1 200 OK\r\n") for write in server.writes] == [1, 1]


async def test_the_first_piece_of_a_stream_leaves_with_its_head() -> None:
    async with serving(streaming) as server:
        told = await server.told(LAST)
    assert server.writes[0].endswith(b"\r\n\r\n3\r\none\r\n")
    assert b"".join(server.writes) == told
    assert told.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n14\r\n" + b"x" * 20 + b"\r\n0\r\n\r\n")
    assert b"transfer-encoding: chunked\r\n" in told


async def test_a_large_body_is_not_copied_behind_its_head() -> None:
    async with serving(large) as server:
        assert (await server.told(LAST)).endswith(b"x" * 300_000)
        assert [write.endswith(b"\r\n\r\n") for write in server.writes] == [True, False]


async def test_there_is_no_body_where_none_may_be() -> None:
    async with serving(nothing_to_say) as server:
        assert await server.told(LAST) == b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n"


async def test_headers_of_the_server_stand_first() -> None:
    async with serving(empty) as server:
        server.state.default_headers = [(b"server", b"narthex")]
        assert (await server.told(LAST)).startswith(b"HTTP/1.1 200 OK\r\nserver: narthex\r\ncontent-length: 0\r\n")


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"\r\n\r\nHTTP/1.1 200 OK"])
async def test_a_line_end_within_a_header_never_leaves(value: bytes) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        with contextlib.suppress(RuntimeError):
            await send(start(200, (b"x", value), sized(b"no")))
        await send(piece(b"no"))

    async with serving(app) as server:
        told = await server.told(LAST)
    assert b"set-cookie" not in told
    assert b"x: a" not in told
    assert not told.startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("pieces", [[b"1"], [b"1", b"2"], [b"1234"], [b"12", b"34"], []])
async def test_a_body_of_another_length_than_was_told_ends_the_connection(pieces: list[bytes]) -> None:
    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(200, sized(b"123")))
        for data in pieces[:-1]:
            await send(piece(data, more=True))
        with pytest.raises(RuntimeError):
            await send(piece(pieces[-1] if pieces else b""))
        raise ValueError

    async with serving(app) as server:
        told = await server.told(GET + GET)
    assert len(told.partition(b"\r\n\r\n")[2]) < 3


async def test_an_answer_out_of_order_is_refused() -> None:
    refused: list[str] = []

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        for message in (piece(b"a"), start(200, sized(b"ab")), start(200), piece(b"ab"), piece(b"c"), start(200)):
            try:
                await send(message)
            except RuntimeError as error:
                refused.append(str(error).split()[0])

    async with serving(app) as server:
        assert (await server.told(LAST)).endswith(b"\r\n\r\nab")
    assert refused == [
        "http.response.body", "http.response.start", "http.response.body", "http.response.start"
    ]  # fmt: skip


# --- requests --------------------------------------------------------------------------------------------------------


async def test_a_path_is_decoded_and_kept_as_it_was() -> None:
    async with serving(echo) as server:
        told = await server.told(POST + b"connection: close\r\n\r\nhello")
    assert told.endswith("POST /a bä b'/a%20b%C3%A4' b'q=%41' 5".encode())


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    running = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running
        running += 1
        assert running == 1, "one at a time"
        await asyncio.sleep(0)
        await echo(scope, receive, send)
        running -= 1

    paths = [b"/%d" % number for number in range(20)]
    requests = [b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\nab" % path for path in paths]
    async with serving(app) as server:
        told = await server.told(b"".join(requests) + LAST)
    assert told.count(b"HTTP/1.1 200 OK") == 21
    assert [told.index(b"POST " + path + b" ") for path in paths] == sorted(
        told.index(b"POST " + path + b" ") for path in paths
    )


async def test_a_connection_that_stays_keeps_nothing_of_its_requests() -> None:
    async with serving(echo) as server:
        await server.told(GET * 50 + LAST)
        cycle: Any = server.made[0].cycle
        assert (cycle.before, server.state.total_requests) == (None, 51)


async def test_an_answered_request_needs_no_garbage_collector() -> None:
    seen: list[weakref.ref[Any]] = []

    async def watched(scope: Any, receive: Any, send: Any) -> None:
        seen.append(weakref.ref(scope["extensions"][ON_LOST].__self__))
        await echo(scope, receive, send)

    gc.disable()
    try:
        async with serving(watched) as server:
            await server.told(GET, GET, LAST)
            assert [request() is None for request in seen[:2]] == [True, True]
    finally:
        gc.enable()


async def test_a_request_of_five_megabytes() -> None:
    body = b"x" * 5_000_000
    head = b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
    async with serving(echo) as server:
        assert (await server.told(head, body)).endswith(b" 5000000")


async def test_who_waits_to_be_told_to_go_on_is_told_once() -> None:
    async with serving(echo) as server:
        told = await server.told(POST + b"expect: 100-continue\r\nconnection: close\r\n\r\n", b"hello")
        assert told.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
    async with serving(closing) as server:
        assert b"100 Continue" not in await server.told(POST + b"expect: 100-continue\r\n\r\n")


async def test_a_body_that_is_not_all_here_is_not_whole() -> None:
    found: list[bytes | None] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        line = scope["extensions"][DIRECT]
        found.append(line.whole())
        await receive()
        await until(lambda: line.more_body is False)
        found.append(line.whole())
        await send(start(200, sized(b"")))
        await send(piece(b""))

    async with serving(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(POST + b"connection: close\r\n\r\nhe")
        await until(lambda: found)
        writer.write(b"llo")
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        writer.close()
    assert found == [None, b"llo"]


# --- connections that rest -------------------------------------------------------------------------------------------


async def test_a_connection_that_rests_too_long_is_closed() -> None:
    async with serving(empty) as server:
        server._config.timeout_keep_alive = 0.05  # type: ignore[assignment]
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        async with asyncio.timeout(DEADLINE_S):
            for _ in range(3):
                writer.write(GET)
                await reader.readuntil(b"\r\n\r\n")
            assert await reader.read() == b""
        writer.close()


async def test_a_clock_that_rings_early_or_while_a_request_runs_closes_nothing() -> None:
    goes_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await goes_on.wait()
        await empty(scope, receive, send)

    async with serving(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await until(lambda: server.state.tasks)
        connection = server.made[0]
        connection.timeout_keep_alive_handler()
        assert connection.timeout_keep_alive_task is None
        goes_on.set()
        await reader.readuntil(b"\r\n\r\n")
        first = connection.timeout_keep_alive_task
        assert first is not None
        connection.timeout_keep_alive_handler()
        assert connection.timeout_keep_alive_task is not first
        first.cancel()
        writer.write(LAST)
        assert (await reader.read()).startswith(b"HTTP/1.1 200 OK")
        connection.timeout_keep_alive_handler()
        writer.close()


# --- flow ------------------------------------------------------------------------------------------------------------


async def test_a_slow_reader_is_waited_for() -> None:
    """What was not read is held by the sockets, and not by us."""
    sent = 0

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        nonlocal sent
        await send(start(200))
        while sent < 2_000:
            await send(piece(b"x" * 10_000, more=True))
            sent += 1
        await send(piece(b""))

    async with serving(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(LAST)
        await until(lambda: server.made and server.made[0].flow.write_paused)
        paused_at = sent
        assert server.transports[0].get_write_buffer_size() < 1_000_000
        assert paused_at < 2_000
        size = 0
        while data := await reader.read(1_000_000):
            size += len(data)
        assert (sent, size > 20_000_000) == (2_000, True)
        writer.close()


async def test_a_slow_reader_who_leaves_is_not_waited_for() -> None:
    ended = asyncio.Event()

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        await send(start(200))
        for _ in range(2_000):
            await send(piece(b"x" * 10_000, more=True))
        ended.set()

    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1000)
        writer.write(GET)
        await until(lambda: server.made and server.made[0].flow.write_paused)
        writer.transport.abort()
        await until(ended.is_set)


async def test_a_request_that_nobody_reads_yet_is_not_taken_in() -> None:
    """Beyond a high-water mark it stays with the sockets."""
    goes_on = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await goes_on.wait()
        await echo(scope, receive, send)

    size = 20_000_000
    async with serving(app) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % size)
        writer.write(b"x" * size)
        await until(lambda: server.made and server.made[0].flow.read_paused)
        assert len(server.made[0].cycle.body) < 1_000_000
        goes_on.set()
        assert (await reader.read()).endswith(b" 20000000")
        writer.close()


async def test_who_leaves_within_a_request_is_reported_to_its_reader() -> None:
    found: list[str] = []

    async def app(_scope: Any, receive: Any, _send: Any) -> None:
        while not found or found[-1] != "http.disconnect":
            found.append((await receive())["type"])

    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(POST + b"\r\nhel")
        await until(lambda: found)
        writer.transport.abort()
        await until(lambda: found[-1] == "http.disconnect")


# --- callers who leave -----------------------------------------------------------------------------------------------


class Waiting:
    """An application that waits until its caller has left."""

    def __init__(self, *, begins: bool = False) -> None:
        self.running = 0
        self.left = 0
        self._begins = begins

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await read_all(receive)
        self.running += 1
        if self._begins:
            await send(start(200))
            await send(piece(b"begun", more=True))
        task = asyncio.current_task()
        assert task is not None
        lost = asyncio.Event()
        scope["extensions"][ON_LOST](lost.set)
        await lost.wait()
        self.left += 1


@pytest.mark.parametrize("begins", [False, True])
@pytest.mark.parametrize("requests", [1, 2, 5], ids=lambda number: f"{number}-pipelined")
async def test_who_leaves_ends_what_runs(begins: bool, requests: int) -> None:
    """Also with more requests behind it, which never run."""
    app = Waiting(begins=begins)
    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write((POST + b"\r\nhello") * requests)
        await until(lambda: app.running)
        writer.transport.abort()
        await until(lambda: app.left)
        await until(lambda: not server.state.tasks)
        assert (app.running, app.left) == (1, 1)


@pytest.mark.parametrize("later", [1, 5])
async def test_who_leaves_is_heard_behind_requests_that_came_later(later: int) -> None:
    app = Waiting()
    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(POST + b"\r\nhello")
        await until(lambda: app.running)
        for number in range(later):
            writer.write(POST + b"\r\nhello")
            await until(lambda number=number: len(server.made[0].pipeline) > number)
        writer.transport.abort()
        await until(lambda: app.left)
        await until(lambda: not server.state.tasks)
        assert (app.running, app.left) == (1, 1)


async def test_thousands_of_requests_behind_one_hide_nobody_who_leaves() -> None:
    app = Waiting()
    async with serving(app) as server:
        connection, wire = server.connection(), Wire()
        connection.connection_made(wire)
        connection.data_received(POST + b"\r\nhello" + GET * 2000)
        await until(lambda: app.running)
        wire.abort()
        connection.connection_lost(ConnectionResetError())
        await until(lambda: app.left)


async def test_no_more_is_read_while_many_requests_wait() -> None:
    waiting: list[int] = []

    class Caller(Wire):
        @override
        def get_extra_info(self, name: str, default: Any = None) -> Any:
            return default

        @override
        def resume_reading(self) -> None:
            waiting.append(len(connection.pipeline))
            super().resume_reading()

    async with serving(echo) as server:
        connection, wire = server.connection(), Caller()
        connection.connection_made(wire)
        for turn in range(3):
            connection.data_received(GET * 100)
            assert wire.paused
            await until(lambda turn=turn: server.state.total_requests == 100 * (turn + 1))
        assert max(waiting) < 16
        assert not wire.paused
        wire.abort()
        connection.connection_lost(ConnectionResetError())


async def test_who_left_before_anybody_asks_is_told_at_once() -> None:
    gone, told = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        await gone.wait()
        scope["extensions"][ON_LOST](told.set)
        assert told.is_set()
        await send(start(200, sized(b"x")))  # goes nowhere, and harms nobody
        await send(piece(b"x"))

    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await until(lambda: server.state.tasks)
        writer.transport.abort()
        await until(lambda: not server.state.connections)
        gone.set()
        await until(told.is_set)


async def test_who_leaves_after_the_answer_or_asks_no_more_is_not_heard() -> None:
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        scope["extensions"][ON_LOST](lambda: told.append("answered"))
        await echo(scope, receive, send)

    async with serving(app) as server:
        assert (await server.told(LAST)).startswith(b"HTTP/1.1 200 OK")
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await until(lambda: len(server.transports) == 2 and server.transports[1].writes)
        writer.transport.abort()
        await until(lambda: not server.state.connections)
    assert told == []


async def test_nobody_is_told_who_no_longer_wants_to_be() -> None:
    app_ended = asyncio.Event()

    async def app(scope: Any, receive: Any, _send: Any) -> None:
        scope["extensions"][ON_LOST](pytest.fail)
        scope["extensions"][ON_LOST](None)
        await read_all(receive)
        assert (await receive())["type"] == "http.disconnect"
        app_ended.set()

    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(GET)
        await until(lambda: server.state.tasks)
        writer.transport.abort()
        await until(app_ended.is_set)


async def test_a_block_ends_by_the_hangup_of_its_caller() -> None:
    """As the model surfaces use it: reading, then a block that runs until the caller leaves."""
    entered, left = asyncio.Event(), asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        exchange = Exchange(scope, receive, send, request_id="req_1")
        await read_all(receive)
        try:
            async with exchange.until_cut(or_left=True):
                entered.set()
                await asyncio.Event().wait()
        except CallerLeft:
            left.set()

    async with serving(app) as server:
        _, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(POST + b"\r\nhello")
        await until(entered.is_set)
        writer.transport.abort()
        await until(left.is_set)
