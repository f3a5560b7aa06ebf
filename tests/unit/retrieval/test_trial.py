import pytest

from narthex.retrieval.evaluation import Judged
from narthex.retrieval.trial import WEIGHTS, Shown, trial

QUESTIONS = [Judged(question=f"q{n}", document=f"d{n}", start=10, stop=20) for n in range(8)]


def at_rank(judged, rank):
    """Ten results with the answer at this rank; None: none of them shows it."""
    results = [Shown(document="other", start=0, stop=50) for _ in range(10)]
    if rank is not None:
        results[rank - 1] = Shown(document=judged.document, start=15, stop=40)
    return results


def searching(rank_of):
    by_question = {judged.question: judged for judged in QUESTIONS}
    return lambda question, way, weight: at_rank(by_question[question], rank_of(way, weight))


def test_the_weight_that_finds_most_is_proposed_and_the_lead_told():
    ranks = {"vector": 2, "keyword": 4}
    report = trial(
        QUESTIONS,
        searching(lambda way, weight: ranks.get(way) or (1 if weight == 0.7 else 3)),
        progress=lambda done, total: None,
    )
    assert report.weight == 0.7
    assert report.ndcg_10_by_weight["0.7"] == 1
    assert report.ndcg_10_by_weight["0.5"] == 0.5
    assert report.lead == pytest.approx(1 - 0.63093, abs=1e-5)
    assert report.lead_interval == (pytest.approx(report.lead), pytest.approx(report.lead))
    assert [each.measures.mrr_10 for each in report.outcomes] == [1, 0.5, 0.25]
    assert [each.retrieval for each in report.outcomes] == ["hybrid", "vector", "keyword"]
    assert not report.missed


def test_every_search_is_counted_and_what_nobody_finds_is_named():
    told = []
    report = trial(
        QUESTIONS, searching(lambda way, weight: None), progress=lambda done, total: told.append((done, total))
    )
    total = 4 * len(WEIGHTS) + 3 * 4
    assert told == [(n + 1, total) for n in range(total)]
    assert len(report.missed) == 4
    assert report.weight == 0.5
    assert report.lead == 0


def test_one_question_is_enough():
    report = trial(QUESTIONS[:1], searching(lambda way, weight: 1), progress=lambda done, total: None)
    assert report.chosen_by == 1
    assert report.outcomes[0].measures.questions == 1
