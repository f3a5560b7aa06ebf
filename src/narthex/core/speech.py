"""The canonical request for speech, and what sounds are. Source: contract sections 1.2, 1.3 and 11."""

import struct
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

RATE = 24_000
"""Samples a second of all that is spoken here, each of 16 bits, little-endian, of one channel."""
SAMPLE_BYTES = 2
TOKENS_PER_S = 20
"""How sound is counted: a token for each 50 ms that have begun."""

SpeechFormat = Literal["mp3", "opus", "aac", "flac", "wav", "pcm"]
MEDIA: Mapping[str, str] = {
    "mp3": "audio/mpeg",
    "opus": "audio/ogg",
    "aac": "audio/aac",
    "flac": "audio/flac",
    "wav": "audio/wav",
    "pcm": "audio/pcm",
}
"""The media type of each format."""

_HEADER_BYTES = 44
_UNKNOWN = 0x7FFFFFFF - _HEADER_BYTES
"""The length of a file that is written before anybody knows it."""


class SpeechRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One call for speech; its answer always comes piece by piece. `sse`: as events, and not as the sound itself."""

    model: str
    input: str
    voice: str
    response_format: SpeechFormat = "mp3"
    speed: float = 1.0
    sse: bool = False
    fields: Mapping[str, Any]
    sent: Mapping[str, msgspec.Raw]

    @property
    def stream(self) -> bool:
        """Its answer comes as it is made."""
        return True


def sound_tokens(samples: int) -> int:
    """How many tokens so many samples count as."""
    return -(-samples * TOKENS_PER_S // RATE)


def text_tokens(text: str) -> int:
    """How many tokens a text that was read aloud counts as: speech knows none, so one for each four characters."""
    return -(-len(text) // 4)


def wav_header(rate: int, size: int | None = None) -> bytes:
    """The first bytes of a WAV file. `size`: of what follows, in bytes; None: nobody knows yet."""
    length = _UNKNOWN if size is None else size
    return struct.pack(
        "<4sI4s4sIHHIIHH4sI",
        b"RIFF", length + _HEADER_BYTES - 8, b"WAVE",
        b"fmt ", 16, 1, 1, rate, rate * SAMPLE_BYTES, SAMPLE_BYTES, 8 * SAMPLE_BYTES,
        b"data", length,
    )  # fmt: skip
