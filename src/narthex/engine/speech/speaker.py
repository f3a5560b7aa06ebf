"""From a text to its sound, piece by piece. See docs/design/speech.md.

Rule: leaving a generator ends the programs behind it; so close every one.
"""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AbstractAsyncContextManager, aclosing
from typing import TYPE_CHECKING

import structlog

from narthex.core.errors import EngineCrashed, EngineUnavailable
from narthex.core.speech import RATE, SAMPLE_BYTES
from narthex.engine.speech.encoder import argv_of
from narthex.engine.speech.espeak import SpeechEngine, plain, stretch_of
from narthex.engine.speech.program import Stalled, output_of
from narthex.engine.speech.turns import Turns

if TYPE_CHECKING:
    from narthex.engine.speech.shaper import Shaper

log = structlog.get_logger(__name__)

LONGEST_S = 3 * 3600
"""Of sound, for one text: more than the longest of them takes in any language, as slowly as may be asked for."""
_SILENCE = bytes(RATE // 10 * SAMPLE_BYTES)
"""What a text says that has nothing to speak, or next to nothing."""


class Speaker:
    """Speaks, and encodes. Few at once: a text keeps a processor busy while it is spoken."""

    def __init__(self, engine: SpeechEngine) -> None:
        self.engine = engine
        self._turns = Turns(
            at_once=engine.at_once, max_waiting=engine.max_waiting, max_waiting_per_key=engine.max_waiting_per_key
        )

    def check_room(self, key: str) -> None:
        """Whether another text of this key may wait for its turn.

        Raises:
            QueueFull: too many do already.
        """
        self._turns.check(key)

    def turn(self, key: str) -> AbstractAsyncContextManager[None]:
        """Wait for one's turn; in the block `spoken` and `encoded` may be used."""
        return self._turns.turn(key)

    async def spoken(
        self, text: str, *, voice: str, key: str, speed: float = 1.0, again: bool = True
    ) -> AsyncGenerator[bytes, None]:
        """Its samples, as `core.speech` has them; at least a moment of silence.

        `again`: an engine that fails before it has said anything is asked once more.

        Raises:
            EngineUnavailable: it can't be started.
            EngineCrashed: it failed, stalled, or never ends.
        """
        size = 0
        while True:
            try:
                async with aclosing(self._made(text, voice=voice, speed=speed, key=key)) as samples:
                    async for piece in samples:
                        size = _longer(size, piece)
                        yield piece
            except EngineCrashed as error:
                if size or not again or isinstance(error, Stalled):
                    raise
                again = False
            else:
                if size < len(_SILENCE):
                    yield _SILENCE[size:]
                return

    async def _made(self, text: str, *, voice: str, speed: float, key: str) -> AsyncGenerator[bytes, None]:
        """The samples, however the engine makes them."""
        argv = self.engine.argv(voice=voice, speed=speed)
        shaper = await asyncio.to_thread(_shaper, stretch_of(speed))
        output = output_of(argv, all_of(plain(text)), what="speech engine", stall_s=self.engine.stall_s)
        async with aclosing(output) as pieces:
            async for piece in pieces:
                yield await asyncio.to_thread(shaper.feed, piece)
        yield await asyncio.to_thread(shaper.end)

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


def _longer(size: int, piece: bytes) -> int:
    """How much sound there is with this piece.

    Raises:
        EngineCrashed: more than anybody listens to.
    """
    size += len(piece)
    if size > LONGEST_S * RATE * SAMPLE_BYTES:
        raise EngineCrashed(f"The speech engine made more than {LONGEST_S:g} s of sound.")
    return size


def _shaper(stretch: float) -> "Shaper":
    os.putenv("OPENBLAS_NUM_THREADS", "1")  # as before a search: more of them wait for each other by spinning
    from narthex.engine.speech.shaper import Shaper  # noqa: PLC0415 - numpy: a worker that never speaks stays light

    return Shaper(stretch)


async def all_of(data: bytes) -> AsyncIterator[bytes]:
    """What a program gets that gets all at once."""
    yield data
