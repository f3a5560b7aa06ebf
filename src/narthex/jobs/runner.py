"""Takes jobs from the store and does them, a few at a time, each under a heartbeat.

Rules: whatever a job's work raises ends the job with a reason and never the runner; whoever lost a job (it was
cancelled, or the lease ran out) stops working on it with the next beat; a runner that is stopped gives its jobs back.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec
import structlog

from narthex.core.errors import NarthexError, StorageError
from narthex.core.jobs import LEASE_MS, Ending, Job, Jobs
from narthex.ipc.tasks import TaskSet

log = structlog.get_logger(__name__)

AT_ONCE = 5
"""While some wait for the disk or the extractor, the others keep the embedding model busy."""
BEAT_S = LEASE_MS / 4000
_TELL_S = 0.5
"""How soon what a job tells is written: sooner would be a disk flush for each batch."""
LOOK_S = 2.0
"""How soon jobs of dead owners are found."""


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What a job made."""

    result: dict[str, Any] = {}
    warnings: tuple[str, ...] = ()


class PutOff(Exception):
    """The job can't go on as it is, and is to begin anew: what it was working on has changed. Not counted as a try."""


class Progress:
    """How far a job is. `tell` costs nothing: what was told last is written soon."""

    def __init__(self, job: Job) -> None:
        self.done = job.done
        self.total = job.total
        self.message = job.message
        self.noted: Callable[[], dict[str, Any] | None] = lambda: None
        """What the job's next owner has to know, should this process die."""
        self.changed = asyncio.Event()
        self.is_ours: Callable[[], Awaitable[bool]] = _always
        """Whether the job is still to be done, by us: to be asked before what can't be taken back."""

    def tell(self, done: int, total: int, message: str = "") -> None:
        """`done` of `total` pieces, and what it is at."""
        self.done, self.total, self.message = done, total, message
        self.changed.set()


async def _always() -> bool:
    return True


class Work(Protocol):
    """How jobs of one kind are done."""

    async def run(self, job: Job, progress: Progress) -> Outcome:
        """Do it, going on from wherever an earlier try got.

        Raises:
            NarthexError: it failed; its message is the reason that people read.
            PutOff: it must begin anew.
        """
        ...

    async def ended(self, job: Job) -> None:
        """The job is over, in whichever way: remove what was kept for it."""
        ...


class Runner:
    """Does the jobs of one store as one owner."""

    def __init__(self, jobs: Jobs, works: Mapping[str, Work], *, owner: str, at_once: int = AT_ONCE) -> None:
        """`works`: by kind. `owner`: a name that no other runner bears, in this life or another."""
        self._jobs = jobs
        self._works = works
        self._owner = owner
        self._at_once = at_once
        self._running: set[asyncio.Task[None]] = set()
        self._tasks = TaskSet()
        self._woken = asyncio.Event()

    @property
    def running(self) -> int:
        """Jobs under way."""
        return len(self._running)

    def wake(self) -> None:
        """Look for jobs now."""
        self._woken.set()

    async def run(self, stop: asyncio.Event, *, idle_s: float) -> None:
        """Work until `stop` is set, then give back what is under way; or until nothing was to be done for `idle_s`."""
        loop = asyncio.get_running_loop()
        idle_since_s = loop.time()
        stopped: asyncio.Future[Any] = asyncio.ensure_future(stop.wait())
        try:
            while not stop.is_set():
                self._woken.clear()
                if await self._taken() or self._running:
                    idle_since_s = loop.time()
                elif loop.time() - idle_since_s >= idle_s and not await self._open():
                    return
                await self._pause(stopped)
        finally:
            stopped.cancel()
            await self._tasks.aclose()

    async def _pause(self, stopped: "asyncio.Future[Any]") -> None:
        woken: asyncio.Future[Any] = asyncio.ensure_future(self._woken.wait())
        ends: set[asyncio.Future[Any]] = {woken, stopped, *self._running}
        try:
            await asyncio.wait(ends, timeout=LOOK_S, return_when=asyncio.FIRST_COMPLETED)
        finally:
            woken.cancel()

    async def _taken(self) -> bool:
        """Begin as many jobs as there is room for; whether any began."""
        began = False
        while len(self._running) < self._at_once:
            try:
                job = await self._jobs.claim(self._owner)
            except StorageError as error:
                log.warning("jobs can't be taken now", error=error.message)
                break
            if job is None:
                break
            began = True
            task = self._tasks.start(self._do(job))
            self._running.add(task)
            task.add_done_callback(self._running.discard)
        return began

    async def _open(self) -> bool:
        try:
            return bool(await self._jobs.open_ids())
        except StorageError:
            return True

    # --- one job

    async def _do(self, job: Job) -> None:
        log.info("job", job=job.id, kind=job.kind, state="running", attempt=job.attempts)
        progress = Progress(job)
        progress.is_ours = lambda: self._told(job, progress)
        work = asyncio.ensure_future(self._works[job.kind].run(job, progress))
        beating = asyncio.ensure_future(self._beat(job, progress))
        try:
            await asyncio.wait({work, beating}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():  # the beat ended: the job is somebody else's now
                await self._stopped(work)
                log.info("job lost", job=job.id)
                await self._clean_up_if_over(job)
                return
        except asyncio.CancelledError:
            await self._stopped(work)
            with contextlib.suppress(StorageError):
                if work.cancelled() or work.exception() is not None:
                    await self._jobs.release(job.id, self._owner)
                else:  # it had come too far to be stopped, and is done
                    await self._end(job, work)
            raise
        finally:
            beating.cancel()
        await self._end(job, work)

    async def _end(self, job: Job, work: "asyncio.Future[Outcome]") -> None:
        state: Ending = "failed"
        error, outcome = "", Outcome()
        try:
            outcome = work.result()
            state = "done"
        except PutOff:
            await self._jobs.release(job.id, self._owner)
            await self._clean_up_if_over(job)
            return
        except NarthexError as failure:
            error, outcome = failure.public_message, Outcome(result={"status": failure.status})
            log.warning("job failed", job=job.id, kind=job.kind, error=type(failure).__name__)
        except Exception:  # the edge: a fault of ours ends one job, with a reason, and no others
            error = "Internal error."
            log.exception("job failed", job=job.id, kind=job.kind)
        ended = await self._jobs.finish(
            job.id, self._owner, state=state, error=error, warnings=outcome.warnings, result=outcome.result
        )
        log.info("job", job=job.id, kind=job.kind, state=state)
        if ended:
            await self._works[job.kind].ended(job)
        else:
            await self._clean_up_if_over(job)

    async def _clean_up_if_over(self, job: Job) -> None:
        now = await self._jobs.get(job.id)
        if now is None or not now.is_open:
            await self._works[job.kind].ended(job)

    async def _beat(self, job: Job, progress: Progress) -> None:
        """Until the job is not ours any more."""
        while True:
            progress.changed.clear()
            try:
                if not await self._told(job, progress):
                    return
            except StorageError as error:  # the lease may run out; who takes the job then goes on from where it is
                log.warning("a job's progress can't be told", job=job.id, error=error.message)
            await asyncio.sleep(_TELL_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(BEAT_S - _TELL_S):
                    await progress.changed.wait()

    async def _told(self, job: Job, progress: Progress) -> bool:
        """Tell how far it is. Whether it is still ours."""
        return await self._jobs.beat(
            job.id,
            self._owner,
            done=progress.done,
            total=progress.total,
            message=progress.message,
            result=progress.noted(),
        )

    @staticmethod
    async def _stopped(work: "asyncio.Future[Outcome]") -> None:
        work.cancel()
        await asyncio.wait({work})
