"""Vectors that no code file has yet: an array that grows."""

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Floats = NDArray[np.float32]

Item = TypeVar("Item", bound=np.generic)

_FIRST_ROWS = 64


class Tail:
    """Ids, ascending, and their vectors. `rows` counts those that were deleted since, too."""

    def __init__(self, dim: int) -> None:
        self._ids: Ids = np.empty(0, np.int64)
        self._vectors: Floats = np.empty((0, dim), np.float32)
        self.rows = 0

    @property
    def ids(self) -> Ids:
        """One a row."""
        return self._ids[: self.rows]

    @property
    def bytes(self) -> int:
        """Of memory."""
        return self._ids.nbytes + self._vectors.nbytes

    def extend(self, ids: Ids, vectors: Floats) -> None:
        """Add rows whose ids are higher than all before."""
        wanted = self.rows + len(ids)
        if wanted > len(self._ids):
            room = max(wanted + wanted // 4, _FIRST_ROWS)
            self._ids = _grown(self._ids, room)
            self._vectors = _grown(self._vectors, room)
        self._ids[self.rows : wanted] = ids
        self._vectors[self.rows : wanted] = vectors
        self.rows = wanted

    def nearest(self, query: Floats, n: int, *, among: Ids | None = None) -> Ids:
        """Ids of the `n` rows with the highest cosine, in no order; `among`: of these ids only, ascending."""
        ids, vectors = self.ids, self._vectors[: self.rows]
        if among is not None:
            chosen = np.flatnonzero(np.isin(ids, among, assume_unique=True))
            ids, vectors = ids[chosen], vectors[chosen]
        return best(ids, vectors @ query, n)


def best(ids: Ids, scores: Floats, n: int) -> Ids:
    """Ids of the `n` highest scores, in no order. A score that is no number comes last."""
    if len(ids) <= n:
        return ids
    ranked = np.nan_to_num(scores, nan=-np.inf)
    return ids[np.argpartition(-ranked, n - 1)[:n]]


def _grown(array: NDArray[Item], room: int) -> NDArray[Item]:
    larger = np.empty((room, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger
