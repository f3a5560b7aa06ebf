"""What speaks on this server, found once when the plan is made."""

import structlog

from narthex.engine.served import ServedModel
from narthex.engine.speech.espeak import AUTO, NAME, OFF, SpeechEngine, can_encode, program_of
from narthex.serving.machine import Machine
from narthex.settings import Speech

log = structlog.get_logger(__name__)


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


def no_speech(setting: str) -> str:
    """Why a setting's engine can't be used; "" if it can, or need not be."""
    if setting in {AUTO, OFF} or program_of(setting):
        return ""
    return f"there is no program {setting}"
