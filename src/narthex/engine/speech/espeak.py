"""espeak-ng: where it is, and how it is asked to speak. Source: espeak-ng(1); contract section 11.

Rule: a text goes in by standard input, never as an argument, and holds nothing that the program takes for a command.
"""

import importlib.util
import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

NAME = "espeak-ng"
"""The program, and the model of this server that it is."""
AUTO, OFF = "auto", "off"
LIBRARY = "espeakng_loader"
"""The package that brings espeak-ng as a library; part of the extra."""
ENCODERS = "av"

VOICES: Mapping[str, str] = {
    "alloy": "",
    "ash": "+m3",
    "ballad": "+m7",
    "coral": "+f2",
    "echo": "+m1",
    "sage": "+f5",
    "shimmer": "+f4",
    "verse": "+m4",
}
"""The documented voices, each as a variant of the language's own."""

USUAL_WPM = 175
LEAST_WPM = 80
"""What the program takes as its slowest; below, the sound is stretched."""

_COMMANDS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]|(?<=\[)(?=\[)")
"""Characters by which a text could give orders, and the place between two brackets, which begin phonemes."""


class SpeechEngine(msgspec.Struct, frozen=True, kw_only=True):
    """How to have a text spoken. `program`: what is started; `encodes`: there is what the other formats need."""

    program: tuple[str, ...]
    language: str = "en-us"
    encodes: bool = False
    at_once: int = 2
    max_waiting: int = 256
    max_waiting_per_key: int = 64
    stall_s: float = 30.0
    """How long it may be silent."""

    def argv(self, *, voice: str, speed: float) -> Sequence[str]:
        """The program that reads a text from its input and writes a WAV file."""
        pace = str(max(LEAST_WPM, round(USUAL_WPM * speed)))
        name = self.language + VOICES[voice]
        return (*self.program, "-v", name, "-s", pace, "-b", "1", "--stdin", "--stdout")

    def phonemes_argv(self) -> Sequence[str]:
        """The program that reads a text from its input and tells its phonemes, a line for each clause."""
        return (*self.program, "-v", self.language, "-q", "--ipa", "-b", "1", "--stdin")


def stretch_of(speed: float) -> float:
    """How many times as long the sound is to be made, because the program can't speak as slowly."""
    return max(1.0, LEAST_WPM / (USUAL_WPM * speed))


def program_of(setting: str) -> tuple[str, ...]:
    """What to start, by the setting: a path, `auto` or `off`; () where there is nothing."""
    if setting == OFF:
        return ()
    if setting != AUTO:
        found = shutil.which(str(Path(setting).expanduser()))
        return (found,) if found else ()
    if found := shutil.which(NAME):
        return (found,)
    if importlib.util.find_spec(LIBRARY) is not None:
        return (sys.executable, "-P", "-m", "narthex.engine.speech.library")
    return ()


def can_encode() -> bool:
    """Whether the encoders are installed."""
    return importlib.util.find_spec(ENCODERS) is not None


def plain(text: str) -> bytes:
    """A text without what would be taken for a command."""
    return _COMMANDS.sub(" ", text).encode("utf-8", "replace")
