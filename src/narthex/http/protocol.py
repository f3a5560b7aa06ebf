"""uvicorn's HTTP protocol with what each request costs cut down: one write for an answer's head and the first of its
body, no task that only waits for the caller to leave, no timer and no event that is made for each request.

An application is called as ASGI says. Ours reads the same request and writes its answer without messages (`Direct`).
All that belongs to connections stays uvicorn's: parsing, keep-alive, pipelining, flow control, shutdown.
"""

import asyncio
from collections.abc import Collection
from functools import partial
from typing import Any

import httptools
from typing_extensions import override
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from narthex.http.asgi import DIRECT, ON_LOST, Rest
from narthex.http.cycle import Cycle
from narthex.http.heads import Head, head_of
from narthex.http.lines import parsed
from narthex.ipc.turns import turns_of

_MOST_LESSONS = 4
_MOST_BEHIND = 16
"""Requests behind one that runs, before no more is read: from then on nobody hears of a caller who leaves."""
_ASGI = {"version": "3.0", "spec_version": "2.3"}


class _Flow(FlowControl):
    """One connection's, which is not read on while too many requests wait there: each read may bring thousands."""

    def __init__(self, transport: asyncio.Transport, behind: Collection[object]) -> None:
        super().__init__(transport)
        self._behind = behind

    @override
    def resume_reading(self) -> None:
        if self.read_paused and len(self._behind) < _MOST_BEHIND:
            super().resume_reading()


class Protocol(HttpToolsProtocol):
    """One connection of a caller."""

    cycle: Cycle | None  # type: ignore[assignment]
    _idle_since_s: float | None = None
    _fresh: Cycle | None = None
    """A request that came just now."""
    _task: asyncio.Task[None] | None = None
    """Answers the requests of this connection, one after the other."""
    _head: Head | None = None
    """Of the request before, if it may be recognised."""
    _lessons = _MOST_LESSONS
    """How many more heads are looked at; whoever sends another one each time is not learnt from."""
    _between = True
    """Nothing came yet of a further request."""
    _next: tuple[RequestResponseCycle, Any] | None = None
    _rests: asyncio.Future[None] | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A caller is here."""
        super().connection_made(transport)  # type: ignore[arg-type]
        self.flow = _Flow(self.transport, self.pipeline)
        self._turns = turns_of(self.loop)

    @override
    def data_received(self, data: bytes) -> None:
        """Parse what came, unless it is the request before with another body."""
        self._idle_since_s = None
        head, before, between = self._head, self.cycle, self._between
        if (
            head is not None
            and between
            and (before is None or before.response_complete)
            and (body := head.body(data)) is not None
        ):
            self._came_again(head, body)
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            told = "Invalid HTTP request received."
            self.logger.warning(told)
            self.send_400_response(told)
        except httptools.HttpParserUpgrade:
            self._unsupported_upgrade_warning()
        if (cycle := self._fresh) is not None:
            if between and self._between and self._lessons and cycle is self.cycle and cycle.keep_alive:
                self._lessons -= 1
                self._head = cycle.head = head_of(data, cycle.scope, cycle.named)
            self._fresh = None
            self._turns.take(partial(self._begin, cycle))

    def _came_again(self, head: Head, body: bytes) -> None:
        scope = head.scope()
        self.cycle = cycle = Cycle(self, scope, head.named, keep_alive=True, go_on=self._go_on)
        scope["extensions"] = {ON_LOST: cycle.on_lost, DIRECT: cycle}
        cycle.head, cycle.more_body = head, False
        cycle.arrived(body)
        self._turns.take(partial(self._begin, cycle))

    @override
    def on_message_begin(self) -> None:
        """A request begins."""
        self._between = False
        self.url = b""
        self.headers = []

    @override
    def on_header(self, name: bytes, value: bytes) -> None:
        """Note it; once all are here they are looked at."""
        self.headers.append((name.lower(), value))

    @override
    def on_headers_complete(self) -> None:
        """Begin with the request: as uvicorn's own, for an application without a root path, web sockets and limits."""
        parser = self.parser
        version = parser.get_http_version()
        path, raw_path, query = parsed(self.url)
        scope: dict[str, Any] = {
            "type": "http",
            "asgi": _ASGI,
            "http_version": version,
            "method": parser.get_method().decode("ascii"),
            "scheme": self.scheme,
            "path": path,
            "raw_path": raw_path,
            "query_string": query,
            "root_path": "",
            "headers": self.headers,
            "client": self.client,
            "server": self.server,
        }
        named = dict(reversed(self.headers))
        before = self.cycle
        keep_alive = version != "1.0" and parser.should_keep_alive()
        self.cycle = cycle = Cycle(self, scope, named, keep_alive=keep_alive, go_on=self._go_on)
        scope["extensions"] = {ON_LOST: cycle.on_lost, DIRECT: cycle}
        if before is None or before.response_complete:
            self._fresh = cycle  # begun once all is read of it that came
        else:
            cycle.before = before
            self.pipeline.appendleft((cycle, self.app))
            if len(self.pipeline) >= _MOST_BEHIND:
                self.flow.pause_reading()

    def _begin(self, cycle: Cycle) -> None:
        """Without a task, if the application can."""
        begin = getattr(self.app, "begin", None)
        if begin is None or cycle.more_body or not begin(cycle.scope, cycle):
            self._start_asgi_task(cycle, self.app)

    def _go_on(self, cycle: Cycle, rest: Rest) -> None:
        self._start_asgi_task(cycle, lambda *_: rest())

    @override
    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self._next = (cycle, app)
        if self._task is None or self._task.done():
            self._task = self.loop.create_task(self._answer())
            self._task.add_done_callback(self.tasks.discard)
            self.tasks.add(self._task)
        elif self._rests is not None and not self._rests.done():
            self._rests.set_result(None)

    async def _answer(self) -> None:
        """A task for each request would cost as much as reading it."""
        while self._next is not None:
            cycle, app = self._next
            self._next = None
            await cycle.run_asgi(app)
            del cycle  # or it would be kept while nothing is asked
            if self._is_at_rest():
                self._rests = self.loop.create_future()
                await self._rests

    def _is_at_rest(self) -> bool:
        return self._next is None and not self.transport.is_closing()

    @override
    def on_body(self, body: bytes) -> None:
        """Hand it to the request, unless that was answered already."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.arrived(body)

    @override
    def on_message_complete(self) -> None:
        """The request is here whole."""
        self._between = True
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            cycle.more_body = False
            cycle.tell()

    @override
    def on_response_complete(self) -> None:
        """Go on with the next request, or wait for one."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        following = self.pipeline.pop() if self.pipeline else None
        self.flow.resume_reading()
        if following is not None:
            self._start_asgi_task(*following)
            return
        self._idle_since_s = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self._look_again(self.timeout_keep_alive)

    def _look_again(self, after_s: float) -> None:
        self.timeout_keep_alive_task = self.loop.call_later(after_s, self.timeout_keep_alive_handler)

    @override
    def timeout_keep_alive_handler(self) -> None:
        """Close, if nothing came for so long. One timer for many requests: it looks again where it rings too early."""
        self.timeout_keep_alive_task = None
        if self._idle_since_s is None or self.transport.is_closing():
            return
        left_s = self._idle_since_s + self.timeout_keep_alive - self.loop.time()
        if left_s > 0:
            self._look_again(left_s)
        else:
            self.transport.close()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the running request, and those that wait behind it."""
        self.connections.discard(self)
        self.flow.resume_writing()
        if exc is None:
            self.transport.close()
        self._unset_keepalive_if_required()
        self.parser = None  # type: ignore[assignment]
        if self.cycle is not None:
            self.cycle.lost()
        if self._rests is not None and not self._rests.done():
            self._rests.set_result(None)
