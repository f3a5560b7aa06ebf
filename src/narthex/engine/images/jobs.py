"""Whose image is made next: one at a time, keys take turns, and a key's calls are served in their order.

A turn is one image, so a call for ten of them holds nobody else up for longer than one.
"""

import asyncio
from collections import deque

from narthex.core.errors import EngineUnavailable, NarthexError, QueueFull
from narthex.engine.images.draw import DrawCall, Drawn
from narthex.engine.images.pipeline import Brake, Picture


class Job:
    """One call: the images that it still wants, and what of them is ready."""

    def __init__(self, call: DrawCall, pictures: list[Picture]) -> None:
        self.call = call
        self.pictures = deque(pictures)
        self.brake = Brake()
        self._ready: asyncio.Queue[Drawn | NarthexError] = asyncio.Queue()

    def give(self, drawn: Drawn | NarthexError) -> None:
        """Keep this until it is asked for."""
        self._ready.put_nowait(drawn)

    async def next(self) -> Drawn:
        """What comes next, as soon as it is there.

        Raises:
            NarthexError: it can't be made.
        """
        drawn = await self._ready.get()
        if isinstance(drawn, NarthexError):
            raise drawn
        return drawn


class Turns:
    """The calls that wait, bounded in all and by key."""

    def __init__(self, *, most: int, most_per_key: int) -> None:
        self._most = most
        self._most_per_key = most_per_key
        self._waiting: dict[str, deque[Job]] = {}  # keys in the order of their turns
        self._wake = asyncio.Event()
        self._service_s = 30.0  # moving average of one image; a guess until the first is made

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def add(self, job: Job) -> None:
        """Wait behind the others of its key.

        Raises:
            QueueFull: too many of this key wait already.
            EngineUnavailable: too many wait in all.
        """
        own = self._waiting.get(job.call.key, ())
        if len(own) >= self._most_per_key:
            raise QueueFull(
                "Too many requests of this key wait for this model already.", retry_after_s=self.retry_after_s()
            )
        if len(self) >= self._most:
            raise EngineUnavailable(
                "Too many requests wait for this model already.", retry_after_s=self.retry_after_s()
            )
        self._waiting.setdefault(job.call.key, deque()).append(job)
        self._wake.set()

    def discard(self, job: Job) -> None:
        """Wait no longer; does nothing if it doesn't."""
        own = self._waiting.get(job.call.key)
        if own is not None and job in own:
            own.remove(job)
            if not own:
                del self._waiting[job.call.key]

    async def take(self) -> tuple[Job, Picture]:
        """The next image to make, as soon as there is one. Its job waits on for its others."""
        while not self._waiting:
            self._wake.clear()
            await self._wake.wait()
        key = next(iter(self._waiting))
        own = self._waiting.pop(key)
        job = own[0]
        picture = job.pictures.popleft()
        if not job.pictures:
            own.popleft()
        if own:
            self._waiting[key] = own  # behind the other keys
        return job, picture

    def took(self, seconds: float) -> None:
        """Learn how long an image takes."""
        self._service_s += (seconds - self._service_s) / 4

    def retry_after_s(self) -> float:
        """When it may be worth to come again. Between 1 and 60 s."""
        images = sum(len(job.pictures) for own in self._waiting.values() for job in own)
        return min(60.0, max(1.0, round(self._service_s * images)))
