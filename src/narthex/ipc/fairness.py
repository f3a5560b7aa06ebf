"""Whose work is done next: so much at once, owners take turns, and each owner's work is done in its order.

So that whoever asks for much that takes long holds up another by one piece of it, not by all.
"""

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class FairTurns:
    """The next turn goes to the owner that holds the fewest; between equals to the one that was served longest ago."""

    def __init__(self, *, at_once: int = 1) -> None:
        self._free = at_once
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # owners in the order of their turns
        self._held: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many wait."""
        return sum(map(len, self._waiting.values()))

    def waiting(self, owner: str) -> int:
        """How many of one owner wait."""
        return len(self._waiting.get(owner, ()))

    @asynccontextmanager
    async def turn(self, owner: str) -> AsyncIterator[None]:
        """Wait for one, and have it."""
        mine = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(mine)
        self._grant()
        try:
            await mine
            yield
        finally:
            self._leave(owner, mine)

    def _leave(self, owner: str, mine: asyncio.Future[None]) -> None:
        if mine.done() and not mine.cancelled():
            self._free += 1
            self._held[owner] -= 1
            self._held += Counter()  # drops owners that hold none
            self._grant()
            return
        own = self._waiting.get(owner, deque())
        if mine in own:
            own.remove(mine)
            if not own:
                del self._waiting[owner]

    def _grant(self) -> None:
        while self._free and self._waiting:
            owner = min(self._waiting, key=self._held.__getitem__)
            own = self._waiting.pop(owner)
            next_one = own.popleft()
            if own:
                self._waiting[owner] = own  # behind the others
            if not next_one.done():  # it is, where its caller has left and does not know yet
                next_one.set_result(None)
                self._free -= 1
                self._held[owner] += 1
