"""Cuts a text where its author divided it: at headings and definitions, between records, paragraphs, sentences.

A chunk ends at the best place between a third of the size and the whole of it, so that no piece is a fragment; what is
short is joined to what follows. Places of one rank are equal: the last of them is taken.
"""

import bisect
import re
from collections.abc import Sequence
from operator import attrgetter

import msgspec

from narthex.core.documents import Chunk
from narthex.retrieval.chunking.breaks import best
from narthex.retrieval.chunking.headings import Trail
from narthex.retrieval.chunking.layout import Heading

LEAST_SHARE = 3
"""A chunk is at least the size divided by this, where the text has as much."""

_STEP = 256
_NOT_BLANK = re.compile(r"\S")


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a text's parts, each in order of place.

    `records`: where things begin that should not be cut, as rows of a table; they come before paragraphs.
    `solid`: (start, stop) of what should stay in one piece, as a listing. `columns`: the context of every chunk.
    `lined`: its lines mean more than its sentences.
    """

    headings: Sequence[Heading] = ()
    records: Sequence[int] = ()
    solid: Sequence[tuple[int, int]] = ()
    columns: str = ""
    lined: bool = False


def structure(text: str, size: int, outline: Outline) -> list[Chunk]:
    """Chunks of at most `size` code points, without the white space around them; they cover all the rest."""
    return _Cutter(text, size, outline).chunks()


class _Cutter:
    def __init__(self, text: str, size: int, outline: Outline) -> None:
        self._text = text
        self._size = size
        self._least = max(1, size // LEAST_SHARE)
        self._stop = len(text) if not text[-1:].isspace() else _end(text, 0, len(text))
        self._outline = outline
        self._heading_starts = [heading.start for heading in outline.headings]

    def chunks(self) -> list[Chunk]:
        trail = Trail(self._outline.headings)
        columns = self._outline.columns
        made: list[Chunk] = []
        start = _begin(self._text, 0)
        while start < self._stop:
            cut = self._cut(start)
            stop = _end(self._text, start, cut)
            context = " \u203a ".join(trail.over(start, stop))
            if columns and start:
                context = f"{context}\n{columns}" if context else columns
            made.append(Chunk(start=start, stop=stop, text=self._text[start:stop], context=context))
            start = _begin(self._text, cut)
        return made

    def _cut(self, start: int) -> int:
        left = self._stop - start
        if left <= self._size:
            return self._at_heading(start + self._least, self._stop - self._least) or self._stop
        most = start + self._size
        least = start + self._least
        if left < self._size + self._least:  # leave enough for the last one
            most = max(least, self._stop - self._least)
        return self._best(start, least, most)

    def _best(self, start: int, least: int, most: int) -> int:
        heading = self._at_heading(least, most)
        if heading is not None:
            return heading
        record = self._at_record(start, least, most)
        if record is not None:
            return record
        solid = self._before_solid(least, most)
        if solid is not None:
            return solid
        return best(self._text, start, least=least, most=most, lined=self._outline.lined)

    def _at_heading(self, least: int, most: int) -> int | None:
        """The start of the highest heading here; the last of several."""
        if not self._heading_starts or most < least:
            return None
        first = bisect.bisect_left(self._heading_starts, least)
        last = bisect.bisect_right(self._heading_starts, most)
        here = self._outline.headings[first:last]
        return min(reversed(here), key=attrgetter("level")).start if here else None

    def _at_record(self, start: int, least: int, most: int) -> int | None:
        """The start of the last record here; of one before `least` only if that keeps it whole."""
        records = self._outline.records
        at = bisect.bisect_right(records, most) - 1
        if at < 0 or records[at] <= start:
            return None
        ends = records[at + 1] if at + 1 < len(records) else self._stop
        return records[at] if records[at] >= least or ends - records[at] <= self._size else None

    def _before_solid(self, least: int, most: int) -> int | None:
        """Where a solid piece begins that would be cut otherwise, if that leaves enough before it."""
        solid = self._outline.solid
        at = bisect.bisect_right(solid, (most, 0)) - 1
        return solid[at][0] if at >= 0 and solid[at][0] >= least and solid[at][1] > most else None


def _begin(text: str, start: int) -> int:
    """The first place from `start` on that isn't blank."""
    length = len(text)
    if start >= length or not text[start].isspace():
        return start
    found = _NOT_BLANK.search(text, start)
    return found.start() if found else length


def _end(text: str, start: int, stop: int) -> int:
    """The end of what isn't blank before `stop`."""
    while stop - start > _STEP and text[stop - _STEP : stop].isspace():
        stop -= _STEP
    low = max(start, stop - _STEP)
    return low + len(text[low:stop].rstrip())
