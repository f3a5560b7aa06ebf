"""Searches one collection: by meaning and by words, in one read transaction.

Rules: a chunk is found the moment its transaction is committed, by whatever process, and never after it is deleted:
what was derived from the rows only proposes candidates, and the rows decide. A filter narrows before the best are
chosen, so it never leaves an answer empty that could have had something.
"""

from collections import Counter
from collections.abc import Iterator
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

_DEPTH, _DEPTH_ALONE = 50, 30
"""Candidates of each search at least; and of one that has only meanings to go by, whose order the codes know well."""
_DEEPER = 8
_DEEPEST = 3200

_VECTORS = "select v.id, v.e from carray(?) wanted cross join vec v on v.id = wanted.value"
_THERE = "select id from chunk where id in carray(?)"
_CHUNKS = """
select d.key, c.ord, c.start, c.stop, c.page, c.context, c.text
from carray(?) wanted cross join chunk c on c.id = wanted.value join document d on d.id = c.doc_id
"""


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
    """Candidates, best first, with what each search gave them: `vector`, `bm25` and `fused` are of one length with
    `ids`, or None where nothing was asked of that search.
    """

    ids: Ids
    vector: Floats | None
    bm25: Floats | None
    fused: Floats

    def scores(self, place: int) -> Scores:
        """Of the candidate at this place."""
        vector = None if self.vector is None else float(self.vector[place])
        bm25 = None if self.bm25 is None else float(self.bm25[place]) or None
        return Scores(vector=vector, bm25=bm25, fused=float(self.fused[place]))


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk that is there, and where it stands."""

    key: str
    index: int
    chunk: Chunk
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
        while len(taken) < query.n and not exhausted and len(ranked.ids) < _DEEPEST:
            # One document has filled the candidates, or many of them are gone: look deeper.
            asked = msgspec.structs.replace(asked, depth=asked.depth * _DEEPER)
            ranked, exhausted = _ranked(derived, asked, weight=query.weight)
            taken, left = _take(connection, ranked, query)
        hits = tuple(Hit(document_key=one.key, index=one.index, chunk=one.chunk, scores=one.scores) for one in taken)
        return Found(hits=hits, left=left, words=tuple(word.text for word in asked.words))

    def _ask(self, derived: Derived, query: Query) -> Asked:
        vector = None
        if query.vector is not None:
            vector = np.frombuffer(query.vector, "<f4")
            if len(vector) != self._dim:
                raise ValueError(f"a vector of {len(vector)} numbers, where {self._dim} are wanted")
        among = None if query.documents is None else members(derived.connection, query.documents)
        words, worth = ((), 0.0) if query.text is None else derived.words(query.text)
        depth = max(_DEPTH if words else _DEPTH_ALONE, 3 * query.n)
        return Asked(vector=vector, words=words, worth=worth, among=among, depth=depth)


def _ranked(derived: Derived, asked: Asked, *, weight: float) -> tuple[Ranked, bool]:
    near: Ids = np.empty(0, np.int64)
    if asked.vector is not None:
        near = derived.near(asked.vector, asked.depth, among=asked.among)
    bm25 = derived.matching(asked.words, asked.depth, among=asked.among) if asked.words else {}
    matching = sorted(bm25, key=bm25.__getitem__, reverse=True)[: asked.depth]
    exhausted = len(near) < asked.depth and len(matching) < asked.depth
    proposed = np.array(sorted({*near.tolist(), *matching}), np.int64)
    if asked.words:
        bm25 |= derived.scored(np.array([id_ for id_ in proposed.tolist() if id_ not in bm25], np.int64), asked.words)
    ids, cosines = _rows(derived.connection, proposed, asked.vector)
    words = None
    if asked.words or cosines is None:
        words = np.fromiter((bm25.get(id_, 0) for id_ in ids.tolist()), np.float32, len(ids))
    mixed = fused(cosines, words, weight=weight, worth=asked.worth)
    order = np.lexsort((ids, -mixed))
    return Ranked(
        ids=ids[order],
        vector=None if cosines is None else cosines[order],
        bm25=None if words is None else words[order],
        fused=mixed[order],
    ), exhausted


def _rows(connection: apsw.Connection, proposed: Ids, vector: Floats | None) -> tuple[Ids, Floats | None]:
    """Those that are there, and their cosines. A chunk and its vector come and go together: one of them is read."""
    if not len(proposed):
        return proposed, None if vector is None else np.empty(0, np.float32)
    wanted = apsw.carray(proposed)
    if vector is None:
        there = fetched(connection, _THERE, wanted)
        return np.fromiter((id_ for (id_,) in there), np.int64, len(there)), None
    rows = fetched(connection, _VECTORS, wanted)
    matrix = np.frombuffer(b"".join(row[-1] for row in rows), "<f4").reshape(-1, len(vector))
    ids = np.fromiter((id_ for id_, _ in rows), np.int64, len(rows))
    cosines: Floats = matrix @ vector
    cosines[np.isnan(cosines)] = -1
    return ids, cosines


def _take(connection: apsw.Connection, ranked: Ranked, query: Query) -> tuple[list[Taken], tuple[Left, ...]]:
    taken: list[Taken] = []
    left: list[Left] = []
    of_document: Counter[str] = Counter()
    for one in _read(connection, ranked, first=query.n + LEFT):
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


def _read(connection: apsw.Connection, ranked: Ranked, *, first: int) -> Iterator[Taken]:
    """All of them, best first. Most are not wanted: `first` are read, and then twice as many each time."""
    begun = 0
    while begun < len(ranked.ids):
        part = ranked.ids[begun : begun + first]
        for place, row in enumerate(fetched(connection, _CHUNKS, apsw.carray(part)), begun):
            key, index, start, stop, page, context, text = row
            chunk = Chunk(start=start, stop=stop, page=page, context=context, text=text)
            yield Taken(key=key, index=index, chunk=chunk, scores=ranked.scores(place))
        begun, first = begun + len(part), 2 * first
