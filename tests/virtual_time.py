"""An event loop on which waiting takes no time: when nothing is ready, its clock jumps to the next timer."""

import asyncio
import selectors

from typing_extensions import override


class _Jumping(selectors.DefaultSelector):
    now_s = 0.0

    @override
    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everything waits, and for nothing")
        if not ready:
            self.now_s += max(0.0, timeout or 0.0)
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """Begins at 1000 s, so that no test takes a time for a duration."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        self._jumping.now_s = 1000.0
        super().__init__(self._jumping)

    @override
    def time(self) -> float:
        return self._jumping.now_s
