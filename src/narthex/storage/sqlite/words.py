"""The words of a text, as the keyword index has them.

FTS5's `unicode61` makes one word of a run of letters, and so one of a whole Chinese or Thai sentence. Runs of scripts
that put no spaces between words are cut into overlapping pairs of characters before the index sees them, in texts and
in questions alike.
"""

import re
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
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"  # Han
    "\U00020000-\U0003134f"  # rarer Han
    "]+"
)

Words = Callable[[str], list[str]]
"""A text's words in their order, folded to lower case and without marks on letters."""


def searchable(text: str) -> str:
    """What the keyword index gets of a text."""
    return text if text.isascii() else _UNSPACED.sub(_pairs, text)


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
