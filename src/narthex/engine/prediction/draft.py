"""Which predicted tokens to try next.

Rule 1: exactly what the prediction says goes on after what was just chosen, and more of it the longer that keeps being
right, up to 16 tokens.
Rule 2: where the answer leaves the prediction nothing is tried, until its last tokens stand in the prediction again.
Rule 3: what is tried in vain stays below a twentieth of the answer and half of what was gained, and two tokens more: a
prediction that does not match must not make an answer slower.
"""

from collections.abc import Sequence

MOST = 16
"""Tokens to try at a time."""
_FIRST = 2
_ALIKE = 3
"""So many equal tokens tell where in the prediction an answer is."""


class Draft:
    """One prediction, beside the answer as it grows. `accepted` and `rejected` count its tokens."""

    def __init__(self, predicted: Sequence[int]) -> None:
        self._predicted = list(predicted)
        self._next: int | None = 0 if predicted else None
        self._most = _FIRST
        self._answer: list[int] = []
        self._reached = 0
        self._places: dict[tuple[int, ...], list[int]] = {}
        for at in range(_ALIKE, len(self._predicted)):
            self._places.setdefault(tuple(self._predicted[at - _ALIKE : at]), []).append(at)
        self.accepted = 0
        self.rejected = 0

    def propose(self, most: int) -> list[int]:
        """What to try next, at most so many tokens; often nothing."""
        spare = 2 + len(self._answer) // 20 + self.accepted // 2 - self.rejected
        if self._next is None or spare <= 0:
            return []
        return self._predicted[self._next : self._next + min(most, self._most, spare)]

    def took(self, token: int) -> bool:
        """The next token of the answer was chosen. Whether it is the predicted one."""
        self._answer.append(token)
        at = self._next
        if at is not None and at < len(self._predicted) and self._predicted[at] == token:
            self.accepted += 1
            self._next = self._reached = at + 1
            return True
        self._next = self._found()
        return False

    def tried(self, count: int, *, right: int) -> None:
        """A proposal was checked: so many of its tokens, from the first on, were right."""
        self.rejected += count - right
        if count:
            self._most = min(MOST, self._most * 2) if right == count else _FIRST

    def _found(self) -> int | None:
        """Where the prediction goes on after the answer's end: the next such place, else the first."""
        places = self._places.get(tuple(self._answer[-_ALIKE:]))
        if not places:
            return None
        return next((at for at in places if at > self._reached), places[0])
