"""What nobody waits for: forgetting old jobs, and removing files that nothing refers to any more."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Protocol

import structlog

from narthex.core.documents import Collection, Collections
from narthex.core.errors import NarthexError
from narthex.core.jobs import Jobs
from narthex.core.keys import Clock
from narthex.core.stored import StoredChats
from narthex.storage.uploads import Uploads

log = structlog.get_logger(__name__)

EVERY_S = 600.0
KEPT_MS = 7 * 24 * 3600 * 1000
"""How long one can ask what became of a job."""
_SETTLED_S = 900.0
"""Longer than any request takes: a file that was not written for so long belongs to none."""

_PRUNED_AT_ONCE = 500
_PAUSE_S = 0.1


class Files(Protocol):
    """The files of collections."""

    async def sweep(self, living: Iterable[Collection], *, unused_for_s: float) -> None:
        """Delete those of collections that are gone, and of generations that were switched away that long ago."""
        ...


class Aging:
    """Deletes stored completions that are older than `kept_s`, a few at a time: whoever stores one waits but little."""

    def __init__(self, chats: StoredChats, *, kept_s: float) -> None:
        self._chats = chats
        self._kept_s = kept_s

    async def prune(self, now_ms: int) -> None:
        """Delete all of them.

        Raises:
            StorageError: they can't be deleted.
        """
        before_s = int(now_ms / 1000 - self._kept_s)
        oldest_s = await self._chats.oldest_s()
        if oldest_s is None or oldest_s >= before_s:
            return
        while True:
            if not await self._chats.prune(before_s=before_s, at_most=_PRUNED_AT_ONCE):
                return
            await asyncio.sleep(_PAUSE_S)


class Tidying:
    """Does that now, and every ten minutes. `busy`: it is at it."""

    def __init__(
        self,
        jobs: Jobs,
        collections: Collections,
        files: Files,
        uploads: Uploads,
        *,
        look_at: Callable[[Collection], None],
        aging: Aging,
        clock: Clock,
    ) -> None:
        """`look_at`: looks after a collection's index."""
        self._jobs = jobs
        self._collections = collections
        self._files = files
        self._uploads = uploads
        self._look_at = look_at
        self._aging = aging
        self.busy = False
        self._clock = clock

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop` is set."""
        while not stop.is_set():
            self.busy = True
            try:
                await self.tidy()
            except (NarthexError, OSError) as error:
                log.warning("tidying failed", error=str(error))
            self.busy = False
            await asyncio.sleep(EVERY_S)

    async def tidy(self) -> None:
        """Once.

        Raises:
            StorageError, OSError: something can't be read or removed; the next time may do better.
        """
        now_ms = self._clock()
        await self._jobs.prune(before_ms=now_ms - KEPT_MS)
        before_s = now_ms / 1000 - _SETTLED_S
        open_ids = await self._jobs.open_ids()
        await asyncio.to_thread(self._uploads.sweep, open_ids, before_s=before_s)
        living = await self._collections.every()
        await self._files.sweep(living, unused_for_s=_SETTLED_S)
        for collection in living:
            self._look_at(collection)
        await self._aging.prune(now_ms)
