"""Answers that come as one document and are read at its end. No I/O."""

from collections.abc import Iterator

from narthex.core.errors import UpstreamProtocolError
from narthex.core.stream import Frame


class Document:
    """What decoders of such answers share: the pieces, at most `limit_bytes` of them. `end` is still to be written."""

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def feed(self, data: bytes) -> Iterator[Frame]:
        """No frame yet: there is nothing to tell before the end.

        Raises:
            UpstreamProtocolError: the answer is longer than it may be.
        """
        self._size += len(data)
        if self._size > self._limit_bytes:
            raise UpstreamProtocolError("The model's server sent an answer that is too long.")
        self._pieces.append(data)
        return iter(())

    def whole(self) -> bytes:
        """All of it."""
        return b"".join(self._pieces)
