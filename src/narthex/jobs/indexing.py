"""Has code files made anew, one at a time, each by a process of its own: that takes a core for seconds, and memory.

While jobs are under way, only those without which searches would be slow.
"""

import asyncio
import contextlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import structlog

from narthex.core.documents import Collection
from narthex.core.errors import NarthexError

log = structlog.get_logger(__name__)

_MODULE = "narthex.retrieval.rebuild"


_LOOK_S = 2.0
"""How soon is seen that there is time for those that were put off."""


class Indexing:
    """Looks after the indexes of collections. `path`: of a collection's folder; `due`: when to make one anew; blocks
    for some ms; `hurried`: whether what can wait shall.
    """

    def __init__(
        self,
        path: Callable[[Collection], Path],
        *,
        due: Callable[[Path], Literal["now", "soon", "never"]],
        hurried: Callable[[], bool],
    ) -> None:
        self._path = path
        self._when = due
        self._hurried = hurried
        self._waiting: dict[str, Collection] = {}
        self._put_off: dict[str, Collection] = {}
        self._due = asyncio.Event()
        self._working = False

    @property
    def busy(self) -> bool:
        """Whether there is anything to look at."""
        return self._working or bool(self._waiting or self._put_off)

    def look_at(self, collection: Collection) -> None:
        """Look whether its code file is to be made anew, soon."""
        self._waiting[collection.id] = collection
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S if self._put_off else None):
                    await self._due.wait()
            self._due.clear()
            if not self._hurried():
                self._waiting, self._put_off = self._put_off | self._waiting, {}
            while self._waiting:
                _, collection = self._waiting.popitem()
                self._working = True
                try:
                    await self._look(collection)
                finally:
                    self._working = False

    async def _look(self, collection: Collection) -> None:
        folder = self._path(collection)
        try:
            when = await asyncio.to_thread(lambda: self._when(folder) if folder.is_dir() else "never")
            if when == "soon" and self._hurried():
                self._put_off[collection.id] = collection
            elif when != "never":
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
