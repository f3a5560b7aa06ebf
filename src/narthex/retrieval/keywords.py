"""Keyword search of rows that no code file has: FTS5 finds them, and they are scored as the code file's postings are.

FTS5 visits every row that has any of the words, so what a search costs is the number of its words' postings. The
rarest words are taken until a budget is spent.

Without a code file FTS5's own score chooses, and only what it chose is scored by us: that is thrice as fast. Its own
has two faults that ours hasn't: a word that is in half of the rows is worth nothing, and each search goes through all
of a word's rows, also where only a few newer ones are asked for.
"""

import json
from collections.abc import Callable, Sequence
from itertools import islice

import apsw
import msgspec
import numpy as np

from narthex.storage.sqlite.fetching import fetched
from narthex.vectors.postings import K1, NOWHERE, B, Place, idf
from narthex.vectors.tail import Ids

BUDGET, BUDGET_WITHIN = 20_000, 5000
"""Postings of all rows, of which each takes up to a microsecond; and of newer rows, some four."""
MOST_WORDS = 64
_MOST_LOOKED_UP = 512
_FEWEST = 2
_SOME = 80
"""Chunks. Among fewer of them an "at" is as rare as a name."""

Look = Callable[[str], "Word"]
"""Looks a word up."""


class Word(msgspec.Struct, frozen=True):
    """A word of a question, in the index's form, in how many chunks it is, and where the code file has it."""

    text: str
    count: int
    place: Place = NOWHERE


class Census(msgspec.Struct, frozen=True):
    """How many chunks the words' counts are out of, and how many words a chunk has on average."""

    chunks: int
    average: float


def counted(connection: apsw.Connection, word: str) -> Word:
    """By the index's own vocabulary: exact, and takes time with the count."""
    found = fetched(connection, "select doc from temp.vocabulary where term = ?", word)
    return Word(word, found[0][0] if found else 0)


def looked_up(words: Sequence[str], look: Look) -> tuple[Word, ...]:
    """The distinct words of a question, rarest first; those that are nowhere come before all others."""
    return tuple(sorted(map(look, islice(dict.fromkeys(words), _MOST_LOOKED_UP)), key=lambda word: word.count))


def rarest(words: Sequence[Word]) -> tuple[Word, ...]:
    """Of words in the order of `looked_up` those to search for: they are in the index at all."""
    return tuple(word for word in words if word.count)[:MOST_WORDS]


def worth(words: Sequence[Word], *, chunks: int) -> float:
    """The BM25 score of an average chunk, of so many, in which each of these words stands once."""
    if not words:
        return 0
    counts = np.array([word.count for word in words[:MOST_WORDS]], np.float32)
    return float(idf(max(chunks, int(counts.max())), counts).sum())


def telling(*, chunks: int) -> float:
    """A score that says much, whatever else was asked: that of a word which one chunk has, of some eighty at least.

    So a number out of a table is found also where the other words of the question are nowhere.
    """
    return worth((Word("", 1),), chunks=max(chunks, _SOME))


def affordable(words: Sequence[Word], *, budget: int, share: float = 1.0) -> tuple[Word, ...]:
    """The first words until the budget is spent; at least two. `share`: of a word's chunks that are visited."""
    taken: list[Word] = []
    left = float(budget)
    for word in words:
        left -= word.count * share
        if left < 0 and len(taken) >= _FEWEST:
            break
        taken.append(word)
    return tuple(taken)


class Matches:
    """Asks FTS5 on one connection, in one thread."""

    def __init__(self, connection: apsw.Connection) -> None:
        self.connection = connection
        self._worth: list[float] = []
        self._average = 1.0
        self._counted = Census(0, 1.0)
        connection.register_fts5_function("worth", self._score)
        connection.register_fts5_function("census", self._count)

    def best(
        self, words: Sequence[Word], n: int, *, census: Census, after: int = 0, among: Ids | None = None
    ) -> dict[int, float]:
        """The BM25 scores of about the `n` best chunks with any of the words.

        `after`: of chunks with a higher id only; `among`: of these only.
        """
        if not words:
            return {}
        counts = np.array([word.count for word in words], np.float32)
        self._worth = ((K1 + 1) * idf(max(census.chunks, int(counts.max())), counts)).tolist()
        self._average = max(census.average, 1)
        narrowed = ""
        values: list[object] = [" OR ".join(f'"{word.text}"' for word in words), after]
        if among is not None:
            narrowed = "and +rowid in (select value from json_each(?))"  # +: not a search for each of them
            values.append(json.dumps(among.tolist()))
        order = "worth(fts) desc" if after else "rank"
        rows = fetched(
            self.connection,
            "select rowid, worth(fts) from fts where fts match ? and rowid > ? "  # noqa: S608
            f"{narrowed} order by {order} limit ?",
            *values,
            n,
        )
        return dict(rows)

    def census(self) -> Census:
        """Of the whole index, as FTS5 keeps it."""
        self._counted = Census(0, 1.0)
        fetched(self.connection, "select census(fts) from fts limit 1")
        return self._counted

    def _count(self, api: apsw.FTS5ExtensionApi, *_: object) -> int:
        self._counted = Census(api.row_count, api.column_total_size(0) / max(api.row_count, 1))
        return 0

    def _score(self, api: apsw.FTS5ExtensionApi, *_: object) -> float:
        score = 0.0
        damped = K1 * (1 - B + B * api.column_size(0) / self._average)
        for phrase, worth in enumerate(self._worth):
            if times := len(api.phrase_column_offsets(phrase, 0)):
                score += worth * times / (times + damped)
        return score
