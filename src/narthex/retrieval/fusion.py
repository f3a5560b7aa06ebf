"""How two searches' scores become one order.

Both are brought to 0..1 over the candidates of this search: a cosine by its place between the lowest and the highest
cosine, a BM25 score as a share of the highest (a chunk with none of the words has 0). The sum is weighted. Ranks alone
would throw away how much better the first is than the second; and every candidate has its true score of both searches,
so nobody loses for having been found by one of them only.
"""

import numpy as np

from narthex.vectors.tail import Floats


def fused(cosines: Floats | None, bm25: Floats | None, *, weight: float) -> Floats:
    """One number a candidate, 0 to 1. `bm25`: 0 where none of the words is in the chunk. `weight`: of the cosines."""
    if cosines is None:
        return _share(bm25) if bm25 is not None else np.empty(0, np.float32)
    if bm25 is None:
        return np.clip(cosines, 0, 1)
    mixed: Floats = weight * _placed(cosines) + (1 - weight) * _share(bm25)
    return mixed


def _placed(scores: Floats) -> Floats:
    if len(scores) == 0:
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)


def _share(scores: Floats) -> Floats:
    high = scores.max(initial=0)
    return scores / high if high > 0 else np.zeros_like(scores)
