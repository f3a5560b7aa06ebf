"""A clock over a block, as `asyncio.timeout_at`, made for clocks that are set anew with each piece of a stream."""

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from narthex.ipc.alarms import Alarm, Alarms


class Deadline:
    """Cancels the block when its time has come, which then ends with `TimeoutError`. Use it once.

    A timer of the loop is set once, and again only when it rings before its time: moving the time costs no more than an
    assignment, unless it is moved to before the timer.
    """

    __slots__ = ("_before", "_expired", "_loop", "_moves", "_rings_s", "_task", "_timer", "_timers", "_when_s")

    def __init__(
        self,
        when_s: float | None = None,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        alarms: Alarms | None = None,
    ) -> None:
        """`when_s`: as a time of the loop; None: never, until it is set. `loop`: the running one, if it is at hand.

        `alarms`: of that loop, for clocks that hardly ever ring; None: it has a timer of its own.
        """
        self._when_s = when_s
        self._loop = loop or asyncio.get_running_loop()
        self._timers = alarms or self._loop
        self._rings_s = 0.0
        self._timer: Alarm | asyncio.TimerHandle | None = None
        self._expired = False
        self._moves: Callable[[], float | None] | None = None

    @property
    def expired(self) -> bool:
        """Whether the time came while the block ran."""
        return self._expired

    def set(self, when_s: float | None) -> None:
        """Move the time. Only within the block."""
        self._when_s = when_s
        self._moves = None
        if when_s is not None and (self._timer is None or when_s < self._rings_s):
            self._arm(when_s)

    def follow(self, when_s: Callable[[], float | None]) -> None:
        """Let the time be what this tells, which never goes back, until it is `set`. Only within the block."""
        self.set(when_s())
        self._moves = when_s

    async def __aenter__(self) -> Self:
        self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end(error)

    def begin(self) -> None:
        """As the block does."""
        task = asyncio.current_task(self._loop)
        assert task is not None  # noqa: S101 - as with asyncio's own
        self._task, self._before = task, task.cancelling()
        if self._when_s is not None:
            self._arm(self._when_s)

    def end(self, error: BaseException | None) -> None:
        """As the block does, whichever way it was left. Raises `TimeoutError` instead of `error` if the time came."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._expired and self._task.uncancel() <= self._before and isinstance(error, asyncio.CancelledError):
            raise TimeoutError from error

    def _arm(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_s = when_s
        self._timer = self._timers.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        if self._moves is not None:
            self._when_s = self._moves()
        if self._when_s is None or self._expired:
            return
        if self._loop.time() < self._when_s:
            self._arm(self._when_s)
        else:
            self._expired = True
            self._task.cancel()
