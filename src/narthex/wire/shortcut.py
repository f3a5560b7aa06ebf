"""Chunks of a stream that differ from one another in nothing but a text, from a server's form into ours. No I/O.

Sources: RFC 9112 section 7.1 (chunked coding); WHATWG HTML section 9.2.6 (event streams).

What is the same around any JSON string says the same but for that string, so only that is looked at.
"""

from collections.abc import Sequence
from functools import cache

import msgspec

from narthex.core.stream import Splice
from narthex.wire.json import UNREADABLE

_LONGEST = 2048
"""Of a piece; those of streams are far shorter."""
_MOST_MORE = 1024

_string = msgspec.json.Decoder(str).decode
_joined = b"".join


class Spliced:
    """The data of frames by one splice."""

    __slots__ = ("_at", "_behind", "_least", "_our_end", "_our_start", "splice")

    def __init__(self, splice: Splice) -> None:
        self.splice = splice
        self._at = len(splice.theirs[0]) - 1
        self._behind = len(splice.theirs[1]) - 1
        self._our_start, self._our_end = splice.ours[0][:-1], splice.ours[1][1:]

    def told(self, data: bytes) -> bytes | None:
        """The event that is written for such a frame; None: it is another one."""
        start, end = self.splice.theirs
        if not data.startswith(start) or not data.endswith(end):
            return None
        text = data[self._at : len(data) - self._behind]
        try:
            _string(text)
        except UNREADABLE:
            return None
        return _joined((self._our_start, text, self._our_end))


class Shortcut:
    """The same, from one HTTP chunk to another: a piece that came in one read, and holds one event of one line.

    `sizes`: what the server begins a chunk with, by the length of the whole piece.
    """

    __slots__ = (
        "_behind",
        "_lines",
        "_more",
        "_our_end",
        "_our_start",
        "_sizes",
        "_their_end",
        "_their_start",
        "splice",
    )

    def __init__(self, splice: Splice, *, sizes: Sequence[bytes]) -> None:
        self.splice = splice
        self._sizes = sizes
        self._lines = _lines()
        self._their_start = b"data: " + splice.theirs[0]
        self._their_end = splice.theirs[1] + b"\n\n\r\n"
        self._our_start, self._our_end = splice.ours[0][:-1], splice.ours[1][1:] + b"\r\n"
        self._behind = 1 - len(self._their_end)
        self._more = len(self._our_start) + len(self._our_end) - len(self._their_start) - len(self._their_end)

    def told(self, piece: bytes) -> bytes | None:
        """What is to be sent for a piece; None: it has to be read."""
        length = len(piece)
        if length > _LONGEST:
            return None
        size = self._sizes[length]
        start = size + self._their_start
        if not size or not piece.startswith(start) or not piece.endswith(self._their_end):
            return None
        text = piece[len(start) - 1 : self._behind]
        try:
            _string(text)
        except UNREADABLE:
            return None
        return _joined((self._lines[length - len(size) + self._more], self._our_start, text, self._our_end))

    def told_of_several(self, pieces: bytes) -> tuple[list[bytes], bytes]:
        """The same for pieces that came together, and the rest from the first that has to be read."""
        told: list[bytes] = []
        at = 0
        while (end := pieces.find(self._their_end, at)) >= 0:  # it has line ends, so no text has it within
            end += len(self._their_end)
            chunk = self.told(pieces[at:end])
            if chunk is None:
                break
            told.append(chunk)
            at = end
        return told, pieces[at:]


def shortcut(splice: Splice, *, piece: bytes, body: bytes) -> Shortcut | None:
    """The shortcut for all pieces like one whose body is `body`; None where that is not one chunk, or a long one."""
    size, rest = piece[: -len(body) - 2], piece[-len(body) - 2 :]
    is_lower, is_upper = size == b"%x\r\n" % len(body), size == b"%X\r\n" % len(body)
    more = sum(map(len, splice.ours)) - sum(map(len, splice.theirs))
    if len(piece) > _LONGEST or more > _MOST_MORE or not (is_lower or is_upper) or rest != body + b"\r\n":
        return None
    return Shortcut(splice, sizes=_sizes(upper=not is_lower))


def is_alone(body: bytes, data: bytes) -> bool:
    """Whether a body is one event of one line, with this data."""
    return len(body) == len(data) + 8 and body == b"data: %b\n\n" % data


@cache
def _lines() -> Sequence[bytes]:
    """What we begin a chunk with, by the length of its body."""
    return [b"%x\r\n" % size for size in range(_LONGEST + _MOST_MORE)]


@cache
def _sizes(upper: bool) -> Sequence[bytes]:  # noqa: FBT001 - a key
    """What a server begins a chunk with, by the length of all of it; b"" where there is none."""
    sizes = [b""] * (_LONGEST + 1)
    for size in range(_LONGEST):
        line = (b"%X\r\n" if upper else b"%x\r\n") % size
        if (length := len(line) + size + 2) <= _LONGEST:
            sizes[length] = line
    return sizes
