"""uvicorn's HTTP protocol with what each request costs cut down: one write for an answer's head and the first of its
body, and no task that only waits for the caller to leave.

All that belongs to connections stays uvicorn's: parsing, keep-alive, pipelining, flow control, shutdown.
"""

import asyncio
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httptools
from typing_extensions import override
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from narthex.http.asgi import ON_LOST, Headers, Message

_WITHOUT_BODY = frozenset((204, 304))
_JOINED_BYTES = 64 * 1024
"""A body up to this long is copied behind its head, so that both leave in one write."""


class Cycle(RequestResponseCycle):
    """One request and its answer, for an application that begins an answer only to send something of it at once."""

    _head = b""
    _lost: Callable[[], None] | None = None
    before: "Cycle | None" = None
    """The request before this one on the same connection, if it was not answered when this one came."""

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """See `OnLost`."""
        self._lost = callback
        if callback is not None:
            self.flow.resume_reading()  # or nobody would hear of it
            if self.disconnected:
                callback()

    def lost(self) -> None:
        """The connection is gone."""
        if self.before is not None:
            self.before.lost()
        if self.response_complete:
            return
        self.disconnected = True
        self.message_event.set()
        if self._lost is not None:
            self._lost()

    @override
    async def send(self, message: Message) -> None:  # type: ignore[override]
        """See the ASGI specification.

        Raises:
            RuntimeError: out of order, a line end within a header, or a body of another length than was told.
        """
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            self._begin(message["status"], message["headers"])
        elif message["type"] == "http.response.body" and self.response_started and not self.response_complete:
            self._send(message["body"], more=message["more_body"])
        else:
            raise RuntimeError(f"{message['type']} came out of order")

    def _begin(self, status: int, headers: Headers) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        lines = [STATUS_LINE[status]]
        for name, value in (*self.default_headers, *headers):
            lines.append(b"%b: %b\r\n" % (name, value))
            if name == b"content-length":
                self.chunked_encoding, self.expected_content_length = False, int(value)
            elif name == b"connection":
                self.keep_alive = False
        if not self.keep_alive and not any(name == b"connection" for name, _ in headers):
            lines.append(b"connection: close\r\n")
        if self.chunked_encoding is None and self.scope["method"] != "HEAD" and status not in _WITHOUT_BODY:
            self.chunked_encoding = True
            lines.append(b"transfer-encoding: chunked\r\n")
        head = b"".join((*lines, b"\r\n"))
        if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
            raise RuntimeError("a header has a line end within")
        self._head = head

    def _send(self, body: bytes, *, more: bool) -> None:
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = _chunk(body, more=more)
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
        if not more:
            self._end()

    def _end(self) -> None:
        self.response_complete = True
        self.before = None
        self.scope.pop("extensions", None)  # or only the garbage collector could ever free this request
        self.message_event.set()
        if not self.keep_alive:
            self.transport.close()
        self.on_response()


def _chunk(body: bytes, *, more: bool) -> bytes:
    if not body:
        return b"" if more else b"0\r\n\r\n"
    return b"%x\r\n%b\r\n%b" % (len(body), body, b"" if more else b"0\r\n\r\n")


class Protocol(HttpToolsProtocol):
    """One connection of a caller."""

    cycle: Cycle | None  # type: ignore[assignment]

    @override
    def on_headers_complete(self) -> None:
        """Begin with the request: as uvicorn's own, for an application without a root path, web sockets and limits."""
        version = self.parser.get_http_version()
        url = httptools.parse_url(self.url)
        path = url.path.decode("ascii")
        scope: dict[str, Any] = self.scope  # type: ignore[assignment]
        scope["method"] = self.parser.get_method().decode("ascii")
        scope["http_version"] = version
        scope["path"] = unquote(path) if "%" in path else path
        scope["raw_path"] = url.path
        scope["query_string"] = url.query or b""
        before = self.cycle
        self.cycle = cycle = Cycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=False,
            default_headers=self.server_state.default_headers,
            message_event=asyncio.Event(),
            expect_100_continue=self.expect_100_continue,
            keep_alive=version != "1.0" and self.parser.should_keep_alive(),
            on_response=self.on_response_complete,
        )
        scope["extensions"] = {ON_LOST: cycle.on_lost}
        if before is None or before.response_complete:
            self._start_asgi_task(cycle, self.app)
        else:
            cycle.before = before
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request, and those that wait behind it."""
        super().connection_lost(exc)
        if self.cycle is not None:
            self.cycle.lost()
