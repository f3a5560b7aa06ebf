"""Whose job a compiler does next: one at a time, owners in turn, and each owner's jobs in their order.

So that whoever sends many constraints that take long holds up another's by one of them, not by all.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Turns:
    """Gives turns to owners; to who waits longest among those who have not had one."""

    def __init__(self) -> None:
        self._waiting: dict[str, deque[asyncio.Future[None]]] = {}  # owners in the order of their turns
        self._taken = False

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
            if mine.done() and not mine.cancelled():
                self._taken = False
                self._grant()
            else:
                self._drop(owner, mine)

    def _drop(self, owner: str, mine: asyncio.Future[None]) -> None:
        own = self._waiting.get(owner, deque())
        if mine in own:
            own.remove(mine)
            if not own:
                del self._waiting[owner]

    def _grant(self) -> None:
        while self._waiting and not self._taken:
            owner = next(iter(self._waiting))
            own = self._waiting.pop(owner)
            next_one = own.popleft()
            if own:
                self._waiting[owner] = own  # behind the others
            if not next_one.done():  # it is, where its caller has left and does not know yet
                next_one.set_result(None)
                self._taken = True
