"""Where a text may be cut between two places, best first: between paragraphs, lines, sentences, words; else anywhere
that leaves no character in two.

Rule: every look is bounded by the places it was given, so that no text makes it slow.
"""

import re
import unicodedata
from collections.abc import Callable

_PARAGRAPH = re.compile(r"\n[^\S\n]*\n\s*")
_LINE = re.compile(r"[\n\f\v\u2028\u2029]+|\r(?!\n)")
_SENTENCE = re.compile(
    r"[.!?\u2026]['\")\]\u2019\u201d\u00bb]*\s+|[\u3002\uff01\uff1f\uff61]['\")\]\u300d\u300f\u201d]*\s*"
)
_WORD = re.compile(r"\s+")
_SIGN = re.compile(r"[,;:|/\u3001\uff0c\uff1b]")

_JOINER = "\u200d"
_LONGEST_CHARACTER = 32
"""Code points; what is longer is no character that anybody reads."""


def _last(pattern: re.Pattern[str]) -> Callable[[str, int, int], int | None]:
    def find(text: str, least: int, most: int) -> int | None:
        found = None
        for match in pattern.finditer(text, least, most):
            found = match.end()
        return found

    return find


_PROSE = tuple(map(_last, (_PARAGRAPH, _SENTENCE, _LINE, _WORD, _SIGN)))
_LINES = tuple(map(_last, (_PARAGRAPH, _LINE, _SENTENCE, _WORD, _SIGN)))


def best(text: str, start: int, *, least: int, most: int, lined: bool = False) -> int:
    """The last of the best places after `least`, up to `most`: the end of a paragraph, sentence, line or word; else
    between two characters, of which one begins at `start`. `lined`: lines come before sentences, as in programs.
    """
    for find in _LINES if lined else _PROSE:
        if (at := find(text, least, most)) is not None:
            return at
    return _between_characters(text, start, least, most)


def _between_characters(text: str, start: int, least: int, most: int) -> int:
    for at in range(most, max(least, most - _LONGEST_CHARACTER), -1):
        if at == len(text) or not _goes_on(text, at, start):
            return at
    return most


def _goes_on(text: str, at: int, start: int) -> bool:
    """Whether what is written at `at` belongs to the character before it."""
    after, before = text[at], text[at - 1]
    if _JOINER in {before, after} or (before == "\r" and after == "\n"):
        return True
    if "\U0001f3fb" <= after <= "\U0001f3ff" or unicodedata.category(after).startswith("M"):
        return True
    return _is_regional(after) and _regional_before(text, at, start) % 2 == 1


def _is_regional(char: str) -> bool:
    """Whether it is half of a flag."""
    return "\U0001f1e6" <= char <= "\U0001f1ff"


def _regional_before(text: str, at: int, start: int) -> int:
    count = 0
    while count < at - start and _is_regional(text[at - 1 - count]):
        count += 1
    return count
