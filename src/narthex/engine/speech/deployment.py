"""The speech engine of this server as a deployment of `/v1/audio/speech`."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from typing import Any

from narthex.core.capabilities import Capabilities, Limited, State, Verdict
from narthex.core.deployments import Local
from narthex.core.errors import EngineUnavailable, UnsupportedParameter
from narthex.core.ports import Call, Opened, Stream
from narthex.core.speech import RATE, SAMPLE_BYTES, SpeechRequest, sound_tokens, text_tokens, wav_header
from narthex.core.stream import Frame, SoundDelta, Usage, UsageReported
from narthex.engine.speech.encoder import FORMATS
from narthex.engine.speech.espeak import NAME
from narthex.engine.speech.speaker import Speaker
from narthex.engine.speech.spool import Shelf, Spool
from narthex.ipc.tasks import TaskSet

NOT_INSTALLED = (
    "No speech engine is installed here: install espeak-ng, or the extra `narthex[speech]` (docs/howto/speech.md)."
)
_NO_ENCODERS = "This needs the extra `narthex[speech]`, which is not installed here; 'wav' and 'pcm' do not."


def _simple(value: Any) -> None:
    if value in FORMATS:
        raise Verdict("response_format", _NO_ENCODERS)


def honoured(*, encodes: bool) -> Capabilities:
    """What the engine honours; `instructions` are refused. `encodes`: the encoders are installed."""
    return {
        **dict.fromkeys(("model", "input", "voice", "speed", "stream_format"), State.NATIVE),
        "response_format": State.NATIVE if encodes else Limited(limits="wav and pcm only", check=_simple),
    }


class SpeechDeployment(Local):
    """Speaks what it is given. `speaker` None: there is nothing here to speak with."""

    def __init__(self, speaker: Speaker | None, *, name: str = NAME, shelf: Shelf | None = None) -> None:
        """`shelf`: for what is made sooner than it is heard."""
        encodes = speaker is None or speaker.engine.encodes
        super().__init__(name, surface="speech", honoured=honoured(encodes=encodes))
        self._speaker = speaker
        self._shelf = shelf or Shelf(None)

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        request = call.request
        assert isinstance(request, SpeechRequest)  # noqa: S101 - the router asks for no other surface
        if self._speaker is None:
            raise EngineUnavailable(NOT_INSTALLED)
        if request.response_format in FORMATS and not self._speaker.engine.encodes:  # also where nobody named one
            raise UnsupportedParameter(_NO_ENCODERS, param="response_format", code="unsupported_value")
        key = call.principal.key.id
        self._speaker.check_room(key)
        spool, tasks = Spool(self._shelf, key=key), TaskSet(awaited=True)
        sound = _Sound(request, self._speaker, key=key, shelf=self._shelf)
        tasks.start(sound.put(spool))
        try:
            async with aclosing(_frames(spool, sound)) as frames:
                yield frames
        finally:
            try:
                await tasks.aclose()
            finally:  # also where who leaves is told twice to
                await spool.aclose()


async def _frames(spool: Spool, sound: "_Sound") -> AsyncGenerator[Frame, None]:
    async with aclosing(spool.pieces()) as pieces:
        async for piece in pieces:
            yield Frame.of(SoundDelta(piece))
    yield Frame.of(UsageReported(sound.used))


class _Sound:
    """One text, spoken in its turn and as it was asked for."""

    def __init__(self, request: SpeechRequest, speaker: Speaker, *, key: str, shelf: Shelf) -> None:
        self._request = request
        self._speaker = speaker
        self._key = key
        self._shelf = shelf
        self._counted = _Counted(speaker.spoken(request.input, voice=request.voice, speed=request.speed, key=key))

    @property
    def used(self) -> Usage:
        """So far."""
        tokens = sound_tokens(self._counted.size // SAMPLE_BYTES)
        return Usage(prompt_tokens=text_tokens(self._request.input), completion_tokens=tokens)

    async def put(self, spool: Spool) -> None:
        """Make all of it, as fast as that goes."""
        try:
            async with self._speaker.turn(self._key):
                self._shelf.check(self._key)
                await self._put(spool)
        except Exception as error:  # noqa: BLE001 - raised where the sound is read
            spool.end(error)
        else:
            spool.end()

    async def _put(self, spool: Spool) -> None:
        name = self._request.response_format
        async with AsyncExitStack() as stack:
            samples = await stack.enter_async_context(aclosing(self._counted.samples()))
            if name in FORMATS:
                samples = await stack.enter_async_context(aclosing(self._speaker.encoded(samples, name)))
            head = wav_header(RATE) if name == "wav" else b""
            async for piece in samples:
                await spool.put(head + piece)
                head = b""


class _Counted:
    """Samples that are counted on their way. `size` in bytes."""

    def __init__(self, samples: AsyncGenerator[bytes, None]) -> None:
        self._samples = samples
        self.size = 0

    async def samples(self) -> AsyncGenerator[bytes, None]:
        """The same."""
        async with aclosing(self._samples) as samples:
            async for piece in samples:
                self.size += len(piece)
                if piece:
                    yield piece
