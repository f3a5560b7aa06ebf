"""Which texts run next: calls take turns, and texts of one length run together whoever asked for them.

A turn is one run of at most `max_tokens` tokens (one text, where a text is longer). The call whose turn it is decides
the length and is served first; what room is left goes to the others' texts of that length. So a call of one text waits
for one run of each call before it, however many texts they have.

Several runs are under way at a time: where a run has nothing for one of the cores, another's work is done.
"""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import structlog

from narthex.core.errors import EngineUnavailable, QueueFull
from narthex.retrieval.embedding_model import Vectors

log = structlog.get_logger(__name__)


class Work:
    """One call's inputs, until each has its vector."""

    def __init__(self, inputs: list[list[int]], *, dim: int) -> None:
        self.inputs = inputs
        self.vectors: Vectors = np.empty((len(inputs), dim), "<f4")
        self.missing = len(inputs)
        self.waiting: dict[int, deque[int]] = {}
        for index, ids in enumerate(inputs):
            self.waiting.setdefault(len(ids), deque()).append(index)

    def take(self, length: int, *, most: int) -> list[int]:
        """At most `most` of the indices that wait with this length; they wait no longer."""
        indices = self.waiting.get(length)
        if indices is None:
            return []
        taken = [indices.popleft() for _ in range(min(most, len(indices)))]
        if not indices:
            del self.waiting[length]
        return taken


class Turns:
    """The calls that wait, in the order of their turns."""

    def __init__(self) -> None:
        self._waiting: deque[Work] = deque()

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, work: Work) -> None:
        """Wait behind the others."""
        self._waiting.append(work)

    def discard(self, work: Work) -> None:
        """Wait no longer; does nothing if it doesn't."""
        if work in self._waiting:
            self._waiting.remove(work)

    def take(self, max_tokens: int) -> list[tuple[Work, int]]:
        """The next run's texts, as (call, index of its input); all of one length. Some call must wait."""
        leader = self._waiting[0]
        self._waiting.rotate(-1)
        length = next(iter(leader.waiting))
        room = max(1, max_tokens // length)
        batch: list[tuple[Work, int]] = []
        for work in (leader, *self._waiting):
            batch += [(work, index) for index in work.take(length, most=room - len(batch))]
            if len(batch) == room:
                break
        self._waiting = deque(work for work in self._waiting if work.waiting)
        return batch


class Batcher:
    """Runs what callers ask for, `at_once` runs at a time, each in a thread. `run` is the model's."""

    def __init__(
        self,
        run: Callable[[list[list[int]]], Vectors],
        *,
        dim: int,
        max_batch_tokens: int,
        max_waiting_tokens: int,
        at_once: int = 1,
    ) -> None:
        self._run = run
        self._dim = dim
        self._max_batch_tokens = max_batch_tokens
        self._max_waiting_tokens = max_waiting_tokens
        self._waiting_tokens = 0
        self._turns = Turns()
        self._wake = asyncio.Event()
        self._futures: dict[Work, asyncio.Future[None]] = {}
        self._at_once = at_once
        self._threads = ThreadPoolExecutor(at_once, thread_name_prefix="embedding")
        self._under_way = 0
        self._began_s = self._busy_s = 0.0

    async def embed(self, inputs: list[list[int]]) -> Vectors:
        """float32[n, dim]. Cancelled, what has not run yet never runs.

        Raises:
            QueueFull: too many tokens wait already.
            EngineUnavailable: the run failed.
        """
        tokens = sum(map(len, inputs))
        if self._waiting_tokens and self._waiting_tokens + tokens > self._max_waiting_tokens:
            raise QueueFull("Too many texts wait for the embedding model.", retry_after_s=5)
        work = Work(inputs, dim=self._dim)
        if inputs:
            future = self._futures[work] = asyncio.get_running_loop().create_future()
            self._waiting_tokens += tokens
            self._turns.add(work)
            self._wake.set()
            try:
                await future
            finally:
                del self._futures[work]
                self._waiting_tokens -= tokens
                self._turns.discard(work)
        return work.vectors

    @property
    def busy_s(self) -> float:
        """Seconds in which there was a run, so far."""
        return self._busy_s + (time.monotonic() - self._began_s if self._under_way else 0)

    async def serve(self) -> None:
        """Run what waits, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._at_once):
                group.create_task(self._serve())

    async def _serve(self) -> None:
        while True:
            while not self._turns:
                self._wake.clear()
                await self._wake.wait()
            batch = self._turns.take(self._max_batch_tokens)
            inputs = [work.inputs[index] for work, index in batch]
            try:
                vectors = await self._ran(inputs)
            except Exception:  # whatever the runtime raises, it costs these calls only
                log.exception("a run failed", texts=len(batch), tokens_each=len(inputs[0]))
                self._fail(batch)
            else:
                self._deliver(batch, vectors)

    async def _ran(self, inputs: list[list[int]]) -> Vectors:
        if not self._under_way:
            self._began_s = time.monotonic()
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, self._run, inputs)
        finally:
            self._under_way -= 1
            if not self._under_way:
                self._busy_s += time.monotonic() - self._began_s

    def close(self) -> None:
        """Let the threads end after their runs."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _deliver(self, batch: list[tuple[Work, int]], vectors: Vectors) -> None:
        for (work, index), vector in zip(batch, vectors, strict=True):
            work.vectors[index] = vector
            work.missing -= 1
            future = self._futures.get(work)
            if work.missing == 0 and future is not None and not future.done():
                future.set_result(None)

    def _fail(self, batch: list[tuple[Work, int]]) -> None:
        for work, _ in batch:
            self._turns.discard(work)
            future = self._futures.get(work)
            if future is not None and not future.done():
                future.set_exception(EngineUnavailable("The embedding model failed on this input.", retry_after_s=1))
