"""An answer in writing, told as sound: streamed sentence by sentence, or whole when all of it is there.

Rule: only text is spoken; calls of tools, refusals and thoughts are told as they came.
"""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, aclosing
from functools import partial
from typing import Any, Generic, Self, TypeVar

import msgspec

from narthex.core.chat import ChatRequest
from narthex.core.errors import EngineCrashed, EngineError, SpeechFailed
from narthex.core.ports import Stream
from narthex.core.speech import SAMPLE_BYTES, sound_tokens
from narthex.core.stream import AudioDelta, ChoiceFinished, Event, Frame, TextDelta, UsageReported
from narthex.engine.speech.encoder import FORMATS
from narthex.engine.speech.program import Stalled
from narthex.engine.speech.sentences import Sentences
from narthex.engine.speech.speaker import Speaker
from narthex.engine.speech.whole import WholeSound
from narthex.ipc.tasks import TaskSet
from narthex.storage.transcripts import Transcripts, new_id

T = TypeVar("T")

_BEAT_S = 0.25
"""How often a text that is being spoken shows that it is: clocks of who wrote it run meanwhile."""


class _Voice:
    """What one choice has said so far."""

    def __init__(self) -> None:
        self.id = new_id()
        self.said: list[str] = []
        self.sentences = Sentences()
        self.samples = 0


class _Waiting(Generic[T]):
    """Work that is waited for; leaving the block ends it. Its `result` is there after its `beats`."""

    result: T

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work = work
        self._tasks = TaskSet(awaited=True)

    async def __aenter__(self) -> Self:
        self._task = self._tasks.start(self._done())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.aclose()
        self._work.close()  # if it had not even begun

    async def beats(self) -> AsyncGenerator[None, None]:
        """One each moment, until it is done. Raises what it raises."""
        while not (await asyncio.wait({self._task}, timeout=_BEAT_S))[0]:
            yield
        await self._task

    async def _done(self) -> None:
        self.result = await self._work


class Telling:
    """Tells one answer. Use `frames` once."""

    def __init__(
        self, speaker: Speaker, transcripts: Transcripts, request: ChatRequest, *, account: str, key: str
    ) -> None:
        """`key`: whose turns it takes."""
        asked = request.fields["audio"]
        self._speaker = speaker
        self._transcripts = transcripts
        self._account = account
        self._key = key
        self._voice: str = asked["voice"]
        self._format: str = asked["format"]
        self._streams = request.stream
        self._choices: dict[int, _Voice] = {}

    async def frames(self, written: Stream) -> AsyncGenerator[Frame, None]:
        """The same answer with sound in place of text; close it.

        Raises:
            SpeechFailed: it can't be spoken.
            NarthexError: what `written` raises.
        """
        async for frame in written:
            billed = frame.billed or frame.usage
            if not frame.events:
                yield frame
            for event in frame.events:
                async with aclosing(self._told(event)) as told:
                    async for each in told:
                        if each is None:
                            yield Frame.of()
                        else:
                            yield Frame.of(each, billed=billed if isinstance(each, UsageReported) else None)

    async def _told(self, event: Event) -> AsyncGenerator[Event | None, None]:
        """What becomes of an event; None: it is being spoken, and whoever made the text is not to be blamed for it."""
        match event:
            case TextDelta(choice, text):
                if not text:
                    return
                if (voice := self._choices.get(choice)) is None:
                    voice = self._choices[choice] = _Voice()
                    yield AudioDelta(choice=choice, id=voice.id)
                voice.said.append(text)
                yield AudioDelta(choice=choice, transcript=text)
                if self._streams:
                    async with aclosing(self._sounds(choice, voice, voice.sentences.feed(text))) as sounds:
                        async for each in sounds:
                            yield each
            case ChoiceFinished(choice) if choice in self._choices:
                async with aclosing(self._finished(choice, self._choices[choice])) as rest:
                    async for each in rest:
                        yield each
                yield event
            case UsageReported(usage):
                tokens = sum(sound_tokens(voice.samples) for voice in self._choices.values())
                completion = usage.completion_tokens + tokens
                told = msgspec.structs.replace(usage, completion_tokens=completion, completion_audio_tokens=tokens)
                yield UsageReported(told)
            case _:
                yield event

    async def _finished(self, choice: int, voice: _Voice) -> AsyncGenerator[Event | None, None]:
        transcript = "".join(voice.said)
        if self._streams:
            async with aclosing(self._sounds(choice, voice, voice.sentences.end())) as sounds:
                async for each in sounds:
                    yield each
        else:
            async with _Waiting(self._certain(voice, partial(self._whole, voice, transcript))) as waiting:
                async for each in waiting.beats():
                    yield each
                yield AudioDelta(choice=choice, encoded=waiting.result)
        keep = self._transcripts.keep
        expires_at = await asyncio.to_thread(keep, voice.id, transcript, account=self._account)
        yield AudioDelta(choice=choice, expires_at=expires_at)

    async def _sounds(self, choice: int, voice: _Voice, texts: list[str]) -> AsyncGenerator[Event | None, None]:
        """These texts as bare samples; each is a sentence, and whole before it is told: no slow listener has a turn."""
        for text in texts:
            async with _Waiting(self._certain(voice, partial(self._sentence, voice, text))) as waiting:
                async for each in waiting.beats():
                    yield each
                pieces = waiting.result
            for piece in pieces:
                yield AudioDelta(choice=choice, data=piece)

    async def _certain(self, voice: _Voice, speak: Callable[[], Awaitable[T]]) -> T:
        """Once more where the engine ends in the middle: nobody has heard any of it yet.

        Raises:
            SpeechFailed: in vain. Whoever made the text is not to be blamed for that, nor to be asked again.
        """
        counted = voice.samples
        try:
            try:
                return await speak()
            except Stalled:
                raise
            except EngineCrashed:
                voice.samples = counted
                return await speak()
        except EngineError as error:
            raise SpeechFailed(f"The answer was written, but could not be spoken. {error.message}") from error

    async def _sentence(self, voice: _Voice, text: str) -> list[bytes]:
        async with self._speaker.turn(self._key), aclosing(self._samples(voice, text)) as samples:
            return [piece async for piece in samples]

    async def _whole(self, voice: _Voice, text: str) -> bytes:
        """All of it in the format that was asked for, as JSON."""
        told = WholeSound(wav=self._format == "wav")
        async with self._speaker.turn(self._key), AsyncExitStack() as stack:
            sound = await stack.enter_async_context(aclosing(self._samples(voice, text)))
            if self._format in FORMATS:
                sound = await stack.enter_async_context(aclosing(self._speaker.encoded(sound, self._format)))
            async for piece in sound:
                told.feed(piece)
        return told.end()

    async def _samples(self, voice: _Voice, text: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(self._speaker.spoken(text, voice=self._voice, key=self._key, again=False)) as samples:
            async for piece in samples:
                if piece:
                    voice.samples += len(piece) // SAMPLE_BYTES
                    yield piece
