"""Samples of 16 bits and one channel: out of a WAV file, at another rate, of another length. No I/O."""

import math
import struct
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from narthex.core.speech import RATE, SAMPLE_BYTES

Samples = NDArray[np.float32]

_LONGEST_HEADER = 4096

_TAPS = 32
_FRAME = RATE * 40 // 1000
_HOP = _FRAME // 2
_SEARCH = RATE * 10 // 1000


class Unreadable(Exception):
    """What should be a WAV file is none."""


class WavReader:
    """Takes a WAV file as it comes; `rate` is known once samples were given."""

    def __init__(self) -> None:
        self.rate = 0
        self._held = b""

    def feed(self, data: bytes) -> Samples:
        """The samples that `data` completes.

        Raises:
            Unreadable: it is no WAV file of one channel and 16 bits.
        """
        data = self._held + data
        if not self.rate:
            at = data.find(b"data", 12)
            if at < 0 or len(data) < at + 8:
                if len(data) > _LONGEST_HEADER:
                    raise Unreadable
                self._held = data
                return np.zeros(0, np.float32)
            self.rate = _rate_of(data)
            data = data[at + 8 :]
        whole = len(data) // SAMPLE_BYTES * SAMPLE_BYTES
        self._held = data[whole:]
        return np.frombuffer(data[:whole], "<i2").astype(np.float32)


def _rate_of(header: bytes) -> int:
    kind, channels, rate = struct.unpack_from("<HHI", header, 20)
    (bits,) = struct.unpack_from("<H", header, 34)
    if not header.startswith(b"RIFF") or (kind, channels, bits) != (1, 1, 16) or not 1000 <= rate <= 192_000:
        raise Unreadable
    return int(rate)


class Resampler:
    """The same sound at `RATE`, by band-limited interpolation."""

    def __init__(self, rate: int) -> None:
        shared = math.gcd(rate, RATE)
        self._up, self._down = RATE // shared, rate // shared
        self._bank = _bank(self._up, self._down)
        self._x: Samples = np.zeros(_TAPS // 2 - 1, np.float32)
        self._at = 0
        """Of the next sample, in steps of 1/up of a sample of `_x`."""

    def feed(self, samples: Samples) -> Samples:
        """What can be told with these."""
        if self._up == self._down:
            return samples
        self._x = np.concatenate((self._x, samples))
        last = (len(self._x) - _TAPS) * self._up
        places = np.arange(self._at, max(self._at, last), self._down)
        if not len(places):
            return np.zeros(0, np.float32)
        at, phase = places // self._up, places % self._up
        windows = np.lib.stride_tricks.sliding_window_view(self._x, _TAPS)[at]
        self._at = int(places[-1]) + self._down
        drop = self._at // self._up
        self._x, self._at = self._x[drop:], self._at - drop * self._up
        told: Samples = np.einsum("ij,ij->i", windows, self._bank[phase])
        return told

    def end(self) -> Samples:
        """What is left."""
        return self.feed(np.zeros(_TAPS // 2, np.float32))


@lru_cache(4)
def _bank(up: int, down: int) -> Samples:
    """For each phase the weights of the samples around it: a windowed sinc."""
    cut = min(1.0, up / down) * 0.95
    offset = np.arange(_TAPS) - (_TAPS // 2 - 1)
    t = offset[None, :] - (np.arange(up) / up)[:, None]
    weights = cut * np.sinc(cut * t) * np.cos(np.pi * np.clip(t / _TAPS, -0.5, 0.5)) ** 2
    made: Samples = (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)
    return made


class Stretcher:
    """The same sound, several times as long and at the same pitch, by overlapping pieces that go together (WSOLA)."""

    def __init__(self, times: float) -> None:
        self._step = _HOP / times
        self._window = np.hanning(_FRAME + 1)[:-1].astype(np.float32)
        self._x: Samples = np.zeros(_SEARCH, np.float32)
        self._at: float = _SEARCH
        self._last: int | None = None
        self._tail: Samples = np.zeros(_HOP, np.float32)

    def feed(self, samples: Samples) -> Samples:
        """What can be told with these."""
        self._x = np.concatenate((self._x, samples))
        told = []
        while int(self._at) + _SEARCH + _FRAME + _HOP <= len(self._x):
            best = self._best(int(self._at))
            piece = self._x[best : best + _FRAME] * self._window
            told.append(self._tail + piece[:_HOP])
            self._tail = piece[_HOP:]
            self._last = best
            self._at += self._step
        drop = max(0, min(int(self._at) - _SEARCH, len(self._x) if self._last is None else self._last))
        self._x = self._x[drop:]
        self._at -= drop
        self._last = None if self._last is None else self._last - drop
        return np.concatenate(told) if told else np.zeros(0, np.float32)

    def end(self) -> Samples:
        """What is left."""
        rest = self.feed(np.zeros(_SEARCH + _FRAME + _HOP, np.float32))
        return np.concatenate((rest, self._tail))

    def _best(self, around: int) -> int:
        """Where a piece begins that goes on most like what was told last."""
        if self._last is None:
            return around
        wanted = self._x[self._last + _HOP : self._last + _HOP + _FRAME]
        lowest = max(0, around - _SEARCH)
        found = np.correlate(self._x[lowest : around + _SEARCH + _FRAME], wanted, "valid")
        return lowest + int(np.argmax(found))


def written(samples: Samples) -> bytes:
    """As bytes."""
    found: Any = np.clip(np.rint(samples), -32768, 32767).astype("<i2")
    data: bytes = found.tobytes()
    return data
