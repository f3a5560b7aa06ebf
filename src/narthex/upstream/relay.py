"""An answer that only goes on, from its connection to its caller without waking anybody. Source: ARCHITECTURE D2, D4.

Rule: it never decides. Whatever does more than going on (a finish, the usage, an error, the end) is left for whoever
asks for the next frame, and so is what comes while the caller reads too slowly.
"""

import asyncio
from collections.abc import Iterator
from itertools import chain
from typing import Protocol

from narthex.core.ports import Sink
from narthex.core.stream import Frame, Pulse
from narthex.wire.shortcut import Shortcut, is_alone, shortcut


class Feeding(Protocol):
    """The part of a decoder that is used here."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes."""
        ...


class Relay:
    """What a body is fed to meanwhile; see `Intake`. `rest`: frames that were decoded, and not taken."""

    __slots__ = ("_decoder", "_now", "_pulse", "_shortcut", "_sink", "_used", "ended", "rest", "running")

    def __init__(self, decoder: Feeding, sink: Sink, pulse: Pulse, *, loop: asyncio.AbstractEventLoop) -> None:
        self._decoder = decoder
        self._sink = sink
        self._pulse = pulse
        self._now = loop.time
        self._shortcut: Shortcut | None = None
        self._used: Shortcut | None = None
        """The last one; a piece that had to be read says whether it still holds."""
        self.running = True
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done once it has stopped, with what went wrong while it took something."""
        self.rest: Iterator[Frame] = iter(())

    @property
    def last_s(self) -> float:
        """See `Intake`."""
        return self._pulse.last_s

    def passes(self, piece: bytes) -> bytes:
        """See `Intake`."""
        shortcut = self._shortcut
        if shortcut is None:
            return piece
        chunk = shortcut.told(piece)
        if chunk is not None:
            self._pass_on(chunk, 1)
            return b""
        chunks, rest = shortcut.told_of_several(piece)
        if chunks:
            self._pass_on(b"".join(chunks), len(chunks))
        if rest:
            self._shortcut = None
        return rest

    def _pass_on(self, chunks: bytes, count: int) -> None:
        pulse = self._pulse
        pulse.pieces += count
        pulse.last_s = self._now()
        if not self._sink.pass_on(chunks):
            self.stop()

    def feed(self, body: bytes, piece: bytes) -> None:
        """See `Intake`."""
        try:
            frame = self.take(self._decoder.feed(body))
        except Exception as error:  # noqa: BLE001 - raised in the task that waits
            self.stop(error)
            return
        if frame is not None and frame.goes_on and is_alone(body, frame.data):
            self._shortcut = self._used = self._for(frame, piece, body)

    def take(self, frames: Iterator[Frame]) -> Frame | None:
        """Give the sink what only goes on. The last of that, if more may follow it."""
        last = None
        for frame in frames:
            if frame.finishes or frame.usage is not None:
                self.rest = chain((frame,), frames)
                self.stop()
                return None
            self._pulse.pieces += 1
            self._pulse.last_s = self._now()
            if not self._sink.take(frame):
                self.rest = frames
                self.stop()
                return None
            last = frame
        return last

    def stop(self, error: Exception | None = None) -> None:
        """See `Intake`."""
        self.running = False
        self._shortcut = None
        if self.ended.done():
            return
        if error is None:
            self.ended.set_result(None)
        else:
            self.ended.set_exception(error)

    def _for(self, frame: Frame, piece: bytes, body: bytes) -> Shortcut | None:
        """The shortcut for pieces like that of a frame, which came alone."""
        splice = self._sink.alike(frame)
        if splice is None:
            return None
        used = self._used
        if used is not None and used.splice is splice and used.told(piece) is not None:
            return used
        return shortcut(splice, piece=piece, body=body)
