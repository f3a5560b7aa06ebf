"""Kokoro's network: what is loaded as one, and what it makes of phonemes."""

# ruff: noqa: RUF001 - phonemes look like letters
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from tests import tiny_kokoro
from tests.tiny_kokoro import SAMPLES

from narthex.core.errors import ModelLoadFailed
from narthex.core.speech import RATE
from narthex.engine.speech.kokoro.calls import VOICES
from narthex.engine.speech.kokoro.model import Model

PHONEMES = "həlˈoʊ wˈɜːld"
PAUSE = RATE // 6


def loaded(folder: Path, named: Any = VOICES, **options: Any) -> Model:
    files = tiny_kokoro.write(folder, **options)
    return Model(Path(files["model"]), Path(files["voices"]), named=named, threads=1)


def heard(data: bytes) -> Any:
    samples = np.frombuffer(data, "<i2")
    assert not samples[-PAUSE:].any()
    return samples[:-PAUSE]


def hertz(samples: Any) -> float:
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples))))
    return float(np.argmax(spectrum) * RATE / len(samples))


@pytest.mark.parametrize("newer", [False, True])
def test_phonemes_become_sound(newer: bool, tmp_path: Path) -> None:
    model = loaded(tmp_path, newer=newer)
    samples = heard(model.speak(PHONEMES, voice="alloy", speed=1))
    whole = (len(PHONEMES) + 2) * SAMPLES  # with what stands before and after them
    assert abs(len(samples) - whole) < RATE // 10  # without the silence at both ends
    assert 16_000 < np.abs(samples).max() < 16_500
    assert hertz(samples) == pytest.approx(300, abs=5)


@pytest.mark.parametrize("newer", [False, True])
@pytest.mark.parametrize("speed", [0.25, 0.5, 1.5, 2.0, 4.0])
def test_every_speed(newer: bool, speed: float, tmp_path: Path) -> None:
    """Also those that the network was not trained to, or has no input for."""
    samples = heard(loaded(tmp_path, newer=newer).speak(PHONEMES * 3, voice="alloy", speed=speed))
    whole = (len(PHONEMES) * 3 + 2) * SAMPLES
    assert len(samples) * speed == pytest.approx(whole, rel=0.2)
    assert hertz(samples) == pytest.approx(300, abs=15)


def test_every_voice_is_another(tmp_path: Path) -> None:
    model = loaded(tmp_path, VOICES | {"verse": "ef_dora"})
    pitches = {round(hertz(heard(model.speak(PHONEMES, voice=voice, speed=1)))) for voice in VOICES}
    assert len(pitches) == len(VOICES)
    assert max(pitches) == pytest.approx(1100, abs=5)


def test_nothing_to_say_and_as_much_as_it_takes(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    assert len(model.speak("", voice="alloy", speed=1)) > 0
    assert len(heard(model.speak("a" * 2000, voice="alloy", speed=1))) < 513 * SAMPLES


def test_it_can_be_stopped(tmp_path: Path) -> None:
    options = onnxruntime.RunOptions()
    options.terminate = True
    with pytest.raises(Exception, match="terminate"):
        loaded(tmp_path).speak(PHONEMES, voice="alloy", speed=1, options=options)


def test_silence_stays_silence(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    model._session = _Silent()
    assert not np.frombuffer(model.speak("a", voice="alloy", speed=1), "<i2").any()


class _Silent:
    def run(self, *_: object) -> list[Any]:
        return [np.full((1, 5000), np.nan, np.float32)]


def test_what_can_t_be_loaded(tmp_path: Path) -> None:
    files = tiny_kokoro.write(tmp_path)
    model, voices = Path(files["model"]), Path(files["voices"])

    def refused(**changes: Any) -> str:
        with pytest.raises(ModelLoadFailed) as raised:
            Model(**({"model": model, "voices": voices, "named": VOICES, "threads": 1} | changes))
        assert str(tmp_path) not in raised.value.message  # callers read it
        return raised.value.message

    assert "can't be loaded" in refused(model=tmp_path / "nowhere.onnx")
    assert "can't be loaded" in refused(model=voices)
    assert "is no file of voices" in refused(voices=tmp_path / "nowhere.bin")
    assert "is no file of voices" in refused(voices=model)
    np.save(plain := tmp_path / "plain.npy", np.zeros(3))
    assert "is no file of voices" in refused(voices=plain)
    assert "has no voice 'xx': it has af_alloy, " in refused(named={"alloy": "xx"})
    wrong = tiny_kokoro.graph()
    wrong.graph.input[1].name = wrong.graph.node[10].input[0] = "voice"
    onnx.save(wrong, other := tmp_path / "other.onnx")
    assert "takes tokens, voice, speed: it is no Kokoro" in refused(model=other)
    short = tiny_kokoro.write(tmp_path, lengths=100)
    assert "no styles of all lengths for 'af_alloy'" in refused(voices=Path(short["voices"]))
