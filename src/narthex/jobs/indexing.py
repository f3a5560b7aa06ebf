"""Has code files made anew, one at a time, each by a process of its own: that takes a core for seconds, and memory."""

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import structlog

from narthex.core.documents import Collection
from narthex.core.errors import NarthexError

log = structlog.get_logger(__name__)

_MODULE = "narthex.retrieval.rebuild"


class Indexing:
    """Looks after the indexes of collections. `path`: of a collection's folder; `needs`: blocks for some ms."""

    def __init__(self, path: Callable[[Collection], Path], *, needs: Callable[[Path], bool]) -> None:
        self._path = path
        self._needs = needs
        self._waiting: dict[str, Collection] = {}
        self._due = asyncio.Event()
        self._working = False

    @property
    def busy(self) -> bool:
        """Whether there is anything to look at."""
        return self._working or bool(self._waiting)

    def look_at(self, collection: Collection) -> None:
        """Look whether its code file is to be made anew, soon."""
        self._waiting[collection.id] = collection
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await self._due.wait()
            self._due.clear()
            while self._waiting:
                _, collection = self._waiting.popitem()
                self._working = True
                try:
                    await self._look(self._path(collection))
                finally:
                    self._working = False

    async def _look(self, folder: Path) -> None:
        try:
            if await asyncio.to_thread(lambda: folder.is_dir() and self._needs(folder)):
                await self._rebuild(folder)
        except (NarthexError, OSError) as error:
            log.warning("an index can't be looked at", error=str(error))

    async def _rebuild(self, folder: Path) -> None:
        process = await asyncio.create_subprocess_exec(sys.executable, "-P", "-m", _MODULE, str(folder))
        try:
            code = await process.wait()
        except asyncio.CancelledError:
            process.kill()
            await process.wait()
            raise
        log.info("index rebuilt" if code == 0 else "an index could not be rebuilt", code=code)
