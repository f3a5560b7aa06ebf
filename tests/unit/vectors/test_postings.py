from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.vectors import postings
from narthex.vectors.inverting import Inverter
from narthex.vectors.layout import Arrays, ArraysFile
from narthex.vectors.postings import K1, NOWHERE, B, Postings

ARRAYS = ("letters", "ends", "starts", "rows", "scores")


def inverted(folder, texts, *, block: int = 3) -> Postings:
    path = folder / "p.bin"
    path.unlink(missing_ok=True)
    file, inverter = ArraysFile(path), Inverter(folder)
    for low in range(0, len(texts), block):
        inverter.add(texts[low : low + block])
    average = inverter.write(file)
    inverter.close()
    file.finish({})
    arrays = Arrays(path)
    return Postings(**{name: arrays.array(name) for name in ARRAYS}, total=len(texts), average=average)


def expected(texts, words) -> list[float]:
    """BM25, written out."""
    average = sum(map(len, texts)) / max(1, len(texts))
    scores = []
    for text in texts:
        times, score = Counter(text), 0.0
        for word in words:
            there = sum(word in other for other in texts)
            worth = np.log(1 + (len(texts) - there + 0.5) / (there + 0.5))
            damped = K1 * (1 - B + B * len(text) / max(average, 1))
            score += worth * times[word] * (K1 + 1) / (times[word] + damped)
        scores.append(score)
    return scores


WORD = st.sampled_from(["a", "b", "ab", "é", "zz", "字x", "b0"])


@given(texts=st.lists(st.lists(WORD, max_size=6), max_size=12), words=st.lists(WORD, unique=True, max_size=4))
def test_scores_are_bm25s(tmp_path_factory, texts, words):
    made = inverted(tmp_path_factory.mktemp("p"), texts)
    places = [made.find(word) for word in words]
    for word, (start, stop) in zip(words, places, strict=True):
        assert stop - start == sum(word in text for text in texts)
    told = made.scored(np.arange(len(texts)), places)
    assert told.tolist() == pytest.approx(expected(texts, words), rel=2e-3, abs=1e-3)
    rows, scores = made.best(places, 3)
    best = sorted((score for score in expected(texts, words) if score > 0), reverse=True)[:3]
    assert sorted(scores.tolist(), reverse=True) == pytest.approx(best, rel=2e-3, abs=1e-3)
    assert len(set(rows.tolist())) == len(rows)


@pytest.fixture
def made(tmp_path, monkeypatch):
    monkeypatch.setattr(postings, "_FEW", 2)
    texts = [["all", *(["half"] * (row % 2)), *(["rare"] if row % 50 == 0 else []), f"w{row}"] for row in range(200)]
    return inverted(tmp_path, texts, block=60)


def test_a_word_that_is_nowhere(made):
    assert made.find("") == made.find("w2000") == made.find("zz") == NOWHERE
    assert made.best([], 5)[0].tolist() == made.best([NOWHERE], 5)[0].tolist() == []


def test_among_few_and_among_many(made):
    words = [made.find("rare"), made.find("half")]
    for among in ([50, 51], [0, 3, 50, 51, 199]):
        rows, _ = made.best(words, 10, among=np.array(among))
        assert sorted(rows.tolist()) == [row for row in among if row % 2 or row % 50 == 0]


def test_frequent_words_count_but_do_not_choose_once_the_budget_is_spent(made, monkeypatch):
    words = [made.find(word) for word in ("w51", "rare", "half", "all")]
    everything, _ = made.best(words, 200)
    assert len(everything) == 200
    monkeypatch.setattr(postings, "BUDGET", 10)
    rows, scores = made.best(words, 200)
    assert sorted(rows.tolist()) == [0, 50, 51, 100, 150]
    assert scores.tolist() == made.scored(rows, words).tolist()


def test_the_best_of_many(made):
    words = [made.find(word) for word in ("w51", "rare", "half", "all")]
    rows, _ = made.best(words, 3)
    assert set(rows.tolist()) < {0, 50, 51, 100, 150}
    assert 51 in rows


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Of 8,000 rows each 8th has three times the word, and another one word more."""
    texts = [["word"] * (3 if row % 8 == 3 else 1) + (["rare"] if row % 1000 == 3 else []) for row in range(8000)]
    return inverted(tmp_path_factory.mktemp("large"), texts, block=4000)


def test_a_sample_tells_where_to_cut(large, monkeypatch):
    words = [large.find("rare"), large.find("word")]
    monkeypatch.setattr(postings, "_SAMPLED", 7)
    rows, scores = large.best(words, 20)
    assert set(range(3, 8000, 1000)) < set(rows.tolist())
    assert len(rows) == 20
    assert min(scores) == sorted(large.scored(np.arange(8000), words), reverse=True)[19]


def test_a_sample_that_misses_every_match_decides_nothing(large):
    rows, _ = large.best([large.find("word")], 100)
    assert len(rows) == 100
    assert {row % 8 for row in rows.tolist()} == {3}


def test_among_many_no_other_row_is_found_by_a_word_beyond_the_budget(large, monkeypatch):
    monkeypatch.setattr(postings, "BUDGET", 8)
    monkeypatch.setattr(postings, "_FEWEST", 1)
    among = np.arange(0, 8000, 2)
    rows, _ = large.best([large.find("rare"), large.find("word")], 10, among=among)
    assert set(rows.tolist()) <= set(among.tolist())
