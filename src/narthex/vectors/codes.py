"""Short codes of vectors: one bit a number to find who might be near, eight to find who is.

Vectors are turned by a fixed rotation first, which spreads what a few numbers tell over all of them; each vector has a
scale of its own. Both keep the codes good for vectors whose numbers are of unequal weight.
"""

from functools import lru_cache

import msgspec
import numpy as np
from numpy.typing import NDArray

from narthex.vectors.bits import Bytes, differing
from narthex.vectors.tail import Floats

Rows = NDArray[np.int64]
Codes8 = NDArray[np.int8]

_SEED = 20_240_101
_BY_BITS = 800
"""Candidates by bits, of which the best by eight bits remain."""
_SAMPLED = 8
"""One row in so many tells where to cut."""
_FEWEST, _MOST = 0.8, 2
"""Candidates that a sample may find, as shares of those wanted."""


@lru_cache(4)
def rotation(dim: int) -> Floats:
    """An orthogonal matrix, always the same: files were written with it."""
    turned, upper = np.linalg.qr(np.random.default_rng(_SEED).standard_normal((dim, dim)))
    rows: Floats = (turned * np.sign(np.diag(upper))).astype(np.float32)  # whatever signs the library likes
    return rows


class Quantised(msgspec.Struct, frozen=True, kw_only=True):
    """Codes of some vectors, one a row: `bits` (rows, ceil(dim / 8)), `codes` (rows, dim), `scales` (rows)."""

    bits: Bytes
    codes: Codes8
    scales: Floats

    def nearest(self, query: Floats, n: int, *, among: Rows | None = None) -> Rows:
        """About the `n` rows with the highest cosine, in no order; `among`: of these rows only."""
        turned = query @ rotation(len(query))
        wanted = max(_BY_BITS, 10 * n)
        rows = among
        if (len(self.bits) if rows is None else len(rows)) > 2 * wanted:  # else counting saves less than it takes
            bits = np.packbits(turned > 0)
            near = _lowest(differing(bits, self.bits if rows is None else self.bits[rows]), wanted)
            rows = near if rows is None else rows[near]
        codes, scales = (self.codes, self.scales) if rows is None else (self.codes.take(rows, 0), self.scales[rows])
        scores = (codes.astype(np.float32) @ turned) * scales
        chosen: Rows = np.argpartition(-scores, n - 1)[:n] if len(scores) > n else np.arange(len(scores))
        return chosen if rows is None else rows[chosen]


def quantised(vectors: Floats) -> Quantised:
    """The codes of vectors of unit length, one a row."""
    turned = np.nan_to_num(vectors) @ rotation(vectors.shape[1])
    scales = np.abs(turned).max(1) / 127 + np.float32(1e-12)
    codes = np.rint(turned / scales[:, None]).astype(np.int8)
    return Quantised(bits=np.packbits(turned > 0, axis=1), codes=codes, scales=scales.astype(np.float32))


def _lowest(counts: NDArray[np.uint16], n: int) -> Rows:
    # Counting how many rows there are of each distance is ten times faster than sorting a part of them, and a sample
    # tells nearly as well where to cut; unless what is near lies in steps, as rows of a table may.
    rows = np.flatnonzero(counts <= _edge(counts[::_SAMPLED], n // _SAMPLED))
    if not n * _FEWEST <= len(rows) <= n * _MOST:
        rows = np.flatnonzero(counts <= _edge(counts, n))
    return rows


def _edge(counts: NDArray[np.uint16], n: int) -> int:
    return int(np.searchsorted(np.cumsum(np.bincount(counts)), n))
