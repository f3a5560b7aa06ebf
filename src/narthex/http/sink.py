"""A caller's end of a stream: frames as they come, and comments where none come."""

import asyncio
from types import AsyncGeneratorType
from typing import Self, cast

from narthex.core.ports import Sink, Stream, StreamEncoder
from narthex.core.stream import Frame, Splice
from narthex.http.asgi import Direct
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
    """Writes to a caller whose stream has begun. See `Sink`."""

    __slots__ = ("_direct", "_encoder", "_pings", "pass_on")

    def __init__(self, direct: Direct, encoder: StreamEncoder, pings: Pings) -> None:
        self._direct = direct
        self._encoder = encoder
        self._pings = pings
        self.pass_on = direct.pass_on

    def take(self, frame: Frame) -> bool:
        """See `Sink`."""
        if data := self._encoder.encode(frame):
            self._pings.due = False
            self._direct.write(data, more=True)
        return not self._direct.clogged

    def alike(self, frame: Frame) -> Splice | None:
        """See `Sink`."""
        return self._encoder.alike(frame) if self._direct.flows else None


async def next_frame(frames: Stream, sink: Sink | None) -> Frame | None:
    """The next frame to write, None at the end. With a sink it follows what was written there."""
    if sink is None or not isinstance(frames, AsyncGeneratorType):
        return await anext(frames, None)
    try:
        return cast(Frame, await frames.asend(sink))
    except StopAsyncIteration:
        return None
