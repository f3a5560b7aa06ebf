"""Searches one collection: by meaning and by words, in one read transaction.

Rules: a chunk is found the moment its transaction is committed, by whatever process, and never after it is deleted:
what was derived from the rows only proposes candidates, and the rows decide. A filter narrows before the best are
chosen, so it never leaves an answer empty that could have had something.
"""

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import apsw
import msgspec
import numpy as np

from narthex.core.documents import Chunk, Found, Hit, Left, Query, Scores
from narthex.retrieval.derived import Derived, members
from narthex.retrieval.fusion import fused
from narthex.retrieval.keywords import Word
from narthex.storage.sqlite.fetching import fetched
from narthex.vectors.tail import Floats, Ids

LEFT = 10

Why = Literal["rank", "per_document"]

_DEPTH = 50
_DEEPER = 8
_DEEPEST = 3200

_VECTORS = "select id, e from vec where id in (select value from json_each(?))"
_THERE = "select id from chunk where id in (select value from json_each(?))"
_PLACES = """
select c.id, d.key, c.ord from chunk c join document d on d.id = c.doc_id
where c.id in (select value from json_each(?))
"""
_TEXTS = "select id, start, stop, page, context, text from chunk where id in (select value from json_each(?))"


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """A query, made ready. `worth`: BM25 of a chunk with all its words. `among`: the only chunks to search, ascending;
    None: all. `depth`: candidates of each search.
    """

    vector: Floats | None
    words: tuple[Word, ...]
    worth: float
    among: Ids | None
    depth: int


class Ranked(msgspec.Struct, frozen=True, kw_only=True):
    """A candidate with its scores."""

    id: int
    scores: Scores


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk of the answer, and where it stands."""

    id: int
    key: str
    index: int
    scores: Scores


class Index:
    """Of one collection. For one thread at a time."""

    def __init__(self, folder: Path, *, dim: int) -> None:
        self._folder = folder
        self._dim = dim
        self._derived: Derived | None = None

    @property
    def bytes(self) -> int:
        """Of memory that is this process's own."""
        return self._derived.bytes if self._derived else 0

    def search(self, connection: apsw.Connection, query: Query) -> Found:
        """The best chunks, in the caller's read transaction.

        Raises:
            ValueError: the query's vector has not the collection's length.
            apsw.Error: as the library says.
        """
        derived = self._derived
        if derived is None or derived.connection is not connection:
            derived = self._derived = Derived(connection, self._folder, dim=self._dim)
        derived.refresh()
        asked = self._ask(derived, query)
        if asked.among is not None and not len(asked.among):
            return Found(hits=())
        ranked, exhausted = _ranked(derived, asked, weight=query.weight)
        taken, left = _take(connection, ranked, query)
        while len(taken) < query.n and not exhausted and len(ranked) < _DEEPEST:
            # One document has filled the candidates, or many of them are gone: look deeper.
            asked = msgspec.structs.replace(asked, depth=asked.depth * _DEEPER)
            ranked, exhausted = _ranked(derived, asked, weight=query.weight)
            taken, left = _take(connection, ranked, query)
        return Found(hits=_hits(connection, taken), left=left, words=tuple(word.text for word in asked.words))

    def _ask(self, derived: Derived, query: Query) -> Asked:
        vector = None
        if query.vector is not None:
            vector = np.frombuffer(query.vector, "<f4")
            if len(vector) != self._dim:
                raise ValueError(f"a vector of {len(vector)} numbers, where {self._dim} are wanted")
        among = None if query.documents is None else members(derived.connection, query.documents)
        words, worth = ((), 0.0) if query.text is None else derived.words(query.text)
        return Asked(vector=vector, words=words, worth=worth, among=among, depth=max(_DEPTH, 3 * query.n))


def _ranked(derived: Derived, asked: Asked, *, weight: float) -> tuple[list[Ranked], bool]:
    near: Ids = np.empty(0, np.int64)
    if asked.vector is not None:
        near = derived.near(asked.vector, asked.depth, among=asked.among)
    bm25 = derived.matching(asked.words, asked.depth, among=asked.among) if asked.words else {}
    matching = sorted(bm25, key=bm25.__getitem__, reverse=True)[: asked.depth]
    exhausted = len(near) < asked.depth and len(matching) < asked.depth
    proposed = sorted({*near.tolist(), *matching})
    if asked.words:
        bm25 |= derived.scored(np.array(proposed, np.int64), asked.words)
    ids, cosines = _rows(derived.connection, proposed, asked.vector)
    words = np.array([bm25.get(id_, 0) for id_ in ids], np.float32) if asked.words or cosines is None else None
    mixed = fused(cosines, words, weight=weight, worth=asked.worth)
    told = [None] * len(ids) if cosines is None else cosines.tolist()
    ranked = [
        Ranked(id=id_, scores=Scores(vector=cosine, bm25=bm25.get(id_), fused=score))
        for id_, cosine, score in zip(ids, told, mixed.tolist(), strict=True)
    ]
    ranked.sort(key=lambda one: (-one.scores.fused, one.id))
    return ranked, exhausted


def _rows(connection: apsw.Connection, proposed: list[int], vector: Floats | None) -> tuple[list[int], Floats | None]:
    """Those that are there, and their cosines. A chunk and its vector come and go together: one of them is read."""
    if vector is None:
        return [id_ for (id_,) in fetched(connection, _THERE, json.dumps(proposed))], None
    rows = fetched(connection, _VECTORS, json.dumps(proposed))
    matrix = np.frombuffer(b"".join(row[-1] for row in rows), "<f4").reshape(-1, len(vector))
    return [id_ for id_, _ in rows], np.nan_to_num(matrix @ vector, nan=-1)


def _take(connection: apsw.Connection, ranked: Sequence[Ranked], query: Query) -> tuple[list[Taken], tuple[Left, ...]]:
    taken: list[Taken] = []
    left: list[Left] = []
    of_document: Counter[str] = Counter()
    for one in _placed(connection, ranked, first=query.n + LEFT):
        capped = query.per_document is not None and of_document[one.key] >= query.per_document
        if len(taken) < query.n and not capped:
            taken.append(one)
            of_document[one.key] += 1
        elif len(left) < LEFT:
            why: Why = "per_document" if capped else "rank"
            left.append(Left(document_key=one.key, index=one.index, scores=one.scores, why=why))
        elif len(taken) == query.n:
            break
    return taken, tuple(left)


def _placed(connection: apsw.Connection, ranked: Sequence[Ranked], *, first: int) -> Iterator[Taken]:
    """All of them, best first. Most are not wanted: `first` are read, and then twice as many each time."""
    while ranked:
        part, ranked, first = ranked[:first], ranked[first:], 2 * first
        places = {
            id_: (key, index) for id_, key, index in fetched(connection, _PLACES, json.dumps([one.id for one in part]))
        }
        for one in part:
            key, index = places[one.id]
            yield Taken(id=one.id, key=key, index=index, scores=one.scores)


def _hits(connection: apsw.Connection, taken: Sequence[Taken]) -> tuple[Hit, ...]:
    rows = fetched(connection, _TEXTS, json.dumps([one.id for one in taken]))
    texts = {
        id_: Chunk(start=start, stop=stop, page=page, context=context, text=text)
        for id_, start, stop, page, context, text in rows
    }
    return tuple(Hit(document_key=one.key, index=one.index, chunk=texts[one.id], scores=one.scores) for one in taken)
