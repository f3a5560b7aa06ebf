"""`/v1/audio/speech`: a text, read aloud. Source: contract section 11.

The answer is the sound itself, in chunks as it is made; or, with `stream_format: "sse"`, events `speech.audio.delta`
with pieces of it in base64, and `speech.audio.done` with the usage. Neither has an end mark.
"""

import binascii
from collections.abc import Sequence
from typing import Any

from narthex.core.errors import NarthexError
from narthex.core.ports import Call, Decoded, Surface
from narthex.core.speech import MEDIA, SpeechRequest
from narthex.core.stream import Event, Frame, OrderCheck, SoundDelta, Usage, UsageReported
from narthex.dialects.body import Form
from narthex.dialects.fields import Field, choice, number, string
from narthex.dialects.openai_errors import error_body
from narthex.dialects.profiles import VOICES
from narthex.wire import sse
from narthex.wire.json import encode

LONGEST = 4096  # characters
FIELDS: dict[str, Field] = {
    "model": string(shortest=1),
    "input": string(shortest=1, longest=LONGEST),
    "voice": choice(*VOICES),
    "response_format": choice(*MEDIA),
    "speed": number(0.25, 4),
    "instructions": string(longest=LONGEST),
    "stream_format": choice("audio", "sse"),
}
REQUIRED = ("model", "input", "voice")
FORM = Form("speech", FIELDS, REQUIRED)


class SpeechDialect:
    """The OpenAI-compatible surface that speaks."""

    surface: Surface = "speech"

    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """Read and check a request; see `Dialect.decode`."""
        read = FORM.read(body, profile=profile, strict=strict)
        fields = read.fields
        chosen = ("response_format", "speed")
        request = SpeechRequest(
            model=fields["model"],
            input=fields["input"],
            voice=fields["voice"],
            sse=fields.get("stream_format") == "sse",
            fields=fields,
            sent=read.sent,
            **{name: fields[name] for name in chosen if name in fields},
        )
        return Decoded(request, read.ignored)

    def encoder(self, call: Call, *, created: int) -> "SpeechStream":
        """Write the answer as it comes."""
        return SpeechStream(call)

    def encode_answer(self, call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
        """The same, when all of it is there."""
        stream = SpeechStream(call)
        return b"".join([*map(stream.encode, frames), stream.end()])


class SpeechStream:
    """Writes the answer to one call."""

    def __init__(self, call: Call) -> None:
        request = call.request
        assert isinstance(request, SpeechRequest)  # noqa: S101 - the surface decides the type
        self._sse = request.sse
        self._order = OrderCheck()
        self._usage: Usage | None = None

    def encode(self, frame: Frame) -> bytes:
        """The sound of a frame."""
        self._order.feed(frame.events)
        return b"".join(map(self._event, frame.events))

    def alike(self, frame: Frame) -> None:
        """See `StreamEncoder`: nothing is written as it came."""

    def end(self) -> bytes:
        """The usage, where there are events."""
        self._order.end()
        if not self._sse:
            return b""
        usage = self._usage or Usage(prompt_tokens=0)
        told = {
            "input_tokens": usage.prompt_tokens,
            "output_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        }
        return _event("done", usage=told)

    def error(self, error: NarthexError) -> bytes:
        """The error as an event; nothing follows it. A sound can't tell of one: its connection is to be cut."""
        return sse.encode(error_body(error)) if self._sse else b""

    def _event(self, event: Event) -> bytes:
        if isinstance(event, UsageReported):
            self._usage = event.usage
        if not isinstance(event, SoundDelta):
            return b""
        if not self._sse:
            return event.data
        return _event("delta", audio=binascii.b2a_base64(event.data, newline=False).decode())


def _event(kind: str, **members: Any) -> bytes:
    return sse.encode(encode({"type": f"speech.audio.{kind}", **members}))
