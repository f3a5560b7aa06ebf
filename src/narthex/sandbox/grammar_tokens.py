r"""The tokens of a grammar as callers write it: EBNF with `name ::= …`, or Lark with `name: …`.

Source: llama.cpp, grammars/README.md; Lark, docs/grammar.md. Either notation is told by whether `::=` stands in it.
"""

import re
from collections.abc import Iterator
from typing import Final, Literal, NamedTuple, cast

from narthex.sandbox.schema_text import SchemaRefused

Kind = Literal[
    "name", "define", "text", "set", "pattern", "any", "open", "close", "optional", "optional_end", "or", "repeat",
    "range", "alias",
]  # fmt: skip


class Token(NamedTuple):
    """A token, and the line on which it stands, from 1."""

    kind: Kind
    text: str
    line: int


_TEXT: Final = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])*\''
_EBNF: Final = re.compile(
    r"(?P<blank>[ \t\r\n]+|#[^\n]*|//[^\n]*)"
    r"|(?P<define>::=)"
    rf"|(?P<text>{_TEXT})"
    r"|(?P<set>\[\^?(?:\\.|[^\]\\\n])*\])"
    r"|(?P<repeat>[*+?]|\{[ ]*[0-9]*[ ]*(?:,[ ]*[0-9]*[ ]*)?\})"
    r"|(?P<name>[A-Za-z_][A-Za-z0-9_-]*)"
    r"|(?P<any>\.)|(?P<open>\()|(?P<close>\))|(?P<or>\|)"
)
_LARK: Final = re.compile(
    r"(?P<blank>[ \t\r\n]+|//[^\n]*|#[^\n]*)"
    r"|(?P<range>\"(?:\\.|[^\"\\\n])+\"[ ]*\.\.[ ]*\"(?:\\.|[^\"\\\n])+\")"
    r'|(?P<text>"(?:\\.|[^"\\\n])*"i?)'
    r"|(?P<pattern>/(?!/)(?:\\.|\[(?:\\.|[^\]\\\n])*\]|[^/\\\n\[])+/[a-z]*)"
    r"|(?P<repeat>[*+?](?![a-z_]+[ ]*:)|~[ ]*[0-9]+(?:[ ]*\.\.[ ]*[0-9]+)?|\{[0-9]*(?:,[0-9]*)?\})"
    r"|(?P<define>:)"
    r"|(?P<alias>->[ ]*[a-z_]+)"
    r"|(?P<name>[?!]*_*[A-Za-z][A-Za-z0-9_]*(?:\.-?[0-9]+(?=[ ]*:))?)"
    r"|(?P<open>\()|(?P<close>\))|(?P<optional>\[)|(?P<optional_end>\])|(?P<or>\|)"
)
_NOT_HELD: Final = {"%": "statements with '%'", "<": "tokens by their names", "@": "references to other grammars"}


def is_ebnf(grammar: str) -> bool:
    """Whether it is EBNF, and not Lark."""
    # A text that nothing ends goes on to its line's end: its quotes are not tried anew, each to the end again.
    bare = re.sub(rf"(?:{_TEXT})|[\"'][^\n]*", "", re.sub(r"(?m)(?:^|(?<=\s))(?:#|//)[^\n]*", "", grammar))
    return "::=" in bare


def tokens(grammar: str, *, ebnf: bool) -> Iterator[Token]:
    """All tokens, without white space and comments.

    Raises:
        SchemaRefused: at the first that is none.
    """
    at, line, notation = 0, 1, _EBNF if ebnf else _LARK
    while at < len(grammar):
        found = notation.match(grammar, at)
        if found is None:
            raise fault(line, _reason(grammar[at : at + 20]))
        if found.lastgroup != "blank":
            yield Token(cast("Kind", found.lastgroup), found[0], line)
        line += found[0].count("\n")
        at = found.end()


def _reason(rest: str) -> str:
    if (what := _NOT_HELD.get(rest[0])) is not None:
        return f"{what} can't be held"
    return f"it can't be read from {rest.splitlines()[0]!r} on"


def fault(line: int, reason: str) -> SchemaRefused:
    """The refusal of a grammar, with the line."""
    return SchemaRefused(f"This grammar can't be held: line {line}: {reason}.", "")
