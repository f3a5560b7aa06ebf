"""What an answer's text may be constrained by, as all parts of the program name it.

Source: contract sections 1.2.2 and 7.2. Every one tells by its `path` where it stands in the request, for errors.
"""

from typing import Final

import msgspec

ANY_OBJECT: Final = b'{"type":"object"}'
"""The schema of `response_format: {"type": "json_object"}`."""

INVALID_SCHEMA: Final = "invalid_json_schema"
"""The `code` of the 400 for a schema that is malformed, beyond the limits, or can't be held."""

MAX_SCHEMA_BYTES: Final = 64 * 1024
MAX_GRAMMAR_BYTES: Final = 16 * 1024
MAX_GRAMMAR_NESTING: Final = 200
MAX_PATTERN_BYTES: Final = 1024
MAX_CHOICES: Final = 1000


class JsonFormat(msgspec.Struct, frozen=True, kw_only=True, tag="json"):
    """The answer's text has to be JSON that is valid by `schema`, itself JSON text.

    `spacing`: a regular expression for what may stand between two of its tokens, "" for nothing; None: as we like it.
    `spacing_path` tells where that stands.
    """

    schema: bytes
    path: str
    spacing: str | None = None
    spacing_path: str = ""


class RegexFormat(msgspec.Struct, frozen=True, kw_only=True, tag="regex"):
    """The answer's whole text has to match a regular expression."""

    pattern: str
    path: str


class ChoiceFormat(msgspec.Struct, frozen=True, kw_only=True, tag="choice"):
    """The answer's text has to be one of a few."""

    options: tuple[str, ...]
    path: str


class GrammarFormat(msgspec.Struct, frozen=True, kw_only=True, tag="grammar"):
    """The answer's text has to be derived by a grammar: EBNF with a `root`, or Lark with a `start`."""

    grammar: str
    path: str


Constraint = JsonFormat | RegexFormat | ChoiceFormat | GrammarFormat
