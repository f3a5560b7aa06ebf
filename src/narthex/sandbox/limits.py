"""Limits of time for one job of a sandbox process.

Rule: a job that outlives its limit is interrupted between two steps of its interpreter; one that can't be interrupted
(a single endless operation, which also keeps every other thread of Python from running) takes the process with it, and
the supervisor starts another.
"""

import contextlib
import faulthandler
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TypeVar

from narthex.core.errors import InvalidRequest

T = TypeVar("T")

GRACE_S = 2.0
"""What a job may take beyond its limit before the process gives up on itself."""


class _TooLong(BaseException):
    """The job's time is over. Not an `Exception`, so that no job can catch it."""


class _Limit:
    """Whether the time of a job was over."""

    over = False


@contextlib.contextmanager
def _limited(seconds: float, grace_s: float) -> Iterator[_Limit]:
    limit = _Limit()

    def interrupt(number: int, frame: FrameType | None) -> None:
        limit.over = True
        raise _TooLong

    signal.signal(signal.SIGALRM, interrupt)
    # Its watchdog is a thread of C: it ends the process even while one operation holds the interpreter.
    faulthandler.dump_traceback_later(seconds + grace_s, exit=True)
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        try:
            yield limit
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        faulthandler.cancel_dump_traceback_later()


def run_job(
    job: Callable[[], T], *, limit_s: float, what: str, param: str | None = "messages", grace_s: float = GRACE_S
) -> T:
    """Do a job within its limit. Only in the main thread: the limit is a signal.

    Raises:
        InvalidRequest: it took too long or too much memory; its param is `param`.
    """
    try:
        with _limited(limit_s, grace_s) as limit:
            try:
                return job()
            except Exception:
                if limit.over:
                    raise _TooLong from None
                raise
    except _TooLong:
        raise InvalidRequest(f"The {what} took longer than {limit_s:g} s.", param=param) from None
    except (MemoryError, RecursionError):
        raise InvalidRequest(f"The {what} took too much memory.", param=param) from None
