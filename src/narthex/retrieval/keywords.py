"""Keyword search by FTS5: of rows that no code file has.

FTS5 scores every row that has any of the words, so what a search costs is the number of its words' postings. The
rarest words are taken until a budget is spent.
"""

import json
from collections.abc import Callable, Sequence

import apsw

from narthex.storage.sqlite.fetching import fetched
from narthex.vectors.tail import Ids

BUDGET = 20_000
"""Postings; each takes up to a microsecond."""
MOST_WORDS = 64
_FEWEST = 2

Counts = Callable[[str], int]
"""In how many chunks a word is."""


def counted(connection: apsw.Connection) -> Counts:
    """By the index's own vocabulary: exact, and takes time with the count."""

    def count(word: str) -> int:
        found = fetched(connection, "select doc from temp.vocabulary where term = ?", word)
        return int(found[0][0]) if found else 0

    return count


def rarest(words: Sequence[str], count: Counts) -> tuple[tuple[str, int], ...]:
    """The distinct words of a question that are in the index at all, rarest first, each with its count."""
    there = [(word, n) for word in dict.fromkeys(words) if (n := count(word))]
    return tuple(sorted(there, key=lambda pair: pair[1])[:MOST_WORDS])


def affordable(words: Sequence[tuple[str, int]], *, budget: int = BUDGET) -> tuple[str, ...]:
    """Of words with their counts, the first ones until the budget is spent; at least two."""
    taken: list[str] = []
    for word, n in words:
        budget -= n
        if budget < 0 and len(taken) >= _FEWEST:
            break
        taken.append(word)
    return tuple(taken)


def matched(
    connection: apsw.Connection, words: Sequence[str], n: int, *, after: int = 0, among: Ids | None = None
) -> dict[int, float]:
    """The BM25 scores, higher is better, of the `n` best chunks with any of the words.

    `after`: of chunks with a higher id only; `among`: of these only.
    """
    if not words:
        return {}
    narrowed = ""
    values: list[object] = [" OR ".join(f'"{word}"' for word in words), after]
    if among is not None:
        narrowed = "and rowid in (select value from json_each(?))"
        values.append(json.dumps(among.tolist()))
    rows = fetched(
        connection,
        f"select rowid, -rank from fts where fts match ? and rowid > ? {narrowed} order by rank limit ?",  # noqa: S608
        *values,
        n,
    )
    return dict(rows)
