"""How espeak-ng is asked to speak, and where it is found."""

import sys
from pathlib import Path

import pytest

from narthex.dialects.profiles import VOICES as DOCUMENTED
from narthex.engine.speech.espeak import AUTO, OFF, VOICES, SpeechEngine, can_encode, plain, program_of, stretch_of


def test_every_documented_voice_is_one_of_its_own() -> None:
    assert tuple(VOICES) == DOCUMENTED
    assert len(set(VOICES.values())) == len(VOICES)


def test_the_text_is_no_argument() -> None:
    engine = SpeechEngine(program=("espeak-ng",), language="de")
    assert engine.argv(voice="ash", speed=2) == (
        "espeak-ng", "-v", "de+m3", "-s", "350", "-b", "1", "--stdin", "--stdout",
    )  # fmt: skip


def test_what_is_too_slow_for_it_is_stretched() -> None:
    engine = SpeechEngine(program=("espeak-ng",))
    paces = {speed: engine.argv(voice="alloy", speed=speed)[4] for speed in (0.25, 0.5, 1.0, 4.0)}
    assert paces == {0.25: "80", 0.5: "88", 1.0: "175", 4.0: "700"}
    assert stretch_of(1) == stretch_of(0.5) == 1.0
    assert stretch_of(0.25) == pytest.approx(1.83, abs=0.01)


@pytest.mark.parametrize(
    ("text", "spoken"),
    [
        ("Hello.\nYou!", "Hello.\nYou!"),
        ("a\x01+20s\x00b\x1b\x7fc\rd", "a +20s b  c d"),
        ("[[h@l'oU]] [[[", "[ [h@l'oU]] [ [ ["),
        ("Grüße, 你好 \ud800", "Grüße, 你好 ?"),
        ("-v de <speak>", "-v de <speak>"),
    ],
)
def test_a_text_gives_no_orders(text: str, spoken: str) -> None:
    assert plain(text).decode() == spoken


def test_where_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program_of(OFF) == ()
    assert program_of(str(tmp_path / "espeak-ng")) == ()
    library = program_of(AUTO)
    assert library in {(), (sys.executable, "-P", "-m", "narthex.engine.speech.library")}
    program = tmp_path / "espeak-ng"
    program.touch(mode=0o700)
    assert program_of(AUTO) == program_of(str(program)) == (str(program),)
    program.unlink()
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert program_of(AUTO) == ()
    assert not can_encode()
