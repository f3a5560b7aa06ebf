import numpy as np
import pytest

from narthex.vectors import bits
from narthex.vectors.codes import quantised, rotation
from narthex.vectors.tail import Tail, best


def unit(n: int, dim: int, seed: int = 0):
    rows = np.random.default_rng(seed).standard_normal((n, dim)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def exact(vectors, query, n: int) -> set[int]:
    return set(np.argsort(-(vectors @ query))[:n].tolist())


@pytest.mark.parametrize("dim", [8, 13, 384])
def test_the_nearest_are_found_by_their_codes(dim):
    vectors = unit(3000, dim)
    codes = quantised(vectors)
    for query in unit(10, dim, seed=1):
        rows = codes.nearest(query, 50)
        assert len(rows) == 50
        # Directions at random have no neighbours that stand out.
        assert len(exact(vectors, query, 10) & set(rows.tolist())) >= 6


def test_a_vector_finds_itself_among_many():
    vectors = unit(5000, 64)
    codes = quantised(vectors)
    assert all(row in codes.nearest(vectors[row], 10) for row in range(0, 5000, 500))


def test_among_some_rows_only():
    vectors = unit(3000, 64)
    codes = quantised(vectors)
    for among in (np.arange(0, 3000, 500), np.arange(0, 3000, 2), np.arange(2000)):
        rows = codes.nearest(vectors[500], 3, among=among)
        assert 500 in rows
        assert set(rows.tolist()) <= set(among.tolist())


def test_of_a_thousand_none_is_left_out_by_its_bits():
    vectors = unit(1000, 384)
    codes = quantised(vectors)
    for query in unit(10, 384, seed=1):
        assert exact(vectors, query, 10) <= set(codes.nearest(query, 50).tolist())


@pytest.mark.parametrize("near", [3, 8])
def test_neighbours_that_lie_in_steps_are_found(near):
    vectors = unit(20_000, 64)
    query = unit(1, 64, seed=1)[0]
    vectors[near::8] += query
    nearest = range(near, 20_000, 2000)
    vectors[list(nearest)] += 4 * query
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    rows = quantised(vectors).nearest(query, 50)
    assert {row % 8 for row in rows.tolist()} == {near % 8}
    assert set(nearest) <= set(rows.tolist())


def test_fewer_than_asked_for():
    codes = quantised(unit(5, 16))
    assert sorted(codes.nearest(unit(1, 16)[0], 50).tolist()) == [0, 1, 2, 3, 4]


def test_a_vector_of_zeros_or_of_no_numbers_has_codes():
    codes = quantised(np.array([[0, 0, 0, 0], [np.nan] * 4], np.float32))
    assert not codes.codes.any()


def test_the_rotation_is_orthogonal_and_always_the_same():
    assert np.allclose(rotation(32) @ rotation(32).T, np.eye(32), atol=1e-5)
    first = rotation(32)
    rotation.cache_clear()
    assert rotation(32).tolist() == first.tolist()


def test_both_ways_of_counting_bits_agree(monkeypatch):
    rows = np.random.default_rng(0).integers(0, 256, (1000, 48), dtype=np.uint8)
    monkeypatch.setattr(bits, "_PIECE", 300)
    fast = bits.differing(rows[7], rows)
    monkeypatch.setattr(bits, "_scan", bits._by_numpy)
    assert bits.differing(rows[7], rows).tolist() == fast.tolist()
    assert fast[7] == 0


def test_a_tail_grows_and_finds():
    tail, vectors = Tail(16), unit(300, 16)
    for low in range(0, 300, 7):
        part = vectors[low : low + 7]
        tail.extend(np.arange(low, low + len(part)) + 1, part)
    assert tail.ids.tolist() == list(range(1, 301))
    assert set((tail.nearest(vectors[3], 10) - 1).tolist()) == exact(vectors, vectors[3], 10)
    assert 4 not in tail.nearest(vectors[3], 10, among=np.array([5, 6, 100]))
    assert len(tail.nearest(vectors[3], 500)) == 300


def test_what_is_no_number_is_never_best():
    scores = np.array([0.5, np.nan, 0.1], np.float32)
    assert sorted(best(np.array([1, 2, 3]), scores, 2).tolist()) == [1, 3]
