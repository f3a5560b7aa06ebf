"""How many bits two rows of bits differ in."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Counts = NDArray[np.uint16]

_PIECE = 131_072
"""Rows at a time: the scan's own numbers stay in the processor's cache."""


def _by_numpy(query: Bytes, rows: Bytes) -> Counts:
    found: Counts = np.bitwise_count(rows ^ query).sum(1, dtype=np.uint16)
    return found


def _by_simsimd(query: Bytes, rows: Bytes) -> Counts:
    distances = simsimd.cdist(query[None], rows, "hamming", dtype="bin8")
    counts: Counts = np.asarray(distances)[0].astype(np.uint16)
    return counts


_scan: Callable[[Bytes, Bytes], Counts] = _by_numpy
try:
    import simsimd
except ImportError:  # pragma: no cover - no wheel for this machine: seven times slower, and the same
    pass
else:
    _scan = _by_simsimd


def differing(query: Bytes, rows: Bytes) -> Counts:
    """For each of `rows`, in how many bits it differs from `query`. Releases the interpreter's lock while it counts."""
    counts: Counts = np.empty(len(rows), np.uint16)
    for low in range(0, len(rows), _PIECE):
        counts[low : low + _PIECE] = _scan(query, rows[low : low + _PIECE])
    return counts
