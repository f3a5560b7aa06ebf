"""The memory that all engines share: who starts must fit beside those that run, or the longest idle ones make room."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from pathlib import Path

import msgspec
import structlog

from narthex.core.errors import EngineUnavailable, NarthexError
from narthex.ipc.client import Client
from narthex.supervisor.child import Child
from narthex.supervisor.plan import control_socket

log = structlog.get_logger(__name__)

GROUP = "engines"
_ASK_S = 2.0
_MIB = 1024 * 1024


class Retired(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine answers when asked to retire; with `retired` it ends by itself, with 0."""

    retired: bool


class MemoryBudget:
    """One budget over all children of the group `engines`."""

    def __init__(self, limit_bytes: int, *, children: Callable[[], Iterable[Child]], run_dir: Path) -> None:
        """`limit_bytes` 0 means no limit."""
        self.limit_bytes = limit_bytes
        self._children = children
        self._run_dir = run_dir
        self._lock = asyncio.Lock()

    @contextlib.asynccontextmanager
    async def room(self, child: Child) -> AsyncIterator[None]:
        """Hold the room for one start; the child counts from the moment it has a process.

        Raises:
            EngineUnavailable: it doesn't fit, and no engine can retire.
        """
        if not self.limit_bytes or child.spec.group != GROUP:
            yield
            return
        async with self._lock:
            await self._make_room(child)
            yield

    async def _make_room(self, child: Child) -> None:
        needed = child.spec.memory_bytes
        asked: set[str] = set()
        while needed + sum(other.spec.memory_bytes for other in self._running()) > self.limit_bytes:
            leaving = next((o for o in self._running() if o.state in ("stopping", "failed")), None)
            if leaving is not None and leaving.process is not None:
                await leaving.process.exited.wait()
                continue
            idle = [o for o in self._running() if o.state == "ready" and o.spec.name not in asked]
            if needed > self.limit_bytes or not idle:
                raise EngineUnavailable(
                    f"There is not enough memory for {child.spec.name} now: it needs {needed // _MIB} MiB, all engines "
                    f"together may use {self.limit_bytes // _MIB} MiB.",
                    retry_after_s=5,
                )
            oldest = min(idle, key=lambda other: other.ensured_at_s)
            asked.add(oldest.spec.name)
            name = oldest.spec.name
            retired = await oldest.retire(lambda name=name: agrees_to_retire(self._run_dir, name))  # type: ignore[misc]
            log.info("asked to retire", child=oldest.spec.name, retired=retired, in_favour_of=child.spec.name)

    def _running(self) -> list[Child]:
        return [child for child in self._children() if child.spec.group == GROUP and child.process is not None]


async def agrees_to_retire(run_dir: Path, name: str) -> bool:
    """Whether the engine of this name is idle; if so it takes nothing more and ends. One that can't be asked is not."""
    client = Client(control_socket(run_dir, name), name=name)
    try:
        return (await client.call("retire", None, Retired, timeout_s=_ASK_S)).retired
    except (NarthexError, msgspec.MsgspecError):
        return False
    finally:
        await client.aclose()
