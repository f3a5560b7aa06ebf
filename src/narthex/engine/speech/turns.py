"""Whose text is spoken next: few at a time, keys take turns, and a key's texts are served in their order."""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from narthex.core.errors import QueueFull

_RETRY_S = 5


class Turns:
    """The next turn goes to the key that holds the fewest; between equals to the one that was served longest ago."""

    def __init__(self, *, at_once: int, max_waiting: int, max_waiting_per_key: int) -> None:
        self._free = at_once
        self._max_waiting = max_waiting
        self._max_waiting_per_key = max_waiting_per_key
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # keys in the order of their turns
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def check(self, key: str) -> None:
        """Whether one more of this key may wait.

        Raises:
            QueueFull: too many do already, in all or of this key.
        """
        if len(self) >= self._max_waiting:
            raise QueueFull("Too many texts wait to be spoken already.", retry_after_s=_RETRY_S)
        if len(self._waiting.get(key, ())) >= self._max_waiting_per_key:
            raise QueueFull("Too many texts of this key wait to be spoken already.", retry_after_s=_RETRY_S)

    @asynccontextmanager
    async def turn(self, key: str) -> AsyncIterator[None]:
        """Wait for one's turn, however many do: see `check`."""
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(key, deque()).append(mine)
        self._grant()
        try:
            await mine
            yield
        finally:
            self._leave(key, mine)

    def _leave(self, key: str, mine: asyncio.Future[None]) -> None:
        if mine.done() and not mine.cancelled():
            self._free += 1
            self._held[key] -= 1
            self._held += Counter()  # drops keys that hold none
            self._grant()
            return
        own = self._waiting.get(key, deque())
        if mine in own:
            own.remove(mine)
            if not own:
                del self._waiting[key]

    def _grant(self) -> None:
        while self._free and self._waiting:
            key = min(self._waiting, key=self._held.__getitem__)
            own = self._waiting.pop(key)
            next_one = own.popleft()
            if own:
                self._waiting[key] = own  # behind the other keys
            if not next_one.done():  # it is, where its caller has left and does not know yet
                next_one.set_result(None)
                self._free -= 1
                self._held[key] += 1
