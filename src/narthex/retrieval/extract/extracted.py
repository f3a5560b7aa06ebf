"""What a reader gets out of a file, and the bounds that it keeps."""

from collections.abc import Callable

import msgspec

from narthex.core.errors import InvalidRequest
from narthex.retrieval.chunking.layout import Heading, Kind, Page

PARAM = "file"
"""Where an error about a file is."""


class Extracted(msgspec.Struct, frozen=True, kw_only=True):
    """The text of a file. `headings`: besides those that the text tells by its `kind`."""

    text: str
    kind: Kind = "text"
    media_type: str
    title: str = ""
    headings: tuple[Heading, ...] = ()
    pages: tuple[Page, ...] = ()
    warnings: tuple[str, ...] = ()


class Bounds(msgspec.Struct, frozen=True, kw_only=True):
    """What one file may come to, and whom to tell (pages done, pages in all) meanwhile."""

    max_characters: int = 32 * 1024 * 1024
    progress: Callable[[int, int], None] = lambda _done, _total: None

    def check(self, characters: int) -> None:
        """Return while the text is not too long.

        Raises:
            InvalidRequest: it is.
        """
        if characters > self.max_characters:
            raise InvalidRequest(f"The file holds more than {self.max_characters} characters.", param=PARAM)


def tidied(text: str) -> str:
    """With one kind of line end, and without NUL, which no text needs."""
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.replace("\0", "") if "\0" in text else text
