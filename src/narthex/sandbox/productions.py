"""Reads a grammar into its rules, whatever its notation.

Rule: the smallest part is one character, never a text or a pattern. A lexer that looks for longer ones can miss a text
that the grammar has, because it takes the longest it finds and does not turn back.
"""

import re
from collections.abc import Sequence
from typing import Final, NamedTuple, Union

from narthex.core.constrained import MAX_GRAMMAR_BYTES, MAX_GRAMMAR_NESTING
from narthex.sandbox.grammar_tokens import Kind, Token, fault, is_ebnf, tokens
from narthex.sandbox.patterns import MAX_REPEAT, PatternRefused, Term, literal, set_of, terms_of
from narthex.sandbox.schema_text import SchemaRefused

ANY_CHARACTER: Final = r"[\u0000-\U0010ffff]"
_ENDS: Final[frozenset[Kind]] = frozenset(("close", "optional_end", "or"))
_ESCAPE: Final = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.DOTALL)
_ESCAPED: Final = {"n": "\n", "r": "\r", "t": "\t", "f": "\f", "v": "\v", "0": "\0"}


class Character(NamedTuple):
    """One character of a set, in plain syntax."""

    written: str


class Reference(NamedTuple):
    """What another rule derives."""

    name: str
    line: int


class Several(NamedTuple):
    """The same again and again; `most` None: without an end."""

    node: "Node"
    least: int
    most: int | None


class Row(NamedTuple):
    """One after the other; nothing at all where there are none."""

    nodes: tuple["Node", ...]


class Either(NamedTuple):
    """Any of them."""

    nodes: tuple["Node", ...]


Node = Union[Character, Reference, Several, Row, Either]  # noqa: UP007 - they name each other


class Grammar(NamedTuple):
    """Rules by name, the first of all by `start`. `ebnf`: in which notation it came."""

    rules: dict[str, Node]
    start: str
    ebnf: bool


def read(grammar: str) -> Grammar:
    """The rules of a grammar.

    Raises:
        SchemaRefused: it can't be read, or refers to what is not there; with the line.
    """
    if len(grammar.encode(errors="surrogatepass")) > MAX_GRAMMAR_BYTES:
        raise SchemaRefused(f"The grammar is larger than {MAX_GRAMMAR_BYTES // 1024} KiB.", "")
    ebnf = is_ebnf(grammar)
    reader = _Reader(list(tokens(grammar, ebnf=ebnf)), ebnf=ebnf)
    rules = reader.rules()
    start = next((name for name in ("root", "start") if name in rules), None)
    if start is None or (ebnf and start != "root"):
        raise SchemaRefused(f"This grammar can't be held: it has no rule '{'root' if ebnf else 'start'}'.", "")
    return Grammar(rules, start, ebnf)


class _Reader:
    """Reads the tokens from left to right."""

    def __init__(self, found: Sequence[Token], *, ebnf: bool) -> None:
        self._tokens = found
        self._ebnf = ebnf
        self._at = 0
        self._references: list[Reference] = []

    def rules(self) -> dict[str, Node]:
        """All of them."""
        rules: dict[str, Node] = {}
        while self._at < len(self._tokens):
            token = self._next()
            if token.kind != "name" or not self._is("define"):
                raise fault(token.line, f"a rule should begin at '{token.text[:40]}'")
            self._next()
            name = _name(token.text)
            if name in rules:
                raise fault(token.line, f"there are two rules '{name[:40]}'")
            rules[name] = self._either(0)
            if self._at < len(self._tokens) and not self._rule_begins():
                raise fault(self._tokens[self._at].line, f"unmatched '{self._tokens[self._at].text[:40]}'")
        for reference in self._references:
            if reference.name not in rules:
                raise fault(reference.line, f"there is no rule '{reference.name[:40]}'")
        return rules

    # --- tokens

    def _is(self, kind: Kind, ahead: int = 0) -> bool:
        at = self._at + ahead
        return at < len(self._tokens) and self._tokens[at].kind == kind

    def _next(self) -> Token:
        if self._at >= len(self._tokens):
            raise fault(self._tokens[-1].line, "it ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _rule_begins(self) -> bool:
        return self._is("name") and self._is("define", 1)

    # --- what rules are made of

    def _either(self, depth: int) -> Node:
        """Alternatives, up to what ends them."""
        options = [self._row(depth)]
        while self._is("or"):
            self._next()
            options.append(self._row(depth))
        return options[0] if len(options) == 1 else Either(tuple(options))

    def _row(self, depth: int) -> Node:
        nodes: list[Node] = []
        while self._at < len(self._tokens) and not self._rule_begins() and self._tokens[self._at].kind not in _ENDS:
            token = self._next()
            if token.kind == "repeat":
                if not nodes:
                    raise fault(token.line, "nothing to repeat")
                nodes[-1] = _repeated(nodes[-1], token)
            elif token.kind != "alias":
                nodes.append(self._part(token, depth))
        return nodes[0] if len(nodes) == 1 else Row(tuple(nodes))

    def _part(self, token: Token, depth: int) -> Node:
        if token.kind in {"open", "optional"}:
            if depth >= MAX_GRAMMAR_NESTING:
                raise fault(token.line, f"it is nested more than {MAX_GRAMMAR_NESTING} levels deep")
            inner = self._either(depth + 1)
            end: Kind = "close" if token.kind == "open" else "optional_end"
            if not self._is(end):
                raise fault(token.line, f"unmatched '{token.text}'")
            self._next()
            return inner if token.kind == "open" else Several(inner, 0, 1)
        if token.kind == "name":
            reference = Reference(_name(token.text), token.line)
            self._references.append(reference)
            return reference
        try:
            return _terminal(token)
        except PatternRefused as error:
            raise fault(token.line, str(error)) from None


def _name(text: str) -> str:
    """A rule's name without what Lark writes around it."""
    return text.lstrip("?!").partition(".")[0]


def _repeated(node: Node, token: Token) -> Several:
    bounds = {"*": (0, None), "+": (1, None), "?": (0, 1)}.get(token.text)
    if bounds is None:
        least, separator, most = token.text.strip("{}~ ").replace("..", ",").partition(",")
        first = int(least) if least.strip() else 0
        bounds = (first, (int(most) if most.strip() else None) if separator else first)
    if max(bounds[0], bounds[1] or 0) > MAX_REPEAT:
        raise fault(token.line, f"a repeat of more than {MAX_REPEAT}")
    if bounds[1] is not None and bounds[1] < bounds[0]:
        raise fault(token.line, "a repeat whose bounds are out of order")
    return Several(node, *bounds)


def _terminal(token: Token) -> Node:
    match token.kind:
        case "any":
            return Character(ANY_CHARACTER)
        case "set":
            return Character(set_of(token.text))
        case "pattern":
            return _pattern(token.text)
        case "range":
            first, last = (_characters(part.strip()) for part in re.split(r"(?<=\")[ ]*\.\.[ ]*(?=\")", token.text))
            if len(first) != 1 or len(last) != 1 or last < first:
                raise PatternRefused(f"{token.text} is no range of characters")
            return Character(f"[{literal(first)}-{literal(last)}]")
        case "text":
            folds = token.text.endswith("i")
            return _row_of([_folded(each) if folds else literal(each) for each in _characters(token.text.rstrip("i"))])
        case _:
            raise PatternRefused(f"'{token.text[:40]}' is not expected here")


def _row_of(written: Sequence[str]) -> Node:
    return Character(written[0]) if len(written) == 1 else Row(tuple(map(Character, written)))


def _folded(character: str) -> str:
    """A character in either case."""
    both = sorted({case for case in (character.lower(), character.upper()) if len(case) == 1})
    return f"[{''.join(map(literal, both))}]" if len(both) > 1 else literal(character)


def _characters(quoted: str) -> str:
    """What a quoted text stands for."""

    def meant(escape: re.Match[str]) -> str:
        text = escape[1]
        return chr(_code(text[1:])) if len(text) > 1 else _ESCAPED.get(text, text)

    return _ESCAPE.sub(meant, quoted[1:-1])


def _code(digits: str) -> int:
    code = int(digits, 16)
    if code > 0x10FFFF:
        raise PatternRefused("an escape that is no character")
    return code


def _pattern(text: str) -> Node:
    """A regular expression of Lark's, as nodes."""
    body, _, flags = text[1:].rpartition("/")
    if flags:
        raise PatternRefused("flags can't be held")
    return _of_terms(terms_of(body.replace("\\/", "/")))


def _of_terms(alternatives: Sequence[Sequence[Term]]) -> Node:
    options = [Row(tuple(map(_of_term, terms))) for terms in alternatives]
    return options[0] if len(options) == 1 else Either(tuple(options))


def _of_term(term: Term) -> Node:
    if term.anchor:
        raise PatternRefused(f"'{term.anchor}' can't be held within a grammar")
    node: Node = Character(term.text) if term.group is None else _of_terms(term.group)
    if not term.repeat:
        return node
    return Several(node, *term.bounds)
