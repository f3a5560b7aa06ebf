"""Composes the grammar of an answer, in the Lark dialect of llguidance.

Source: llguidance, docs/syntax.md. A lazy lexeme ends as soon as it is complete, and wins over a longer one: so text is
free until a trigger stands in it, and from there on it is a call. A control token has no text for the grammar: it is
named by its id, beside the same text spelled out, because which of the two a model has is not known here.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from narthex.engine.local.form.formats import CallFormat
from narthex.engine.local.form.thinking import Thinking
from narthex.wire.json import encode

MAX_CALLS = 16
_ANY = r"/(.|\n)*/"
_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$/])")


class Calls(msgspec.Struct, frozen=True, kw_only=True):
    """Calls that an answer may hold. `tools`: names, each with the right-hand side of its arguments' rule."""

    format: CallFormat
    tools: Sequence[tuple[str, str]]
    required: bool
    parallel: bool


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer may be. `text`: the right-hand side of the rule of its text, which further rules may follow; "":
    any text.

    `ids`: the ids of markers that are single tokens.
    """

    thinking: Thinking | None = None
    calls: Calls | None = None
    text: str = ""
    ids: Mapping[str, int] = {}


def compose(shape: Shape) -> str:
    """The whole grammar; "" where any text will do."""
    if shape.calls is None and not shape.text:
        return ""
    rules = _Rules(shape.ids)
    body = rules.body(shape)
    lines = [f"start: {rules.thoughts(shape.thinking)}{body}", *rules.lines]
    return "%llguidance {}\n" + "\n".join(lines) + "\n"


class _Rules:
    """The rules of one grammar besides its start."""

    def __init__(self, ids: Mapping[str, int]) -> None:
        self.lines: list[str] = []
        self._ids = ids
        self._arguments: dict[str, str] = {}

    def thoughts(self, thinking: Thinking | None) -> str:
        """What may come before the answer."""
        if thinking is None:
            return ""
        closed = self._until(thinking.marks.close, name="thoughts", before=_ANY)
        self.lines.append(r"gap: /[ \t\r\n]{1,8}/")
        if thinking.opened:
            return f"{closed} gap? "
        opened = self._until(thinking.marks.open, name="think", before=r"/[ \t\r\n]{0,4}/")
        return f"({opened} {closed} gap?)? "

    def body(self, shape: Shape) -> str:
        """The answer itself."""
        calls = shape.calls
        if calls is None:
            return self._rule("text", shape.text)
        if calls.required:
            return self._calls(calls, after="")
        if shape.text:
            self._rule("text", shape.text)
            return f"(text | {self._calls(calls, after='')})"
        free = self._rule("rest", _ANY)
        if not calls.format.trigger:
            return f"({free} | {self._whole_answer(calls)})"
        triggered = self._until(calls.format.trigger, name="trigger", before=_ANY)
        return f"({free} | {triggered} {self._calls(calls, after=calls.format.trigger)})"

    def _calls(self, calls: Calls, *, after: str) -> str:
        """All calls of an answer, without what stands there already."""
        row = calls.format
        first = [
            f"{self._literal((row.begin + row.head_of(name)).removeprefix(after))} {self._rest_of(row, rule)}"
            for name, rule in calls.tools
        ]
        found = self._rule("first", "\n     | ".join(first))
        if calls.parallel:
            each = [f"{self._literal(row.head_of(name))} {self._rest_of(row, rule)}" for name, rule in calls.tools]
            self._rule("further", "\n     | ".join(each))
            found += f" ({self._literal(row.separator or '')} further){{0,{MAX_CALLS - 1}}}"
        return f"{found} {self._literal(row.end)}".rstrip()

    def _whole_answer(self, calls: Calls) -> str:
        """One call that begins like other text: what comes before its arguments has to be told as a whole."""
        row, each = calls.format, []
        for number, (name, rule) in enumerate(calls.tools):
            opening = rf"/[ \t\r\n]{{0,4}}{_regex(row.begin + row.head_of(name))}/"
            each.append(f"{self._lazy(f'opening_{number}', opening)} {self._rest_of(row, rule)}")
        return self._rule("first", "\n     | ".join(each))

    def _rest_of(self, row: CallFormat, rule: str) -> str:
        if rule not in self._arguments:
            self._arguments[rule] = self._rule(f"arguments_{len(self._arguments)}", rule)
        return f"{self._arguments[rule]} {self._literal(row.tail)}".rstrip()

    def _until(self, marker: str, *, name: str, before: str) -> str:
        """Text that ends with the marker, and holds none."""
        spelled = self._lazy(f"{name}_text", f"{before[:-1]}{_regex(marker)}/")
        if marker not in self._ids:
            return spelled
        before_it = self._rule(f"{name}_before", before)
        return f"({spelled} | {before_it} <[{self._ids[marker]}]>)"

    def _literal(self, text: str) -> str:
        """A fixed text, its control tokens by id."""
        if not text:
            return ""
        if not self._ids:
            return _quoted(text)
        pieces = re.split("(" + "|".join(map(re.escape, sorted(self._ids, key=len, reverse=True))) + ")", text)
        terms = [
            f"({_quoted(piece)} | <[{self._ids[piece]}]>)" if piece in self._ids else _quoted(piece)
            for piece in pieces
            if piece
        ]
        return " ".join(terms)

    def _rule(self, name: str, right: str) -> str:
        self.lines.append(f"{name}: {right}")
        return name

    def _lazy(self, name: str, regex: str) -> str:
        self.lines.append(f"{name}[lazy]: {regex}")
        return name


def _quoted(text: str) -> str:
    return encode(text).decode()


def _regex(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text).replace("\n", "\\n")
