"""Which headings a place of a text stands under."""

from collections.abc import Sequence

from narthex.retrieval.chunking.layout import Heading

MAX_DEPTH = 8
MAX_TITLE = 120
"""Code points of one title in a trail."""
MAX_TRAIL = 300
"""Of all of them: embedding models read but so much, and it is the text that should be read."""


class Trail:
    """The titles above each piece of a text, outermost first. Ask for the pieces in order of place."""

    def __init__(self, headings: Sequence[Heading]) -> None:
        self._headings = headings
        self._next = 0
        self._open: list[Heading] = []

    def over(self, start: int, stop: int) -> list[str]:
        """The titles that hold for the whole of `text[start:stop]`."""
        self._enter_until(start + 1)
        shared = list(self._open)
        while self._next < len(self._headings) and self._headings[self._next].start < stop:
            self._enter(self._headings[self._next])
            depth = next((i for i, (a, b) in enumerate(zip(shared, self._open, strict=False)) if a is not b), None)
            shared = shared[: min(len(shared), len(self._open)) if depth is None else depth]
        return _short([title for heading in shared[:MAX_DEPTH] if (title := heading.title[:MAX_TITLE])])

    def _enter_until(self, place: int) -> None:
        while self._next < len(self._headings) and self._headings[self._next].start < place:
            self._enter(self._headings[self._next])

    def _enter(self, heading: Heading) -> None:
        while self._open and self._open[-1].level >= heading.level:
            self._open.pop()
        self._open.append(heading)
        self._next += 1


def _short(titles: list[str]) -> list[str]:
    """Without some between the first and the last, if they are too long together."""
    while len(titles) > 2 and sum(map(len, titles)) > MAX_TRAIL:
        del titles[1]
    return titles
