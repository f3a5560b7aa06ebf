"""Answers in writing that are told as sound, while who speaks takes long. The rest is tried with whole servers."""

import asyncio
import base64
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager
from typing import Any

import pytest
from tests.written_requests import chat

from narthex.core.errors import EngineCrashed, EngineError, EngineUnavailable, SpeechFailed, UpstreamUnavailable
from narthex.core.stream import AudioDelta, ChoiceFinished, ChoiceStarted, Frame, TextDelta
from narthex.engine.speech import telling
from narthex.engine.speech.program import Stalled
from narthex.engine.speech.telling import Telling
from narthex.routing.health import is_fault
from narthex.routing.retry import moves_on

pytestmark = pytest.mark.anyio

WRITTEN = (ChoiceStarted(0), TextDelta(0, "One. Two."), ChoiceFinished(0, "stop"))


class Speaker:
    """Speaks when it may. `left`: how many texts were given up. `faults`: what the next end with, in the middle."""

    def __init__(self, *faults: Exception) -> None:
        self.may = asyncio.Event()
        self.left = 0
        self._faults = list(faults)

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        assert key == "k"
        try:
            await self.may.wait()
            yield
        except asyncio.CancelledError:
            self.left += 1
            raise

    async def spoken(self, text: str, *, voice: str, key: str, again: bool) -> AsyncGenerator[bytes, None]:
        assert (key, again) == ("k", False)  # it is told only when it is whole
        yield text[:2].encode()
        if self._faults:
            raise self._faults.pop(0)
        yield text[2:].encode()


class Transcripts:
    def keep(self, _name: str, _transcript: str, *, account: str) -> int:
        return 99


async def written() -> AsyncIterator[Frame]:
    for event in WRITTEN:
        yield Frame.of(event)


def heard(frame: Frame) -> bytes:
    deltas = [event for event in frame.events if isinstance(event, AudioDelta)]
    return b"".join(event.data + base64.b64decode(event.encoded.strip(b'"')) for event in deltas)


def told(speaker: Speaker, *, stream: bool) -> AsyncGenerator[Frame, None]:
    sound = {"modalities": ["audio"], "audio": {"voice": "alloy", "format": "pcm16"}, "stream": stream}
    made: Any = Telling(speaker, Transcripts(), chat(**sound), account="a", key="k")  # type: ignore[arg-type]
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
            sound += heard(frame)
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
@pytest.mark.parametrize(
    "fault", [EngineCrashed("It broke."), EngineUnavailable("It broke."), Stalled("It broke.")], ids=repr
)
async def test_what_can_t_be_spoken_is_no_fault_of_who_wrote_it(stream: bool, fault: EngineError) -> None:
    speaker = Speaker(fault, EngineCrashed("It broke."))
    speaker.may.set()
    async with aclosing(told(speaker, stream=stream)) as frames:
        with pytest.raises(SpeechFailed, match=r"was written, but could not be spoken. It broke.") as raised:
            _ = [frame async for frame in frames]
    assert not is_fault(raised.value)
    assert not moves_on(raised.value)  # the text would be paid for again
    assert len(speaker._faults) == (not isinstance(fault, EngineCrashed) or isinstance(fault, Stalled))


@pytest.mark.parametrize("stream", [True, False])
async def test_an_engine_that_ends_in_the_middle_is_started_again(stream: bool) -> None:
    speaker = Speaker(EngineCrashed())
    speaker.may.set()
    async with aclosing(told(speaker, stream=stream)) as frames:
        all_told = [frame async for frame in frames]
    assert b"".join(map(heard, all_told)) == b"One. Two."


async def test_what_its_text_ends_with_is_passed_on() -> None:
    async def broken() -> AsyncIterator[Frame]:
        yield Frame.of(ChoiceStarted(0))
        raise UpstreamUnavailable

    sound = {"modalities": ["audio"], "audio": {"voice": "alloy", "format": "pcm16"}}
    telling: Any = Telling(Speaker(), Transcripts(), chat(**sound), account="a", key="k")  # type: ignore[arg-type]
    with pytest.raises(UpstreamUnavailable):
        _ = [frame async for frame in telling.frames(broken())]
