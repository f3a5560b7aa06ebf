"""Work that can wait a little, a bit of it in each turn of a loop, so that what comes in between waits for no more."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from weakref import WeakKeyDictionary

MOST_S = 0.0005
"""Of such work in one turn; what has begun is ended."""


class Turns:
    """Of one loop, for all who ask for it (`turns_of`)."""

    def __init__(self) -> None:
        self._waiting: deque[Callable[[], None]] = deque()
        self._until_s = 0.0
        """When this turn has done its part, by the clock that goes on within a turn; 0: it has done nothing yet."""

    def take(self, work: Callable[[], None]) -> None:
        """Do it now, if this turn has room for it, or in the next that has, in the order in which they come."""
        if self._waiting:
            self._waiting.append(work)
        elif not self._until_s:
            self._until_s = time.monotonic() + MOST_S
            asyncio.get_running_loop().call_soon(self._next)
            work()
        elif time.monotonic() < self._until_s:
            work()
        else:
            self._waiting.append(work)

    def _next(self) -> None:
        """Another turn."""
        waiting = self._waiting
        if not waiting:
            self._until_s = 0.0
            return
        asyncio.get_running_loop().call_soon(self._next)
        self._until_s = time.monotonic() + MOST_S
        while waiting:
            waiting.popleft()()
            if time.monotonic() >= self._until_s:
                break


_ALL: "WeakKeyDictionary[asyncio.AbstractEventLoop, Turns]" = WeakKeyDictionary()
"""None of them holds its loop, which would be kept for ever."""


def turns_of(loop: asyncio.AbstractEventLoop) -> Turns:
    """Those of a loop."""
    found = _ALL.get(loop)
    if found is None:
        found = _ALL[loop] = Turns()
    return found
