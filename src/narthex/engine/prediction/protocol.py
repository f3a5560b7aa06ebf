"""What a worker and the process that checks predictions say to each other.

`begin` takes a `Begin`, with a number that its caller chose; `more` takes that and gives the next `Burst`, until one
has an `end`; `drop` takes it too, whatever became of the others. Whoever leaves has dropped all.
"""

from typing import Literal

import msgspec

from narthex.engine.llama import EngineSettings
from narthex.engine.prediction.draft import MOST

End = Literal["", "eos", "limit"]
LogFormat = Literal["auto", "json", "console"]


class PredictionSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that the process needs; the line on its standard input. `batch`: tokens of a prompt to read at a time."""

    name: str
    model_path: str
    socket: str
    batch: int
    threads: int
    gpu_layers: int = 0
    share_prefix_cache: bool = False
    idle_unload_s: float = 300.0
    log_format: LogFormat = "auto"

    @classmethod
    def beside(cls, engine: EngineSettings, *, socket: str, log_format: LogFormat) -> "PredictionSettings":
        """For the same model in the same way."""
        return cls(
            name=engine.name,
            model_path=engine.model_path,
            socket=socket,
            batch=max(engine.batch, MOST + 1),  # what is tried is read in one batch, with the token before it
            threads=engine.threads,
            gpu_layers=engine.gpu_layers,
            share_prefix_cache=engine.share_prefix_cache,
            log_format=log_format,
        )


class Begin(msgspec.Struct, frozen=True, kw_only=True):
    """An answer to generate. All token ids are the model's own. `temperature` 0: the likeliest token each time.

    `account`: whose prompt this is; what the process keeps of it is for its next one only. `number`: set by who asks.
    """

    number: int = 0
    account: str
    prompt: list[int]
    predicted: list[int]
    max_new: int
    temperature: float
    min_p: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0


class Burst(msgspec.Struct, frozen=True, kw_only=True):
    """What came next. Counts are of tokens: of the answer, of the prediction so far, of the prompt that was kept."""

    text: str
    tokens: list[int]
    end: End = ""
    accepted: int = 0
    rejected: int = 0
    cached: int = 0
