"""From a text to its sound, piece by piece. See docs/design/speech.md.

Rule: leaving a generator ends the programs behind it; so close every one.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING

import structlog

from narthex.core.errors import EngineCrashed, EngineUnavailable, QueueFull
from narthex.core.speech import RATE, SAMPLE_BYTES
from narthex.engine.speech.encoder import argv_of
from narthex.engine.speech.espeak import SpeechEngine, plain, stretch_of
from narthex.engine.speech.program import output_of

if TYPE_CHECKING:
    from narthex.engine.speech.shaper import Shaper

log = structlog.get_logger(__name__)

LONGEST_S = 3600
"""Of sound, for one text: more than anybody listens to."""
_RETRY_S = 5
_SILENCE = bytes(RATE // 10 * SAMPLE_BYTES)
"""What a text says that has nothing to speak."""


class Speaker:
    """Speaks, and encodes. Few at once: a text keeps a processor busy while it is spoken."""

    def __init__(self, engine: SpeechEngine) -> None:
        self.engine = engine
        self._room = asyncio.Semaphore(engine.at_once)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for one's turn; in the block `spoken` and `encoded` may be used.

        Raises:
            QueueFull: too many wait already.
        """
        if self._waiting >= self.engine.max_waiting:
            raise QueueFull("Too many texts wait to be spoken already.", retry_after_s=_RETRY_S)
        self._waiting += 1
        try:
            await self._room.acquire()
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._room.release()

    async def spoken(self, text: str, *, voice: str, speed: float = 1.0) -> AsyncGenerator[bytes, None]:
        """Its samples, as `core.speech` has them; at least a moment of silence.

        Raises:
            EngineUnavailable: the program can't be started.
            EngineCrashed: it failed, stalled, or never ends.
        """
        argv = self.engine.argv(voice=voice, speed=speed)
        shaper = await asyncio.to_thread(_shaper, stretch_of(speed))
        size = 0
        output = output_of(argv, _once(plain(text)), what="speech engine", stall_s=self.engine.stall_s)
        async with aclosing(output) as pieces:
            async for piece in pieces:
                if samples := await asyncio.to_thread(shaper.feed, piece):
                    size += len(samples)
                    if size > LONGEST_S * RATE * SAMPLE_BYTES:
                        raise EngineCrashed("The speech engine does not come to an end.")
                    yield samples
        yield await asyncio.to_thread(shaper.end) or (b"" if size else _SILENCE)

    async def encoded(self, samples: AsyncIterator[bytes], name: str) -> AsyncGenerator[bytes, None]:
        """Samples in another format, a name of `encoder.FORMATS`.

        Raises:
            EngineUnavailable, EngineCrashed: as above, of the encoder.
        """
        if not self.engine.encodes:
            raise EngineUnavailable("The encoders of the extra `narthex[speech]` are not installed.")
        output = output_of(argv_of(name), samples, what="encoder", stall_s=self.engine.stall_s)
        async with aclosing(output) as pieces:
            async for piece in pieces:
                yield piece


def _shaper(stretch: float) -> "Shaper":
    os.putenv("OPENBLAS_NUM_THREADS", "1")  # as before a search: more of them wait for each other by spinning
    from narthex.engine.speech.shaper import Shaper  # noqa: PLC0415 - numpy: a worker that never speaks stays light

    return Shaper(stretch)


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data
