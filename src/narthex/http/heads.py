"""Heads of requests that come again on their connection, the same but for the length of the body: read once.

Rule: only what was read before, whole and as the only thing in what came, is recognised, and only where a request may
begin. Whatever differs in a single byte, the digits of the length apart, is left to the parser.
"""

import re
from collections.abc import Mapping
from typing import Any

_LENGTH = b"content-length"
_LENGTHS = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)(?=\r\n)", re.IGNORECASE).finditer
_MOST_DIGITS = 9
_LONGEST_BYTES = 4096
_NEVER = frozenset((b"transfer-encoding", b"expect", b"upgrade", b"trailer"))
"""Headers of requests that are not read in one go."""


class Head:
    """One head. `known`: what the application found out about it."""

    __slots__ = ("_after", "_at", "_before", "_scope", "known", "named")

    known: Any

    def __init__(self, before: bytes, after: bytes, scope: Mapping[str, Any], named: dict[bytes, bytes]) -> None:
        """`before`, `after`: all of it but the digits of the length. `scope`: of its request, as ASGI has it."""
        self._before, self._after = before, after
        self._scope = {name: value for name, value in scope.items() if name != "extensions"}
        self._at = [name for name, _ in scope["headers"]].index(_LENGTH)
        self.named = named
        self.known = None

    def body(self, data: bytes) -> bytes | None:
        """The body, if this is such a request and nothing else; None: it is to be parsed."""
        if not data.startswith(self._before):
            return None
        start = len(self._before)
        end = data.find(b"\r", start, start + _MOST_DIGITS + 1)
        digits = data[start:end]
        if end < 0 or not digits.isdigit() or not data.startswith(self._after, end):
            return None
        body = data[end + len(self._after) :]
        if len(body) != int(digits):
            return None
        if digits != self.named[_LENGTH]:
            self._lengthen(digits)
        return body

    def _lengthen(self, digits: bytes) -> None:
        """From now on: what was made of the one before may still be in use."""
        headers = self._scope["headers"].copy()
        headers[self._at] = (_LENGTH, digits)
        self._scope["headers"] = headers
        self.named = self.named | {_LENGTH: digits}

    def scope(self) -> dict[str, Any]:
        """Of the request whose body was found last."""
        return self._scope.copy()


def head_of(data: bytes, scope: Mapping[str, Any], named: dict[bytes, bytes]) -> Head | None:
    """The head of a request that was read from all of `data`; None: it is none to be recognised.

    `scope`, `named`: of that request; its headers, and the first of each name.
    """
    end = data.find(b"\r\n\r\n", 0, _LONGEST_BYTES)
    if end < 0 or not _NEVER.isdisjoint(named) or named.get(_LENGTH) != b"%d" % (len(data) - end - 4):
        return None
    found = list(_LENGTHS(data, 0, end + 2))
    if len(found) != 1 or len(found[0][1]) > _MOST_DIGITS:
        return None
    return Head(data[: found[0].start(1)], data[found[0].end(1) : end + 4], scope, named)
