"""Many times to come on one timer of the loop: nearly all are cancelled long before, and a timer of its own for each
costs twenty times as much.
"""

import asyncio
from collections.abc import Callable


class Alarm:
    """One time to come; `cancel` it at any time."""

    __slots__ = ("_alarms", "call", "when_s")

    def __init__(self, alarms: "set[Alarm]", when_s: float, call: Callable[[], None]) -> None:
        self._alarms = alarms
        self.when_s = when_s
        self.call: Callable[[], None] | None = call

    def cancel(self) -> None:
        """Never mind."""
        self.call = None
        self._alarms.discard(self)


class Alarms:
    """Those of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._set: set[Alarm] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._rings_s = 0.0

    def call_at(self, when_s: float, call: Callable[[], None]) -> Alarm:
        """Have this called at a time of the loop."""
        alarm = Alarm(self._set, when_s, call)
        self._set.add(alarm)
        if self._timer is None or when_s < self._rings_s:
            self._arm(when_s)
        return alarm

    def _arm(self, when_s: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._rings_s = when_s
        self._timer = self._loop.call_at(when_s, self._ring)

    def _ring(self) -> None:
        self._timer = None
        now_s = self._loop.time()
        due = sorted((alarm for alarm in self._set if alarm.when_s <= now_s), key=lambda alarm: alarm.when_s)
        self._set.difference_update(due)
        if self._set:
            self._arm(min(alarm.when_s for alarm in self._set))
        for alarm in due:
            if alarm.call is not None:  # the one before may have cancelled it
                alarm.call()
