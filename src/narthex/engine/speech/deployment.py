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

    def __init__(self, speaker: Speaker | None, *, name: str = NAME) -> None:
        encodes = speaker is None or speaker.engine.encodes
        super().__init__(name, surface="speech", honoured=honoured(encodes=encodes))
        self._speaker = speaker

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
        async with self._speaker.turn(), aclosing(_frames(request, self._speaker)) as frames:
            yield frames


async def _frames(request: SpeechRequest, speaker: Speaker) -> AsyncGenerator[Frame, None]:
    counted = _Counted(speaker.spoken(request.input, voice=request.voice, speed=request.speed))
    name = request.response_format
    async with AsyncExitStack() as stack:
        samples = await stack.enter_async_context(aclosing(counted.samples()))
        if name in FORMATS:
            samples = await stack.enter_async_context(aclosing(speaker.encoded(samples, name)))
        head = wav_header(RATE) if name == "wav" else b""
        async for piece in samples:
            yield Frame.of(SoundDelta(head + piece))
            head = b""
    used = Usage(prompt_tokens=text_tokens(request.input), completion_tokens=sound_tokens(counted.size // SAMPLE_BYTES))
    yield Frame.of(UsageReported(used))


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
