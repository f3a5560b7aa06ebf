"""Makes postings out of texts, a block of rows at a time: what lies between is on the disk, not in memory."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from narthex.vectors.layout import ArraysFile
from narthex.vectors.postings import idf, saturated


class _Run(msgspec.Struct, frozen=True):
    """A block's pairs, by word and row: of each of `words` there are `counts` pairs, `pairs` in all from `offset`."""

    words: NDArray[np.uint32]
    counts: NDArray[np.int64]
    offset: int
    pairs: int


_PAIR = np.dtype([("row", "<u4"), ("times", "<u2")])


class Inverter:
    """Takes texts' words in the order of rows, then writes the postings. The caller closes it."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where there is room for the work between; a file without a name, which no crash leaves behind."""
        self._numbers: defaultdict[str, int] = defaultdict()
        self._numbers.default_factory = self._numbers.__len__
        self._lengths: list[NDArray[np.uint32]] = []
        self._runs: list[_Run] = []
        self._rows = 0
        self._scratch = TemporaryFile(dir=folder)  # noqa: SIM115 - `close` closes it

    def add(self, texts: Iterable[Sequence[str]]) -> None:
        """The words of the next rows. At most some 10,000 rows at a time: each takes about a KiB meanwhile."""
        number = self._numbers.__getitem__
        numbered = [np.fromiter(map(number, words), np.uint32, len(words)) for words in texts]
        lengths = np.fromiter(map(len, numbered), np.uint32, len(numbered))
        self._lengths.append(lengths)
        words = np.concatenate(numbered) if numbered else np.empty(0, np.uint32)
        rows = np.repeat(np.arange(len(numbered), dtype=np.uint64), lengths)
        keys, times = np.unique((words.astype(np.uint64) << np.uint64(32)) | rows, return_counts=True)
        pairs = np.empty(len(keys), _PAIR)
        pairs["row"] = (keys & np.uint64(0xFFFF_FFFF)).astype(np.uint32) + self._rows
        pairs["times"] = np.minimum(times, 0xFFFF)
        of_word, counts = np.unique((keys >> np.uint64(32)).astype(np.uint32), return_counts=True)
        self._runs.append(_Run(of_word, counts, self._scratch.tell(), len(pairs)))
        self._scratch.write(pairs.tobytes())
        self._rows += len(numbered)

    def write(self, file: ArraysFile) -> float:
        """Put the arrays of `Postings` into a file; the words in an average text."""
        words = sorted(self._numbers)
        place = np.empty(len(words), np.int64)
        place[np.fromiter((self._numbers[word] for word in words), np.int64, len(words))] = np.arange(len(words))
        encoded = [word.encode() for word in words]
        ends = np.cumsum(np.fromiter(map(len, encoded), np.int64, len(encoded)))
        letters = file.array("letters", "u1", (int(ends[-1]) if len(ends) else 0,))
        letters[:] = np.frombuffer(b"".join(encoded), np.uint8)
        file.array("ends", "<i8", ends.shape)[:] = ends
        lengths = np.concatenate([*self._lengths, np.empty(0, np.uint32)]).astype(np.float32)
        average = float(lengths.mean()) if len(lengths) else 0.0
        self._write_pairs(file, place, lengths=lengths, average=average)
        return average

    def close(self) -> None:
        """Give the room back."""
        self._scratch.close()

    def _write_pairs(
        self, file: ArraysFile, place: NDArray[np.int64], *, lengths: NDArray[np.float32], average: float
    ) -> None:
        counts = np.zeros(len(place), np.int64)
        for run in self._runs:
            counts[place[run.words]] += run.counts
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        file.array("starts", "<i8", starts.shape)[:] = starts
        rows = file.array("rows", "<u4", (int(starts[-1]),))
        scores = file.array("scores", "<f2", (int(starts[-1]),))
        worth = idf(self._rows, counts.astype(np.float32))
        free = starts[:-1].copy()
        for run in self._runs:
            pairs = self._read(run)
            here = place[run.words]
            before = np.cumsum(run.counts) - run.counts
            at = np.repeat(free[here] - before, run.counts) + np.arange(run.pairs)
            free[here] += run.counts
            told = saturated(pairs["times"].astype(np.float32), lengths[pairs["row"]], average=average)
            rows[at] = pairs["row"]
            scores[at] = np.repeat(worth[here], run.counts) * told

    def _read(self, run: _Run) -> NDArray[Any]:
        self._scratch.seek(run.offset)
        return np.frombuffer(self._scratch.read(run.pairs * _PAIR.itemsize), _PAIR)
