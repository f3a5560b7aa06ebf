"""Jobs as those see them who ask for them."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence

from narthex.core.documents import Collection
from narthex.core.errors import NotFound
from narthex.core.jobs import Job, Jobs, NewJob
from narthex.jobs.waking import Waker

LOOK_S = 0.1
"""How soon somebody who waits for a job sees that it has changed: a look takes microseconds."""
LOOK_AFTER_CHUNKS = 500


class JobQueue:
    """The jobs of collections. `settings`: digest of those that this process works by."""

    def __init__(self, jobs: Jobs, waker: Waker, *, settings: str = "") -> None:
        self._jobs = jobs
        self._waker = waker
        self._settings = settings
        self._fresh: Counter[str] = Counter()

    async def add(self, new: NewJob, *, job_id: str | None = None) -> Job:
        """Queue a job, durably. Raises `QueueFull`."""
        job = await self._jobs.add(new, job_id=job_id)
        self._waker.wake(self._settings)
        return job

    async def of(self, collection: Collection, *, only_open: bool = False) -> tuple[Job, ...]:
        """A collection's jobs, newest first."""
        return await self._jobs.list(collection.id, only_open=only_open)

    async def get(self, collection: Collection, job_id: str) -> Job:
        """One of a collection's jobs. Raises `NotFound`."""
        job = await self._jobs.get(job_id)
        if job is None or job.collection_id != collection.id:
            raise NotFound("There is no such job.")
        return job

    async def cancel(self, collection: Collection, job_id: str) -> Job:
        """Cancel one of a collection's jobs, if it is not over. Raises `NotFound`."""
        await self.get(collection, job_id)
        job = await self._jobs.cancel(job_id)
        self._waker.wake(self._settings)
        return job

    async def last_open(self, collection: Collection, subject: str) -> Job | None:
        """The newest open job on one document."""
        return await self._jobs.open_on(collection.id, subject)

    async def follow(self, job: Job) -> AsyncIterator[Job]:
        """The job as it is now and each time it has changed, to its end."""
        seen = job
        yield seen
        while seen.is_open:
            await asyncio.sleep(LOOK_S)
            now = await self._jobs.get(job.id)
            if now is None:
                return
            if now != seen:
                seen = now
                yield seen

    def grown(self, collection: Collection, chunks: int) -> None:
        """Somebody stored so many chunks by himself: now and then its index is to be looked after."""
        self._fresh[collection.id] += chunks
        if self._fresh[collection.id] >= LOOK_AFTER_CHUNKS:
            del self._fresh[collection.id]
            self._waker.wake(self._settings, collection_id=collection.id)

    async def wait(self, jobs: Sequence[Job], *, within_s: float) -> list[Job]:
        """The jobs, once all are over or the time is."""
        until_s = time.monotonic() + within_s
        now = list(jobs)
        while any(job.is_open for job in now) and time.monotonic() < until_s:
            await asyncio.sleep(LOOK_S)
            now = [await self._jobs.get(job.id) or job if job.is_open else job for job in now]
        return now
