"""Rows of the table of valid and invalid requests, and the words that it is written in.

A row is one body and what it has to get. The tables stand in `validation_rows_*`, each after a part of the contract.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL

ABSENT: Any = object()
"""A change that takes the field out of the body."""
ANY = "any"
"""Where the contract leaves it open which code (or path) a refusal has."""
WITHIN = "…"
"""Ends a path where the contract leaves it open how much further it goes."""

MISSING, TYPE, VALUE = "missing_required_parameter", "invalid_type", "invalid_value"
UNKNOWN, UNSUPPORTED, UNSUPPORTED_VALUE = "unknown_parameter", "unsupported_parameter", "unsupported_value"
EMPTY, LONG_ARRAY, LONG_TEXT = "empty_array", "array_above_max_length", "string_above_max_length"
LOW_INT, HIGH_INT = "integer_below_min_value", "integer_above_max_value"
LOW, HIGH = "decimal_below_min_value", "decimal_above_max_value"
WINDOW = "context_length_exceeded"

KINDS: dict[str, Any] = {
    "text": "1",
    "integer": 1,
    "decimal": 1.5,
    "boolean": True,
    "array": [1],
    "object": {"a": 1},
}
"""One value of each JSON type but null."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """`code` and `param` are those of the error; `key` names the caller: a profile, or `lenient`."""

    path: str
    field: str
    case: str
    body: bytes
    status: int = 200
    code: str | None = None
    param: str | None = None
    key: str = "openai"
    content_type: str = "application/json"

    def __str__(self) -> str:
        return f"{self.path.removeprefix('/v1/')} {self.key} {self.field}: {self.case}"


class Surface:
    """Makes the rows of one endpoint for one caller; every body is `base` but for the row's own changes."""

    def __init__(self, path: str, base: dict[str, Any], *, key: str = "openai") -> None:
        self.path = path
        self.base = base
        self._key = key

    def of(self, key: str) -> "Surface":
        """The same endpoint for another caller."""
        return Surface(self.path, self.base, key=key)

    def ok(self, field: str, *values: Any, **also: Any) -> Iterator[Row]:
        """These values of a field are taken."""
        for value in values:
            yield self._row(field, {field: value} | also)

    def bad(
        self, field: str, code: str | None, *values: Any, param: str | None = "", status: int = 400, **also: Any
    ) -> Iterator[Row]:
        """These values are refused; `param` is the field itself unless said otherwise."""
        for value in values:
            row = self._row(field, {field: value} | also)
            yield msgspec.structs.replace(row, status=status, code=code, param=field if param == "" else param)

    def types(self, field: str, *taken: str, **also: Any) -> Iterator[Row]:
        """Every JSON type but those `taken` is refused."""
        for kind, value in KINDS.items():
            if kind not in taken:
                yield from self.bad(field, TYPE, value, **also)

    def optional(self, field: str, **also: Any) -> Iterator[Row]:
        """It may be null, and it may be absent."""
        yield from self.ok(field, None, ABSENT, **also)

    def required(self, field: str) -> Iterator[Row]:
        """It may be neither."""
        yield from self.bad(field, MISSING, ABSENT)
        yield from self.bad(field, TYPE, None)

    def each(self, field: str, cases: Iterable[tuple[Any, str, str]]) -> Iterator[Row]:
        """Triples of value, code and what follows the field's name in `param`."""
        for value, code, place in cases:
            yield from self.bad(field, code, value, param=ANY if place == ANY else f"{field}{place}")

    def raw(
        self,
        case: str,
        body: bytes,
        *,
        status: int = 400,
        code: str | None = None,
        param: str | None = None,
        content_type: str = "application/json",
    ) -> Row:
        """A body as it is."""
        return Row(
            path=self.path, field="body", case=case, body=body, status=status, code=code, param=param, key=self._key,
            content_type=content_type,
        )  # fmt: skip

    def body(self, **changes: Any) -> bytes:
        """The body with some fields changed; NaN and infinities are written as Python would."""
        return json.dumps({n: v for n, v in (self.base | changes).items() if v is not ABSENT}).encode()

    def _row(self, field: str, changes: dict[str, Any]) -> Row:
        case = ", ".join(f"{name} {_shown(value)}" for name, value in changes.items())
        return Row(path=self.path, field=field, case=case, body=self.body(**changes), key=self._key)


def _shown(value: Any) -> str:
    if value is ABSENT:
        return "absent"
    text = json.dumps(value)
    return text if len(text) <= 300 else f"{text[:60]} … {text[-60:]} ({len(text)} characters)"


HELLO = [{"role": "user", "content": "Hello!"}]
CHAT = Surface("/v1/chat/completions", {"model": CHAT_MODEL, "messages": HELLO, "max_tokens": 1})
TEXT = Surface("/v1/completions", {"model": CHAT_MODEL, "prompt": "Hello", "max_tokens": 1})
EMBED = Surface("/v1/embeddings", {"model": EMBEDDING_MODEL, "input": "Hello"})
