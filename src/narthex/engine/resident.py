"""A model that a process of its own keeps in memory: when that ends, and how it is served until then."""

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from narthex.ipc.child import Lifeline
from narthex.ipc.server import Operation, Peer, Server
from narthex.ipc.tasks import TaskSet

log = structlog.get_logger(__name__)


class Resident:
    """Stays while there is something to do. `ended`: nobody will be served any more."""

    def __init__(self, name: str, *, busy: Callable[[], bool]) -> None:
        self._name = name
        self._busy = busy
        self._idle_since_s = time.monotonic()
        self.ended = asyncio.Event()

    def worked(self) -> None:
        """Some work has ended."""
        self._idle_since_s = time.monotonic()

    async def retire(self, _peer: Peer, _payload: msgspec.Raw) -> dict[str, bool]:
        """End, if there is nothing to do."""
        return {"retired": self._retires()}

    async def unload_when_idle(self, limit_s: float) -> None:
        """Return when nobody has wanted anything for so long, and nobody will be served any more."""
        while self._idle_s() < limit_s or not self._retires():  # noqa: ASYNC110 - it waits for a time to pass
            await asyncio.sleep(max(0.05, limit_s - self._idle_s()))
        log.info("unloaded", model=self._name, idle_s=limit_s)

    async def serve(
        self,
        operations: Mapping[str, Operation],
        *,
        socket: Path,
        idle_unload_s: float | None,
        lifeline: Lifeline,
        stop: asyncio.Event,
        beside: Coroutine[Any, Any, None] | None = None,
    ) -> None:
        """Listen until `stop` is set, or there has been nothing to do for long enough. `beside`: runs meanwhile."""
        tasks = TaskSet()
        if beside is not None:
            tasks.start(beside)
        if idle_unload_s is not None:
            tasks.start(self.unload_when_idle(idle_unload_s))

        async def stopped() -> None:
            await stop.wait()
            self.ended.set()

        tasks.start(stopped())
        server = Server(socket, {**operations, "retire": self.retire})
        await server.start()
        lifeline.ready()
        await self.ended.wait()
        await server.aclose()
        await tasks.aclose()

    def _idle_s(self) -> float:
        return 0.0 if self._busy() else time.monotonic() - self._idle_since_s

    def _retires(self) -> bool:
        if self._busy():
            return False
        self.ended.set()
        return True
