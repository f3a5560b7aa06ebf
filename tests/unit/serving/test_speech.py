"""What speaks on this server."""

from pathlib import Path

import pytest

from narthex.serving.machine import Machine
from narthex.serving.speech import kokoro, no_kokoro, no_speech, speech_engine, speech_model
from narthex.settings import KokoroVoice, Settings, Speech

MACHINE = Machine(memory_bytes=2**33, cores=3)


def test_a_program_speaks_as_the_settings_say(tmp_path: Path) -> None:
    program = tmp_path / "espeak-ng"
    program.touch(mode=0o700)
    settings = Speech(engine=str(program), language="de", stall_s=5)
    engine = speech_engine(settings, MACHINE)
    assert engine is not None
    assert (engine.program, engine.language, engine.at_once, engine.stall_s) == ((str(program),), "de", 3, 5)
    model = speech_model(settings, engine)
    assert model is not None
    assert (model.name, model.kind, model.runs, model.missing) == ("espeak-ng", "speech", "speech", False)
    assert no_speech(settings.engine) == ""


def test_off_is_no_model() -> None:
    settings = Speech(engine="off")
    assert speech_engine(settings, MACHINE) is None
    assert speech_model(settings, None) is None
    assert no_speech("off") == no_speech("auto") == ""


def test_what_is_missing_is_planned_and_a_wrong_path_is_a_fault(tmp_path: Path) -> None:
    wrong = str(tmp_path / "espeak-ng")
    model = speech_model(Speech(engine=wrong), speech_engine(Speech(engine=wrong), MACHINE))
    assert model is not None
    assert model.missing
    assert no_speech(wrong) == f"there is no program {wrong}"


def test_off_may_be_written_as_yaml_reads_it() -> None:
    assert Speech(engine=False).engine == "off"  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="engine"):
        Speech(engine=True)  # type: ignore[arg-type]


@pytest.mark.parametrize("language", ["", "-v", "en us", "../x", "EN"])
def test_languages_are_names(language: str) -> None:
    with pytest.raises(ValueError, match="language"):
        Speech(language=language)


def test_a_neural_voice_is_planned(tmp_path: Path) -> None:
    row = KokoroVoice(model=tmp_path / "k.onnx", voices=tmp_path / "v.bin", names={"verse": "ef_dora"}, threads=3)
    faults = [*no_kokoro(row, engine="auto", others=())]
    assert [place for place, _ in faults] == [("speech", "kokoro", "model"), ("speech", "kokoro", "voices")]
    row.model.write_bytes(b"x" * 100)
    row.voices.write_bytes(b"y" * 11)
    assert [*no_kokoro(row, engine="auto", others=("espeak-ng",))] == []
    assert [place for place, _ in no_kokoro(row, engine="off", others=("kokoro",))] == [
        ("speech", "engine"),
        ("speech", "kokoro"),
    ]
    made = kokoro(Settings(), row, run_dir=tmp_path, missing=True)
    assert (made.model.name, made.model.runs, made.model.missing) == ("kokoro", "speech", True)
    assert made.model.created == int(row.model.stat().st_mtime)
    assert made.model.socket == made.settings.socket
    assert (made.settings.threads, made.settings.named["verse"], made.settings.named["alloy"]) == (
        3,
        "ef_dora",
        "af_alloy",
    )
    assert made.memory_bytes == 512 * 1024**2 + 111
