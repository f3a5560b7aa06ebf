"""From a text to its sound by Kokoro: espeak-ng tells the phonemes, sentence by sentence, and the model speaks them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec
from typing_extensions import override

from narthex.core.errors import EngineUnavailable
from narthex.core.ports import Ensure
from narthex.engine.speech import espeak
from narthex.engine.speech.espeak import SpeechEngine
from narthex.engine.speech.kokoro import phonemes
from narthex.engine.speech.kokoro.calls import Kokoro, SpeakCall
from narthex.engine.speech.program import output_of
from narthex.engine.speech.sentences import Sentences
from narthex.engine.speech.speaker import Speaker, all_of

_AT_ONCE = 16
"""Texts that are under way: the model itself speaks a sentence of one of them at a time, and keys take turns there."""
_PAUSES_S = (0.0, 0.05, 0.2, 1.0)
"""Before the process is asked for again: we may see that it ends, or unloads, before the supervisor does."""


class KokoroSpeaker(Speaker):
    """See `Speaker`. The process is started when it isn't there."""

    def __init__(self, engine: SpeechEngine, kokoro: Kokoro, *, child: str, ensure: Ensure) -> None:
        """`engine`: what tells phonemes, and encodes."""
        super().__init__(msgspec.structs.replace(engine, at_once=_AT_ONCE))
        self._kokoro = kokoro
        self._child = child
        self._ensure = ensure

    @override
    async def _made(self, text: str, *, voice: str, speed: float, key: str) -> AsyncGenerator[bytes, None]:
        sentences = Sentences()
        for sentence in (*sentences.feed(text), *sentences.end()):
            for run in await self._runs(sentence):
                yield await self._speak(SpeakCall(phonemes=run, voice=voice, speed=speed, key=key))

    async def _speak(self, call: SpeakCall) -> bytes:
        for pause_s in _PAUSES_S:
            try:
                return await self._kokoro.speak(call)
            except EngineUnavailable:
                await asyncio.sleep(pause_s)
                await self._ensure(self._child)
        return await self._kokoro.speak(call)

    async def _runs(self, sentence: str) -> list[str]:
        clauses = [*phonemes.clauses(sentence)]
        if not clauses:
            return []
        lines = list(filter(None, map(phonemes.plain, (await self._told(sentence)).splitlines())))
        marks = [phonemes.plain(each) for _, each in clauses]
        if len(lines) != len(marks):  # it takes other places for the ends of clauses than we do
            lines, marks = [" ".join(lines)], marks[-1:]
        return [*phonemes.runs(" ".join(map("".join, zip(lines, marks, strict=True))))]

    async def _told(self, text: str) -> str:
        argv = self.engine.phonemes_argv()
        given = all_of(espeak.plain(text))
        async with aclosing(output_of(argv, given, what="speech engine", stall_s=self.engine.stall_s)) as output:
            return b"".join([piece async for piece in output]).decode("utf-8", "replace")
