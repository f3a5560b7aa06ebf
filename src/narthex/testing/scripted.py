"""An HTTP server that answers by script: slow, cut, reset, garbage, silent. Real sockets, on this host only.

upstream = ScriptedUpstream(Reply(sse(b'{"a":1}'), go, CUT))
async with upstream:
    ...                                   # send a request to upstream.url
    await upstream.peers[0].closed.wait() # the caller hung up; peers[0].closed_at_s says when
"""

import asyncio
import contextlib
import socket
import ssl
import struct
import time
from enum import Enum
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, cast

import httptools
import msgspec
from typing_extensions import override

from narthex.ipc.tasks import TaskSet
from narthex.wire import sse as wire


class Step(Enum):
    """What a script can do besides sending bytes and waiting for an event."""

    CUT = "close the connection"
    RESET = "close it with a TCP reset"
    HANG = "say nothing more until the peer leaves"


CUT, RESET, HANG = Step.CUT, Step.RESET, Step.HANG


class Reply:
    """The answer to one request: bytes to send, events to wait for, steps to take, in order.

    `when`: begin at the connection, at the end of the request's headers, or (the default) at the end of its body.
    `reads`: whether the request's body is read; if not, a large one fills the sockets' buffers.
    """

    def __init__(
        self,
        *steps: bytes | asyncio.Event | Step,
        when: Literal["connected", "headers", "complete"] = "complete",
        reads: bool = True,
    ) -> None:
        self.steps = steps
        self.when = when
        self.reads = reads


class Received(msgspec.Struct, kw_only=True):
    """One request as it came; `headers` with lower-case names. `pieces` of the body grow until it is `complete`."""

    method: str = ""
    target: str = ""
    headers: dict[str, str] = {}
    pieces: list[bytes] = []
    peer: int = 0
    complete: bool = False

    @property
    def body(self) -> bytes:
        """What has come of the body."""
        return b"".join(self.pieces)


class Peer:
    """One connection from the client under test. `closed_at_s` is of `time.monotonic`, None while it is open."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.closed = asyncio.Event()
        self.closed_at_s: float | None = None
        self.paused = asyncio.Event()  # set while what we send is not read

    def mark_closed(self) -> None:
        """Remember when the other side left; the first time counts."""
        if self.closed_at_s is None:
            self.closed_at_s = time.monotonic()
            self.closed.set()


class ScriptedUpstream:
    """Serves its replies, one per request in the order in which requests come; the last one again and again.

    `unix`: listen there instead of a free port of 127.0.0.1. `tls`: a server's context.
    """

    def __init__(self, *replies: Reply, unix: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self._replies = list(replies)
        self._unix = unix
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.Transport] = set()
        self.tasks = TaskSet()
        self.requests: list[Received] = []
        self.peers: list[Peer] = []
        self.port = 0

    @property
    def url(self) -> str:
        """The address that a client connects to."""
        if self._unix is not None:
            return f"unix:{self._unix}"
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def then(self, *replies: Reply) -> None:
        """Add replies for the requests to come."""
        self._replies.extend(replies)

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        if self._unix is not None:
            self._server = await loop.create_unix_server(lambda: _Served(self), self._unix, ssl=self._tls)
        else:
            self._server = await loop.create_server(lambda: _Served(self), "127.0.0.1", self.port, ssl=self._tls)
            self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Stop listening and close every connection; entering again listens at the same address."""
        if self._server is not None:
            self._server.close()
            for transport in tuple(self._transports):
                transport.abort()
            await self.tasks.aclose()
            for peer in self.peers:
                await peer.closed.wait()
            self._server = None
            if self._unix is not None:
                self._unix.unlink(missing_ok=True)

    def reply(self) -> Reply:
        """The reply for the next request."""
        return self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]

    def opened(self, transport: asyncio.Transport) -> Peer:
        """Count a connection."""
        self._transports.add(transport)
        self.peers.append(Peer(len(self.peers)))
        return self.peers[-1]

    def ended(self, transport: asyncio.Transport) -> None:
        """Forget a connection's transport."""
        self._transports.discard(transport)


class _Served(asyncio.Protocol):
    """The server's side of one connection. Always reads, so that the peer's leaving is seen at once."""

    def __init__(self, upstream: ScriptedUpstream) -> None:
        self._upstream = upstream
        self._parser = httptools.HttpRequestParser(self)
        self._resumed = asyncio.Event()
        self._resumed.set()
        self._reply: Reply | None = None
        self._request = Received()
        self._script: asyncio.Task[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = self._upstream.opened(self._transport)
        if (reply := self._next()).when == "connected":
            self._start(reply)

    @override
    def data_received(self, data: bytes) -> None:
        with contextlib.suppress(httptools.HttpParserError):  # it is the client that is tested here
            self._parser.feed_data(data)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self._peer.mark_closed()
        self._upstream.ended(self._transport)
        if self._script is not None:
            self._script.cancel()

    @override
    def pause_writing(self) -> None:
        self._resumed.clear()
        self._peer.paused.set()

    @override
    def resume_writing(self) -> None:
        self._resumed.set()
        self._peer.paused.clear()

    # --- the request

    def on_message_begin(self) -> None:
        self._next()
        self._request = Received(headers={}, peer=self._peer.number)

    def on_url(self, url: bytes) -> None:
        self._request.target += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._request.headers[name.decode().lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._request.method = self._parser.get_method().decode()
        self._upstream.requests.append(self._request)
        reply = self._next()
        if not reply.reads:
            self._transport.pause_reading()
        if reply.when == "headers":
            self._start(reply)

    def on_body(self, data: bytes) -> None:
        self._request.pieces.append(data)

    def on_message_complete(self) -> None:
        self._request.complete = True
        if (reply := self._next()).when == "complete":
            self._start(reply)
        self._reply = None

    # --- the reply

    def _next(self) -> Reply:
        if self._reply is None:
            self._reply = self._upstream.reply()
        return self._reply

    def _start(self, reply: Reply) -> None:
        self._script = self._upstream.tasks.start(self._play(reply))

    async def _play(self, reply: Reply) -> None:
        for step in reply.steps:
            if isinstance(step, bytes):
                await self._resumed.wait()
                self._transport.write(step)
            elif isinstance(step, asyncio.Event):
                await step.wait()
            else:
                await self._end(step)

    async def _end(self, step: Step) -> None:
        if step is HANG:
            await self._peer.closed.wait()
        elif step is CUT:
            self._transport.close()
        else:
            raw = self._transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def response(body: bytes = b"", *, status: int = 200, headers: tuple[str, ...] = ()) -> bytes:
    """A whole response with its length; `headers` are lines such as `"x-a: b"`."""
    return head(f"content-length: {len(body)}", *headers, status=status) + body


def head(*headers: str, status: int = 200) -> bytes:
    """A response's status line and headers."""
    return "\r\n".join((f"HTTP/1.1 {status} Status", *headers, "", "")).encode()


def chunked(*pieces: bytes, end: bool = True) -> bytes:
    """Pieces of a chunked body, and its end."""
    return b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + (b"0\r\n\r\n" if end else b"")


def stream_head() -> bytes:
    """The head of a response that streams events, chunked."""
    return head("content-type: text/event-stream", "transfer-encoding: chunked")


def sse(*events: bytes) -> bytes:
    """A piece of a chunked body that holds events."""
    return chunked(b"".join(map(wire.encode, events)), end=False)


END = b"0\r\n\r\n"
"""The end of a chunked body."""
