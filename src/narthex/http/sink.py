"""A caller's end of a stream: frames as they come, and comments where none come."""

import asyncio
from types import AsyncGeneratorType
from typing import Self, cast

from narthex.core.ports import Sink, Stream, StreamEncoder
from narthex.core.stream import Frame, Splice
from narthex.http.asgi import Direct, Headers
from narthex.http.exchange import Exchange
from narthex.ipc.tasks import TaskSet
from narthex.wire import sse


class Pings:
    """Sends a comment into a stream that was silent all through a period."""

    def __init__(self, exchange: Exchange, *, every_s: float, sends: bool = True) -> None:
        """`sends` False: the stream has no place for a comment."""
        self.due = False
        """Cleared by whoever writes."""
        self._exchange = exchange
        self._every_s = every_s
        self._sends = sends
        self._tasks = TaskSet()

    def __enter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._every_s, self._ring)
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._tasks.cancel()

    def _ring(self) -> None:
        direct = self._exchange.direct
        if self.due and self._sends and self._exchange.begun and (direct is None or direct.quiet):
            self._tasks.start(self._exchange.send(sse.PING))
        self.due = True
        if direct is not None:
            direct.quiet = True
        self._timer = self._loop.call_later(self._every_s, self._ring)


class CallersSink:
    """Writes a stream to a caller, its head before its first event. See `Sink`."""

    __slots__ = ("_direct", "_exchange", "_head", "_pings", "encoder", "pass_on")

    def __init__(
        self, exchange: Exchange, direct: Direct, encoder: StreamEncoder, *, pings: Pings, head: Headers
    ) -> None:
        self._exchange = exchange
        self._direct = direct
        self._pings = pings
        self._head = head
        self.encoder = encoder
        self.pass_on = direct.pass_on

    def take(self, frame: Frame) -> bool:
        """See `Sink`."""
        if data := self.encoder.encode(frame):
            if not self._exchange.status:
                self._exchange.begin_stream(self._direct, self._head)
            self._pings.due = False
            self._direct.write(data, more=True)
        return not self._direct.clogged

    def alike(self, frame: Frame) -> Splice | None:
        """See `Sink`."""
        return self.encoder.alike(frame) if self._direct.flows else None

    def end(self) -> None:
        """Write what comes after the last frame. Raises as `StreamEncoder.end`."""
        end = self.encoder.end()
        if not self._exchange.status:
            self._exchange.begin_stream(self._direct, self._head)
        self._exchange.ended = True
        self._direct.write(end, more=False)

    def leave(self) -> None:
        """Somebody else writes from now on, or nobody."""
        self._pings.__exit__()


async def next_frame(frames: Stream, sink: Sink | None) -> Frame | None:
    """The next frame to write, None at the end. With a sink it follows what was written there."""
    if sink is None or not isinstance(frames, AsyncGeneratorType):
        return await anext(frames, None)
    try:
        return cast(Frame, await frames.asend(sink))
    except StopAsyncIteration:
        return None
