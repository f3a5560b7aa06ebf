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
_SAMPLED = 8
"""One candidate in so many tells where to cut."""


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
        sums, candidates, rest = self._summed(words)
        if among is not None:
            there = np.zeros(self.total, np.bool_)
            there[among] = True
            sums *= there
            candidates = candidates[there[candidates]]
        shortlist = _shortlist(sums, candidates, n, words=len(words))
        return _highest(shortlist, sums[shortlist] + self.scored(shortlist, rest), n)

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

    def _summed(self, words: Sequence[Place]) -> tuple[Floats, NDArray[np.uint32], Sequence[Place]]:
        """What the rarest words alone give each row; the rows of these words, one after the other; and other words."""
        sums = np.zeros(self.total, np.float32)
        lists: list[NDArray[np.uint32]] = []
        left = BUDGET
        for start, stop in words:
            left -= stop - start
            if left < 0 and len(lists) >= _FEWEST:
                break
            lists.append(self._rows[start:stop])
            np.add.at(sums, lists[-1], self._scores[start:stop].astype(np.float32))
        candidates = np.concatenate(lists) if lists else np.empty(0, np.uint32)
        return sums, candidates, words[len(lists) :]

    def _word(self, place: int) -> bytes:
        return bytes(self._letters[self._ends[place - 1] if place else 0 : self._ends[place]])


def _shortlist(sums: Floats, candidates: NDArray[np.uint32], n: int, *, words: int) -> Rows:
    """At least `n` rows with the highest sums, if there are as many. A row is as often among the candidates as it has
    words.
    """
    wanted = n * words
    if len(candidates) > _SAMPLED * wanted:
        # A part of the candidates tells nearly as well where to cut; unless what matches lies in steps.
        told, share = sums[candidates[::_SAMPLED]], max(1, wanted // _SAMPLED)
        edge = np.partition(told, len(told) - share)[-share]
        if edge > 0 and n <= len(rows := np.flatnonzero(sums >= edge)) <= 2 * wanted:
            return rows
    told = sums[candidates]
    if len(candidates) > wanted:
        enough = np.partition(told, len(told) - wanted)[-wanted]
        candidates = candidates[told >= enough]
    return np.unique(candidates).astype(np.int64)


def _highest(rows: Rows, scores: Floats, n: int) -> tuple[Rows, Floats]:
    there = scores > 0
    rows, scores = rows[there], scores[there]
    if len(rows) > n:
        chosen = np.argpartition(-scores, n - 1)[:n]
        rows, scores = rows[chosen], scores[chosen]
    return rows, scores
