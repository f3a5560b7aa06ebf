"""Finds where a JSON value ends while it comes in pieces. What may stand in strings is of no account."""

_OPENING, _CLOSING = "{[", "}]"
_AFTER_SCALAR = ",}] \t\r\n"


class ValueEnd:
    """Follows one value."""

    def __init__(self) -> None:
        self.done = False
        self._depth = 0
        self._in_string = False
        self._escaped = False
        self._scalar = False

    def feed(self, text: str) -> int:
        """How many of these characters are still of the value; `done` tells whether it ended there."""
        for at, char in enumerate(text):
            if self._in_string:
                self._string(char)
            elif self._scalar and char in _AFTER_SCALAR:
                self.done = True
                return at
            else:
                self._outside(char)
            if self.done:
                return at + 1
        return len(text)

    def _string(self, char: str) -> None:
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped = True
        elif char == '"':
            self._in_string = False
            self.done = self._depth == 0

    def _outside(self, char: str) -> None:
        if char == '"':
            self._in_string = True
        elif char in _OPENING:
            self._depth += 1
        elif char in _CLOSING:
            self._depth -= 1
            self.done = self._depth == 0
        elif self._depth == 0 and not char.isspace():
            self._scalar = True
