"""A sound that is told whole: as JSON, in base64 that is made while the sound is and not when all of it is there."""

import binascii

from narthex.core.errors import SpeechFailed
from narthex.core.speech import RATE, wav_header

LONGEST_BYTES = 64 * 1024 * 1024
"""Of the sound. An answer is in memory several times over before it is sent."""
_TOO_LONG = "The answer is too long to be told as one sound: ask for less of it, for another format, or for a stream."


class WholeSound:
    """Takes a sound piece by piece. `wav`: it is to have a header, for which its length has to be known."""

    def __init__(self, *, wav: bool) -> None:
        self._wav = wav
        self._size = 0
        self._first = b""  # the byte that makes the header's length one of whole base64
        self._left = b""
        self._pieces: list[bytes] = []

    def feed(self, data: bytes) -> None:
        """More of it.

        Raises:
            SpeechFailed: it is too long.
        """
        self._size += len(data)
        if self._size > LONGEST_BYTES:
            raise SpeechFailed(_TOO_LONG)
        if self._wav and not self._first:
            self._first, data = data[:1], data[1:]
        data = self._left + data
        whole = len(data) // 3 * 3
        self._left = data[whole:]
        self._pieces.append(_base64(data[:whole]))

    def end(self) -> bytes:
        """All of it, in quotes."""
        head = _base64(wav_header(RATE, self._size) + self._first) if self._wav else b""
        return b"".join([b'"', head, *self._pieces, _base64(self._left), b'"'])


def _base64(data: bytes) -> bytes:
    return binascii.b2a_base64(data, newline=False)
