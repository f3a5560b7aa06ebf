"""A text that grows, cut where a speaker would breathe. No I/O."""

import re

_END = re.compile("[.!?\u2026]+[\"'\u201d\u2019)\\]]*\\s|[\u3002\uff01\uff1f]|\n")  # also as Chinese and Japanese write
_PAUSE = re.compile(r"[,;:]?\s")
LONGEST = 300
"""What has no end by then is cut at a pause, or just so."""


class Sentences:
    """Takes a text piece by piece."""

    def __init__(self) -> None:
        self._held = ""

    def feed(self, text: str) -> list[str]:
        """What is complete now, to be spoken at once: blanks alone are not."""
        self._held += text
        found = []
        while (at := self._cut()) > 0:
            found.append(self._held[:at])
            self._held = self._held[at:]
        return [each for each in found if each.strip()]

    def end(self) -> list[str]:
        """What is left."""
        left, self._held = self._held, ""
        return [left] if left.strip() else []

    def _cut(self) -> int:
        """Where the first sentence ends; 0: not yet."""
        if (found := _END.search(self._held, 0, LONGEST)) is not None:
            return found.end()
        if len(self._held) < LONGEST:
            return 0
        pauses = [found.end() for found in _PAUSE.finditer(self._held, 0, LONGEST)]
        return pauses[-1] if pauses else LONGEST
