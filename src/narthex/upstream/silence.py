"""The clock over waits for a server: one alarm, set anew only when it rings early, so that pieces cost nothing."""

import asyncio
from collections.abc import Callable

from narthex.ipc.alarms import Alarm, Alarms


class Silence:
    """Tells when nothing came for so long.

    `waited_s`: for how long somebody has waited by now; infinite where the clock runs from its beginning.
    """

    __slots__ = ("_alarm", "_alarms", "_now", "_told", "_waited_s", "limit_s")

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        told: Callable[[float], None],
        waited_s: Callable[[], float],
        alarms: Alarms | None = None,
    ) -> None:
        self._alarms = alarms or Alarms(loop)
        self._alarm: Alarm | None = None
        self._now = loop.time
        self._told = told
        self._waited_s = waited_s
        self.limit_s: float | None = None
        """What it waits for now; None: it does not run."""

    def begin(self, limit_s: float | None) -> None:
        """Wait anew, for so long."""
        self.end()
        self.limit_s = limit_s
        if limit_s is not None:
            self._alarm = self._alarms.call_at(self._now() + limit_s, self._ring)

    def end(self) -> None:
        """Wait no more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        self.limit_s = None

    def _ring(self) -> None:
        limit_s = self.limit_s
        self._alarm = None
        if limit_s is None:
            return
        waited_s = self._waited_s()
        if waited_s >= limit_s:
            self._told(limit_s)
        else:
            self._alarm = self._alarms.call_at(self._now() + limit_s - waited_s, self._ring)
