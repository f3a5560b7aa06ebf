"""Windows: a text in runs of so many code points, as they come. Source: contract section 3.6."""

from narthex.core.documents import Chunk


def windows(text: str, size: int) -> list[Chunk]:
    """Runs of `size` code points, without overlap; the last may be shorter. Runs of nothing but white space are left
    out: there is nothing in them to find.
    """
    chunks = []
    for start in range(0, len(text), size):
        piece = text[start : start + size]
        if not piece.isspace():
            chunks.append(Chunk(start=start, stop=start + len(piece), text=piece))
    return chunks
