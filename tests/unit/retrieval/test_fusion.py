import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.retrieval.fusion import fused

COSINES = st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8)
BM25 = st.floats(0, 50, width=32)
WEIGHT = st.floats(0, 1)


def array(*numbers: float):
    return np.array(numbers, np.float32)


@given(cosines=COSINES, weight=WEIGHT, data=st.data())
def test_every_candidate_gets_a_number_from_0_to_1(cosines, weight, data):
    bm25 = data.draw(st.lists(BM25, min_size=len(cosines), max_size=len(cosines)))
    mixed = fused(array(*cosines), array(*bm25), weight=weight)
    assert len(mixed) == len(cosines)
    assert ((mixed >= 0) & (mixed <= 1.000001)).all()


def test_both_together():
    assert fused(array(0.9, 0.5, 0.1), array(0, 8, 4), weight=0.75).tolist() == pytest.approx([0.75, 0.625, 0.125])


def test_a_word_that_says_little_does_not_outweigh_the_meaning():
    cosines, bm25 = array(0.31, 0.05), array(0, 1.2)
    assert np.argmax(fused(cosines, bm25, weight=0.5, worth=15)) == 0
    assert np.argmax(fused(cosines, bm25, weight=0.4, worth=2)) == 1
    assert fused(None, bm25, weight=0.5, worth=15).tolist() == pytest.approx([0, 0.16])


def test_the_better_by_both_is_the_better():
    mixed = fused(array(0.8, 0.7, 0.2), array(3, 2, 1), weight=0.5)
    assert mixed.tolist() == sorted(mixed, reverse=True)


def test_one_search_alone():
    assert fused(array(0.5, -0.2), None, weight=0.5).tolist() == [0.5, 0]
    assert fused(None, array(4, 1), weight=0.5).tolist() == [1, 0.25]
    assert fused(None, array(0, 0), weight=0.5).tolist() == [0, 0]
    assert fused(None, None, weight=0.5).tolist() == []
    assert fused(array(), array(), weight=0.5).tolist() == []


def test_candidates_that_are_all_alike():
    assert fused(array(0.5, 0.5), array(2, 1), weight=0.5).tolist() == [1, 0.75]
