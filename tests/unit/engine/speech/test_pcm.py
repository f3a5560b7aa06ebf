"""Samples: out of WAV files, at another rate, of another length."""

import io
import wave

import numpy as np
import pytest

from narthex.core.speech import RATE, sound_tokens, text_tokens, wav_header
from narthex.engine.speech.pcm import Resampler, Samples, Stretcher, Unreadable, WavReader, written


def tone(hertz: float, *, rate: int, seconds: float = 1.0) -> Samples:
    found: Samples = (10_000 * np.sin(2 * np.pi * hertz * np.arange(int(rate * seconds)) / rate)).astype(np.float32)
    return found


def in_pieces(shaper: Resampler | Stretcher, samples: Samples, size: int) -> Samples:
    pieces = [shaper.feed(samples[at : at + size]) for at in range(0, len(samples), size)]
    return np.concatenate([*pieces, shaper.end()])


def pitch(samples: Samples) -> float:
    """The strongest frequency."""
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * RATE / len(samples))


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_wav_file_is_read_as_it_comes(size: int) -> None:
    samples = tone(440, rate=22_050, seconds=0.05)
    data = wav_header(22_050) + written(samples)
    reader = WavReader()
    read = np.concatenate([reader.feed(data[at : at + size]) for at in range(0, len(data), size)])
    assert reader.rate == 22_050
    assert written(read) == written(samples)


def test_what_is_no_wav_file_is_refused() -> None:
    for data in (
        b"x" * 5000,
        b"RIFX" + wav_header(24_000)[4:],
        wav_header(24_000).replace(b"\x10\x00data", b"\x08\x00data"),
    ):
        with pytest.raises(Unreadable):
            WavReader().feed(data)


def test_the_header_is_read_by_others() -> None:
    samples = written(tone(440, rate=RATE, seconds=0.1))
    with wave.open(io.BytesIO(wav_header(RATE, len(samples)) + samples)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        assert file.readframes(file.getnframes()) == samples


@pytest.mark.parametrize("rate", [8000, 16_000, 22_050, 44_100, 48_000])
def test_another_rate_is_the_same_sound(rate: int) -> None:
    samples = tone(1000, rate=rate)
    whole = in_pieces(Resampler(rate), samples, 10**6)
    assert abs(len(whole) - RATE) < 100
    assert np.abs(whole[100:-100] - tone(1000, rate=RATE)[100 : len(whole) - 100]).max() < 300
    assert np.allclose(in_pieces(Resampler(rate), samples, 333), whole)


def test_the_same_rate_is_left_alone() -> None:
    samples = tone(1000, rate=RATE)
    assert np.array_equal(Resampler(RATE).feed(samples), samples)


@pytest.mark.parametrize("times", [1.3, 1.83])
def test_a_longer_sound_has_the_same_pitch(times: float) -> None:
    samples = tone(200, rate=RATE, seconds=2)
    longer = in_pieces(Stretcher(times), samples, 5000)
    assert abs(len(longer) / len(samples) - times) < 0.1
    assert abs(pitch(longer) - 200) < 3
    middle = longer[len(longer) // 4 : len(longer) // 2]
    assert 8000 < np.abs(middle).max() < 12_000


def test_what_is_too_loud_is_cut() -> None:
    assert written(np.array([1e6, -1e6], np.float32)) == b"\xff\x7f\x00\x80"


def test_tokens() -> None:
    assert [sound_tokens(count) for count in (0, 1, RATE // 20, RATE // 20 + 1, RATE)] == [0, 1, 1, 2, 20]
    assert [text_tokens(text) for text in ("", "a", "aaaa", "aaaaa")] == [0, 1, 1, 2]
