"""What snapshots share: a part is made when first taken, and closed when the last snapshot that took it has ended.

So an upstream whose row has not changed keeps its warm connections across a reload, and one that is gone keeps them
until the last request that may use it has ended.
"""

from collections.abc import Awaitable, Callable, Hashable
from typing import TypeVar, cast

T = TypeVar("T")

Close = Callable[[], Awaitable[None]]


class _Part:
    """One thing on the shelf."""

    def __init__(self, thing: object, close: Close) -> None:
        self.thing = thing
        self.close = close
        self.holders = 0


class Shelf:
    """All parts of one worker, by what they were made from."""

    def __init__(self) -> None:
        self._parts: dict[Hashable, _Part] = {}

    def __len__(self) -> int:
        return len(self._parts)

    def holdings(self) -> "Holdings":
        """What one snapshot takes; give it back with `release`."""
        return Holdings(self._parts)


class Holdings:
    """The parts of one snapshot."""

    def __init__(self, parts: dict[Hashable, _Part]) -> None:
        self._parts = parts
        self._held: set[Hashable] = set()

    def take(self, key: Hashable, make: Callable[[], tuple[T, Close]]) -> T:
        """The part of this key; `make` makes it, and tells how it is closed, where it isn't there."""
        part = self._parts.get(key)
        if part is None:
            part = self._parts[key] = _Part(*make())
        if key not in self._held:
            self._held.add(key)
            part.holders += 1
        return cast(T, part.thing)

    async def release(self) -> None:
        """Give everything back; what nobody else holds is closed."""
        held, self._held = self._held, set()
        unused = []
        for key in held:
            self._parts[key].holders -= 1
            if not self._parts[key].holders:
                unused.append(self._parts.pop(key))
        for part in unused:
            await part.close()
