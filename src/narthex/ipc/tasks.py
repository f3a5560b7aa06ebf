"""Background tasks with an owner: none is lost with its exception, none outlives its owner."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)


class TaskSet:
    """Tasks that belong to one owner. An exception in one is logged; `aclose` cancels and awaits the rest.

    `awaited`: the owner awaits each task itself, and so hears of its exception without the log.
    """

    def __init__(self, *, awaited: bool = False) -> None:
        self._awaited = awaited
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until it ends or the owner closes."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def __len__(self) -> int:
        return len(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not self._awaited:
            log.error("a background task failed", exc_info=error)

    def cancel(self) -> None:
        """Cancel what still runs, and wait for nothing."""
        for task in self._tasks:
            task.cancel()

    async def aclose(self) -> None:
        """Cancel what still runs and wait for it; the task that calls this is left alone."""
        tasks = tuple(task for task in self._tasks if task is not asyncio.current_task())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
