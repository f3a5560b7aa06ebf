"""The words of a text, as the keyword index has them.

FTS5's `unicode61` makes one word of a run of letters, and so one of a whole Chinese or Thai sentence. Runs of scripts
that put no spaces between words are cut into overlapping pairs of characters before the index sees them, in texts and
in questions alike; those of Korean too, whose words carry their endings. The forms of a letter are one: composed or
not, of full or half width, as a ligature or as the shape that it has in the middle of an Arabic word. A name such as
`foo_bar` is a word of its own as well, so that it is found before texts that have `foo` and `bar` apart.
"""

import re
import unicodedata
from collections.abc import Callable
from typing import Any

import apsw

TOKENIZER = ("unicode61", "remove_diacritics", "2")
"""As in the migration that makes the table."""

_UNSPACED = re.compile(
    "["
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Myanmar
    "\u1780-\u17ff"  # Khmer
    "\u3040-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana
    "\uac00-\ud7a3"  # Hangul
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003134f"  # rarer Han
    "]+"
)

_FORMS = re.compile("[\ufb00-\ufdff\ufe70-\ufefe\uff01-\uffdc]+")
"""Ligatures, shapes of Hebrew and Arabic letters, full and half width: what PDFs and old charsets leave behind."""

_MARKS = re.compile("[\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670]+")
"""Points and vowel signs of Hebrew and Arabic, which few write; FTS5 would end a word at each."""

_NAME = re.compile(r"(?<![^\W_])[^\W_]++(?:_++[^\W_]++)+")
_LONGEST_NAME = 100

Words = Callable[[str], list[str]]
"""A text's words in their order, folded to lower case and without marks on letters."""


def searchable(text: str) -> str:
    """What the keyword index gets of a text."""
    if "_" in text:
        text = _NAME.sub(_and_joined, text)
    if text.isascii():
        return text
    letters = unicodedata.normalize("NFC", _FORMS.sub(_plain, text))
    return _UNSPACED.sub(_pairs, _MARKS.sub("", letters))


def _and_joined(name: re.Match[str]) -> str:
    parts = name.group()
    return f"{parts} {parts.replace('_', '')}" if len(parts) <= _LONGEST_NAME else parts


def _plain(forms: re.Match[str]) -> str:
    return unicodedata.normalize("NFKC", forms.group())


def _pairs(run: re.Match[str]) -> str:
    characters = run.group()
    if len(characters) == 1:
        return f" {characters} "
    return f" {' '.join(characters[at : at + 2] for at in range(len(characters) - 1))} "


def words_of(connection: apsw.Connection) -> Words:
    """The index's own way of finding words; valid while the connection is open, and in its thread."""
    tokenizer = connection.fts5_tokenizer(TOKENIZER[0], list(TOKENIZER[1:]))

    def words(text: str) -> list[str]:
        found: Any = tokenizer(
            searchable(text).encode(errors="replace"),
            apsw.FTS5_TOKENIZE_DOCUMENT,
            None,
            include_offsets=False,
            include_colocated=False,
        )
        return list(found)

    return words
