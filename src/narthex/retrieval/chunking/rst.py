"""The headings of reStructuredText: a line and signs under it, or under and over it; levels in the order that the
signs first come in. Source: docutils' markup specification, "Sections".
"""

import re

from narthex.retrieval.chunking.layout import Heading
from narthex.retrieval.chunking.structure import Outline

_UNDERLINED = re.compile(
    r"^(?P<title>[ \t]?[^\s][^\n]{0,200})\n(?P<line>(?P<sign>[!-/:-@\[-`{-~])(?P=sign){1,200}+)[ \t]*+$", re.MULTILINE
)
_MAX_LEVEL = 8


def outline(text: str) -> Outline:
    """The headings of a text."""
    levels: dict[tuple[str, bool], int] = {}
    headings = []
    for match in _UNDERLINED.finditer(text):
        title, line, sign = match["title"].strip(), match["line"], match["sign"]
        if len(line) < len(title) or title.strip(sign) == "":
            continue
        above = text.rfind("\n", 0, max(match.start() - 1, 0)) + 1
        over = match.start() > 0 and text[above : match.start()].rstrip() == line
        level = levels.setdefault((sign, over), len(levels) + 1)
        start = above if over else match.start()
        headings.append(Heading(start=start, level=min(level, _MAX_LEVEL), title=title))
    return Outline(headings=headings)
