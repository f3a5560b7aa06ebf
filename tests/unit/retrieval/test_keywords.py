import time

import apsw
import numpy as np
import pytest

from narthex.retrieval.keywords import Census, Matches, Word, affordable, looked_up, rarest, telling, worth
from narthex.storage.sqlite.words import searchable, words_of

TEXTS = ("one two three", "two three", "three three four", "", "nothing of it")


@pytest.fixture
def matches():
    connection = apsw.Connection(":memory:")
    connection.execute(
        "create virtual table fts using fts5(text, content='', contentless_delete=1,"
        " tokenize='unicode61 remove_diacritics 2')"
    )
    connection.executemany("insert into fts(rowid, text) values(?, ?)", enumerate(TEXTS, 1))
    yield Matches(connection)
    connection.close()


def test_the_rarest_words_come_first_and_unknown_ones_not_at_all():
    counts = {"a": 5, "b": 1, "c": 3}
    found = looked_up(["a", "x", "b", "c", "a"], lambda word: Word(word, counts.get(word, 0)))
    assert [word.text for word in rarest(found)] == ["b", "c", "a"]
    assert [word.text for word in found] == ["x", "b", "c", "a"]


def test_what_words_are_worth_is_what_a_chunk_with_all_of_them_gets(matches):
    words = [Word("nowhere", 0), Word("four", 1), Word("three", 3)]
    assert worth([], chunks=5) == 0
    assert worth(words[:1], chunks=5) > worth(words[1:2], chunks=5) > worth(words[2:], chunks=5) > 0
    assert worth(words, chunks=5) == pytest.approx(sum(worth([word], chunks=5) for word in words))
    matches.connection.execute("insert into fts(rowid, text) values(9, 'ten')")
    found = matches.best([Word("ten", 1)], 1, census=Census(6, 1))
    assert found[9] == pytest.approx(worth([Word("ten", 1)], chunks=6))


def test_words_are_taken_until_the_budget_is_spent_but_two_at_least():
    words = [Word("a", 10), Word("b", 20), Word("c", 30)]
    for budget, share, taken in ((100, 1, 3), (35, 1, 2), (1, 1, 2), (6, 0.1, 3), (5, 0.1, 2)):
        assert len(affordable(words, budget=budget, share=share)) == taken


def test_a_score_is_the_same_for_all_rows_and_for_newer_ones(matches):
    census = matches.census()
    assert census == Census(5, 11 / 5)
    words = [Word("four", 1), Word("three", 3)]
    everything = matches.best(words, 10, census=census)
    assert next(iter(everything)) == 3
    assert set(everything) == {1, 2, 3}
    assert matches.best(words, 10, census=census, after=1) == {row: everything[row] for row in (3, 2)}
    assert matches.best(words, 10, census=census, among=np.array([1, 5])) == {1: everything[1]}
    assert len(matches.best(words, 1, census=census)) == 1
    assert matches.best([], 10, census=census) == {}


def test_an_empty_index_has_nothing_to_count(matches):
    matches.connection.execute("delete from fts")
    assert matches.census() == Census(0, 1.0)


def test_the_words_of_a_text(matches):
    words = words_of(matches.connection)
    assert words("fooBar_baz ORA-00942 Größe") == [
        "foobar",
        "baz",
        "foobarbaz",
        "ora",
        "00942",
        "große",
    ]
    assert words("検索 a 字") == ["検索", "a", "字"]
    assert words("東京都") == ["東京", "京都"]


def test_the_forms_of_a_letter_are_one(matches):
    words = words_of(matches.connection)
    same = {
        "ﬁnance": "finance",
        "\uff21\uff22\uff23\uff11": "ABC1",
        "ｶﾞﾗｽ": "ガラス",
        "か\u3099らす": "がらす",
        "ﻣﺪﺭﺳﺔ": "مدرسة",
        "مُدَرِّسَة": "مدرسة",
        "مـــدرسة": "مدرسة",
        "שָׁלוֹם": "שלום",
        "\u1112\u1161\u11ab\u1100\u1173\u11af": "한글",
    }
    for form, plain in same.items():
        assert words(form) == words(plain), form
    assert words("Narthex™ m²") == ["narthex", "m²"]


def test_a_name_of_several_words_is_a_word_too(matches):
    words = words_of(matches.connection)
    assert words("ERR_SSL_PROTOCOL") == ["err", "ssl", "protocol", "errsslprotocol"]
    assert words("_private __init__ a_") == ["private", "init", "a"]
    assert words("数_量") == ["数", "量", "数量"]
    long = "_".join(["part"] * 30)
    assert words(long) == ["part"] * 30


@pytest.mark.parametrize("text", ["a" * 10**6, "a_" * 500_000, "_" * 10**6, "a" + "_" * 10**6])
def test_no_run_of_letters_takes_long(text):
    began_s = time.monotonic()
    searchable(text)
    assert time.monotonic() - began_s < 5


def test_a_korean_word_is_found_with_any_ending(matches):
    words = words_of(matches.connection)
    assert set(words("휴가")) < set(words("유급 휴가를 사용"))


def test_only_scripts_without_spaces_and_korean_are_cut():
    for text in ("plain text", "Ärger über Größe", "Привет мир", "اللغة العربية"):
        assert searchable(text) == text
    assert searchable("x東京y").split() == ["x", "東京", "y"]
    assert searchable("都").split() == ["都"]


def test_a_score_that_says_much_is_that_of_one_rare_word():
    assert telling(chunks=5000) == pytest.approx(worth([Word("name", 1)], chunks=5000))
    assert telling(chunks=3) == telling(chunks=80) > worth([Word("at", 1)], chunks=3)
    assert telling(chunks=5000) < 0.5 * worth([Word("nowhere", 0)] * 5, chunks=5000)
