"""OpenAI's speech as a provider speaks it."""

import json
from typing import Any

import pytest

from narthex.core.errors import UpstreamError, UpstreamProtocolError
from narthex.core.speech import SpeechRequest
from narthex.core.stream import Event, SoundDelta, Usage, UsageReported
from narthex.dialects.openai_speech import SpeechDialect
from narthex.providers.openai_speech import OpenAISpeech

CODEC = OpenAISpeech()
DONE = {"type": "speech.audio.done", "usage": {"input_tokens": 14, "output_tokens": 101, "total_tokens": 115}}


def request(**fields: Any) -> SpeechRequest:
    body = json.dumps({"model": "ours", "input": "Hello!", "voice": "ash"} | fields).encode()
    found = SpeechDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(found, SpeechRequest)
    return found


def told(asked: SpeechRequest, *pieces: bytes) -> list[Event]:
    decoder = CODEC.decoder(asked)
    frames = [*(frame for piece in pieces for frame in decoder.feed(piece)), *decoder.end()]
    return [event for frame in frames for event in frame.events]


def sse(*events: dict[str, Any] | str) -> bytes:
    lines = (event if isinstance(event, str) else json.dumps(event) for event in events)
    return "".join(f"data: {line}\n\n" for line in lines).encode()


def test_it_is_asked_as_the_caller_asked() -> None:
    asked = request(speed=1.50, response_format="flac", instructions="Slowly.")
    assert json.loads(CODEC.build(asked, model="tts-1")) == {
        "model": "tts-1", "input": "Hello!", "voice": "ash", "speed": 1.5, "response_format": "flac",
        "instructions": "Slowly.",
    }  # fmt: skip


def test_the_sound_is_passed_on() -> None:
    assert told(request(), b"ID3", b"\x00\xff") == [
        SoundDelta(b"ID3"), SoundDelta(b"\x00\xff"), UsageReported(Usage(prompt_tokens=2)),
    ]  # fmt: skip
    with pytest.raises(UpstreamProtocolError):
        told(request())


def test_events_are_read() -> None:
    events = sse({"type": "speech.audio.delta", "audio": "AAEC"}, {"type": "other"}, DONE, "[DONE]")
    used = UsageReported(Usage(prompt_tokens=14, completion_tokens=101))
    assert told(request(stream_format="sse"), events) == [SoundDelta(b"\x00\x01\x02"), used]
    bare = sse({"type": "speech.audio.done"})
    assert told(request(stream_format="sse"), bare) == [UsageReported(Usage(prompt_tokens=0))]


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", UpstreamProtocolError),
        (sse({"type": "speech.audio.delta", "audio": "AAEC"}), UpstreamProtocolError),
        (sse({"type": "speech.audio.delta", "audio": "?"}), UpstreamProtocolError),
        (sse("{"), UpstreamProtocolError),
        (sse({"error": {"message": "No.", "type": "server_error"}}), UpstreamError),
    ],
)
def test_what_is_wrong_with_events(body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        told(request(stream_format="sse"), body)


def test_nobody_goes_on_with_a_sound() -> None:
    assert not CODEC.continues(request())
    assert CODEC.read(request(), b"ID3") is None
    assert CODEC.parse_error(429, [], b"{}").status == 429
