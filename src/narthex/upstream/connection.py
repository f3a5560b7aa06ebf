"""One HTTP/1.1 connection to an upstream: one exchange at a time over an asyncio transport, parsed by httptools.

Source: RFC 9112. The parser has no call for the end of the connection, so what an end means is decided in
`connection_lost`: the end of a body that had neither length nor chunks, and a failure anywhere else.
"""

import asyncio
import itertools
import math
from collections.abc import Callable
from typing import cast

import httptools
from typing_extensions import override

from narthex.core.errors import UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from narthex.core.ports import Intake
from narthex.ipc.alarms import Alarms
from narthex.upstream.answer_head import first_lines
from narthex.upstream.faults import as_ours, broken_off
from narthex.upstream.silence import Silence

HIGH_WATER_BYTES = 256 * 1024
"""How much of a body is held for a slow reader before the connection is no longer read."""

MAX_HEAD_BYTES = 64 * 1024
_WRITE_BYTES = 256 * 1024


class Connection(asyncio.Protocol):
    """A connection and the exchange on it. All methods belong to the loop's thread; one task waits at a time.

    `on_lost` is called once when the transport is gone. `alarms`: of that loop; None: it has a timer of its own.
    """

    __slots__ = (
        "__weakref__", "_answered", "_busy", "_chunks", "_complete", "_failure", "_head_done", "_head_waiter",
        "_heard", "_held", "_idle_s", "_intake", "_keep", "_loop", "_no_body", "_on_answer", "_on_lost", "_parser",
        "_read_paused", "_since_body", "_spoiled", "_transport", "_unsent", "_waiter", "_waiting_since_s",
        "_write_paused", "exchanges", "idle_since_s", "lost_unanswered", "silence", "status",
    )  # fmt: skip

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        on_lost: Callable[["Connection"], None],
        *,
        alarms: Alarms | None = None,
    ) -> None:
        self._loop = loop
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._heard: list[bytes] = []
        """What came with the response's head. Its lines are many, and read only if somebody asks for them."""
        self._parser = httptools.HttpResponseParser(self)
        self._head_waiter: asyncio.Future[None] | None = None
        self._on_answer: Callable[[bytes | None], None] | None = None
        self._waiter: asyncio.Future[bytes] | None = None
        self.silence = Silence(loop, told=self._silent, waited_s=self._waited_s, alarms=alarms)
        self._write_paused = False
        self._read_paused = False
        self._busy = False
        self.exchanges = 0
        self.idle_since_s = 0.0
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self._heard.clear()
        self.lost_unanswered = False  # the peer closed before the first byte of a response
        self._answered = self._head_done = self._complete = self._keep = self._spoiled = self._no_body = False
        self._failure: Exception | None = None
        self._chunks: list[bytes] = []
        self._held = self._since_body = 0
        self._unsent: memoryview | None = None
        self._waiting_since_s = 0.0
        self._intake: Intake | None = None
        self._idle_s: float | None = None

    # --- what the pool and the client ask of it

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Those of the response, names in lower case; of each name the first."""
        return first_lines(self._heard)

    @property
    def alive(self) -> bool:
        """Whether the transport can still be used."""
        transport = self._transport
        return transport is not None and not transport.is_closing()

    def begin(self, head: bytes, body: bytes, *, no_body: bool, first_byte_s: float | None) -> None:
        """Send a request. `no_body`: the response has none, whatever its headers say (HEAD).

        A large body is handed to the transport piece by piece as the peer takes it.
        """
        self._reset()
        self._busy = True
        self.exchanges += 1
        self._no_body = no_body
        if first_byte_s is not None:
            self.silence.begin(first_byte_s)
        if self._transport is None:
            self._fail(UpstreamUnavailable("The model's server closed the connection."))
        elif len(body) <= _WRITE_BYTES:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._unsent = memoryview(body)
            self._send_more()

    def on_answer(self, told: Callable[[bytes | None], None] | None) -> None:
        """Have this called once, after `begin`, instead of waiting: with the body of an answer of status 200 that came
        in one piece; or, as soon as it comes otherwise or fails, with None: then it is to be waited for all the same.
        """
        self._on_answer = told

    async def head(self) -> None:
        """Wait until `status` and `headers` of the final response are there.

        Raises:
            UpstreamError: they won't come.
        """
        while not self._head_done:
            if self._failure is not None:
                raise as_ours(self._failure)
            self._head_waiter = self._loop.create_future()
            await self._head_waiter

    def receive(self, idle_s: float | None) -> "asyncio.Future[bytes]":
        """To wait for the body's next bytes: all that are held, or what comes next; b"" at its end.

        What it ends with is an UpstreamError if the body broke off, or nothing came for `idle_s`. What came before is
        told first.
        """
        if not self._chunks and not self._complete and self._failure is None:
            self._wait(idle_s)
            self._waiter = self._loop.create_future()
            return self._waiter
        told: asyncio.Future[bytes] = self._loop.create_future()
        self._tell(told)
        return told

    def _tell(self, waiter: "asyncio.Future[bytes]") -> None:
        """What there is to tell of the body."""
        if self._chunks:
            waiter.set_result(self._taken())
            if self._read_paused:
                self._resume_reading()
        elif self._failure is not None:
            waiter.set_exception(as_ours(self._failure))
        else:
            waiter.set_result(b"")

    def _taken(self) -> bytes:
        """What is held of the body, which is not held any more."""
        chunks = self._chunks
        body = chunks.pop() if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self._held = 0
        return body

    def _tell_answer(self) -> None:
        """Whoever waits for all of an answer hears of it, unless nothing that could be decided by has come yet."""
        chunks, told = self._chunks, self._on_answer
        if self._complete and self.status == 200 and self._failure is None:
            body: bytes | None = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        elif chunks or self._complete or self._failure is not None or self.status not in {0, 200}:
            body = None
        else:
            return
        self._on_answer = None
        if told is not None:
            told(body)

    def divert(self, intake: Intake | None, idle_s: float | None) -> None:
        """Feed it with what comes; it is stopped once there is what only `receive` tells. `idle_s`: as there."""
        self._intake = intake
        self._idle_s = idle_s
        if intake is not None and (self._chunks or self._complete or self._failure is not None):
            intake.stop()
        elif intake is not None:
            self._wait(idle_s)

    def feed(self, intake: Intake, idle_s: float | None) -> None:
        """`divert` all of a body, after `begin`; other answers than 200 stop it. The clock runs once it has begun."""
        self.divert(intake, None)
        self._idle_s = idle_s

    def last(self) -> bytes | None:
        """What is held of a body that has come to its good end; None: `receive` tells more, or the status does."""
        if not self._complete or self._failure is not None or self.status != 200:
            return None
        return self._taken() if self._chunks else b""

    def end(self) -> bool:
        """End the exchange. True if the connection can carry another one; otherwise it is closed at once."""
        self._busy = False
        self._on_answer = None
        self._intake = None
        if self.silence.limit_s is not None:
            self.silence.end()
        reusable = self._complete and self._keep and not self._spoiled and self._unsent is None and self.alive
        if not reusable:
            self.abort()
        elif self._read_paused:
            self._resume_reading()
        self._chunks = []
        self._heard.clear()
        return reusable

    def abort(self) -> None:
        """Close without waiting for anything; the peer sees it at once."""
        if self._transport is not None:
            self._transport.abort()

    # --- the transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with a transport."""
        self._transport = cast(asyncio.Transport, transport)

    @override
    def data_received(self, data: bytes) -> None:
        """Parse what came."""
        intake = self._intake
        if intake is not None and not (data := intake.passes(data)):
            return
        if not self._busy:  # nobody asked: whatever this is, it must not become the next request's answer
            self.abort()
            return
        self._answered = True
        self._since_body += len(data)
        self._parse(data)
        if self._since_body > MAX_HEAD_BYTES:
            self._fail(UpstreamProtocolError("The headers of the model's server are too large."))
        if self._failure is not None:
            self.abort()
        elif self._chunks and (waiter := self._waiter) is not None:
            self._waiter = None
            if not waiter.done():
                self._tell(waiter)  # once of all that came together
        elif self._chunks and intake is not None and intake.running:
            self._wait(self._idle_s)
            intake.feed(self._taken(), data)
        if self._on_answer is not None:
            self._tell_answer()

    def _parse(self, data: bytes) -> None:
        if not self._head_done:
            self._heard.append(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._fail(error)

    @override
    def eof_received(self) -> None:
        """Let the transport close: a peer that has ended its side takes no further request."""

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Decide what the end means for the exchange."""
        self._transport = None
        if self._busy and not self._complete:
            if exc is None and self._head_done and self._body_ends_with_connection():
                self._complete = True
                self._wake()
            else:
                self.lost_unanswered = not self._answered and self._failure is None
                self._fail(exc or broken_off(within=self._answered))
            if self._on_answer is not None:
                self._tell_answer()
        self._on_lost(self)

    @override
    def pause_writing(self) -> None:
        """Stop handing over pieces of the request's body."""
        self._write_paused = True

    @override
    def resume_writing(self) -> None:
        """Go on with them."""
        self._write_paused = False
        self._send_more()

    def _send_more(self) -> None:
        while self._unsent is not None and not self._write_paused and (transport := self._usable()) is not None:
            piece, rest = self._unsent[:_WRITE_BYTES], self._unsent[_WRITE_BYTES:]
            self._unsent = rest if len(rest) else None
            transport.write(piece)

    # --- the parser

    def on_message_begin(self) -> None:
        """Bytes after a complete response are nobody's answer: don't use the connection again."""
        self._spoiled = self._complete

    def on_headers_complete(self) -> None:
        """Skip interim responses, begin with the final one."""
        status: int = self._parser.get_status_code()
        if self._complete:
            return
        if status < 200:
            return
        # With a body behind it in one piece, only the lines themselves tell how long the head was.
        if self._since_body > MAX_HEAD_BYTES and sum(map(len, itertools.chain(*self.headers))) > MAX_HEAD_BYTES:
            self._fail(UpstreamProtocolError("The headers of the model's server are too large."))
            return
        self.status = status
        self._head_done = True
        if self.silence.limit_s is not None:
            self.silence.end()
        if status == 200 and not self._no_body:  # nearly always
            if self._head_waiter is not None:
                self._wake()
            return
        if status >= 400 and self._unsent is not None:  # refused before it was sent: the rest would only be in the way
            self._unsent = None
            self._spoiled = True
        if self._no_body or status in {204, 304}:
            self._complete = True
            self._keep = not any(name in {b"content-length", b"transfer-encoding"} for name, _ in self.headers)
            self._keep = self._keep and self._parser.should_keep_alive()
        self._wake()

    def on_body(self, data: bytes) -> None:
        """Keep a piece of the body; stop reading when much is held."""
        if self._complete:
            self._spoiled = True
            return
        self._since_body = 0
        self._chunks.append(data)
        if self._waiter is not None or (self._intake is not None and self._intake.running):  # it is told in a moment
            return
        self._held += len(data)
        if self._held > HIGH_WATER_BYTES and not self._read_paused and (transport := self._usable()) is not None:
            self._read_paused = True
            transport.pause_reading()

    def on_message_complete(self) -> None:
        """The end of a response; of an interim one too, which is none."""
        if self._head_done and not self._complete:
            self._complete = True
            self._keep = self._parser.should_keep_alive()
            if self._waiter is not None or self._intake is not None:
                self._wake()

    # --- inside

    def _resume_reading(self) -> None:
        self._read_paused = False
        if (transport := self._usable()) is not None:
            transport.resume_reading()

    def _usable(self) -> asyncio.Transport | None:
        transport = self._transport
        return None if transport is None or transport.is_closing() else transport

    def _body_ends_with_connection(self) -> bool:
        told = dict(self.headers)
        return b"content-length" not in told and b"chunked" not in told.get(b"transfer-encoding", b"").lower()

    def _fail(self, error: Exception) -> None:
        if self._failure is None and not self._complete:
            self._failure = error
            self._wake()
        self._spoiled = True

    def _wake(self) -> None:
        """Whoever waits for the head is to look again; whoever waits for the body is told of it."""
        if self._intake is not None:
            self._intake.stop()
        waiter = self._waiter
        if waiter is not None:
            self._waiter = None
            if not waiter.done():
                self._tell(waiter)
        elif (head := self._head_waiter) is not None:
            self._head_waiter = None
            if not head.done():
                head.set_result(None)

    def _wait(self, idle_s: float | None) -> None:
        if idle_s != self.silence.limit_s:
            self.silence.begin(idle_s)
        self._waiting_since_s = self._loop.time()

    def _waited_s(self) -> float:
        if not self._head_done:  # it runs from the request on, whoever waits; the body's only while somebody does
            return math.inf
        waiter, intake = self._waiter, self._intake
        if intake is not None and intake.running:
            return self._loop.time() - max(self._waiting_since_s, intake.last_s)
        return 0.0 if waiter is None or waiter.done() else self._loop.time() - self._waiting_since_s

    def _silent(self, limit_s: float) -> None:
        self._fail(UpstreamTimeout(f"The model's server sent nothing for {limit_s:.3g} s."))
        self.abort()
