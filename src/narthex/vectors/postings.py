"""Which rows each word is in, with the BM25 score of each such pair worked out when the file was made: 6 bytes a pair.

The rarest words choose the candidates, until a budget of pairs is spent; then every word counts for those. A word that
is nearly everywhere moves nobody into the first ten, and costs nearly everything.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from narthex.vectors.codes import Rows
from narthex.vectors.tail import Floats

K1, B = 1.2, 0.75
BUDGET = 100_000
_FEW = 5000
_FEWEST = 2
_STEPS = 4095


def idf(rows: int, count: Floats) -> Floats:
    """What a word is worth that is in `count` of `rows`; above 0, also for a word that is everywhere."""
    worth: Floats = np.log1p((rows - count + 0.5) / (count + 0.5)).astype(np.float32)
    return worth


def saturated(times: Floats, lengths: Floats, *, average: float) -> Floats:
    """What `times` occurrences count in texts of these lengths, in words; 1 for one occurrence in an average text."""
    share: Floats = (times * (K1 + 1) / (times + K1 * (1 - B + B * lengths / max(average, 1)))).astype(np.float32)
    return share


Place = tuple[int, int]
"""Where a word's pairs are: from, to."""
NOWHERE = (0, 0)


class Postings:
    """`letters[ends[t-1]:ends[t]]` is the t-th word in UTF-8, in the order of bytes; its pairs are at
    `starts[t]:starts[t+1]` of `rows` (ascending) and `scores`. `total`: rows there are; `average`: words in one.
    """

    def __init__(
        self,
        *,
        letters: NDArray[np.uint8],
        ends: NDArray[np.int64],
        starts: NDArray[np.int64],
        rows: NDArray[np.uint32],
        scores: NDArray[np.float16],
        total: int,
        average: float,
    ) -> None:
        # A view gives single numbers thrice as fast as an array.
        self._letters, self._ends, self._starts = letters.data, ends.data, starts.data
        self._rows, self._scores = rows, scores
        self.total = total
        self.average = average

    def find(self, word: str) -> Place:
        """Where a word's pairs are; as many rows have it. `NOWHERE`: none has."""
        wanted, low, high = word.encode(), 0, len(self._ends)
        while low < high:
            middle = (low + high) // 2
            if self._word(middle) < wanted:
                low = middle + 1
            else:
                high = middle
        if low == len(self._ends) or self._word(low) != wanted:
            return NOWHERE
        return self._starts[low], self._starts[low + 1]

    def best(self, words: Sequence[Place], n: int, *, among: Rows | None = None) -> tuple[Rows, Floats]:
        """About the `n` rows with the highest scores, in no order, and these. `words`: rarest first; `among`: of these
        rows only, ascending.
        """
        if among is not None and len(among) <= _FEW:
            return _highest(among, self.scored(among, words), n)
        candidates, scores = self._gathered(words)
        if among is not None:
            there = np.zeros(self.total, np.bool_)
            there[among] = True
            keep = there[candidates]
            candidates, scores = candidates[keep], scores[keep]
        # Each row stands here once for each of its words.
        shortlist = np.unique(_over_threshold(candidates, scores, n * max(1, len(words)))).astype(np.int64)
        return _highest(shortlist, self.scored(shortlist, words), n)

    def scored(self, rows: Rows, words: Sequence[Place]) -> Floats:
        """The true score of each of `rows`, over all of the words; 0: it has none of them."""
        total = np.zeros(len(rows), np.float32)
        wanted = rows.astype(np.uint32)
        for start, stop in words:
            if start < stop:
                there = self._rows[start:stop]
                at = np.minimum(np.searchsorted(there, wanted), stop - start - 1)
                total += np.where(there[at] == wanted, self._scores[start:stop][at], np.float16(0))
        return total

    def _gathered(self, words: Sequence[Place]) -> tuple[NDArray[np.uint32], Floats]:
        sums = np.zeros(self.total, np.float32)
        lists: list[NDArray[np.uint32]] = []
        left = BUDGET
        for start, stop in words:
            left -= stop - start
            if left < 0 and len(lists) >= _FEWEST:
                break
            lists.append(self._rows[start:stop])
            sums[lists[-1]] += self._scores[start:stop]
        candidates = np.concatenate(lists) if lists else np.empty(0, np.uint32)
        return candidates, sums[candidates]

    def _word(self, place: int) -> bytes:
        return bytes(self._letters[self._ends[place - 1] if place else 0 : self._ends[place]])


def _over_threshold(rows: NDArray[np.uint32], scores: Floats, n: int) -> NDArray[np.uint32]:
    if len(rows) <= n:
        return rows
    # Counting by steps of the score is much faster than sorting a part.
    steps = (scores * (_STEPS / scores.max())).astype(np.uint16)
    below = np.cumsum(np.bincount(steps, minlength=_STEPS + 1))
    edge = int(np.searchsorted(below, len(rows) - n, side="right"))
    over: NDArray[np.uint32] = rows[steps >= edge]
    return over


def _highest(rows: Rows, scores: Floats, n: int) -> tuple[Rows, Floats]:
    there = scores > 0
    rows, scores = rows[there], scores[there]
    if len(rows) > n:
        chosen = np.argpartition(-scores, n - 1)[:n]
        rows, scores = rows[chosen], scores[chosen]
    return rows, scores
