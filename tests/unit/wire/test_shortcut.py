"""Pieces that are passed on by a shortcut are what they would be if they were read."""

import json
from functools import partial

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from narthex.core.stream import Splice
from narthex.wire.shortcut import Shortcut, Spliced, is_alone, shortcut

THEIRS = (b'{"id":"x","choices":[{"index":0,"delta":{"content":"', b'"},"finish_reason":null}]}')
OURS = (
    b'data: {"id":"chatcmpl-1","model":"ours","choices":[{"index":0,"delta":{"content":"',
    b'"}}],"usage":null}\n\n',
)
SPLICE = Splice(THEIRS, OURS)

LOWER, UPPER = b"%x\r\n%b\r\n", b"%X\r\n%b\r\n"


def chunk(body: bytes, form: bytes = LOWER) -> bytes:
    return form % (len(body), body)


def theirs(text: bytes, form: bytes = LOWER) -> bytes:
    return chunk(b"data: %b%b%b\n\n" % (THEIRS[0], text, THEIRS[1]), form)


def ours(text: bytes) -> bytes:
    return chunk(OURS[0] + text + OURS[1])


def learnt(text: bytes = b"Hi", form: bytes = LOWER) -> Shortcut:
    piece = theirs(text, form)
    made = shortcut(SPLICE, piece=piece, body=piece.partition(b"\r\n")[2][:-2])
    assert made is not None
    return made


def written(text: str, *, ascii_only: bool = True) -> bytes:
    return json.dumps(text, ensure_ascii=ascii_only).encode()[1:-1]


@given(st.text(), st.booleans(), st.sampled_from([LOWER, UPPER]))
@example("", True, LOWER)
@example('a\nb"c\\d\u2028😀', False, UPPER)
@example("x" * 1800, True, LOWER)
def test_any_text_takes_the_place_of_another(text: str, ascii_only: bool, form: bytes) -> None:
    said = written(text, ascii_only=ascii_only)
    told = learnt(b"any other words, and so many that its length has a letter", form).told(theirs(said, form))
    assert told == (ours(said) if len(theirs(said)) <= 2048 else None)


def test_every_length_is_told() -> None:
    short = learnt()
    for length in range(1900):
        assert short.told(theirs(b"x" * length)) == ours(b"x" * length)


@pytest.mark.parametrize(
    "text",
    [b'"', b'a","b":"c', b"a\\", b"\\x", b"\\u12", b"\\ud800", b"\xff", b"\xed\xa0\x80", b"a\nb", b"a\tb", b"\x00"],
)
def test_what_is_no_text_has_to_be_read(text: bytes) -> None:
    assert learnt().told(theirs(text)) is None
    assert Spliced(SPLICE).told(THEIRS[0] + text + THEIRS[1]) is None


PIECE = theirs(b"Hello")
SHORTENED = [chunk(b"data: %b\n\n" % (THEIRS[0] + THEIRS[1][shared:])) for shared in range(1, len(THEIRS[1]))]


@pytest.mark.parametrize(
    "piece",
    [
        b"",
        b"\r\n",
        PIECE[1:],
        PIECE[:-1],
        PIECE + b"0\r\n\r\n",
        PIECE.replace(b"\r\n", b";a=b\r\n", 1),
        b"0" + PIECE,
        b"1" + PIECE,
        PIECE.replace(b"data: ", b"data:  ", 1),
        PIECE.replace(b"Hello", b"Hell"),
        PIECE.replace(b"Hello", b"Hello!"),
        PIECE.replace(b'"id":"x"', b'"id":"y"'),
        PIECE * 2,
        *SHORTENED,
    ],
)
def test_what_is_not_one_such_chunk_has_to_be_read(piece: bytes) -> None:
    assert learnt().told(piece) is None


@given(st.integers(0, len(PIECE) - 1), st.binary(max_size=3), st.integers(0, 3))
def test_a_piece_that_was_changed_is_read_or_says_what_it_says(at: int, put: bytes, cut: int) -> None:
    changed = PIECE[:at] + put + PIECE[at + cut :]
    told = learnt().told(changed)
    if told is not None:
        size, _, rest = changed.partition(b"\r\n")
        body = rest[:-2]
        assert (int(size, 16), rest[-2:]) == (len(body), b"\r\n")
        text = json.loads(body[6:])["choices"][0]["delta"]["content"]
        assert json.loads(told.partition(b"\r\n")[2][6:-4])["choices"][0]["delta"]["content"] == text


# --- several together ------------------------------------------------------------------------------------------------

OTHER = chunk(b"data: [DONE]\n\n")


@given(st.lists(st.text(max_size=5), max_size=4), st.sampled_from([b"", OTHER, OTHER + theirs(b"more"), PIECE[:-3]]))
def test_pieces_that_came_together_are_told_up_to_the_first_that_has_to_be_read(said: list[str], rest: bytes) -> None:
    texts = [written(each) for each in said]
    told, left = learnt().told_of_several(b"".join(map(theirs, texts)) + rest)
    assert (told, left) == ([ours(text) for text in texts], rest)


# --- what a shortcut is made from ------------------------------------------------------------------------------------

BODY = b"data: %bHi%b\n\n" % THEIRS


@pytest.mark.parametrize(
    "piece",
    [
        chunk(BODY)[:-1],
        chunk(BODY) + b"0\r\n\r\n",
        chunk(BODY).replace(b"\r\n", b";a\r\n", 1),
        b"0" + chunk(BODY),
        b"ff\r\n" + BODY + b"\r\n",
        BODY,
    ],
)
def test_there_is_none_by_what_is_not_one_chunk(piece: bytes) -> None:
    assert shortcut(SPLICE, piece=piece, body=BODY) is None


def test_there_is_none_for_long_pieces() -> None:
    make = partial(shortcut, body=b"x" * 5000)
    assert make(SPLICE, piece=chunk(b"x" * 5000)) is None
    long = Splice(THEIRS, (OURS[0].replace(b"ours", b"o" * 5000), OURS[1]))
    assert shortcut(long, piece=chunk(BODY), body=BODY) is None


def test_one_event_alone() -> None:
    assert is_alone(b"data: a\n\n", b"a")
    for body in (b"data: a\n\n\n", b"data:  a\n\n", b"data: b\n\n", b": x\n\ndata: a\n\n", b"data: a\n"):
        assert not is_alone(body, b"a")
