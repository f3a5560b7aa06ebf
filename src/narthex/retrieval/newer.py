"""What is newer than the code file, which is everything where there is none: how much that is, and its vectors.

They are read when the first search needs them, and kept from then on: later ones read what was added since.
"""

from typing import Any

import apsw
import numpy as np

from narthex.storage.sqlite.fetching import fetched
from narthex.vectors.tail import Floats, Ids, Tail, best

MAX_TAIL = 50_000
"""Vectors that are kept in memory; further ones are read for each search, until there is a code file."""
_BLOCK = 10_000
_SPARE = 1000
"""Vectors that may be in memory for nothing."""

_VECTORS = "select id, e from vec where id > ? order by id limit ?"
_COUNTED = "select max(id), sum(chunks) from document where id > ?"


class Newer:
    """On one connection; for one thread at a time. `chunk`, `document`: ids of the last ones in the code file."""

    def __init__(self, connection: apsw.Connection, *, dim: int, chunk: int = 0, document: int = 0) -> None:
        self._connection = connection
        self._dim = dim
        self.after = chunk
        self._after_document = self._counted = document
        self.chunks = 0
        """That are newer, and those that were and are gone since."""
        self._tail = Tail(dim)
        self._whole = self._beyond = False
        self._compact_at = _SPARE

    @property
    def bytes(self) -> int:
        """Of memory."""
        return self._tail.bytes

    def look(self) -> None:
        """Something was committed: see how much there is. Reads a row for each document that was added."""
        [[last, chunks]] = fetched(self._connection, _COUNTED, self._counted)
        if last is not None:
            self._counted = last
            self.chunks += chunks
        self._whole = False

    def nearest(self, vector: Floats, n: int, *, among: Ids | None) -> Ids:
        """The `n` chunks nearest to a vector, and some more; deleted ones, too."""
        if not self._whole:
            self._grow()
            if self._tail.rows > self._compact_at:
                self._compact()
            self._whole = True
        found = [self._tail.nearest(vector, n, among=among)]
        if self._beyond:
            found.extend(self._read_beyond(vector, n, among=among))
        return np.concatenate(found)

    def _grow(self) -> None:
        after = int(self._tail.ids[-1]) if self._tail.rows else self.after
        self._beyond = False
        while rows := fetched(self._connection, _VECTORS, after, _BLOCK):
            if self._tail.rows >= MAX_TAIL:
                self._beyond = True
                return
            self._tail.extend(*_columns(rows, self._dim))
            after = rows[-1][0]

    def _compact(self) -> None:
        [[living]] = fetched(
            self._connection, "select coalesce(sum(chunks), 0) from document where id > ?", self._after_document
        )
        if self._tail.rows > living + living // 4 + _SPARE:
            self._tail = Tail(self._dim)
            self._grow()
        self._compact_at = self._tail.rows + self._tail.rows // 4 + _SPARE

    def _read_beyond(self, vector: Floats, n: int, *, among: Ids | None) -> list[Ids]:
        found: list[Ids] = []
        after = int(self._tail.ids[-1])
        while rows := fetched(self._connection, _VECTORS, after, _BLOCK):
            ids, vectors = _columns(rows, self._dim)
            after = rows[-1][0]
            if among is not None:
                chosen = np.isin(ids, among, assume_unique=True)
                ids, vectors = ids[chosen], vectors[chosen]
            found.append(best(ids, vectors @ vector, n))
        return found


def _columns(rows: list[Any], dim: int) -> tuple[Ids, Floats]:
    ids = np.fromiter((id_ for id_, _ in rows), np.int64, len(rows))
    return ids, np.frombuffer(b"".join(vector for _, vector in rows), "<f4").reshape(-1, dim)
