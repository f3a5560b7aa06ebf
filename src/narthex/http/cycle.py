"""One request and its answer on a connection of `protocol`: what an application of ours writes to without messages."""

import asyncio
from collections.abc import Callable
from typing import Any

from typing_extensions import override
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from narthex.http.asgi import Headers, Message, Rest
from narthex.http.heads import Head
from narthex.http.lines import STATUS, as_line, beginning, chunk

_WITHOUT_BODY = frozenset((204, 304))
_END_OF_HEAD = (b"", b"")
_ENDS = b"\r\n\r\n"
_CLOSES = b"\r\nconnection: close\r\n\r\n"
_JOINED_BYTES = 64 * 1024
"""A body up to this long is copied behind its head, so that both leave in one write."""


class Cycle(RequestResponseCycle):
    """One request and its answer, for an application that begins an answer only to send something of it at once."""

    disconnected = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding: bool | None = None
    expected_content_length = 0
    body: bytes | bytearray = b""  # type: ignore[assignment]
    """What has come and was not taken."""
    before: "Cycle | None" = None
    """The request before this one on the same connection, if it was not answered when this one came."""
    head: Head | None = None
    """See `Direct`."""
    _head = b""
    flows = False
    quiet = False
    """See `Direct`, both."""
    _news = False
    _waiting: asyncio.Event | None = None
    _lost: Callable[[], None] | None = None

    def __init__(
        self,
        connection: HttpToolsProtocol,
        scope: dict[str, Any],
        named: dict[bytes, bytes],
        *,
        keep_alive: bool,
        go_on: Callable[["Cycle", Rest], None],
    ) -> None:
        """`go_on` has a task do the rest of a request that was begun without."""
        self.scope = scope  # type: ignore[assignment]
        self.named = named
        self.transport = connection.transport
        self.flow = connection.flow
        self.logger = connection.logger
        self.default_headers = connection.server_state.default_headers
        self.on_response = connection.on_response_complete
        self._go_on = go_on
        self.waiting_for_100_continue = b"expect" in named and named[b"expect"].lower() == b"100-continue"
        self.keep_alive = keep_alive

    # --- the request

    def arrived(self, data: bytes) -> None:
        """More of the body."""
        if not self.body:
            self.body = data
        else:
            if isinstance(self.body, bytes):
                self.body = bytearray(self.body)
            self.body += data
        if len(self.body) > HIGH_WATER_LIMIT:
            self.flow.pause_reading()
        self.tell()

    def tell(self) -> None:
        """Whoever waits in `receive` is to look again."""
        self._news = True
        if self._waiting is not None:
            self._waiting.set()

    @property
    def has_all(self) -> bool:
        """See `Direct`."""
        return not (self.more_body or self.disconnected or self.waiting_for_100_continue)

    def whole(self) -> bytes | None:
        """See `Direct`."""
        return self._taken() if self.has_all else None

    def go_on(self, rest: Rest) -> None:
        """See `Direct`."""
        self._go_on(self, rest)

    def _taken(self) -> bytes:
        body, self.body, self._news = self.body, b"", False
        return bytes(body)

    @override
    async def receive(self) -> Message:  # type: ignore[override]
        """See the ASGI specification."""
        if self.waiting_for_100_continue and not self.transport.is_closing():
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self.waiting_for_100_continue = False
        if not self.disconnected and not self.response_complete:
            self.flow.resume_reading()
            if not self._news:
                self._waiting = self._waiting or asyncio.Event()
                self._waiting.clear()
                await self._waiting.wait()
        if self.disconnected or self.response_complete:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": self._taken(), "more_body": self.more_body}

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """See `OnLost`."""
        self._lost = callback
        if callback is not None:
            self.flow.resume_reading()  # or nobody would hear of it
            if self.disconnected:
                callback()

    def lost(self) -> None:
        """The connection is gone, also for all before this one; the first of them hears of it first."""
        waiting = [self]
        while (before := waiting[-1].before) is not None:  # thousands of requests may have come at once
            waiting.append(before)
        while waiting:
            waiting.pop().left()

    def left(self) -> None:
        """Nobody waits for this one any more."""
        if self.response_complete:
            return
        self.disconnected, self.flows = True, False
        self.tell()
        if self._lost is not None:
            self._lost()

    # --- the answer

    @override
    async def send(self, message: Message) -> None:  # type: ignore[override]
        """See the ASGI specification.

        Raises:
            RuntimeError: out of order, a line end within a header, or a body of another length than was told.
        """
        if self.clogged:
            await self.flow.drain()
        if message["type"] == "http.response.start":
            self.begin(message["status"], message["headers"])
        else:
            self.write(message["body"], more=message["more_body"])

    @property
    def clogged(self) -> bool:
        """See `Direct`."""
        return self.flow.write_paused and not self.disconnected

    def pass_on(self, chunk: bytes) -> bool:
        """See `Direct`."""
        if not self.flows:
            return False
        self.quiet = False
        self.transport.write(chunk)
        return not self.flow.write_paused

    async def unclogged(self) -> None:
        """See `Direct`."""
        await self.flow.drain()

    def begin(self, status: int, headers: Headers) -> None:
        """See `Direct`."""
        if self.disconnected:
            return
        if self.response_started:
            raise RuntimeError("http.response.start came out of order")
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS[status], *map(as_line, self.default_headers), *map(as_line, headers)]
        named = dict(headers)
        if (length := named.get(b"content-length")) is not None:
            self.chunked_encoding, self.expected_content_length = False, int(length)
        if b"connection" in named:
            self.keep_alive = False
        elif not self.keep_alive:
            lines.append(b"connection: close")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked")
        lines += _END_OF_HEAD
        head = b"\r\n".join(lines)
        ends = len(lines) - 1
        if head.count(b"\n") != ends or head.count(b"\r") != ends:
            raise RuntimeError("a header has a line end within")
        self._head = head

    def answer(self, lines: bytes, body: bytes) -> None:
        """See `Direct`."""
        if self.disconnected:
            return
        if self.response_started or self.scope["method"] == "HEAD":
            raise RuntimeError("a whole answer came out of order")
        self.response_started = True
        begins = beginning(tuple(self.default_headers))
        head = b"%b%b%b" % (begins, lines, _ENDS if self.keep_alive else _CLOSES)
        if len(body) <= _JOINED_BYTES:
            self.transport.write(head + body)
        else:
            self.transport.write(head)
            self.transport.write(body)
        self._end()

    def write(self, body: bytes, *, more: bool) -> None:
        """See `Direct`."""
        if self.flows and more and body:
            self.transport.write(b"%x\r\n%b\r\n" % (len(body), body))
            return
        if self.disconnected:
            return
        if not self.response_started or self.response_complete:
            raise RuntimeError("http.response.body came out of order")
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = chunk(body, more=more)
        else:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0 or (self.expected_content_length and not more):
                raise RuntimeError("the body has another length than was told")
        if self._head and len(body) <= _JOINED_BYTES:
            body, self._head = self._head + body, b""
        elif self._head:
            self.transport.write(self._head)
            self._head = b""
        self.transport.write(body)
        self.flows = more and self.chunked_encoding is True and self.scope["method"] != "HEAD"
        if not more:
            self._end()

    def _end(self) -> None:
        self.response_complete = True
        self.before = None
        self.scope.pop("extensions", None)  # or only the garbage collector could ever free this request
        self.tell()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()
