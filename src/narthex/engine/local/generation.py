"""Runs the choices of one request in the engine: leases room, generates in groups, merges what comes.

A group is some choices of one prompt that share its prefill. Groups run side by side as the queue grants them.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import msgspec

from narthex.core.chat import Sampling
from narthex.core.errors import EngineCrashed
from narthex.core.slots import Lease, Slots, Want
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    FinishReason,
    Frame,
    TokenLogprob,
    Usage,
    UsageGoingOn,
)
from narthex.core.tiers import DEFAULT_RANK
from narthex.engine.local.llama import LlamaServer, Piece, is_greedy, sampling_body
from narthex.engine.local.prediction import Predictions, begin
from narthex.engine.local.probabilities import Trace, Vocabulary
from narthex.engine.local.reading import Form, Reader
from narthex.engine.local.stopping import stopped
from narthex.engine.slots import fingerprint
from narthex.ipc.tasks import TaskSet

_ENDS: dict[str, FinishReason] = {"limit": "length", "eos": "stop", "word": "stop"}
_HELD_FRAMES = 256
"""Frames that may wait for a slow reader; beyond that the engine's own stream is held back."""


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """`n` choices of one prompt, numbered from `first`. Choice i is sampled with seed + i.

    `repeat`: every choice is the same (nothing random is left), so one is generated and told `repeat` times.
    """

    prompt: Sequence[int]
    first: int
    n: int
    seed: int
    max_new: int
    repeat: int = 1
    predicted: Sequence[int] = ()
    """What the text is expected to be; only where `can_be_checked`."""


class Owner(msgspec.Struct, frozen=True, kw_only=True):
    """For whom the engine works: queues are fair by key, prefixes are shared within an account. `rank`: see `Want`."""

    key: str
    account: str
    seeded: bool
    rank: int = DEFAULT_RANK


REREAD_TOKENS = 256
"""A prompt up to this long is read anew where its text is to repeat: from the cache its sums come out differently."""
ONE_BY_ONE_TOKENS = 2048
"""Seeded choices run one after the other while their prompts together are no longer than this, because the sums of a
batch depend on who else is in it."""


class Tally:
    """Counts what a request uses, while it runs.

    `scored`: the request's own scoring has just left the prompts in the cache, which is no saving. `begun`: how many of
    the prompt's tokens are an answer's beginning.
    """

    def __init__(self, prompt_tokens: int, *, scored: bool = False, begun: int = 0) -> None:
        self._prompt_tokens = prompt_tokens
        self._scored = scored
        self._begun = begun
        self._completion_tokens = 0
        self._cached_tokens = 0
        self._reasoning_tokens = 0
        self._accepted_tokens = 0
        self._rejected_tokens = 0

    def finished(self, piece: Piece, readers: Sequence[Reader]) -> None:
        """A text has ended, which answers as many choices as read it."""
        # Tokens that were predicted in vain count as generated (contract 1.3, by OpenAI's specification).
        self._completion_tokens += piece.tokens_predicted * len(readers) + piece.rejected
        self._accepted_tokens += piece.accepted
        self._rejected_tokens += piece.rejected
        self._reasoning_tokens += sum(reader.reasoning_tokens for reader in readers)

    def prefilled(self, piece: Piece) -> None:
        """A prompt's first choice has ended: it tells what the prefix cache held."""
        self._cached_tokens += 0 if self._scored else piece.timings.cache_n

    @property
    def usage(self) -> Usage:
        """So far."""
        usage = Usage(
            prompt_tokens=self._prompt_tokens,
            completion_tokens=self._completion_tokens,
            cached_tokens=min(self._cached_tokens, self._prompt_tokens),
            reasoning_tokens=self._reasoning_tokens,
            accepted_prediction_tokens=self._accepted_tokens,
            rejected_prediction_tokens=self._rejected_tokens,
        )
        return UsageGoingOn(**msgspec.structs.asdict(usage), begun_tokens=self._begun) if self._begun else usage


class Generation:
    """The running choices of one request. Start it with `generate`.

    `vocabulary`: where log probabilities are asked for.
    """

    def __init__(
        self,
        server: LlamaServer,
        slots: Slots,
        *,
        owner: Owner,
        sampling: Sampling,
        form: Form,
        tally: Tally,
        vocabulary: Vocabulary | None = None,
        predictions: Predictions | None = None,
    ) -> None:
        """`predictions`: where answers with one are generated."""
        self._server = server
        self._slots = slots
        self._owner = owner
        self._sampling = sampling
        self._form = form
        self._tally = tally
        self._vocabulary = vocabulary
        self._predictions = predictions
        self._tasks = TaskSet()
        self._frames: asyncio.Queue[Frame | BaseException | None] = asyncio.Queue(_HELD_FRAMES)

    async def single(self, job: Job) -> AsyncIterator[Frame]:
        """The frames of a job with one choice: nothing to merge."""
        async with self._lease(job) as lease:
            async for frame in self._group(job, lease, start=0):
                yield frame

    async def merged(self, jobs: Sequence[Job]) -> AsyncIterator[Frame]:
        """The frames of many choices, as they come."""
        work = [self._in_turn(jobs)] if self._owner.seeded else [self._run(job) for job in jobs]
        for each in work:
            self._tasks.start(self._reported(each))
        running = len(work)
        while running:
            item = await self._frames.get()
            if isinstance(item, BaseException):
                raise item
            if item is None:
                running -= 1
            else:
                yield item

    async def aclose(self) -> None:
        """Stop whatever still runs."""
        await self._tasks.aclose()

    async def _in_turn(self, jobs: Sequence[Job]) -> None:
        """Seeded jobs: one after the other, and their choices too as long as that is cheap."""
        for job in jobs:
            if len(job.prompt) * job.n > ONE_BY_ONE_TOKENS:
                await self._run(job)
                continue
            for start in range(job.n):
                async with self._lease(job, n=1) as lease:
                    async for frame in self._group(job, lease, start=start):
                        await self._frames.put(frame)

    async def _run(self, job: Job) -> None:
        """Lease and start groups until every choice has run."""
        groups = TaskSet(awaited=True)
        try:
            running, started, lease = [], 0, self._lease(job)
            while started < job.n:
                granted = await lease.__aenter__()
                running.append(groups.start(self._in_group(job, lease, granted, start=started)))
                await asyncio.sleep(0)  # a group that was cancelled before it began could not give its lease back
                started += granted.choices
                if granted.left:
                    lease = granted.rest()
            for group in running:
                await group
        finally:
            await groups.aclose()

    async def _in_group(
        self, job: Job, lease: AbstractAsyncContextManager[Lease], granted: Lease, *, start: int
    ) -> None:
        try:
            async for frame in self._group(job, granted, start=start):
                await self._frames.put(frame)
        finally:
            await lease.__aexit__(None, None, None)

    async def _reported(self, work: Any) -> None:
        """Whatever ends a job reaches the reader."""
        try:
            await work
        except Exception as error:  # noqa: BLE001 - carried over to the reader's task, which raises it
            await self._frames.put(error)
        else:
            await self._frames.put(None)

    def _lease(self, job: Job, n: int | None = None) -> AbstractAsyncContextManager[Lease]:
        return self._slots.lease(
            Want(
                key=self._owner.key,
                account=self._owner.account,
                n=n or job.n,
                prompt_tokens=len(job.prompt),
                max_new=job.max_new,
                prefix=fingerprint(job.prompt),
                seeded=self._owner.seeded,
                rank=self._owner.rank,
                fresh=self._owner.seeded or (is_greedy(self._sampling) and len(job.prompt) <= REREAD_TOKENS),
                steady=is_greedy(self._sampling) and self._sampling.logprobs is not None,
            )
        )

    async def _group(self, job: Job, lease: Lease, *, start: int) -> AsyncIterator[Frame]:
        texts = [self._text(job, job.first + start + index) for index in range(lease.choices)]
        unfinished = set(range(lease.choices))
        async with self._pieces(job, lease, start=start) as pieces:
            spell = self._server.detokenize
            async for piece in stopped(pieces, self._sampling, choices=lease.choices, spell=spell):
                if events := texts[piece.index].events(piece):
                    yield Frame.of(*events)
                if piece.stop:
                    unfinished.discard(piece.index)
                    self._ended(piece, lease, texts[piece.index], leads=start == 0 and piece.index == 0)
        if unfinished:
            raise EngineCrashed(retry_after_s=1)

    @asynccontextmanager
    async def _pieces(self, job: Job, lease: Lease, *, start: int) -> AsyncIterator[AsyncIterator[Piece]]:
        """The engine's, or those of who checks the job's prediction."""
        if job.predicted and self._predictions is not None:
            asked = begin(
                self._sampling,
                account=self._owner.account,
                prompt=job.prompt,
                predicted=job.predicted,
                max_new=job.max_new,
                seed=job.seed + start,
            )
            async with self._predictions.checked(asked) as checked:
                if checked is not None:
                    lease.untouched()
                    yield checked
                    return
        async with self._server.completion(self._body(job, lease, start=start)) as pieces:
            yield pieces

    def _body(self, job: Job, lease: Lease, *, start: int) -> dict[str, Any]:
        body = sampling_body(
            self._sampling, seed=job.seed + start, prompt_tokens=len(job.prompt), max_new=job.max_new
        ) | {
            "prompt": job.prompt,
            "cache_prompt": lease.cache,
        }
        if lease.slot is not None:
            body["id_slot"] = lease.slot
        if lease.choices > 1:
            body["n_cmpl"] = lease.choices
        if self._form.grammar:
            body["grammar"] = self._form.grammar
        if self._form.preserved:
            body["preserved_tokens"] = self._form.preserved
        return body

    def _text(self, job: Job, choice: int) -> "_Text":
        """A text that answers one choice, or as many as it is repeated for."""
        readers = [self._form.reader(number) for number in range(choice, choice + job.repeat)]
        if self._sampling.logprobs is None or self._vocabulary is None:
            return _Text(readers, None)
        return _Text(readers, Trace(self._vocabulary, rivals=self._sampling.logprobs))

    def _ended(self, piece: Piece, lease: Lease, text: "_Text", *, leads: bool) -> None:
        self._tally.finished(piece, text.readers)
        if leads:
            self._tally.prefilled(piece)
        if piece.id_slot >= 0:
            lease.used(piece.id_slot)


class _Text:
    """One generated text while it is read, by a reader for every choice that it answers."""

    def __init__(self, readers: Sequence[Reader], trace: Trace | None) -> None:
        self.readers = readers
        self._trace = trace
        self._begun = False

    def events(self, piece: Piece) -> list[Event]:
        """What a piece means."""
        entries = None if self._trace is None else self._trace.told(piece)
        found = [event for reader in self.readers for event in self._of_one(reader, piece, entries)]
        self._begun = True
        return found

    def _of_one(self, reader: Reader, piece: Piece, entries: tuple[TokenLogprob, ...] | None) -> list[Event]:
        events: list[Event] = []
        if not self._begun:
            events += reader.begin()
        if piece.content:
            events += reader.feed(piece.content, entries)
        if piece.stop:
            events += reader.end(_ENDS.get(piece.stop_type, "stop"))
        return events


@asynccontextmanager
async def generate(generation: Generation, jobs: Sequence[Job]) -> AsyncIterator[AsyncIterator[Frame]]:
    """The frames of all jobs; leaving the block ends them."""
    if jobs[0].max_new == 0:
        frames = _nothing(jobs)
    elif len(jobs) == 1 and jobs[0].n == 1:
        frames = generation.single(jobs[0])
    else:
        frames = generation.merged(jobs)
    try:
        yield frames
    finally:
        await frames.aclose()  # type: ignore[attr-defined]
        await generation.aclose()


async def _nothing(jobs: Sequence[Job]) -> AsyncIterator[Frame]:
    """The answer to a limit of 0: every choice begins and ends (contract 11)."""
    for job in jobs:
        for choice in range(job.first, job.first + job.n * job.repeat):
            yield Frame.of(ChoiceStarted(choice), ChoiceFinished(choice, "length"))
