"""A look into a running server: its processes, the queue of its engine, what its processes hold."""

import asyncio
import os
import signal
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server

from narthex.core.errors import NarthexError
from narthex.engine.leases import QueueState, Slots
from narthex.engine.llama import LlamaServer
from narthex.ipc.client import Client
from narthex.supervisor.child import Status

ENGINE, EMBEDDER, SANDBOX = f"engine/{CHAT_MODEL}", f"embedder/{EMBEDDING_MODEL}", "sandbox"


async def until(what: Callable[[], Awaitable[bool]], *, within_s: float = 60.0, every_s: float = 0.01) -> float:
    """Wait until `what()` is true; returns how long it took, in seconds."""
    began = time.monotonic()
    while not await what():
        assert time.monotonic() - began < within_s, f"it did not happen within {within_s} s"
        await asyncio.sleep(every_s)
    return time.monotonic() - began


def run_dir(server: Server) -> Path:
    """Where its sockets are."""
    return (server.data / "run").resolve()


async def children(server: Server) -> dict[str, Status]:
    """Its processes by name."""
    client = Client(run_dir(server) / "supervisor.sock", name="supervisor")
    try:
        return {status.name: status for status in await client.call("status", None, list[Status], timeout_s=60)}
    finally:
        await client.aclose()


async def pid(server: Server, child: str) -> int:
    """The process of a child that runs."""
    found = (await children(server))[child].pid
    assert found is not None, f"{child} does not run"
    return found


async def kill(server: Server, child: str) -> int:
    """SIGKILL; returns the process that was."""
    found = await pid(server, child)
    os.kill(found, signal.SIGKILL)
    return found


async def ready(server: Server, child: str, *, other_than: int = 0, within_s: float = 60.0) -> None:
    """Until a child works, in another process than this one."""

    async def works() -> bool:
        status = (await children(server))[child]
        return status.state == "ready" and status.pid != other_than

    await until(works, within_s=within_s, every_s=0.05)


async def queue(server: Server, model: str = CHAT_MODEL) -> QueueState:
    """What its engine's broker says; all zero while no engine runs."""
    slots = Slots(run_dir(server) / f"engine-{model}.ctl.sock", name="engine")
    try:
        return await slots.queue()
    except NarthexError:
        return QueueState(waiting=0, running=0, slots=0, cells_used=0, cells=0)
    finally:
        await slots.aclose()


async def working(server: Server, model: str = CHAT_MODEL) -> int:
    """How many of llama.cpp's slots work now."""
    engine = LlamaServer(run_dir(server) / f"engine-{model}.sock")
    return sum(slot.is_processing for slot in await asyncio.to_thread(engine.slots))


async def free(server: Server, model: str = CHAT_MODEL) -> bool:
    """Whether nothing waits or runs, neither for the broker nor for llama.cpp."""
    state = await queue(server, model)
    return not state.running and not state.waiting and not state.cells_used and not await working(server, model)


def memory_bytes(process: int) -> int:
    """Resident memory of a process."""
    return int(Path(f"/proc/{process}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def alive(process: int) -> bool:
    """Whether a process runs; one that has ended and was not asked for its exit code does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
