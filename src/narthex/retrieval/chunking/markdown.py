"""The parts of a Markdown text: headings in both forms, and listings. Source: CommonMark 0.31, sections 4.2 to 4.5.

Headings that only look like it, in listings and in the block of settings at the beginning, are none.
"""

import re

from narthex.retrieval.chunking.layout import Heading
from narthex.retrieval.chunking.structure import Outline

_MARKS = re.compile(
    r"^ {0,3}(?:"
    r"(?P<fence>`{3,}+|~{3,}+)(?P<info>[^\n]*)"
    r"|(?P<hashes>#{1,6}+)(?=[ \t\r\n]|\Z)(?P<title>[^\n]{0,300}+)"
    r")",
    re.MULTILINE,
)
_UNDERLINED = re.compile(
    r"^ {0,3}(?P<title>[^\s#>`~|+*=-][^\n]{0,200})\n {0,3}(?P<line>=+|-{2,})[ \t]*\r?$", re.MULTILINE
)
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(?:[^\n]*\n){0,200}?(?:---|\.\.\.)[ \t]*(?:\r?\n|\Z)")
_DECORATION = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)|[*_`]{1,3}(?=\S)|(?<=\S)[*_`]{1,3}|<[^>\n]*>")


def outline(text: str) -> Outline:
    """The headings of a Markdown text, and its listings, which stay whole where they can."""
    front = _FRONT_MATTER.match(text)
    begin = front.end() if front else 0
    headings: list[Heading] = []
    solid: list[tuple[int, int]] = [(0, begin)] if front else []
    opened: tuple[int, str] | None = None
    for match in _MARKS.finditer(text, begin):
        fence = match["fence"]
        if opened is not None:
            if fence and fence.startswith(opened[1]) and not match["info"].strip():
                solid.append((opened[0], match.end()))
                opened = None
        elif fence is None:
            headings.append(_heading(match.start(), len(match["hashes"]), match["title"].strip().rstrip("#")))
        elif fence[0] == "~" or "`" not in match["info"]:
            opened = match.start(), fence
    if opened is not None:  # to the end, as CommonMark has it
        solid.append((opened[0], len(text)))
    headings += _underlined(text, begin, solid)
    headings.sort(key=lambda heading: heading.start)
    return Outline(headings=headings, solid=solid)


def _underlined(text: str, begin: int, solid: list[tuple[int, int]]) -> list[Heading]:
    found = []
    listings = iter(solid)
    listing = next(listings, None)
    for match in _UNDERLINED.finditer(text, begin):
        while listing is not None and listing[1] <= match.start():
            listing = next(listings, None)
        if listing is None or match.start() < listing[0]:
            found.append(_heading(match.start(), 1 if match["line"][0] == "=" else 2, match["title"]))
    return found


def _heading(start: int, level: int, title: str) -> Heading:
    return Heading(start=start, level=level, title=_DECORATION.sub(r"\1", title).strip())
