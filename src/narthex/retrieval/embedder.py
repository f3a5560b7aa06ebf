"""The embedder's process: `python -m narthex.retrieval.embedder --notify FD`, its settings on standard input.

Serves `embed`, `info` and `work` (see `narthex.retrieval.embed`) on a unix socket. An input may have as many tokens as
the model has positions, marks included: 512 for all-MiniLM-L6-v2, whose authors trained with 256.
"""

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from narthex.core.errors import ContextLengthExceeded, InvalidRequest, ModelLoadFailed
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Peer, Server
from narthex.ipc.tasks import TaskSet
from narthex.retrieval.batching import Batcher
from narthex.retrieval.embed import EmbedAnswer, EmbedCall, EmbedderInfo, EmbedderSettings, EmbedderWork
from narthex.retrieval.embedding_model import EmbeddingModel

__all__ = ["EmbedderSettings", "Service", "main", "serve"]

_TEXTS_AT_ONCE = 32
_MOST_AT_ONCE = 4
"""Runs. One more than there are cores keeps all of these busy; each has memory of its own, so not on every machine."""


class Service:
    """The operations over one model."""

    def __init__(self, model: EmbeddingModel, settings: EmbedderSettings) -> None:
        self._model = model
        self.batcher = Batcher(
            model.run,
            dim=model.dim,
            max_batch_tokens=settings.max_batch_tokens,
            max_waiting_tokens=settings.max_waiting_tokens,
            at_once=min(model.threads + 1, _MOST_AT_ONCE),
        )
        self._tokenizing = ThreadPoolExecutor(2, thread_name_prefix="tokenizing")

    async def embed(self, _peer: Peer, payload: msgspec.Raw) -> EmbedAnswer:
        """Vectors for one call's inputs."""
        call = msgspec.msgpack.decode(payload, type=EmbedCall)
        if call.texts is not None and call.tokens is None:
            inputs = await self._tokenized(call.texts)
        elif call.tokens is not None and call.texts is None:
            inputs = [self._marked(ids, index) for index, ids in enumerate(call.tokens)]
        else:
            raise InvalidRequest("Give either texts or tokens.", param="input")
        inputs = [self._fitting(ids, index, truncate=call.truncate) for index, ids in enumerate(inputs)]
        vectors = await self.batcher.embed(inputs)
        return EmbedAnswer(vectors=vectors.tobytes(), dim=self._model.dim, tokens=[len(ids) for ids in inputs])

    async def info(self, _peer: Peer, _payload: msgspec.Raw) -> EmbedderInfo:
        """What the model is."""
        return EmbedderInfo(dim=self._model.dim, max_tokens=self._model.max_tokens, digest=self._model.digest)

    async def work(self, _peer: Peer, _payload: msgspec.Raw) -> EmbedderWork:
        """What it has done so far."""
        return EmbedderWork(busy_s=self.batcher.busy_s)

    def close(self) -> None:
        """Let the threads end after what they are at."""
        self.batcher.close()
        self._tokenizing.shutdown(wait=False, cancel_futures=True)

    async def _tokenized(self, texts: list[str]) -> list[list[int]]:
        loop = asyncio.get_running_loop()
        inputs: list[list[int]] = []
        for start in range(0, len(texts), _TEXTS_AT_ONCE):  # a few at a time, so that calls take turns here too
            part = texts[start : start + _TEXTS_AT_ONCE]
            inputs += await loop.run_in_executor(self._tokenizing, self._model.tokenize, part)
        return inputs

    def _marked(self, ids: list[int], index: int) -> list[int]:
        if not ids or min(ids) < 0 or max(ids) >= self._model.vocabulary:
            raise InvalidRequest(
                f"Token ids must be between 0 and {self._model.vocabulary - 1}, and at least one.",
                param=f"input[{index}]",
                code="invalid_value",
            )
        return ids if ids[0] == self._model.first else [self._model.first, *ids, self._model.last]

    def _fitting(self, ids: list[int], index: int, *, truncate: bool) -> list[int]:
        most = self._model.max_tokens
        if len(ids) <= most:
            return ids
        if not truncate:
            raise ContextLengthExceeded(
                f"This model takes at most {most} tokens; input {index} has {len(ids)}.", param="input"
            )
        return [*ids[: most - 1], self._model.last]


async def serve(service: Service, settings: EmbedderSettings, *, lifeline: Lifeline, stop: asyncio.Event) -> None:
    """Listen until `stop` is set."""
    tasks = TaskSet()
    tasks.start(service.batcher.serve())
    server = Server(Path(settings.socket), {"embed": service.embed, "info": service.info, "work": service.work})
    await server.start()
    info = await service.info(None, msgspec.Raw())  # type: ignore[arg-type]
    lifeline.ready(**msgspec.to_builtins(info))
    await stop.wait()
    await server.aclose()
    await tasks.aclose()
    service.close()


def main() -> int:
    """The process's life."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(EmbedderSettings)
    lifeline.watch()
    logs.configure(settings.log_format, process=f"embedder/{settings.name}")
    try:
        model = EmbeddingModel(Path(settings.model_dir), threads=settings.threads)
    except ModelLoadFailed as error:
        lifeline.failed(error.message)
        return 1
    service = Service(model, settings)
    run_until_stopped(lambda stop: serve(service, settings, lifeline=lifeline, stop=stop))
    return 0


if __name__ == "__main__":
    sys.exit(main())
