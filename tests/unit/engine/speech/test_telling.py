"""Answers in writing that are told as sound, while who speaks takes long. The rest is tried with whole servers."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from tests.written_requests import chat

from narthex.core.errors import EngineCrashed
from narthex.core.stream import AudioDelta, ChoiceFinished, ChoiceStarted, Frame, TextDelta
from narthex.engine.speech import telling
from narthex.engine.speech.telling import Telling

pytestmark = pytest.mark.anyio

WRITTEN = (ChoiceStarted(0), TextDelta(0, "One. Two."), ChoiceFinished(0, "stop"))


class Speaker:
    """Speaks when it may. `left`: how many texts were given up."""

    def __init__(self, *, fails: bool = False) -> None:
        self.may = asyncio.Event()
        self.left = 0
        self._fails = fails

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        try:
            await self.may.wait()
            yield
        except asyncio.CancelledError:
            self.left += 1
            raise

    async def spoken(self, text: str, *, voice: str) -> AsyncGenerator[bytes, None]:
        if self._fails:
            raise EngineCrashed
        yield text.encode()


class Transcripts:
    def keep(self, _name: str, _transcript: str, *, account: str) -> int:
        return 99


async def written() -> AsyncIterator[Frame]:
    for event in WRITTEN:
        yield Frame.of(event)


def told(speaker: Speaker, *, stream: bool) -> AsyncGenerator[Frame, None]:
    sound = {"modalities": ["audio"], "audio": {"voice": "alloy", "format": "pcm16"}, "stream": stream}
    made: Any = Telling(speaker, Transcripts(), chat(**sound), account="a")  # type: ignore[arg-type]
    frames: AsyncGenerator[Frame, None] = made.frames(written())
    return frames


@pytest.mark.parametrize("stream", [True, False])
async def test_waiting_for_sound_shows(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the clocks of who wrote the text would run out, and it would be asked again."""
    monkeypatch.setattr(telling, "_BEAT_S", 0.01)
    speaker, beats, sound = Speaker(), 0, b""
    async with aclosing(told(speaker, stream=stream)) as frames:
        async for frame in frames:
            beats += not frame.events
            sound += b"".join(event.data for event in frame.events if isinstance(event, AudioDelta))
            if beats == 3:
                speaker.may.set()
    assert beats >= 3
    assert sound == b"One. Two."


@pytest.mark.parametrize("stream", [True, False])
async def test_who_leaves_meanwhile_ends_it(stream: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telling, "_BEAT_S", 0.01)
    speaker = Speaker()
    async with aclosing(told(speaker, stream=stream)) as frames:
        while (await anext(frames)).events:
            pass
    assert speaker.left == 1


async def test_work_that_never_began_is_left_too() -> None:
    async with telling._Waiting(asyncio.sleep(100)):
        pass


@pytest.mark.parametrize("stream", [True, False])
async def test_what_fails_is_told(stream: bool) -> None:
    speaker = Speaker(fails=True)
    speaker.may.set()
    async with aclosing(told(speaker, stream=stream)) as frames:
        with pytest.raises(EngineCrashed):
            _ = [frame async for frame in frames]
