"""What a process keeps of a collection beside its rows: the mapped code file, and the vectors that are newer.

It proposes candidates; the rows decide.
"""

import json
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import structlog

from narthex.retrieval.fusion import ENOUGH
from narthex.retrieval.keywords import (
    BUDGET,
    BUDGET_WITHIN,
    Census,
    Matches,
    Word,
    affordable,
    counted,
    looked_up,
    rarest,
    telling,
    worth,
)
from narthex.storage.sqlite.documents import count
from narthex.storage.sqlite.fetching import fetched
from narthex.storage.sqlite.words import words_of
from narthex.vectors.layout import Damaged
from narthex.vectors.postings import NOWHERE
from narthex.vectors.segment import Segment, open_segment
from narthex.vectors.tail import Floats, Ids, Tail, best

log = structlog.get_logger(__name__)

MAX_TAIL = 50_000
"""Vectors that are kept in memory; further ones are read for each search, until there is a code file."""
_BLOCK = 10_000
_SCORED = 200
"""Chunks whose words' scores are worth having, also where they were found by meaning."""
_SPARE = 1000
"""Vectors that may be in memory for nothing."""

_NEWER = "select id, e from vec where id > ? order by id limit ?"


class Derived:
    """Of one collection, on one connection; for one thread at a time."""

    def __init__(self, connection: apsw.Connection, folder: Path, *, dim: int) -> None:
        self.connection = connection
        self._folder = folder
        self._dim = dim
        self._segment: Segment | None = None
        self._name = self._lost = ""
        self._newest = 0  # id of the last chunk in the code file
        self._tail = Tail(dim)
        self._beyond = False
        self._version: object = None
        self._compact_at = _SPARE
        self._words = words_of(connection)
        self._matches = Matches(connection)
        self._census = Census(0, 1.0)

    @property
    def bytes(self) -> int:
        """Of memory that is this process's own."""
        return self._tail.bytes

    def refresh(self) -> None:
        """See what was committed since, by whatever process. First in each read transaction."""
        [[version]] = fetched(self.connection, "pragma data_version")
        if version == self._version:
            return
        self._load()
        self._grow()
        if self._tail.rows > self._compact_at:
            self._compact()
        postings = self._segment.postings if self._segment else None
        self._census = Census(postings.total, postings.average) if postings else self._matches.census()
        self._version = version

    def words(self, text: str) -> tuple[tuple[Word, ...], float]:
        """The words of a question that are in the collection, rarest first; and what all of its words are worth: the
        BM25 score of an average chunk that has each of them once, as far as that tells more than one rare word.
        """
        sought = looked_up(self._words(text), self._look)
        chunks = self._census.chunks
        return rarest(sought), min(worth(sought, chunks=chunks), telling(chunks=chunks) / ENOUGH)

    def near(self, vector: Floats, n: int, *, among: Ids | None) -> Ids:
        """About the `n` chunks nearest to a vector, and those that may be; deleted ones, too."""
        found = [self._tail.nearest(vector, n, among=among)]
        if self._segment is not None:
            rows = None if among is None else self._segment.rows_of(among)
            found.append(self._segment.ids[self._segment.codes.nearest(vector, n, among=rows)])
        if self._beyond:
            found.extend(self._read_beyond(vector, n, among=among))
        return np.concatenate(found)

    def matching(self, words: tuple[Word, ...], n: int, *, among: Ids | None) -> dict[int, float]:
        """BM25 scores of about the `n` chunks with the highest, and of more where that costs nothing."""
        scores: dict[int, float] = {}
        share = 1.0
        if self._segment is not None:
            rows = None if among is None else self._segment.rows_of(among)
            chosen, told = self._segment.postings.best([word.place for word in words], n, among=rows)
            scores.update(zip(self._segment.ids[chosen].tolist(), told.tolist(), strict=True))
            share = self._tail.rows / max(1, self._tail.rows + len(self._segment.ids))
        if self._tail.rows:
            asked = affordable(words, budget=BUDGET_WITHIN if self._newest else BUDGET, share=share)
            newer = self._matches.best(
                asked,
                max(n, _SCORED),
                census=self._census,
                after=self._newest,
                among=None if among is None else among[among > self._newest],
            )
            scores.update(newer)
        return scores

    def scored(self, ids: Ids, words: tuple[Word, ...]) -> dict[int, float]:
        """BM25 scores of these chunks, ascending by id, as far as the code file has them."""
        if self._segment is None:
            return {}
        rows = self._segment.rows_of(ids)
        told = self._segment.postings.scored(rows, [word.place for word in words])
        pairs = zip(self._segment.ids[rows].tolist(), told.tolist(), strict=True)
        return {id_: score for id_, score in pairs if score > 0}

    def _look(self, word: str) -> Word:
        start, stop = self._segment.postings.find(word) if self._segment else NOWHERE
        # A word that only newer chunks have is in few of them: its count is soon made.
        return Word(word, stop - start, (start, stop)) if start < stop else counted(self.connection, word)

    def _load(self) -> None:
        found = fetched(self.connection, "select file, max_chunk from segment order by gen desc limit 1")
        if not found or found[0][0] == self._name:
            return
        [[name, newest]] = found
        try:
            self._segment = open_segment(self._folder / name, dim=self._dim)
        except Damaged as damage:
            # An older one that is mapped is still right: it only proposes.
            if name != self._lost:
                log.warning("a code file can't be used until it is made anew", file=name, why=str(damage))
            self._lost = name
            return
        self._name, self._newest = name, newest
        self._tail, self._compact_at = Tail(self._dim), _SPARE

    def _grow(self) -> None:
        after = int(self._tail.ids[-1]) if self._tail.rows else self._newest
        self._beyond = False
        while rows := fetched(self.connection, _NEWER, after, _BLOCK):
            if self._tail.rows >= MAX_TAIL:
                self._beyond = True
                return
            self._tail.extend(*_columns(rows, self._dim))
            after = rows[-1][0]

    def _compact(self) -> None:
        counts = count(self.connection)
        living = counts.tail if self._segment else counts.chunks
        if self._tail.rows > living + living // 4 + _SPARE:
            self._tail = Tail(self._dim)
            self._grow()
        self._compact_at = self._tail.rows + self._tail.rows // 4 + _SPARE

    def _read_beyond(self, vector: Floats, n: int, *, among: Ids | None) -> list[Ids]:
        found: list[Ids] = []
        after = int(self._tail.ids[-1])
        while rows := fetched(self.connection, _NEWER, after, _BLOCK):
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


def members(connection: apsw.Connection, keys: tuple[str, ...]) -> Ids:
    """The chunks of some documents, ascending by id."""
    rows = fetched(
        connection,
        "select id from chunk where doc_id in (select id from document where key in (select value from json_each(?)))",
        json.dumps(keys),
    )
    return np.sort(np.fromiter((id_ for (id_,) in rows), np.int64, len(rows)))
