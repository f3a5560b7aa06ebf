"""What a process keeps of a collection beside its rows: the mapped code file, and the vectors that are newer.

It proposes candidates; the rows decide.
"""

import json
from pathlib import Path

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
from narthex.retrieval.newer import Newer
from narthex.storage.sqlite.fetching import fetched
from narthex.storage.sqlite.words import words_of
from narthex.vectors.layout import Damaged
from narthex.vectors.postings import NOWHERE
from narthex.vectors.segment import Segment, open_segment
from narthex.vectors.tail import Floats, Ids

log = structlog.get_logger(__name__)

_SCORED = 200
"""Chunks whose words' scores are worth having, also where they were found by meaning."""


class Derived:
    """Of one collection, on one connection; for one thread at a time."""

    def __init__(self, connection: apsw.Connection, folder: Path, *, dim: int) -> None:
        self.connection = connection
        self._folder = folder
        self._dim = dim
        self._segment: Segment | None = None
        self._name = self._lost = ""
        self._newer = Newer(connection, dim=dim)
        self._version: object = None
        self._words = words_of(connection)
        self._matches = Matches(connection)
        self._census: Census | None = None

    @property
    def bytes(self) -> int:
        """Of memory that is this process's own."""
        return self._newer.bytes

    def refresh(self) -> None:
        """See what was committed since, by whatever process. First in each read transaction."""
        [[version]] = fetched(self.connection, "pragma data_version")
        if version != self._version:
            self._load()
            self._newer.look()
            self._census = None
            self._version = version

    def words(self, text: str) -> tuple[tuple[Word, ...], float]:
        """The words of a question that are in the collection, rarest first; and what all of its words are worth: the
        BM25 score of an average chunk that has each of them once, as far as that tells more than one rare word.
        """
        sought = looked_up(self._words(text), self._look)
        chunks = self._counted().chunks
        return rarest(sought), min(worth(sought, chunks=chunks), telling(chunks=chunks) / ENOUGH)

    def near(self, vector: Floats, n: int, *, among: Ids | None) -> Ids:
        """About the `n` chunks nearest to a vector, and those that may be; deleted ones, too."""
        newer = self._newer.nearest(vector, n, among=among)
        if self._segment is None:
            return newer
        rows = None if among is None else self._segment.rows_of(among)
        return np.concatenate((newer, self._segment.ids[self._segment.codes.nearest(vector, n, among=rows)]))

    def matching(self, words: tuple[Word, ...], n: int, *, among: Ids | None) -> dict[int, float]:
        """BM25 scores of about the `n` chunks with the highest, and of more where that costs nothing."""
        scores: dict[int, float] = {}
        share = 1.0
        if self._segment is not None:
            rows = None if among is None else self._segment.rows_of(among)
            chosen, told = self._segment.postings.best([word.place for word in words], n, among=rows)
            scores.update(zip(self._segment.ids[chosen].tolist(), told.tolist(), strict=True))
            share = self._newer.chunks / max(1, self._newer.chunks + len(self._segment.ids))
        if self._newer.chunks:
            after = self._newer.after
            newer = self._matches.best(
                affordable(words, budget=BUDGET_WITHIN if after else BUDGET, share=share),
                max(n, _SCORED),
                census=self._counted(),
                after=after,
                among=None if among is None else among[among > after],
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

    def _counted(self) -> Census:
        if self._census is None:
            postings = self._segment.postings if self._segment else None
            self._census = Census(postings.total, postings.average) if postings else self._matches.census()
        return self._census

    def _load(self) -> None:
        found = fetched(self.connection, "select file, max_chunk, max_document from segment order by gen desc limit 1")
        if not found or found[0][0] == self._name:
            return
        [[name, chunk, document]] = found
        try:
            self._segment = open_segment(self._folder / name, dim=self._dim)
        except Damaged as damage:
            # An older one that is mapped is still right: it only proposes.
            if name != self._lost:
                log.warning("a code file can't be used until it is made anew", file=name, why=str(damage))
            self._lost = name
            return
        self._name = name
        self._newer = Newer(self.connection, dim=self._dim, chunk=chunk, document=document)


def members(connection: apsw.Connection, keys: tuple[str, ...]) -> Ids:
    """The chunks of some documents, ascending by id."""
    rows = fetched(
        connection,
        "select id from chunk where doc_id in (select id from document where key in (select value from json_each(?)))",
        json.dumps(keys),
    )
    return np.sort(np.fromiter((id_ for (id_,) in rows), np.int64, len(rows)))
