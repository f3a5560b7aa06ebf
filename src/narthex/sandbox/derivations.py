"""Writes the rules of a grammar anew, in the part of llguidance's Lark that every version holds alike.

A grammar without recursion becomes one regular expression, which costs a model's step next to nothing. Others are
written rule by rule, with single characters as their only terminals.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from narthex.sandbox.grammar_tokens import fault
from narthex.sandbox.patterns import MAX_STATES
from narthex.sandbox.productions import Character, Either, Grammar, Node, Reference, Row, Several, read
from narthex.sandbox.schema_text import SchemaRefused

RULE: Final = "form_"
"""What the names of the written rules begin with."""

_LONGEST: Final = 64 * 1024
"""Characters of a written regular expression."""


class _TooLarge(Exception):
    """As one regular expression."""


def derived(grammar: str) -> str:
    """The right-hand side of a rule for exactly the texts of a grammar; further rules follow on lines of their own.

    Raises:
        SchemaRefused: it can't be held, with the line.
    """
    found = read(grammar)
    rules = _reached(found)
    _refuse_endless(rules)
    if found.ebnf:
        _refuse_left_recursion(rules)
    order = _inner_first(rules, found.start)
    if order is not None:
        try:
            return f"/{_expression(found.start, rules, order) or '(?:)'}/"
        except _TooLarge:
            pass
    numbers = {name: f"{RULE}{number}" for number, name in enumerate(rules)}
    lines = [numbers[found.start], *(f"{numbers[name]}: {_written(node, numbers)}" for name, node in rules.items())]
    return "\n".join(lines)


# --- what rules say of each other ------------------------------------------------------------------------------------


def _inner(node: Node) -> tuple[Node, ...]:
    if isinstance(node, Several):
        return (node.node,)
    return node.nodes if isinstance(node, Row | Either) else ()


def _references(node: Node) -> Iterable[Reference]:
    waiting = [node]
    while waiting:
        each = waiting.pop()
        if isinstance(each, Reference):
            yield each
        waiting += _inner(each)


def _reached(grammar: Grammar) -> dict[str, Node]:
    """The rules that the first one refers to, itself first."""
    found, waiting = {grammar.start: grammar.rules[grammar.start]}, [grammar.start]
    while waiting:
        for reference in _references(found[waiting.pop()]):
            if reference.name not in found:
                found[reference.name] = grammar.rules[reference.name]
                waiting.append(reference.name)
    return found


def _holds(node: Node, known: Mapping[str, bool], *, character: bool) -> bool:
    """Whether a node derives something: by rules of which that is `known`, and by single characters if so."""
    match node:
        case Character():
            return character
        case Reference(name):
            return known.get(name, False)
        case Several(inner, least):
            return not least or _holds(inner, known, character=character)
        case Row(nodes):
            return all(_holds(each, known, character=character) for each in nodes)
        case Either(nodes):
            return any(_holds(each, known, character=character) for each in nodes)


def _rules_that_hold(rules: Mapping[str, Node], *, character: bool) -> dict[str, bool]:
    """The rules that derive a text at all or, without single characters, nothing."""
    known: dict[str, bool] = {}
    while True:
        more = {
            name: True for name, node in rules.items() if name not in known and _holds(node, known, character=character)
        }
        if not more:
            return known
        known |= more


def _refuse_endless(rules: Mapping[str, Node]) -> None:
    known = _rules_that_hold(rules, character=True)
    endless = next((name for name in rules if name not in known), None)
    if endless is not None:
        raise SchemaRefused(f"This grammar can't be held: every text by '{endless[:40]}' would be endless.", "")


def _refuse_left_recursion(rules: Mapping[str, Node]) -> None:
    """EBNF is read as llama.cpp reads it, which has no end where a rule begins with itself."""
    empty = _rules_that_hold(rules, character=False)
    first = {name: {each.name: each for each in _first(node, empty)} for name, node in rules.items()}
    for name in rules:
        seen, waiting = set[str](), [name]
        while waiting:
            for other, reference in first[waiting.pop()].items():
                if other == name:
                    raise fault(reference.line, f"the rule '{name[:40]}' begins with itself (left recursion)")
                if other not in seen:
                    seen.add(other)
                    waiting.append(other)


def _first(node: Node, empty: Mapping[str, bool]) -> Iterable[Reference]:
    """The references that a text of the node may begin with."""
    if isinstance(node, Reference):
        yield node
        return
    for each in _inner(node):
        yield from _first(each, empty)
        if isinstance(node, Row) and not _holds(each, empty, character=False):
            return


def _inner_first(rules: Mapping[str, Node], start: str) -> list[str] | None:
    """The rules, those that others refer to before these; None where they refer to themselves."""
    done: list[str] = []
    path: list[tuple[str, list[str]]] = [(start, [each.name for each in _references(rules[start])])]
    open_ = {start}
    while path:
        name, waiting = path[-1]
        if not waiting:
            path.pop()
            open_.discard(name)
            done.append(name)
            continue
        other = waiting.pop()
        if other in open_:
            return None
        if other not in done:
            open_.add(other)
            path.append((other, [each.name for each in _references(rules[other])]))
    return done


# --- writing ---------------------------------------------------------------------------------------------------------


def _expression(start: str, rules: Mapping[str, Node], order: Iterable[str]) -> str:
    """All of it as one regular expression. Raises `_TooLarge`."""
    known: dict[str, tuple[str, int]] = {}
    for name in order:
        known[name] = _regular(rules[name], known)
    return known[start][0]


def _regular(node: Node, known: Mapping[str, tuple[str, int]]) -> tuple[str, int]:
    """A node as a regular expression, and about how many states it has."""
    text, states = _parts(node, known)
    if states > MAX_STATES or len(text) > _LONGEST:
        raise _TooLarge
    return text, states


def _parts(node: Node, known: Mapping[str, tuple[str, int]]) -> tuple[str, int]:
    match node:
        case Character(written):
            return written, 1
        case Reference(name):
            return known[name]
        case Several(inner, least, most):
            text, states = _regular(inner, known)
            return f"(?:{text}){{{least},{'' if most is None else most}}}", states * max(least, most or 1, 1)
        case Row(nodes):
            parts = [_regular(each, known) for each in nodes]
            return "".join(text for text, _ in parts), sum(states for _, states in parts)
        case Either(nodes):
            parts = [_regular(each, known) for each in nodes]
            return f"(?:{'|'.join(text for text, _ in parts)})", sum(states for _, states in parts)


def _written(node: Node, numbers: Mapping[str, str]) -> str:
    match node:
        case Character(written):
            return f"/{written}/"
        case Reference(name):
            return numbers[name]
        case Several(inner, least, most):
            return f"({_written(inner, numbers)}){{{least},{'' if most is None else most}}}"
        case Row(nodes):
            return " ".join(_written(each, numbers) for each in nodes) or '""'
        case Either(nodes):
            return f"({' | '.join(_written(each, numbers) for each in nodes)})"
