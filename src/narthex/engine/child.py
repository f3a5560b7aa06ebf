"""The process of one embedded model: llama.cpp's server on one unix socket, the broker of its slots on another.

Run as `python -m narthex.engine.child --notify FD` with `EngineSettings` on standard input. An abort inside llama.cpp
ends the process and nothing else: the supervisor starts it again.
"""

import asyncio
import http.client
import os
from collections.abc import Sequence
from pathlib import Path

import structlog

from narthex.core.errors import ModelLoadFailed
from narthex.engine import gguf, llama
from narthex.engine.broker import Broker
from narthex.engine.leases import LocalSlots
from narthex.engine.llama import EngineSettings, LlamaServer
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.tasks import TaskSet

log = structlog.get_logger(__name__)


class Trimmer:
    """Keeps what idle slots hold within `keep` tokens. `wake` after each release; looks are never made side by side."""

    def __init__(self, server: LlamaServer, slots: LocalSlots, *, keep: int) -> None:
        self._server = server
        self._slots = slots
        self._keep = keep
        self._wanted = asyncio.Event()

    def wake(self) -> None:
        """Look soon."""
        self._wanted.set()

    async def run(self) -> None:
        """Look whenever woken, until cancelled."""
        while True:
            await self._wanted.wait()
            self._wanted.clear()
            try:
                await self._look()
            except (OSError, http.client.HTTPException) as error:
                log.warning("idle slots could not be trimmed", error=type(error).__name__)

    async def _look(self) -> None:
        states = await asyncio.to_thread(self._server.slots)
        for slot in llama.surplus(states, self._slots.table.oldest_idle(), keep=self._keep):
            # If the slot was granted meanwhile it is erased after that use: a cache missed, nothing worse.
            await asyncio.to_thread(self._server.erase, slot)


class Engine:
    """What runs beside llama.cpp's threads on the loop of this process."""

    def __init__(self, settings: EngineSettings) -> None:
        self._settings = settings
        self._server = LlamaServer(Path(settings.socket))
        self._tasks = TaskSet()
        self._ended = asyncio.Event()
        self._trimmer: Trimmer | None = None
        self._slots = LocalSlots(
            settings.limits,
            share_prefix_cache=settings.share_prefix_cache,
            on_release=self._released,
            empty=self._empty,
        )
        self._broker = Broker(self._slots, Path(settings.control_socket), on_retired=self._ended.set)

    async def run(self, lifeline: Lifeline, stop: asyncio.Event) -> None:
        """Serve until `stop`, retired or idle for too long."""
        if not await asyncio.to_thread(self._server.healthy):
            raise ModelLoadFailed(f"The engine of {self._settings.name} does not answer.")
        if self._settings.cache_cells is not None:
            self._trimmer = Trimmer(self._server, self._slots, keep=self._settings.cache_cells)
            self._tasks.start(self._trimmer.run())
        if self._settings.idle_unload_s is not None:
            self._tasks.start(self._unload_when_idle(self._settings.idle_unload_s))
        self._tasks.start(self._end_with(stop))
        await self._broker.start()
        lifeline.ready()
        await self._ended.wait()
        await self._broker.aclose()
        await self._tasks.aclose()

    async def _empty(self, slots: Sequence[int]) -> None:
        for slot in await asyncio.to_thread(self._server.slots):
            if slot.id in slots and not slot.is_processing and slot.n_prompt_tokens:
                await asyncio.to_thread(self._server.erase, slot.id)

    def _released(self) -> None:
        if self._trimmer is not None:
            self._trimmer.wake()

    async def _end_with(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._ended.set()

    async def _unload_when_idle(self, limit_s: float) -> None:
        while self._slots.idle_s < limit_s or not self._slots.retire():  # noqa: ASYNC110 - it waits for a time to pass
            await asyncio.sleep(max(0.05, limit_s - self._slots.idle_s))
        log.info("unloaded", model=self._settings.name, idle_s=limit_s)
        self._ended.set()


def main() -> None:
    """Load, serve, end."""
    os.umask(0o077)
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(EngineSettings)
    lifeline.watch()
    try:
        gguf.read(Path(settings.model_path))
        server = llama.start(settings)  # noqa: F841 - it lives as long as this name
        run_until_stopped(lambda stop: Engine(settings).run(lifeline, stop))
    except ModelLoadFailed as error:
        log.error("the model can't be served", model=settings.name, reason=error.message)  # noqa: TRY400
        lifeline.failed(error.message)
        os._exit(1)
    # llama.cpp's threads may be in the middle of a stream, and `server`'s own end would wait for it.
    Path(settings.socket).unlink(missing_ok=True)
    os._exit(0)


if __name__ == "__main__":
    main()
