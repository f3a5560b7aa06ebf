"""Does the jobs of strangers each in a process of its own, which this one forks for it.

Rule 1: whatever such a job does to its process, nobody else's job is in it, and this one goes on.
Rule 2: its time is the kernel's to keep: a signal that nothing handles ends it, in the midst of any operation. It is
the processor's time, so that nobody's job is cut short by what else the machine does; a little more by the clock.

The one that forks has a thread besides this one, which waits for the supervisor and holds no lock.
"""

import asyncio
import contextlib
import os
import resource
import signal
from collections.abc import Callable
from typing import Final, NoReturn

import msgspec

from narthex.core.errors import EngineUnavailable, InvalidRequest

AT_ONCE: Final = 2
"""Jobs that run at a time; others wait for them."""
MEMORY_BYTES: Final = 512 * 1024 * 1024
"""Address space of one, with what it has from this process."""
GRACE_S: Final = 0.75
"""How much longer than its limit one may take by the clock."""
_OVER: Final = (signal.SIGPROF, signal.SIGALRM)
"""What ends one whose time is over."""
_TRIED: Final = 0.5
"""The share of its time that one must have had, if it is to blame for not being done when the clock ends it."""


class _Told(msgspec.Struct):
    """What became of a job: its text, or why there is none."""

    text: str = ""
    refusal: str = ""


_told = msgspec.msgpack.Decoder(_Told).decode


class Apart:
    """Runs jobs for a text. `limit_s`: of one; `what`, `param`: what refusals call it, and where it came from; `turns`:
    shared with jobs by other names.
    """

    def __init__(
        self,
        *,
        limit_s: float,
        what: str,
        param: str,
        memory_bytes: int = MEMORY_BYTES,
        turns: asyncio.Semaphore | None = None,
    ) -> None:
        self._limit_s = limit_s
        self._what = what
        self._param = param
        self._memory_bytes = memory_bytes
        self._turns = turns or asyncio.Semaphore(AT_ONCE)

    async def run(self, job: Callable[[], str]) -> str:
        """The text that a job makes.

        Raises:
            InvalidRequest: the job raised one; or it took too long or too much memory.
            EngineUnavailable: there is no room for another process now, or next to no time for this one.
        """
        async with self._turns:
            data, status, used_s = await self._forked(job)
        if not os.WIFSIGNALED(status):
            with contextlib.suppress(msgspec.MsgspecError):
                told = _told(data)
                if not told.refusal:
                    return told.text
                raise InvalidRequest(told.refusal, param=self._param)
        if os.WIFSIGNALED(status) and os.WTERMSIG(status) in _OVER:
            if used_s < self._limit_s * _TRIED:
                raise EngineUnavailable(f"The {self._what} got no time: this machine is too busy.", retry_after_s=1)
            raise InvalidRequest(f"The {self._what} took longer than {self._limit_s:g} s.", param=self._param)
        raise InvalidRequest(f"The {self._what} took too much memory.", param=self._param)

    async def _forked(self, job: Callable[[], str]) -> tuple[bytes, int, float]:
        """What its process told, the status that it ended with, and the processor's time that it took, in seconds."""
        reading, writing = os.pipe()
        try:
            pid = os.fork()
        except OSError:
            os.close(reading)
            os.close(writing)
            raise EngineUnavailable("The sandbox can't start a process.", retry_after_s=1) from None
        if not pid:
            self._child(job, writing)
        os.close(writing)
        try:
            data = await _all_of(reading)
        except BaseException:
            os.kill(pid, signal.SIGKILL)
            raise
        finally:
            _, status, used = os.wait4(pid, 0)  # noqa: ASYNC222 - it has closed its pipe, or been killed: no time passes
        return data, status, used.ru_utime + used.ru_stime

    def _child(self, job: Callable[[], str], writing: int) -> NoReturn:
        try:
            _close_all_but(writing)
            signal.set_wakeup_fd(-1)
            for number in (*_OVER, signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            signal.setitimer(signal.ITIMER_PROF, self._limit_s)
            signal.setitimer(signal.ITIMER_REAL, self._limit_s + GRACE_S)
            for kind, most in ((resource.RLIMIT_AS, self._memory_bytes), (resource.RLIMIT_CORE, 0)):
                resource.setrlimit(kind, (most, most))
            data = msgspec.msgpack.encode(_outcome(job))
            for clock in (signal.ITIMER_PROF, signal.ITIMER_REAL):
                signal.setitimer(clock, 0)
            left = memoryview(data)
            while left:
                left = left[os.write(writing, left) :]
            os._exit(0)
        finally:
            os._exit(1)


def _close_all_but(kept: int) -> None:
    """Whoever is connected to the parent, or connects, must not find that it is still there when it isn't."""
    most, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    os.closerange(3, kept)
    os.closerange(kept + 1, most)


def _outcome(job: Callable[[], str]) -> _Told:
    try:
        return _Told(text=job())
    except InvalidRequest as error:
        return _Told(refusal=error.message)


async def _all_of(reading: int) -> bytes:
    """All that comes through a pipe, which is closed then."""
    reader = asyncio.StreamReader()
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(reading, "rb", 0)
    )
    try:
        return await reader.read()
    finally:
        transport.close()
