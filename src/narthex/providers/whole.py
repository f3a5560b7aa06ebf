"""Answers that come as one document and are read at its end. No I/O."""

from narthex.core.errors import UpstreamProtocolError


class Collected:
    """The pieces of a document of at most `limit_bytes`."""

    def __init__(self, *, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, data: bytes) -> None:
        """Keep what came.

        Raises:
            UpstreamProtocolError: it is longer than it may be.
        """
        self._size += len(data)
        if self._size > self._limit_bytes:
            raise UpstreamProtocolError("The model's server sent an answer that is too long.")
        self._pieces.append(data)

    def whole(self) -> bytes:
        """All of it."""
        return b"".join(self._pieces)
