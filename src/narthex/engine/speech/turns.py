"""Whose text is spoken next: few at a time, keys take turns, and no more wait than there is room for."""

from narthex.core.errors import QueueFull
from narthex.ipc.fairness import FairTurns

_RETRY_S = 5


class Turns(FairTurns):
    """Turns of keys. Whoever waits for one asks `check` first."""

    def __init__(self, *, at_once: int, max_waiting: int, max_waiting_per_key: int) -> None:
        super().__init__(at_once=at_once)
        self._max_waiting = max_waiting
        self._max_waiting_per_key = max_waiting_per_key

    def check(self, key: str) -> None:
        """Whether one more of this key may wait.

        Raises:
            QueueFull: too many do already, in all or of this key.
        """
        if len(self) >= self._max_waiting:
            raise QueueFull("Too many texts wait to be spoken already.", retry_after_s=_RETRY_S)
        if self.waiting(key) >= self._max_waiting_per_key:
            raise QueueFull("Too many texts of this key wait to be spoken already.", retry_after_s=_RETRY_S)
