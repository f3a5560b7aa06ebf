"""The lines of a response's head, read when somebody asks for them: of most responses nobody ever does."""

import contextlib
from collections.abc import Iterable

import httptools


class _Reader:
    """Takes the lines of the final response; httptools calls the `on_` methods."""

    def __init__(self) -> None:
        self.found: dict[bytes, bytes] = {}
        self.parser = httptools.HttpResponseParser(self)
        self._done = False

    def on_message_begin(self) -> None:
        """Forget an interim response, which comes before."""
        if not self._done:
            self.found.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep the first of each name."""
        if not self._done:
            self.found.setdefault(name, value)

    def on_headers_complete(self) -> None:
        """What follows the final response's head is no line of it."""
        self._done = self._done or self.parser.get_status_code() >= 200


def first_lines(pieces: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
    """The headers of the response whose head is in these, names in lower case; of each name the first."""
    reader = _Reader()
    with contextlib.suppress(httptools.HttpParserError, httptools.HttpParserUpgrade):  # that was told already
        for each in pieces:
            reader.parser.feed_data(each)
    return [(name.lower(), value.rstrip()) for name, value in reader.found.items()]
