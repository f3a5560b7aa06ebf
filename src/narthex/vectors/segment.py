"""A code file: what is derived from a collection's rows so that a search needn't read them all.

432 bytes a row at 384 numbers, and 6 bytes for each pair of a row and a word. Several processes share one mapping.
"""

import contextlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import msgspec
import numpy as np

from narthex.vectors.codes import Quantised, Rows, quantised
from narthex.vectors.inverting import Inverter
from narthex.vectors.layout import Arrays, ArraysFile, Damaged
from narthex.vectors.postings import Postings
from narthex.vectors.tail import Floats, Ids


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """`ids` are those of the rows, ascending."""

    ids: Ids
    codes: Quantised
    postings: Postings

    def rows_of(self, ids: Ids) -> Rows:
        """Where these ids are, ascending; those that aren't in the file are left out."""
        if not len(self.ids):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(self.ids, ids), len(self.ids) - 1)
        there: Rows = at[self.ids[at] == ids]
        return there


def open_segment(path: Path, *, dim: int) -> Segment:
    """Map a code file.

    Raises:
        Damaged: it is missing, not whole, or of other vectors.
    """
    arrays = Arrays(path)
    try:
        segment = Segment(
            ids=arrays.array("ids"),
            codes=Quantised(bits=arrays.array("bits"), codes=arrays.array("codes"), scales=arrays.array("scales")),
            postings=Postings(
                letters=arrays.array("letters"),
                ends=arrays.array("ends"),
                starts=arrays.array("starts"),
                rows=arrays.array("rows"),
                scores=arrays.array("scores"),
                total=int(arrays.notes["rows"]),
                average=float(arrays.notes["average"]),
            ),
        )
    except (KeyError, ValueError) as error:
        raise Damaged(f"{error!r}") from error
    if segment.codes.codes.shape != (len(segment.ids), dim):
        raise Damaged("other vectors")
    return segment


class SegmentFile:
    """A code file being made: beside its place, and moved there once it is whole and on the disk."""

    def __init__(self, path: Path, *, rows: int, dim: int) -> None:
        self._path = path
        self._making = path.with_suffix(".tmp")
        self._making.unlink(missing_ok=True)
        self._file = ArraysFile(self._making)
        try:
            self._ids = self._file.array("ids", "<i8", (rows,))
            self._bits = self._file.array("bits", "u1", (rows, -(-dim // 8)))
            self._codes = self._file.array("codes", "i1", (rows, dim))
            self._scales = self._file.array("scales", "<f4", (rows,))
            self._inverter = Inverter(path.parent)
        except OSError:
            self._drop()
            raise
        self._filled = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._inverter.close()
        self._drop()

    def add(self, ids: Ids, vectors: Floats, words: Sequence[Sequence[str]]) -> None:
        """The next rows, by ascending id."""
        codes = quantised(vectors)
        place = slice(self._filled, self._filled + len(ids))
        self._ids[place] = ids
        self._bits[place], self._codes[place], self._scales[place] = codes.bits, codes.codes, codes.scales
        self._inverter.add(words)
        self._filled = place.stop

    def finish(self) -> None:
        """Put it in its place.

        Raises:
            OSError: the disk is full.
        """
        average = self._inverter.write(self._file)
        self._file.finish({"rows": self._filled, "average": average})
        self._making.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _drop(self) -> None:
        self._file.close()
        with contextlib.suppress(OSError):
            self._making.unlink(missing_ok=True)
