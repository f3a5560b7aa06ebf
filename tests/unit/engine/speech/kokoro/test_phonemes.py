"""What Kokoro reads."""

# ruff: noqa: RUF001 - phonemes look like letters
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.engine.speech.kokoro.phonemes import MOST, VOCABULARY, clauses, plain, runs, tokens


def test_the_vocabulary_is_the_model_s() -> None:
    """Some of each stretch; the whole of it was compared with the model's own."""
    some = {";": 1, "?": 6, "—": 9, " ": 16, "I": 25, "O": 31, "Y": 41, "f": 48, "h": 50, "z": 68, "ɐ": 70, "ˈ": 156}
    assert VOCABULARY.items() >= some.items()
    assert (len(VOCABULARY), max(VOCABULARY.values()), len(set(VOCABULARY.values()))) == (114, 177, 114)
    assert "$" not in VOCABULARY
    assert "g" not in VOCABULARY


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("Good morning, world!", [("Good morning", ","), (" world", "!")]),
        ('It was 3.50 "now".', [('It was 3.50 "now', '".')]),
        ("What?! No…", [("What", "?!"), (" No", "…")]),
        ("no end", [("no end", "")]),
        ("... !", []),
        ("", []),
    ],
)
def test_clauses_keep_their_marks(text: str, parts: list[tuple[str, str]]) -> None:
    assert [*clauses(text)] == parts


def test_what_the_model_does_not_know_is_left_out() -> None:
    assert plain("ɡˈʊd\n mˈɔːɹnɪŋ$#") == "ɡˈʊd mˈɔːɹnɪŋ"
    assert plain("(fr)kafe(en-us) naɪs") == "kafe naɪs"
    assert plain(" ") == ""
    assert tokens("a#b") == [43, 44]


def test_what_is_too_long_is_cut_where_it_hurts_least() -> None:
    assert [*runs("a" * 600)] == ["a" * MOST, "a" * 90]
    first, second = runs("b" * 300 + ", " + "c" * 300)
    assert (first, second) == ("b" * 300 + ", ", "c" * 300)
    assert [*runs(" , . ")] == []


@given(st.text(alphabet="abː ˈ,.!", max_size=3000))
def test_no_phoneme_is_lost(text: str) -> None:
    found = [*runs(text)]
    assert all(len(each) <= MOST for each in found)
    assert "".join(found).count("a") == text.count("a")


def test_a_row_of_marks_is_read_once() -> None:
    """Read anew from each of them, so many would take minutes, in which a worker answers nobody."""
    text = "!" * 100_000 + "a"
    assert [*clauses(text)] == [(text, "")]
