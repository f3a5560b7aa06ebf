"""A program that reads from its input and writes to its output, for one request: bounded, and killed with it."""

import asyncio
import contextlib
import resource
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

import structlog

from narthex.core.errors import EngineCrashed, EngineUnavailable
from narthex.ipc.tasks import TaskSet

log = structlog.get_logger(__name__)

MEMORY_BYTES = 4 * 1024**3
"""Of its address space, of which libraries that are merely there take a part."""
CPU_S = 300
_PIECE = 64 * 1024
_GONE_S = 5.0
_LONGEST_WORDS = 500


class Stalled(EngineCrashed):
    """A program said nothing for too long."""


async def output_of(
    argv: Sequence[str], given: AsyncIterator[bytes], *, what: str, stall_s: float
) -> AsyncGenerator[bytes, None]:
    """What the program writes, for `given` on its input. Close it: that kills the program, wherever it is.

    Raises:
        EngineUnavailable: it can't be started.
        EngineCrashed: it failed; Stalled where it wrote nothing for `stall_s`.
        NarthexError: what `given` raises.
    """
    try:
        process = await asyncio.create_subprocess_exec(*argv, stdin=PIPE, stdout=PIPE, stderr=PIPE)
    except OSError as error:
        log.warning("a program can't be started", program=argv[0], error=str(error))
        raise EngineUnavailable(f"The {what} can't be started.") from error
    tasks = TaskSet(awaited=True)
    feeding = tasks.start(_feed(process, given))
    try:
        _bound(process.pid)
        assert process.stdout is not None  # noqa: S101 - a pipe was asked for
        while True:
            async with asyncio.timeout(stall_s):
                piece = await process.stdout.read(_PIECE)
            if not piece:
                break
            yield piece
        async with asyncio.timeout(stall_s):
            status = await process.wait()
            await feeding
        if status != 0:
            raise await _failed(process, what)
    except TimeoutError:
        log.warning("a program stalled", program=argv[0], stall_s=stall_s)
        raise Stalled(f"The {what} said nothing for {stall_s:g} s.") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await tasks.aclose()
        await _gone(process)


async def _gone(process: Process) -> None:
    """Until a program that was killed is no more: asyncio waits for the end of its pipes, so they have to be read."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_GONE_S):
            for pipe in (process.stdout, process.stderr):
                while pipe is not None and await pipe.read(_PIECE):
                    pass
            await process.wait()


async def _feed(process: Process, given: AsyncIterator[bytes]) -> None:
    assert process.stdin is not None  # noqa: S101 - a pipe was asked for
    try:
        async for piece in given:
            process.stdin.write(piece)
            await process.stdin.drain()
    except (BrokenPipeError, ConnectionResetError):  # it reads no more, and its status tells why
        pass
    finally:
        process.stdin.close()


async def _failed(process: Process, what: str) -> EngineCrashed:
    assert process.stderr is not None  # noqa: S101 - a pipe was asked for
    words = await process.stderr.read(_LONGEST_WORDS)
    log.warning("a program failed", what=what, status=process.returncode, said=words.decode("utf-8", "replace").strip())
    return EngineCrashed(f"The {what} failed.")


def _bound(pid: int) -> None:
    """Limit what it may take, where the system can. A limit that we have ourselves and that is stricter stays."""
    if not hasattr(resource, "prlimit"):
        return
    for kind, most in ((resource.RLIMIT_AS, MEMORY_BYTES), (resource.RLIMIT_CPU, CPU_S)):
        with contextlib.suppress(OSError):  # it has ended, or the system does not let us
            _, hard = resource.prlimit(pid, kind)
            limit = most if hard == resource.RLIM_INFINITY else min(most, hard)
            resource.prlimit(pid, kind, (limit, limit))
