"""What Kokoro reads: phonemes by their numbers, with the marks that a text has between them. No I/O.

Source: the vocabulary in the model's config.json (version 1.0, Apache 2.0).
"""

import re
from collections.abc import Iterator

MOST = 510
"""Phonemes of one run."""

_LETTERS = {
    1: ";:,.!?", 9: "—…\"()“” \u0303ʣʥʦʨᵝꭧAI", 31: "O", 33: "Q", 35: "ST", 39: "W", 41: "Yᵊabcdef",
    50: "hijklmnopqrstuvwxyz\u0251ɐɒæ", 75: "βɔɕç", 80: "ɖðʤə", 85: "ɚɛɜ", 90: "ɟ", 92: "\u0261", 99: "ɥ", 101: "ɨɪʝ",
    110: "ɯɰŋɳɲɴø", 118: "ɸθœ", 123: "ɹ", 125: "ɾɻ", 128: "ʁɽʂʃʈʧ", 135: "ʊʋ", 138: "ʌɣɤ", 142: "χʎ", 147: "ʒʔ",
    156: "ˈˌː", 162: "ʰ", 164: "ʲ", 169: "↓", 171: "→↗↘", 177: "ᵻ",
}  # fmt: skip
"""Those whose numbers follow each other, by that of the first."""
VOCABULARY = {letter: first + at for first, letters in _LETTERS.items() for at, letter in enumerate(letters)}
_MARK = r"""[;:,.!?—…"()“”¡¿«»]"""
_MARKS = re.compile(rf"(?<!{_MARK})({_MARK}++)(?=\s|$)")  # not those within a number or a name; each row is read once
_LANGUAGE = re.compile(r"\([a-z]{2,3}(?:-[a-z]+)*\)")
"""What espeak-ng puts before a word that it takes for one of another language."""
_WORD = re.compile(r"\w")
_CUT = re.compile(r"[;:,.!?—…]\s*|\s+")


def clauses(text: str) -> Iterator[tuple[str, str]]:
    """The parts of a text with something to say, each with the marks after it."""
    parts = _MARKS.split(text)
    for said, marks in zip(parts[::2], [*parts[1::2], ""], strict=True):
        if said.strip():
            yield said, marks


def plain(told: str) -> str:
    """What espeak-ng tells of a clause, as far as the model knows it."""
    found = _LANGUAGE.sub("", " ".join(told.split()))
    return " ".join("".join(letter for letter in found if letter in VOCABULARY).split())


def runs(phonemes: str) -> Iterator[str]:
    """The same in pieces that the model takes at once, cut where it hurts least."""
    while len(phonemes) > MOST:
        cuts = [found.end() for found in _CUT.finditer(phonemes, 0, MOST)]
        at = cuts[-1] if cuts else MOST
        yield phonemes[:at]
        phonemes = phonemes[at:]
    if _WORD.search(phonemes):
        yield phonemes


def tokens(phonemes: str) -> list[int]:
    """Their numbers."""
    return [VOCABULARY[letter] for letter in phonemes if letter in VOCABULARY]
