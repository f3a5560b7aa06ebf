"""The lines of a response's head, read from what came."""

import pytest

from narthex.upstream.answer_head import first_lines

HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A:  b \r\nx-a: c\r\n\r\n"

EXPECTED = [(b"content-length", b"2"), (b"x-a", b"b")]


def told(*pieces: bytes) -> list[tuple[bytes, bytes]]:
    # Names are told apart by their case as they are sent, as ever.
    return list(dict(reversed(first_lines(pieces))).items())[::-1]


@pytest.mark.parametrize(
    "written",
    [
        HEAD,
        HEAD + b"{}",
        HEAD + b"{}HTTP/1.1 500 No\r\nx-other: 1\r\ncontent-length: 0\r\n\r\n",
        HEAD + b"{}nonsense",
        b"HTTP/1.1 100 Continue\r\nx-early: 1\r\n\r\n" + HEAD,
        b"HTTP/1.1 103 Early Hints\r\nx-a: early\r\n\r\n" + HEAD + b"{}",
    ],
)
def test_in_any_pieces(written: bytes) -> None:
    assert told(written) == EXPECTED
    assert told(*(bytes((byte,)) for byte in written)) == EXPECTED


def test_trailers_are_none_of_them() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx-end: 1\r\n\r\n"
    assert first_lines([chunked]) == [(b"transfer-encoding", b"chunked")]


def test_nothing_came() -> None:
    assert first_lines([]) == []
