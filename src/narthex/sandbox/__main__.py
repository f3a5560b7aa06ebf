"""The sandbox process: does one job at a time, each under a limit of time; its memory is limited as a whole.

Rule: a job that outlives its limit is interrupted between two steps of its interpreter; one that can't be interrupted
(a single endless operation, which also keeps every other thread of Python from running) takes the process with it, and
the supervisor starts another.
"""

import asyncio
import contextlib
import faulthandler
import resource
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import msgspec
import structlog

from narthex.core.errors import InvalidRequest
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Peer, Server
from narthex.sandbox.protocol import NAME, Render, SandboxSettings
from narthex.sandbox.templates import render

T = TypeVar("T")
log = structlog.get_logger(__name__)

GRACE_S = 2.0
"""What a job may take beyond its limit before the process gives up on itself."""


class _TooLong(BaseException):
    """The job's time is over. Not an `Exception`, so that no job can catch it."""


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise _TooLong

    signal.signal(signal.SIGALRM, interrupt)
    # Its watchdog is a thread of C: it ends the process even while one operation holds the interpreter.
    faulthandler.dump_traceback_later(seconds + GRACE_S, exit=True)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        faulthandler.cancel_dump_traceback_later()


def run_job(job: Callable[[], T], *, limit_s: float, what: str) -> T:
    """Do a job within its limit. Only in the main thread: the limit is a signal.

    Raises:
        InvalidRequest: it took too long or too much memory.
    """
    try:
        with _limited(limit_s):
            return job()
    except _TooLong:
        raise InvalidRequest(f"The {what} took longer than {limit_s:g} s.", param="messages") from None
    except (MemoryError, RecursionError):
        raise InvalidRequest(f"The {what} took too much memory.", param="messages") from None


async def serve(settings: SandboxSettings, lifeline: Lifeline, stop: asyncio.Event) -> None:
    """Serve jobs until told to stop."""

    async def on_render(_: Peer, payload: msgspec.Raw) -> Any:
        job = msgspec.msgpack.decode(payload, type=Render)
        return run_job(lambda: render(job.template, job.variables), limit_s=settings.time_limit_s, what="chat template")

    server = Server(Path(settings.socket), {"render": on_render})
    await server.start()
    lifeline.ready()
    await stop.wait()
    await server.aclose()


def main() -> None:
    """Run as a child of the supervisor."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(SandboxSettings)
    logs.configure(settings.log_format, process=NAME)
    limit = settings.memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    lifeline.watch()
    run_until_stopped(lambda stop: serve(settings, lifeline, stop))


if __name__ == "__main__":
    main()
