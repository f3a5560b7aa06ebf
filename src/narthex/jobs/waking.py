"""The process that does the jobs, as workers know it: started where it is needed, and told that there is something."""

import asyncio
from pathlib import Path
from typing import Final

import msgspec
import structlog

from narthex.core.errors import NarthexError
from narthex.core.ports import Ensure
from narthex.ipc.client import Client
from narthex.ipc.tasks import TaskSet

log = structlog.get_logger(__name__)

NAME: Final = "background"
"""The child, by its name with the supervisor."""
_PAUSES_S = (0.0, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0)


class Wake(msgspec.Struct, frozen=True, kw_only=True):
    """There is something to do, says a worker with these settings: a process with others ends, and is started anew."""

    settings: str = ""
    collection_id: str = ""
    """Look after this one's index too."""


class Woken(msgspec.Struct, frozen=True, kw_only=True):
    """The answer. `outdated`: it ends, for the settings are others now; wake its successor."""

    outdated: bool = False


class Waker:
    """Wakes the process. Nothing is lost if that fails: a worker that starts looks for jobs as well.

    Close it with `aclose`.
    """

    def __init__(self, run_dir: Path, *, ensure: Ensure) -> None:
        self._client = Client(socket_of(run_dir), name=NAME)
        self._ensure = ensure
        self._tasks = TaskSet()
        self._waking: asyncio.Task[None] | None = None
        self._again = False
        self._collections: set[str] = set()
        self._settings = ""

    def wake(self, settings: str = "", *, collection_id: str = "") -> None:
        """Let it look for jobs, and after the index of a collection; soon, and this returns at once."""
        self._collections.add(collection_id)
        self._settings = settings or self._settings
        if self._waking is not None and not self._waking.done():
            self._again = True
            return
        self._waking = self._tasks.start(self._wake())

    async def aclose(self) -> None:
        """Stop trying, and close the connection."""
        await self._tasks.aclose()
        await self._client.aclose()

    async def _wake(self) -> None:
        for pause_s in _PAUSES_S:
            await asyncio.sleep(pause_s)
            try:
                if await self._told():
                    return
            except NarthexError:
                await self._started()
        log.warning("the background process can't be woken; jobs wait")

    async def _told(self) -> bool:
        """Whether one that is here to stay has heard of everything."""
        while True:
            self._again = False
            for collection_id in sorted(self._collections) or [""]:
                wake = Wake(settings=self._settings, collection_id=collection_id)
                woken = await self._client.call("wake", wake, Woken, timeout_s=10)
                if woken.outdated:
                    return False
                self._collections.discard(collection_id)
            if not self._again:
                return True

    async def _started(self) -> None:
        try:
            await self._ensure(NAME)
        except NarthexError as error:
            log.warning("the background process can't be started now", error=error.message)


def socket_of(run_dir: Path) -> Path:
    """Where it is woken."""
    return run_dir / f"{NAME}.sock"
