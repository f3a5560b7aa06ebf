"""Entries of generated tokens: whose text they are told with, and what of them a stop string leaves."""

import math

import pytest

from narthex.engine.local.llama import Chosen, Piece, Rival
from narthex.engine.local.probabilities import IMPOSSIBLE, Trace, Vocabulary, spelling

PIECES = (b"<|end|>", b"a", b" and", b" I", " 😀".encode()[:4], b"\x80", b",", b"\x98")
VOCABULARY = Vocabulary(PIECES)
END, A, AND, ALSO, HALF, LAST, COMMA, STRAY = range(8)
Told = list[tuple[str, float | None, bytes | None]]


def piece(content: str, *tokens: int, at: int, rivals: tuple[Rival, ...] = ()) -> Piece:
    """An event in which `content` is told and the tokens were generated, the last of them as number `at`."""
    chosen = tuple(Chosen(id=token, logprob=-float(token), top_logprobs=rivals) for token in tokens)
    return Piece(content=content, tokens=tokens, tokens_predicted=at, completion_probabilities=chosen)


def told(*pieces: Piece) -> list[Told]:
    trace = Trace(VOCABULARY, rivals=0)
    return [[(entry.token, entry.logprob, entry.bytes_) for entry in trace.told(piece)] for piece in pieces]


def test_each_token_is_told_with_its_text() -> None:
    assert told(piece("a", A, at=1), piece(" and", AND, at=2)) == [[("a", -1.0, b"a")], [(" and", -2.0, b" and")]]


def test_what_was_held_back_for_a_stop_string_comes_with_its_text() -> None:
    assert told(piece("", AND, at=1), piece("", ALSO, at=2), piece(" and I,", COMMA, at=3)) == [
        [], [], [(" and", -2.0, b" and"), (" I", -3.0, b" I"), (",", -6.0, b",")],
    ]  # fmt: skip


def test_held_text_may_come_with_the_end() -> None:
    end = Piece(content=" and", stop=True, tokens_predicted=1)
    assert told(piece("", AND, at=1), end) == [[], [(" and", -2.0, b" and")]]


def test_a_token_that_a_stop_string_cuts_keeps_what_is_left_of_it() -> None:
    assert told(piece("", AND, at=1), piece(" a", ALSO, at=2), Piece(stop=True, tokens_predicted=2)) == [
        [], [(" a", -2.0, b" a")], [],
    ]  # fmt: skip


def test_control_tokens_are_no_text() -> None:
    assert told(piece("a", A, at=1), piece("", END, at=2), piece(",", COMMA, at=3)) == [
        [("a", -1.0, b"a")], [], [(",", -6.0, b",")],
    ]  # fmt: skip
    assert told(piece("<|end|>", END, at=1)) == [[("<|end|>", -0.0, b"<|end|>")]]


def test_a_character_of_several_tokens_is_one_entry() -> None:
    assert told(piece(" 😀", LAST, at=2)) == [[(" 😀", -5.0, " 😀".encode())]]
    assert told(piece("a", A, at=1), piece("", LAST, at=3), piece(" 😀,", COMMA, at=4))[2] == [
        (" 😀", -5.0, " 😀".encode()), (",", -6.0, b","),
    ]  # fmt: skip


def test_a_character_whose_bytes_repeat_is_told_whole() -> None:
    kiss = "\U0001f618"
    assert kiss.encode()[2:] == PIECES[STRAY] * 2
    assert told(piece(kiss, STRAY, at=3)) == [[(kiss, -7.0, kiss.encode())]]


def test_a_character_that_is_not_spelled_by_its_last_token_is_told_whole() -> None:
    assert told(piece("é", LAST, at=2)) == [[("é", -5.0, "é".encode())]]


def test_bytes_that_are_no_text_are_kept() -> None:
    assert told(piece("�", LAST, at=1)) == [[("\\x80", -5.0, b"\x80")]]


def test_rivals_are_as_many_as_asked_and_have_names() -> None:
    rivals = (Rival(id=A, bytes_=(97,), logprob=-0.5), Rival(id=END, logprob=-1.0), Rival(id=LAST, bytes_=(0x80,)))
    trace = Trace(VOCABULARY, rivals=3)
    (entry,) = trace.told(piece("a", A, at=1, rivals=rivals))
    assert [(one.token, one.logprob, one.bytes_) for one in entry.top] == [
        ("a", -0.5, b"a"), ("<|end|>", -1.0, None), ("\\x80", IMPOSSIBLE, b"\x80"),
    ]  # fmt: skip
    (entry,) = Trace(VOCABULARY, rivals=1).told(piece("a", A, at=1, rivals=rivals))
    assert len(entry.top) == 1


@pytest.mark.parametrize("logprob", [None, -math.inf, -3.4e38])
def test_what_the_model_rules_out_is_bounded(logprob: float | None) -> None:
    trace = Trace(VOCABULARY, rivals=0)
    chosen = Chosen(id=A, logprob=logprob)
    (entry,) = trace.told(Piece(content="a", tokens_predicted=1, completion_probabilities=(chosen,)))
    assert entry.logprob == IMPOSSIBLE


@pytest.mark.parametrize(
    ("data", "text"), [(b"a b", "a b"), ("é".encode(), "é"), (b"\xf0\x9f", "\\xf0\\x9f"), (b" \xe6\n", " \\xe6\\x0a")]
)
def test_spelling(data: bytes, text: str) -> None:
    assert spelling(data) == text
