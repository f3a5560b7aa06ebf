"""Whether a text is the beginning of what was asked for, found without anything of ours: by Python's own reading of
regular expressions, and by partial JSON. What the compiler gets wrong, its judge must not.
"""

import functools
import re
from re import _constants as parts  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any, NamedTuple

import jsonschema_rs
from pydantic_core import from_json

# --- regular expressions ---------------------------------------------------------------------------------------------


class _Step(NamedTuple):
    """One character by a test; where it leads."""

    test: "re.Pattern[str]"
    to: int


class _Machine:
    """A nondeterministic machine of Python's parse of an expression: steps by character, and free ones."""

    def __init__(self, pattern: str) -> None:
        self.free: list[list[int]] = [[]]
        self.steps: list[list[_Step]] = [[]]
        self.end = self._row(parser.parse(pattern), 0)

    def _new(self) -> int:
        self.free.append([])
        self.steps.append([])
        return len(self.free) - 1

    def _row(self, nodes: Any, at: int) -> int:
        for kind, value in nodes:
            at = self._node(kind, value, at)
        return at

    def _node(self, kind: Any, value: Any, at: int) -> int:
        if kind is parts.AT:
            return at  # only at the ends, where it says nothing new
        if kind is parts.SUBPATTERN:
            return self._row(value[3], at)
        if kind is parts.BRANCH:
            end = self._new()
            for option in value[1]:
                self.free[self._row(option, at)].append(end)
            return end
        if kind in (parts.MAX_REPEAT, parts.MIN_REPEAT):
            return self._repeat(*value, at)
        end = self._new()
        self.steps[at].append(_Step(re.compile(_one(kind, value), re.DOTALL), end))
        return end

    def _repeat(self, least: int, most: Any, inner: Any, at: int) -> int:
        for _ in range(least):
            at = self._row(inner, at)
        if most is parts.MAXREPEAT:
            loop = self._new()
            self.free[at].append(loop)
            self.free[self._row(inner, loop)].append(loop)
            return loop
        end = self._new()
        for _ in range(most - least):
            self.free[at].append(end)
            at = self._row(inner, at)
        self.free[at].append(end)
        return end

    def reached(self, states: set[int]) -> set[int]:
        waiting = list(states)
        while waiting:
            for other in self.free[waiting.pop()]:
                if other not in states:
                    states.add(other)
                    waiting.append(other)
        return states


def _one(kind: Any, value: Any) -> str:
    """An expression for one character."""
    if kind is parts.LITERAL:
        return re.escape(chr(value))
    if kind is parts.NOT_LITERAL:
        return f"[^{re.escape(chr(value))}]"
    if kind is parts.ANY:
        return r"[^\n]"
    assert kind is parts.IN, kind
    return "[" + "".join(map(_member, value)) + "]"


_SHORT = {
    parts.CATEGORY_DIGIT: r"\d", parts.CATEGORY_NOT_DIGIT: r"\D", parts.CATEGORY_SPACE: r"\s",
    parts.CATEGORY_NOT_SPACE: r"\S", parts.CATEGORY_WORD: r"\w", parts.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip


def _member(member: tuple[Any, Any]) -> str:
    kind, value = member
    if kind is parts.NEGATE:
        return "^"
    if kind is parts.LITERAL:
        return re.escape(chr(value))
    if kind is parts.RANGE:
        return f"{re.escape(chr(value[0]))}-{re.escape(chr(value[1]))}"
    return _SHORT[value]


_machine = functools.lru_cache(maxsize=256)(_Machine)


def begins(pattern: str, text: str) -> bool:
    """Whether some text that matches a whole expression begins so."""
    machine = _machine(pattern)
    states = machine.reached({0})
    for character in text:
        states = machine.reached(
            {step.to for state in states for step in machine.steps[state] if step.test.fullmatch(character)}
        )
    return bool(states)


# --- JSON ------------------------------------------------------------------------------------------------------------

_LATER = frozenset(("required", "minItems", "minProperties"))
"""What more of a text may still bring about. Strings and numbers that may not be whole are left out."""


def begins_json(schema: Any, text: str) -> bool:
    """Whether a text begins as JSON does, and what it says of its value so far is by a schema."""
    if not text.strip():
        return True
    bare = re.sub(r"(?<![\"\\])(-?[0-9.eE+-]+|[a-z]+)$", "", text)  # what may not be whole yet
    try:
        from_json(text, allow_partial="trailing-strings")
    except ValueError as error:
        if not str(error).startswith("EOF"):
            return False
    try:
        value = from_json(bare, allow_partial=True)
    except ValueError:
        return True  # a scalar, not whole
    return jsonschema_rs.Draft202012Validator(_so_far(schema)).is_valid(value)


def _so_far(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_so_far(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {name: value for name, value in schema.items() if name not in _LATER or isinstance(value, dict)}
    for name in ("enum", "const"):
        if any(isinstance(value, (dict, list)) for value in _listed(kept.get(name))):
            del kept[name]
    if "oneOf" in kept:  # more than one may still come about
        kept["anyOf"] = kept.pop("oneOf")
    return {name: value if name in ("enum", "const") else _so_far(value) for name, value in kept.items()}


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
