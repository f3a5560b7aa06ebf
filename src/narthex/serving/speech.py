"""What speaks on this server, found once when the plan is made."""

from collections.abc import Container, Iterator
from pathlib import Path

import msgspec
import structlog

from narthex.engine.served import ServedModel
from narthex.engine.speech.espeak import AUTO, NAME, OFF, SpeechEngine, can_encode, program_of
from narthex.engine.speech.kokoro.calls import NAME as NEURAL
from narthex.engine.speech.kokoro.calls import VOICES, KokoroSettings
from narthex.serving.machine import Machine
from narthex.settings import KokoroVoice, Settings, Speech
from narthex.supervisor.plan import control_socket

log = structlog.get_logger(__name__)

_CHILD = f"speech/{NEURAL}"
_ROOM_BYTES = 512 * 1024 * 1024
"""For a run, beside its files."""


def speech_engine(settings: Speech, machine: Machine) -> SpeechEngine | None:
    """How to have texts spoken; None: there is nothing here to speak with."""
    program = program_of(settings.engine)
    if not program:
        return None
    return SpeechEngine(
        program=program,
        language=settings.language,
        encodes=can_encode(),
        at_once=settings.at_once or machine.cores,
        max_waiting=settings.max_waiting,
        max_waiting_per_key=settings.max_waiting_per_key,
        stall_s=settings.stall_s,
    )


def speech_model(settings: Speech, engine: SpeechEngine | None) -> ServedModel | None:
    """The engine as a model of this server; None where it is turned off. One that is missing is planned too: whoever
    asks for it is told.
    """
    if settings.engine == OFF:
        return None
    return ServedModel(name=NAME, kind="speech", runs="speech", missing=engine is None)


class Kokoro(msgspec.Struct, frozen=True, kw_only=True):
    """A neural voice as it is planned: as a model, its process's settings, and how much memory that takes."""

    model: ServedModel
    settings: KokoroSettings
    memory_bytes: int


def kokoro(settings: Settings, row: KokoroVoice, *, run_dir: Path, missing: bool) -> Kokoro:
    """Plan it. `missing`: there is nobody to tell how words are said."""
    files = _files(row)
    model, voices = map(str, files)
    socket = str(control_socket(run_dir, _CHILD))
    own: dict[str, str] = {str(name): voice for name, voice in row.names.items()}
    return Kokoro(
        model=ServedModel(
            name=NEURAL,
            kind="speech",
            runs="speech",
            child=_CHILD,
            socket=socket,
            path=model,
            created=int(files[0].stat().st_mtime) if files[0].exists() else 0,
            missing=missing,
        ),
        settings=KokoroSettings(
            model=model,
            voices=voices,
            socket=socket,
            named={**VOICES, **own},
            threads=row.threads or 0,
            idle_unload_s=settings.engine.idle_unload_s,
            log_format=settings.log.format,
        ),
        memory_bytes=_ROOM_BYTES + sum(file.stat().st_size for file in files if file.exists()),
    )


def no_kokoro(row: KokoroVoice, *, engine: str, others: Container[str]) -> Iterator[tuple[tuple[str, ...], str]]:
    """What is wrong with it, by setting."""
    for name, file in zip(("model", "voices"), _files(row), strict=True):
        if not file.is_file():
            yield ("speech", "kokoro", name), f"there is no file {file}"
    if engine == OFF:
        yield ("speech", "engine"), "kokoro needs an espeak-ng, which tells it how words are said"
    if NEURAL in others:
        yield ("speech", "kokoro"), f"'{NEURAL}' is the name of another model of this server"


def _files(row: KokoroVoice) -> tuple[Path, Path]:
    return row.model.expanduser().absolute(), row.voices.expanduser().absolute()


def no_speech(setting: str) -> str:
    """Why a setting's engine can't be used; "" if it can, or need not be."""
    if setting in {AUTO, OFF} or program_of(setting):
        return ""
    return f"there is no program {setting}"
