"""Sounds that are told whole, in base64."""

import base64
import io
import json
import wave

import pytest

from narthex.core.errors import SpeechFailed
from narthex.core.speech import RATE
from narthex.engine.speech import whole
from narthex.engine.speech.whole import WholeSound


@pytest.mark.parametrize("size", [0, 1, 2, 3, 44, 100])
@pytest.mark.parametrize("step", [1, 2, 7, 1000])
def test_it_is_the_base64_of_all(size: int, step: int) -> None:
    data = bytes(range(size))
    told, wav = WholeSound(wav=False), WholeSound(wav=True)
    for at in range(0, size, step):
        told.feed(data[at : at + step])
        wav.feed(data[at : at + step])
    assert base64.b64decode(json.loads(told.end()), validate=True) == data
    found = base64.b64decode(json.loads(wav.end()), validate=True)
    assert found[44:] == data
    with wave.open(io.BytesIO(found)) as file:
        assert (file.getframerate(), file.getnframes()) == (RATE, size // 2)


def test_what_is_too_long_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(whole, "LONGEST_BYTES", 10)
    told = WholeSound(wav=True)
    told.feed(b"x" * 10)
    with pytest.raises(SpeechFailed, match="too long"):
        told.feed(b"x")
