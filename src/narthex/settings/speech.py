"""The branch of speech."""

from pathlib import Path
from typing import Literal

import pydantic
from pydantic import Field, PositiveFloat, PositiveInt

from narthex.settings.part import Part

VoiceName = Literal["alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse"]


class KokoroVoice(Part):
    """A neural voice; its files are yours to bring."""

    model: Path = Field(description="Its graph, such as kokoro-v1.0.onnx.")
    voices: Path = Field(description="Its voices, such as voices-v1.0.bin.")
    names: dict[VoiceName, str] = Field(
        {},
        description="Its voices by the documented names, where they are not to be those of docs/howto/speech.md.",
    )
    threads: PositiveInt | None = Field(None, description="Threads of a run; none: one for each core.")


class Speech(Part):
    """Texts that are read aloud here."""

    engine: str = Field(
        "auto",
        min_length=1,
        description="The path of an espeak-ng; auto: the one on the PATH, or that of the extra `narthex[speech]`; off: "
        "none.",
    )
    kokoro: KokoroVoice | None = Field(None, description="A neural voice; espeak-ng tells it how words are said.")
    language: str = Field(
        "en-us",
        pattern="^[a-z][a-z0-9-]{1,30}$",
        description="What it speaks: a name from `espeak-ng --voices`, such as de or fr.",
    )
    at_once: PositiveInt | None = Field(
        None, description="Texts that each worker speaks at a time; none: one for each core."
    )
    max_waiting: PositiveInt = Field(256, description="Texts that may wait to be spoken, in each worker.")
    max_waiting_per_key: PositiveInt = Field(64, description="The same, of one key.")
    stall_s: PositiveFloat = Field(30.0, description="How long the engine may say nothing before it is ended.")
    kept_s: PositiveFloat = Field(3600.0, description="How long a chat may name what was said in it by its `audio.id`.")

    @pydantic.field_validator("engine", mode="before")
    @classmethod
    def _as_written(cls, engine: object) -> object:
        """YAML takes a bare `off` for false."""
        return "off" if engine is False else engine
