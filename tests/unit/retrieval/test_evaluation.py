import math

import pytest

from narthex.core.errors import InvalidRequest
from narthex.retrieval import evaluation
from narthex.retrieval.evaluation import Judged, best_weight, gain, halves, interval, measured, read_questions


def test_questions_are_read_with_and_without_passages():
    found = read_questions(["question,document,start,stop\n", '"what, is it?",a.md,3,9\n', "why,b.md,,\n"])
    assert found == [
        Judged(question="what, is it?", document="a.md", start=3, stop=9),
        Judged(question="why", document="b.md"),
    ]


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "`document`"),
        (["question\n", "a\n"], "`document`"),
        (["question,document\n"], "no questions"),
        (["question,document\n", "a,b\n", "a,\n"], "Line 3"),
        (["question,document,start,stop\n", "a,b,x,1\n"], "Line 2"),
    ],
)
def test_what_is_wrong_with_questions_is_told(lines, told):
    with pytest.raises(InvalidRequest, match=told):
        read_questions(lines)


@pytest.mark.parametrize(
    ("start", "stop", "shown"), [(0, 10, False), (0, 11, True), (19, 30, True), (20, 30, False), (12, 13, True)]
)
def test_a_result_shows_a_passage_if_it_overlaps(start, stop, shown):
    judged = Judged(question="q", document="d", start=10, stop=20)
    assert judged.shown_by("d", start, stop) is shown
    assert not judged.shown_by("e", start, stop)


def test_a_document_is_shown_by_any_of_its_chunks():
    assert Judged(question="q", document="d").shown_by("d", 500, 600)


def test_the_measures_of_known_ranks():
    found = measured([1, 2, None, 10, 11])
    assert found.questions == 5
    assert (found.recall_1, found.recall_5, found.recall_10) == (0.2, 0.4, 0.6)
    assert found.ndcg_10 == pytest.approx((1 + 1 / math.log2(3) + 1 / math.log2(11)) / 5)
    assert found.mrr_10 == pytest.approx((1 + 0.5 + 0.1) / 5)


def test_the_gain_falls_with_the_rank_and_ends_at_ten():
    gains = [gain(rank) for rank in range(1, 12)]
    assert gains[0] == 1
    assert gains == sorted(gains, reverse=True)
    assert gains[10] == gain(None) == 0


@pytest.mark.parametrize("total", [1, 2, 7, 400])
def test_halves_part_all_questions_and_are_always_the_same(total):
    chosen, reported = halves(total)
    assert sorted(chosen + reported) == list(range(total))
    assert len(chosen) - len(reported) in {0, 1}
    assert halves(total) == (chosen, reported)


def test_an_interval_holds_the_mean_and_narrows_with_more_values():
    few, many = [0.0, 1.0] * 10, [0.0, 1.0] * 400
    low, high = interval(few)
    assert low < 0.5 < high
    narrow_low, narrow_high = interval(many)
    assert narrow_high - narrow_low < (high - low) / 3
    assert interval([0.25] * 5) == (0.25, 0.25)


def test_the_best_weight_is_the_nearest_to_even_among_equals():
    scores = {0.0: 0.1, 0.3: 0.9, 0.5: 0.5, 0.9: 0.9}
    assert best_weight(scores.__getitem__, list(scores)) == 0.3
    assert evaluation.DEPTH == 10
