"""Where a speaker would breathe."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.engine.speech.sentences import LONGEST, Sentences


def cut(*pieces: str) -> list[str]:
    sentences = Sentences()
    return [*(each for piece in pieces for each in sentences.feed(piece)), *sentences.end()]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("One. Two! Three? Four", ["One. ", "Two! ", "Three? ", "Four"]),
        ("It costs 3.50 today.", ["It costs 3.50 today."]),
        ('He said "no." Then left.', ['He said "no." ', "Then left."]),
        ("A list\n- one\n", ["A list\n", "- one\n"]),
        ("你好。再见。", ["你好。", "再见。"]),
        ("Wait... what", ["Wait... ", "what"]),
        ("  \n \n", []),
        ("", []),
    ],
)
def test_sentences(text: str, told: list[str]) -> None:
    assert cut(text) == told
    assert cut(*text) == told


def test_what_has_no_end_is_cut_at_a_pause() -> None:
    found = cut("word, " * 100)
    assert all(len(each) <= LONGEST for each in found)
    assert found[0].endswith(", ")
    assert [len(each) for each in cut("x" * 700)] == [300, 300, 100]


@given(st.lists(st.text(alphabet="ab.!? \n,。", max_size=200), max_size=5))
def test_no_word_is_lost(pieces: list[str]) -> None:
    assert "".join("".join(cut(*pieces)).split()) == "".join("".join(pieces).split())
