"""How two searches' scores become one order.

Both are brought to 0..1 over the candidates of this search: a cosine by its place between the lowest and the highest
cosine, a BM25 score as a share of the highest (a chunk with none of the words has 0). The sum is weighted. Ranks alone
would throw away how much better the first is than the second; and every candidate has its true score of both searches,
so nobody loses for having been found by one of them only.

Where no chunk has more of a question than an "at" or a "the", the highest BM25 score says next to nothing, and must not
count as much as the nearest meaning: below `ENOUGH` of what all of its words are worth, scores are shares of that.
"""

import numpy as np

from narthex.vectors.tail import Floats

ENOUGH = 0.5


def fused(cosines: Floats | None, bm25: Floats | None, *, weight: float, worth: float = 0) -> Floats:
    """One number a candidate, 0 to 1. `bm25`: 0 where none of the words is in the chunk. `weight`: of the cosines;
    `worth`: the BM25 score of a chunk with all of the question's words.
    """
    if cosines is None:
        return _share(bm25, ENOUGH * worth) if bm25 is not None else np.empty(0, np.float32)
    if bm25 is None:
        return np.clip(cosines, 0, 1)
    mixed: Floats = weight * _placed(cosines) + (1 - weight) * _share(bm25, ENOUGH * worth)
    return mixed


def _placed(scores: Floats) -> Floats:
    if len(scores) == 0:
        return scores
    low, high = scores.min(), scores.max()
    return (scores - low) / (high - low) if high > low else np.ones_like(scores)


def _share(scores: Floats, least: float) -> Floats:
    high = scores.max(initial=least)
    return scores / high if high > 0 else np.zeros_like(scores)
