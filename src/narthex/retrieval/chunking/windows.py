"""Windows: a text in runs of so many code points, as they come. Source: contract section 3.6."""

from narthex.core.documents import Chunk


def windows(text: str, size: int) -> list[Chunk]:
    """Runs of `size` code points, without overlap; the last may be shorter. One of nothing but white space counts as
    well: how many there are is known from the text's length.
    """
    return [
        Chunk(start=start, stop=min(start + size, len(text)), text=text[start : start + size])
        for start in range(0, len(text), size)
    ]
