"""`/v1/audio/speech`."""

import base64
import json
from collections.abc import Callable

import pytest

from narthex.core.errors import UpstreamTimeout
from narthex.core.ports import Call, Decoded
from narthex.core.speech import SpeechRequest
from narthex.core.stream import Frame, OutOfOrder, SoundDelta, TextDelta, Usage, UsageReported
from narthex.dialects.openai_speech import SpeechDialect

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]
MakeCall = Callable[..., Call]
DIALECT = SpeechDialect()
USED = UsageReported(Usage(prompt_tokens=3, completion_tokens=20))
FRAMES = (Frame.of(SoundDelta(b"\x00\xff")), Frame.of(SoundDelta(b"ab")), Frame.of(USED))


def request_of(decoded: Decoded) -> SpeechRequest:
    assert isinstance(decoded.request, SpeechRequest)
    return decoded.request


def test_a_least_request_has_the_contracts_defaults(decode: Decode) -> None:
    request = request_of(decode("speech", {"speed": None, "response_format": None}))
    assert request == SpeechRequest(
        model="m", input="Hello", voice="alloy", response_format="mp3", speed=1.0, sse=False,
        fields=request.fields, sent=request.sent,
    )  # fmt: skip
    assert request.stream
    assert set(request.fields) == set(request.sent) == {"model", "input", "voice"}


def test_everything_that_is_sent_is_read_and_kept(decode: Decode) -> None:
    sent = {
        "voice": "verse", "response_format": "opus", "speed": 0.25, "instructions": "Whisper.", "stream_format": "sse",
    }  # fmt: skip
    request = request_of(decode("speech", sent))
    assert dict(request.fields) == sent | {"model": "m", "input": "Hello"}
    assert (request.voice, request.response_format, request.speed, request.sse) == ("verse", "opus", 0.25, True)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"input": ""}, ("invalid_value", "input")),
        ({"input": "a" * 4097}, ("string_above_max_length", "input")),
        ({"voice": "nova"}, ("invalid_value", "voice")),
        ({"voice": {"id": "v"}}, ("invalid_type", "voice")),
        ({"response_format": "pcm16"}, ("invalid_value", "response_format")),
        ({"speed": 0.2}, ("decimal_below_min_value", "speed")),
        ({"speed": 4.1}, ("decimal_above_max_value", "speed")),
        ({"speed": "1"}, ("invalid_type", "speed")),
        ({"instructions": 1}, ("invalid_type", "instructions")),
        ({"stream_format": "wav"}, ("invalid_value", "stream_format")),
        ({"stream": True}, ("unknown_parameter", "stream")),
        ({"Voice": "alloy"}, ("unknown_parameter", "Voice")),
        ({"model": None}, ("invalid_type", "model")),
    ],
)
def test_refused(refuse: Refuse, fields: dict[str, object], told: tuple[str, str]) -> None:
    assert refuse("speech", fields) == told


def test_the_sound_is_the_answer(make_call: MakeCall) -> None:
    call = make_call("speech")
    assert DIALECT.encode_answer(call, FRAMES, created=1) == b"\x00\xffab"
    assert DIALECT.encoder(call, created=1).error(UpstreamTimeout()) == b""


def test_the_sound_in_events(make_call: MakeCall) -> None:
    call = make_call("speech", {"stream_format": "sse"})
    stream = DIALECT.encoder(call, created=1)
    assert stream.alike(FRAMES[0]) is None
    told = b"".join([*map(stream.encode, FRAMES), stream.end()])
    events = [json.loads(line.removeprefix("data: ")) for line in told.decode().split("\n\n") if line]
    assert [event["type"] for event in events] == [*["speech.audio.delta"] * 2, "speech.audio.done"]
    assert b"".join(base64.b64decode(event["audio"]) for event in events[:2]) == b"\x00\xffab"
    assert events[2]["usage"] == {"input_tokens": 3, "output_tokens": 20, "total_tokens": 23}
    assert b'"code":"timeout"' in stream.error(UpstreamTimeout())


def test_a_stream_without_usage(make_call: MakeCall) -> None:
    stream = DIALECT.encoder(make_call("speech", {"stream_format": "sse"}), created=1)
    stream.encode(FRAMES[0])
    assert b'"total_tokens":0' in stream.end()


def test_silence_is_no_answer(make_call: MakeCall) -> None:
    stream = DIALECT.encoder(make_call("speech"), created=1)
    with pytest.raises(OutOfOrder):
        stream.encode(Frame.of(TextDelta(0, "a")))
    with pytest.raises(OutOfOrder):
        DIALECT.encoder(make_call("speech"), created=1).end()
