"""The embedder as its callers see it: the calls, the client, and what one does with a vector."""

from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from narthex.ipc.client import Client
from narthex.ipc.logs import LogFormat


class EmbedderSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings line of the process. It stands here because who starts the process must not load its libraries."""

    name: str
    model_dir: str
    socket: str
    threads: int = 0
    """Of one run; 0: one for each core."""
    max_batch_tokens: int = 512
    """Of one run. More brings nothing (two cores are busy at 128) and makes the others wait."""
    max_waiting_tokens: int = 4_000_000
    log_format: LogFormat = "auto"


class EmbedCall(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Payload of `embed`: either texts or token ids."""

    texts: list[str] | None = None
    tokens: list[list[int]] | None = None
    truncate: bool = False


class EmbedAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `embed`. `vectors`: little-endian float32[n, dim]; `tokens`: of each input, marks included."""

    vectors: bytes
    dim: int
    tokens: list[int]


class EmbedderInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `info`. Two models with one `digest` give the same vectors."""

    dim: int
    max_tokens: int
    digest: str


class EmbedderWork(msgspec.Struct, frozen=True, kw_only=True):
    """Answer of `work`. `busy_s`: seconds in which the model ran, since the process started."""

    busy_s: float


class Embeddings(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller gets: a row of `dim` little-endian float32 for each input, in order."""

    vectors: list[memoryview]
    dim: int
    tokens: list[int]
    """Tokens of each input, marks included: what usage counts."""


class Embedder:
    """A client of one model's embedder process; safe for any number of tasks of one loop."""

    def __init__(self, socket: Path, name: str, *, on_lost: Callable[[], None] | None = None) -> None:
        self._client = Client(socket, name=f"embedding model {name}", on_lost=on_lost)

    async def embed(
        self,
        *,
        texts: Sequence[str] | None = None,
        tokens: Sequence[Sequence[int]] | None = None,
        truncate: bool = False,
        timeout_s: float | None = None,
    ) -> Embeddings:
        """Embed either texts or lists of token ids of this model's own tokenizer. Cancelling drops the work over there.

        Token ids are used as given; the marks that begin and end a text ([CLS], [SEP]) are put around them unless the
        first id is the beginning mark already.

        Raises:
            InvalidRequest: neither or both given, an empty list of ids, or ids that the model doesn't have.
            ContextLengthExceeded: an input is too long and `truncate` is off.
            QueueFull: too much waits already.
            EngineUnavailable, EngineCrashed: the process is not there, or ended.
        """
        call = EmbedCall(
            texts=None if texts is None else list(texts),
            tokens=None if tokens is None else [list(ids) for ids in tokens],
            truncate=truncate,
        )
        answer = await self._client.call("embed", call, EmbedAnswer, timeout_s=timeout_s)
        whole, width = memoryview(answer.vectors), 4 * answer.dim
        rows = [whole[start : start + width] for start in range(0, len(whole), width)]
        return Embeddings(vectors=rows, dim=answer.dim, tokens=answer.tokens)

    async def info(self, *, timeout_s: float | None = None) -> EmbedderInfo:
        """What the model is.

        Raises:
            EngineUnavailable, EngineCrashed: the process is not there, or ended.
        """
        return await self._client.call("info", None, EmbedderInfo, timeout_s=timeout_s)

    async def work(self, *, timeout_s: float | None = None) -> EmbedderWork:
        """What it has done so far.

        Raises:
            EngineUnavailable, EngineCrashed: the process is not there, or ended.
        """
        return await self._client.call("work", None, EmbedderWork, timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()
