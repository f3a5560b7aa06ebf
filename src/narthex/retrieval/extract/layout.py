"""Puts a text together out of blocks: paragraphs, headings, list items, rows; as Markdown has them."""

import re

from narthex.retrieval.extract.extracted import Bounds

_BLANKS = re.compile(r"[ \t\n\r\f\v]+")
_LOOKED_AT_EVERY = 4096
_FENCE = re.compile(r"^ {0,3}(`{3,})", re.MULTILINE)


def fenced(text: str, language: str = "") -> str:
    """A listing, in a fence that is longer than those in it."""
    fence = "`" * max(3, 1 + max((len(found) for found in _FENCE.findall(text)), default=0))
    listing = text.strip("\n")
    return f"{fence}{language}\n{listing}\n{fence}"


class Blocks:
    """Takes pieces of text in order and keeps one blank line between blocks. Runs of blanks count as one."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._done: list[str] = []
        self._done_chars = 0
        self._line: list[str] = []
        self._line_chars = 0
        self._gap = ""
        self._opening = ""

    def write(self, text: str) -> None:
        """Go on with the line."""
        self._line.append(text)
        self._line_chars += len(text)
        if len(self._line) % _LOOKED_AT_EVERY == 0:
            self._bounds.check(self._done_chars + self._line_chars)

    def open(self, mark: str) -> None:
        """Begin the next line that has any text with a mark, as `- `."""
        self._opening = mark

    def end_line(self) -> None:
        """The next piece begins a new line."""
        self._end("\n")

    def end_block(self) -> None:
        """The next piece begins a new block."""
        self._end("\n\n")

    def listing(self, text: str) -> None:
        """A block that stays as it is, in a fence."""
        self.end_block()
        if text.strip():
            self._add(fenced(text))
            self._gap = "\n\n"

    def text(self) -> str:
        """All of it."""
        self.end_block()
        return "".join(self._done)

    def _end(self, gap: str) -> None:
        line = _BLANKS.sub(" ", "".join(self._line)).strip(" ")
        self._line, self._line_chars = [], 0
        if line:
            self._add(self._opening + line.removesuffix(" |"))
            self._gap, self._opening = gap, ""
        elif self._done and len(gap) > len(self._gap):
            self._gap = gap

    def _add(self, text: str) -> None:
        if self._done:
            self._done.append(self._gap)
        self._done.append(text)
        self._done_chars += len(text) + 2
        self._bounds.check(self._done_chars)
