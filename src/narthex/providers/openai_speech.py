"""OpenAI's speech as a provider speaks it: requests to it, and its answers to frames. No I/O.

Source: contract section 11. Its sound is passed on as it comes; of its events the pieces and the usage are read.
"""

import binascii
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from narthex.core.capabilities import Capabilities, State
from narthex.core.errors import UpstreamError, UpstreamProtocolError
from narthex.core.ports import Request
from narthex.core.speech import SpeechRequest, text_tokens
from narthex.core.stream import Frame, SoundDelta, Usage, UsageReported
from narthex.providers.codec import UsualCodec, of_kind
from narthex.providers.openai_errors import parse_error, stream_error
from narthex.wire.json import UNREADABLE
from narthex.wire.sse import SseDecoder

PATH = "/audio/speech"
MAX_EVENT_BYTES = 16 * 1024 * 1024

HONOURED: Capabilities = dict.fromkeys(
    ("model", "input", "voice", "response_format", "speed", "instructions", "stream_format"), State.NATIVE
)


class OpenAISpeech(UsualCodec):
    """See `Codec`."""

    path = PATH

    def build(self, request: Request, *, model: str) -> bytes:
        """See `Codec.build`."""
        return msgspec.json.encode({**of_kind(request, SpeechRequest).sent, "model": model})

    def decoder(self, request: Request) -> "SoundDecoder | EventDecoder":
        """See `Codec.decoder`."""
        asked = of_kind(request, SpeechRequest)
        return EventDecoder() if asked.sse else SoundDecoder(asked)

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """See `Codec.parse_error`."""
        return parse_error(status, list(headers), body)

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return HONOURED


class SoundDecoder:
    """Takes an answer that is the sound itself. It tells no usage: what was read is counted by its length."""

    def __init__(self, request: SpeechRequest) -> None:
        self._request = request
        self._heard = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """What came."""
        self._heard = True
        yield Frame.of(SoundDelta(data))

    def end(self) -> Iterator[Frame]:
        """The usage, as far as it is known.

        Raises:
            UpstreamProtocolError: nothing came at all.
        """
        if not self._heard:
            raise UpstreamProtocolError("The model's server answered without a sound.")
        yield Frame.of(UsageReported(Usage(prompt_tokens=text_tokens(self._request.input))))


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None


class _Event(msgspec.Struct):
    type: str = ""
    audio: str | None = None
    usage: _Usage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event).decode


class EventDecoder:
    """Takes an answer in events. Those of other types are skipped."""

    def __init__(self) -> None:
        self._sse = SseDecoder(MAX_EVENT_BYTES)
        self._done: Usage | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with `data`; go through all of them.

        Raises:
            UpstreamError: the server reported an error, after the frames that came before it.
            UpstreamProtocolError: what it sent can't be read.
        """
        for event in self._sse.feed(data):
            if event.data != b"[DONE]" and (sound := self._sound(event.data)):
                yield Frame.of(SoundDelta(sound))

    def end(self) -> Iterator[Frame]:
        """The usage.

        Raises:
            UpstreamProtocolError: the end was not told.
        """
        if self._done is None:
            raise UpstreamProtocolError("The model's server ended its answer before it was complete.")
        yield Frame.of(UsageReported(self._done))

    def _sound(self, data: bytes) -> bytes:
        try:
            event = _event(data)
            sound = binascii.a2b_base64(event.audio or "", strict_mode=True)
        except (*UNREADABLE, ValueError) as error:
            raise UpstreamProtocolError from error
        if event.error:
            raise stream_error(event.error)
        if event.type == "speech.audio.done":
            used = event.usage or _Usage()
            self._done = Usage(prompt_tokens=used.input_tokens or 0, completion_tokens=used.output_tokens or 0)
        return sound if event.type == "speech.audio.delta" else b""
