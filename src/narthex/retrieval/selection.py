"""Which of the chunks that a search found are taken: the best, but not all of one document where others are as good.

Rule: a document has at most half of the places, unless what the others have is far weaker. How far is `NEARLY`.
"""

from collections import Counter

from narthex.core.documents import Found, Hit, Left

WIDER = 4
"""How many times as many are looked at as are taken."""
MOST_LOOKED_AT = 200
NEARLY = 0.6
"""A chunk of another document goes before one too many of the same if it has this share of its score."""
_TOLD = 10
"""How many of those that were left out are told of."""


def look_at(n: int) -> int:
    """How many chunks to search for where `n` are to be taken."""
    return max(n, min(WIDER * n, MOST_LOOKED_AT))


def select(found: Found, *, n: int, per_document: int | None) -> Found:
    """The `n` chunks to take of all that were found. `per_document`: the most of one document, whatever others have;
    None: as the rule above says.
    """
    if per_document is not None:
        taken, over = _at_most(found.hits, n=n, per_document=per_document)
    else:
        taken, over = _fairly(found.hits, n=n)
    chosen = {(hit.document_key, hit.index) for hit in taken}
    left = [
        Left(
            document_key=hit.document_key,
            index=hit.index,
            scores=hit.scores,
            why="per_document" if (hit.document_key, hit.index) in over else "rank",
        )
        for hit in found.hits
        if (hit.document_key, hit.index) not in chosen
    ]
    return Found(hits=tuple(taken), left=(*left, *found.left)[:_TOLD], words=found.words)


def _at_most(hits: tuple[Hit, ...], *, n: int, per_document: int) -> tuple[list[Hit], set[tuple[str, int]]]:
    taken: list[Hit] = []
    over: set[tuple[str, int]] = set()
    count: Counter[str] = Counter()
    for hit in hits:
        if count[hit.document_key] >= per_document:
            over.add((hit.document_key, hit.index))
        elif len(taken) < n:
            taken.append(hit)
            count[hit.document_key] += 1
    return taken, over


def _fairly(hits: tuple[Hit, ...], *, n: int) -> tuple[list[Hit], set[tuple[str, int]]]:
    """The best `n`; then each that is one too many of its document makes way for another document's, if that is nearly
    as good. The order stays that of the scores.
    """
    most = max(1, (n + 1) // 2)
    taken = list(hits[:n])
    rest = list(hits[n:])
    over: set[tuple[str, int]] = set()
    for weakest in reversed(hits[:n]):
        count = Counter(hit.document_key for hit in taken)
        if count[weakest.document_key] <= most:
            continue
        other = next((hit for hit in rest if count[hit.document_key] < most), None)
        if other is not None and other.scores.fused >= NEARLY * weakest.scores.fused:
            taken.remove(weakest)
            rest.remove(other)
            taken.append(other)
            over.add((weakest.document_key, weakest.index))
    place = {(hit.document_key, hit.index): at for at, hit in enumerate(hits)}
    return sorted(taken, key=lambda hit: place[hit.document_key, hit.index]), over
