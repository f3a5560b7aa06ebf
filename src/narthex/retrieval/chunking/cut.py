"""Cuts a text as its `Chunking` says."""

import bisect
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Final

import msgspec

from narthex.core.documents import Chunk, Chunking
from narthex.core.errors import InvalidRequest
from narthex.retrieval.chunking import code, markdown, records, rst
from narthex.retrieval.chunking.layout import Heading, Kind, Page
from narthex.retrieval.chunking.structure import Outline, structure
from narthex.retrieval.chunking.windows import windows

MAX_CHUNKS = 1_000_000
"""Of one text; about a gigabyte with their vectors."""

_OUTLINES: Final[dict[Kind, Callable[[str], Outline]]] = {
    "text": lambda _: Outline(),
    "markdown": markdown.outline,
    "rst": rst.outline,
    "python": code.python,
    "code": code.code,
    "records": records.lines,
    "table": records.table,
}


def cut(
    text: str,
    chunking: Chunking,
    *,
    kind: Kind = "text",
    headings: Sequence[Heading] = (),
    pages: Sequence[Page] = (),
) -> list[Chunk]:
    """The chunks of a text, in order. `headings`: those that are known besides what the text tells by its `kind`.

    Raises:
        InvalidRequest: the size is less than 1, or there would be more than `MAX_CHUNKS`.
    """
    size = chunking.size
    if size < 1:
        raise InvalidRequest("A chunk holds at least one character.", param="chunkSize")
    if len(text) / size > MAX_CHUNKS:
        raise InvalidRequest(f"This text would be more than {MAX_CHUNKS} chunks.", param="chunkSize")
    if chunking.mode == "windows":
        chunks = windows(text, size)
    else:
        outline = _OUTLINES[kind](text)
        if headings:
            outline = msgspec.structs.replace(outline, headings=headings)
        chunks = structure(text, size, outline)
    return _on_pages(chunks, pages)


def _on_pages(chunks: list[Chunk], pages: Sequence[Page]) -> list[Chunk]:
    """A chunk is on the page that it begins on."""
    if not pages:
        return chunks
    placed = []
    for chunk in chunks:
        at = bisect.bisect_right(pages, chunk.start, key=attrgetter("start")) - 1
        placed.append(msgspec.structs.replace(chunk, page=pages[max(at, 0)].number))
    return placed
