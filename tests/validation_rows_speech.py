"""Rows of `/v1/audio/speech`. Source: contract sections 8.2 and 11."""

from collections.abc import Iterator

from tests.validation_rows import HIGH, LONG_TEXT, LOW, UNKNOWN, UNSUPPORTED, VALUE, Row, Surface

SPEECH = Surface("/v1/audio/speech", {"model": "espeak-ng", "input": "Hi", "voice": "alloy", "response_format": "pcm"})


def _texts() -> Iterator[Row]:
    yield from SPEECH.ok("input", "-v de --version", "\x01+20s")
    yield from SPEECH.bad("input", VALUE, "")
    yield from SPEECH.bad("input", LONG_TEXT, "x" * 4097, "☃" * 4097)
    yield from SPEECH.bad("model", VALUE, "")
    for name in ("input", "model", "voice"):
        yield from SPEECH.types(name, "text")
        yield from SPEECH.required(name)
    yield from SPEECH.ok("instructions", "")
    yield from SPEECH.bad("instructions", UNSUPPORTED, "Whisper.")
    yield from SPEECH.bad("instructions", LONG_TEXT, "x" * 4097)
    yield from SPEECH.types("instructions", "text")


def _choices() -> Iterator[Row]:
    yield from SPEECH.bad("voice", VALUE, "", "Alloy", "nova", "en-us", "../alloy")
    yield from SPEECH.bad("response_format", VALUE, "", "pcm16", "ogg", "MP3")
    yield from SPEECH.bad("stream_format", VALUE, "", "json")
    yield from SPEECH.ok("stream_format", "audio")
    for name in ("response_format", "stream_format"):
        yield from SPEECH.types(name, "text")


def _speed() -> Iterator[Row]:
    yield from SPEECH.ok("speed", 1)
    yield from SPEECH.bad("speed", LOW, 0.24, 0, -1)
    yield from SPEECH.bad("speed", HIGH, 4.01, 1e300)
    yield from SPEECH.types("speed", "integer", "decimal")


def _others() -> Iterator[Row]:
    for name in ("instructions", "response_format", "speed", "stream_format"):
        yield from SPEECH.ok(name, None)
    yield from SPEECH.bad("stream", UNKNOWN, True)
    yield from SPEECH.bad("Speed", UNKNOWN, 1)
    lenient = SPEECH.of("lenient")
    yield from lenient.ok("zzz", 1)
    yield from lenient.bad("Speed", UNKNOWN, 1)


def rows() -> Iterator[Row]:
    for part in (_texts, _choices, _speed, _others):
        yield from part()
