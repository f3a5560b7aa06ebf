"""Brings log probabilities to the text that they belong to, wherever that text is cut, held back or left out."""

from collections import deque
from collections.abc import Sequence

from narthex.core.stream import TokenLogprob


class Trail:
    """The entries of one choice beside its text. An entry goes with the first told text that it has part in."""

    def __init__(self) -> None:
        self._entries: deque[tuple[TokenLogprob, int]] = deque()
        self._end = 0  # of what the entries spell, in bytes
        self._at = 0  # how much of that text was told or left out

    def add(self, entries: Sequence[TokenLogprob]) -> None:
        """Entries of text that comes now or later."""
        for entry in entries:
            self._end += len(entry.data)
            self._entries.append((entry, self._end))

    def told(self, text: str) -> tuple[TokenLogprob, ...]:
        """The entries of the next text, which is told."""
        self._at += len(text.encode())
        taken = []
        while self._entries and self._begins_before(self._at):
            taken.append(self._entries.popleft()[0])
        return tuple(taken)

    def left_out(self, text: str) -> None:
        """The next text is not told, nor are entries that have part in nothing else."""
        self._at += len(text.encode())
        while self._entries and self._entries[0][1] <= self._at:
            self._entries.popleft()

    def _begins_before(self, at: int) -> bool:
        entry, end = self._entries[0]
        return end - len(entry.data) < at
