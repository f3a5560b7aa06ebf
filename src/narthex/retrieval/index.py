"""Searches one collection: by meaning and by words, in one read transaction.

Rules: a chunk is found the moment its transaction is committed, by whatever process, and never after it is deleted:
what was derived from the rows only proposes candidates, and the rows decide. A filter narrows before the best are
chosen, so it never leaves an answer empty that could have had something.
"""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import apsw
import msgspec
import numpy as np

from narthex.core.documents import Chunk, Found, Hit, Left, Query, Scores
from narthex.retrieval.fusion import fused
from narthex.retrieval.keywords import affordable, counted, matched, rarest
from narthex.storage.sqlite.fetching import fetched
from narthex.storage.sqlite.words import Words, words_of
from narthex.vectors.tail import Floats, Ids, Tail

LEFT = 10

Why = Literal["rank", "per_document"]

_DEPTH = 50
_BLOCK = 10_000

_MEMBERS = (
    "select c.id from chunk c where c.doc_id in (select id from document where key in (select value from json_each(?)))"
)
_NEWER = "select id, e from vec where id > ? order by id limit ?"
_ROWS = """
select c.id, d.key, c.ord, v.e from chunk c join document d on d.id = c.doc_id join vec v on v.id = c.id
where c.id in (select value from json_each(?))
"""
_TEXTS = "select id, start, stop, page, context, text from chunk where id in (select value from json_each(?))"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A query, made ready. `among`: the only chunks to search, ascending; None: all."""

    vector: Floats | None
    words: tuple[tuple[str, int], ...]
    among: Ids | None
    depth: int


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate with its scores."""

    id: int
    key: str
    index: int
    scores: Scores


class Index:
    """What one process knows about a collection besides its rows. For one thread at a time."""

    def __init__(self, folder: Path, *, dim: int) -> None:
        self._folder = folder
        self._dim = dim
        self._seen: object = None
        self._base = 0
        self._tail = Tail(dim)
        self._words: tuple[apsw.Connection, Words] | None = None

    @property
    def bytes(self) -> int:
        """Of memory that is this process's own."""
        return self._tail.bytes

    def search(self, connection: apsw.Connection, query: Query) -> Found:
        """The best chunks, in the caller's read transaction.

        Raises:
            ValueError: the query's vector has not the collection's length.
            apsw.Error: as the library says.
        """
        self._refresh(connection)
        asked = self._ask(connection, query)
        if asked.among is not None and len(asked.among) == 0:
            return Found(hits=())
        ranked, exhausted = self._ranked(connection, asked, weight=query.weight)
        taken, left = _take(ranked, query)
        while len(taken) < query.n and not exhausted:
            # One document may have filled the candidates, or many of them are gone: look deeper.
            asked = msgspec.structs.replace(asked, depth=asked.depth * 8)
            ranked, exhausted = self._ranked(connection, asked, weight=query.weight)
            taken, left = _take(ranked, query)
        return Found(hits=_hits(connection, taken), left=left, words=tuple(word for word, _ in asked.words))

    def _refresh(self, connection: apsw.Connection) -> None:
        [[version]] = fetched(connection, "pragma data_version")
        if (connection, version) == self._seen:
            return
        self._grow(connection)
        self._seen = (connection, version)

    def _grow(self, connection: apsw.Connection) -> None:
        after = int(self._tail.ids[-1]) if self._tail.rows else self._base
        while rows := fetched(connection, _NEWER, after, _BLOCK):
            self._tail.extend(*_columns(rows, self._dim))
            after = rows[-1][0]

    def _ask(self, connection: apsw.Connection, query: Query) -> Asked:
        vector = None
        if query.vector is not None:
            vector = np.frombuffer(query.vector, "<f4")
            if len(vector) != self._dim:
                raise ValueError(f"a vector of {len(vector)} numbers, where {self._dim} are wanted")
        words: tuple[tuple[str, int], ...] = ()
        if query.text is not None:
            words = rarest(self._words_of(connection)(query.text), counted(connection))
        among = None
        if query.documents is not None:
            rows = fetched(connection, _MEMBERS, json.dumps(query.documents))
            among = np.sort(np.array([id_ for (id_,) in rows], np.int64))
        return Asked(vector=vector, words=words, among=among, depth=max(_DEPTH, 3 * query.n))

    def _words_of(self, connection: apsw.Connection) -> Words:
        if self._words is None or self._words[0] is not connection:
            self._words = (connection, words_of(connection))
        return self._words[1]

    def _ranked(self, connection: apsw.Connection, asked: Asked, *, weight: float) -> tuple[list[Ranked], bool]:
        by_meaning: Ids = np.empty(0, np.int64)
        if asked.vector is not None:
            by_meaning = self._tail.nearest(asked.vector, asked.depth, among=asked.among)
        bm25 = matched(connection, affordable(asked.words), max(asked.depth, 1000), among=asked.among)
        by_words = list(bm25)[: asked.depth]
        exhausted = len(by_meaning) < asked.depth and len(by_words) < asked.depth
        proposed = json.dumps(sorted({*by_meaning.tolist(), *by_words}))
        rows: list[Any] = fetched(connection, _ROWS, proposed)
        cosines = words = None
        if asked.vector is not None:
            cosines = np.nan_to_num(_matrix(rows, self._dim) @ asked.vector, nan=-1)
        if asked.words or asked.vector is None:
            words = np.array([bm25.get(id_, 0) for id_, *_ in rows], np.float32)
        order = fused(cosines, words, weight=weight)
        ranked = [
            Ranked(
                id=id_,
                key=key,
                index=index,
                scores=Scores(
                    vector=None if cosines is None else float(cosines[at]),
                    bm25=bm25.get(id_),
                    fused=float(order[at]),
                ),
            )
            for at, (id_, key, index, _) in enumerate(rows)
        ]
        ranked.sort(key=lambda one: (-one.scores.fused, one.id))
        return ranked, exhausted


def _columns(rows: Sequence[Any], dim: int) -> tuple[Ids, Floats]:
    ids = np.fromiter((id_ for id_, _ in rows), np.int64, len(rows))
    return ids, np.frombuffer(b"".join(vector for _, vector in rows), "<f4").reshape(-1, dim)


def _matrix(rows: Sequence[Any], dim: int) -> Floats:
    return np.frombuffer(b"".join(row[-1] for row in rows), "<f4").reshape(-1, dim)


def _take(ranked: Sequence[Ranked], query: Query) -> tuple[list[Ranked], tuple[Left, ...]]:
    taken: list[Ranked] = []
    left: list[Left] = []
    of_document: Counter[str] = Counter()
    for one in ranked:
        capped = query.per_document is not None and of_document[one.key] >= query.per_document
        if len(taken) < query.n and not capped:
            taken.append(one)
            of_document[one.key] += 1
        elif len(left) < LEFT:
            why: Why = "per_document" if capped else "rank"
            left.append(Left(document_key=one.key, index=one.index, scores=one.scores, why=why))
    return taken, tuple(left)


def _hits(connection: apsw.Connection, taken: Sequence[Ranked]) -> tuple[Hit, ...]:
    rows: list[Any] = fetched(connection, _TEXTS, json.dumps([one.id for one in taken]))
    texts = {
        id_: Chunk(start=start, stop=stop, page=page, context=context, text=text)
        for id_, start, stop, page, context, text in rows
    }
    return tuple(Hit(document_key=one.key, index=one.index, chunk=texts[one.id], scores=one.scores) for one in taken)
