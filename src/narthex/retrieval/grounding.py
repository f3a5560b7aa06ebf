"""From what a search found to what a model reads: blocks with numbers, within a budget of tokens.

Rules: chunks that stand together in a document are one block, in the document's order; blocks stand in the order of
their best chunk; what does not fit goes from the end, and is told. A caller's own prompt gets the chunks as they are
(contract 3.7); in ours each block has a head, by which a model can refer to it.
"""

from collections.abc import Sequence

import msgspec

from narthex.core.documents import Chunk, Hit, Left
from narthex.core.grounding import RAG_PROMPT, Block, Grounded, Wanted, approximate_tokens
from narthex.retrieval.library import Retrieved

ANSWER_SHARE = 4
"""The answer is left the window divided by this, up to `ANSWER_TOKENS`."""
ANSWER_TOKENS = 1024
_BETWEEN = "\n\n"


def budget(wanted: Wanted, *, window: int, others: int) -> int | None:
    """How many tokens of context there is room for; None: nobody knows. `window` 0: unknown; `others`: tokens of the
    rest of the prompt. The caller's own budget only makes it smaller.
    """
    room = max(0, window - others - min(window // ANSWER_SHARE, ANSWER_TOKENS)) if window else None
    if wanted.token_budget is None:
        return room
    return wanted.token_budget if room is None else min(room, wanted.token_budget)


def ground(wanted: Wanted, retrieved: Retrieved, *, room: int | None) -> Grounded:
    """What the model is to be given of what was found. A caller's own budget holds exactly; where the window is the
    limit, one chunk is always tried, for the model alone knows what fits.
    """
    hits = retrieved.found.hits
    grounded = Grounded(
        collection=msgspec.structs.replace(retrieved.collection, retrieval=retrieved.retrieval),
        hits=(),
        left=retrieved.found.left,
        blocks=(),
        numbered=wanted.prompt == RAG_PROMPT,
        words=retrieved.found.words,
        context="",
        context_tokens=0,
        budget=room,
        tokens=retrieved.tokens,
        duration_ms=retrieved.duration_ms,
        warnings=retrieved.warnings,
        explain=wanted.explain,
    )
    taken = _with(grounded, hits)
    least = 0 if wanted.token_budget is not None and room == wanted.token_budget else 1
    while len(taken.hits) > least and room is not None and taken.context_tokens > room:
        taken = _with(grounded, taken.hits[:-1])
    return _told(grounded, taken, hits)


def with_fewer(grounded: Grounded) -> Grounded:
    """The same without the weaker half of its chunks: the model found it too long."""
    kept = grounded.hits[: len(grounded.hits) // 2]
    return _told(grounded, _with(grounded, kept), grounded.hits)


def _with(grounded: Grounded, hits: tuple[Hit, ...]) -> Grounded:
    blocks = _blocks(hits, numbered=grounded.numbered)
    context = _BETWEEN.join(block.text for block in blocks)
    return msgspec.structs.replace(
        grounded, hits=hits, blocks=blocks, context=context, context_tokens=approximate_tokens(context)
    )


def _told(before: Grounded, after: Grounded, hits: tuple[Hit, ...]) -> Grounded:
    """With what was left out for want of room, and a word of warning about it."""
    out = hits[len(after.hits) :]
    if not out:
        return after
    left = tuple(
        Left(document_key=hit.document_key, index=hit.index, scores=hit.scores, why="token_budget") for hit in out
    )
    message = f"{len(out)} of the chunks that were found did not fit the model's window or the token budget."
    return msgspec.structs.replace(after, left=left + before.left, warnings=(*before.warnings, message))


def _blocks(hits: Sequence[Hit], *, numbered: bool) -> tuple[Block, ...]:
    """Neighbours together. The rank of a block is that of the best of its chunks."""
    places = {(hit.document_key, hit.index): rank for rank, hit in enumerate(hits)}
    groups: list[list[Hit]] = []
    for hit in sorted(hits, key=lambda hit: (hit.document_key, hit.index)):
        last = groups[-1][-1] if groups else None
        if last is not None and (last.document_key, last.index + 1) == (hit.document_key, hit.index):
            groups[-1].append(hit)
        else:
            groups.append([hit])
    groups.sort(key=lambda group: min(places[hit.document_key, hit.index] for hit in group))
    return tuple(
        Block(number=number, hits=tuple(group), text=_written(group, number=number if numbered else None))
        for number, group in enumerate(groups, start=1)
    )


def _written(hits: Sequence[Hit], *, number: int | None) -> str:
    """A head with number, document and page, if there is a number; then the text, below the headings above it."""
    first = hits[0].chunk
    page = f", page {first.page}" if first.page is not None else ""
    head = f"[{number}] {hits[0].document_key}{page}" if number is not None else ""
    return "\n".join(filter(None, (head, first.context, _joined([hit.chunk for hit in hits]))))


def _joined(chunks: Sequence[Chunk]) -> str:
    """Chunks that follow each other, as in the document; white space between them is a line's end."""
    text, stop = "", chunks[0].start
    for chunk in chunks:
        text += chunk.text if chunk.start <= stop else f"\n{chunk.text}"
        stop = chunk.stop
    return text.strip()
