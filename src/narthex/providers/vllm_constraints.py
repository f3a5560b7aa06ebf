"""Constrained output at vLLM: its older `guided_*` fields as today's `structured_outputs`. No I/O.

Source: contract section 7.2; vLLM dropped the older names, and ignores in silence what it doesn't know.

The limits for schemas and grammars are the contract's against hostile input: vLLM compiles them in the process that
serves everybody.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec

from narthex.core.capabilities import Limited, State, Verdict
from narthex.core.errors import InvalidRequest
from narthex.providers.openai_rows import Rules

_LONGEST = 64 * 1024
_LONGEST_GRAMMAR = 16 * 1024
_LONGEST_PATTERN = 1024
_DEEPEST = 32
_DEEPEST_GRAMMAR = 200
_MOST_NODES = 2000
_MOST_CHOICES = 1000
_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_BACKENDS = ("outlines", "lm-format-enforcer", "auto", "xgrammar", "guidance")


class _Fault(Exception):
    """What is wrong with a value."""


def _schema(value: Any) -> None:
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value)
        except (msgspec.DecodeError, RecursionError):
            raise _Fault("it is not JSON.") from None
    if not isinstance(value, dict):
        raise _Fault("it must be a JSON Schema: an object, or its text.")
    if len(msgspec.json.encode(value)) > _LONGEST:
        raise _Fault(f"it is longer than {_LONGEST} bytes.")
    for number, (node, depth) in enumerate(_nodes(value)):
        if depth > _DEEPEST or number >= _MOST_NODES:
            raise _Fault(f"it is nested deeper than {_DEEPEST} or has more than {_MOST_NODES} nodes.")
        _schema_node(node)


def _nodes(value: Any, depth: int = 1) -> Iterator[tuple[Any, int]]:
    """Every object and array within a value, those too deep not looked into."""
    if isinstance(value, dict | list):
        yield value, depth
        for each in value.values() if isinstance(value, dict) else value:
            yield from _nodes(each, depth + 1) if depth <= _DEEPEST else ()


def _schema_node(node: Any) -> None:
    if not isinstance(node, dict):
        return
    kinds, pattern = node.get("type"), node.get("pattern")
    if isinstance(kinds, str | list) and any(
        kind not in _TYPES for kind in ([kinds] if isinstance(kinds, str) else kinds)
    ):
        raise _Fault("it names a type that there is not.")
    if isinstance(pattern, str) and len(pattern) > _LONGEST_PATTERN:
        raise _Fault(f"it has a pattern of more than {_LONGEST_PATTERN} characters.")


def _text(longest: int) -> Callable[[Any], None]:
    def check(value: Any) -> None:
        if not isinstance(value, str) or not 0 < len(value) <= longest:
            raise _Fault(f"it must be a text of 1 to {longest} characters.")

    return check


def _grammar(value: Any) -> None:
    _text(_LONGEST_GRAMMAR)(value)
    depth = 0
    for character in value:
        depth += (character in "([{") - (character in ")]}")
        if depth > _DEEPEST_GRAMMAR:
            raise _Fault(f"it is nested deeper than {_DEEPEST_GRAMMAR}.")


def _choice(value: Any) -> None:
    if not isinstance(value, list) or not 0 < len(value) <= _MOST_CHOICES:
        raise _Fault(f"it must be an array of 1 to {_MOST_CHOICES} texts.")
    if not all(isinstance(each, str) and each for each in value):
        raise _Fault("every choice must be a text that is not empty.")


def _yes(value: Any) -> None:
    if value is not True:
        raise _Fault("it may only be true.")


def _boolean(value: Any) -> None:
    if not isinstance(value, bool):
        raise _Fault("it must be a boolean.")


_CONSTRAINTS: Mapping[str, Callable[[Any], None]] = {
    "json": _schema,
    "regex": _text(_LONGEST_PATTERN),
    "choice": _choice,
    "grammar": _grammar,
    "json_object": _yes,
}
_OPTIONS: Mapping[str, Callable[[Any], None]] = {
    "whitespace_pattern": _text(_LONGEST_PATTERN),
    "disable_any_whitespace": _boolean,
    "disable_additional_properties": _boolean,
}
_GUIDED = ("json", "regex", "choice", "grammar", "whitespace_pattern")


def _structured(value: Any) -> None:
    if not isinstance(value, dict):
        raise _Fault("it must be an object.")
    known = {**_CONSTRAINTS, **_OPTIONS}
    for name, each in value.items():
        if name not in known:
            raise _Fault(f"'{name[:100]}' is not supported in it.")
        known[name](each)
    _refuse_contradictions(value)


def _refuse_contradictions(constraint: Mapping[str, Any]) -> None:
    if len(constraint.keys() & _CONSTRAINTS.keys()) != 1:
        raise _Fault(f"exactly one of {', '.join(_CONSTRAINTS)} must be given.")
    if constraint.keys() & _OPTIONS.keys() and not constraint.keys() & {"json", "json_object"}:
        raise _Fault("white space and properties can only be constrained in JSON.")


def _backend(value: Any) -> None:
    if value not in _BACKENDS:
        raise _Fault(f"it may only be one of {', '.join(_BACKENDS)}.")


def _rule(name: str, check: Callable[[Any], None], *, state: State) -> Limited:
    def checked(value: Any) -> None:
        try:
            check(value)
        except _Fault as fault:
            raise Verdict(name, f"Invalid '{name}': {fault}") from None

    return Limited(state=state, limits="within limits", check=checked)


_CHECKS = {f"guided_{name}": check for name, check in {**_CONSTRAINTS, **_OPTIONS}.items() if name in _GUIDED}
CONSTRAINED: Rules = {
    **{name: _rule(name, check, state=State.EMULATED) for name, check in _CHECKS.items()},
    "structured_outputs": _rule("structured_outputs", _structured, state=State.NATIVE),
    "guided_decoding_backend": _rule("guided_decoding_backend", _backend, state=State.NO_EFFECT),
}
"""The rows of these fields, on every surface."""


def constraint(fields: Mapping[str, Any]) -> tuple[str, ...]:
    """Which `guided_*` fields a request has that constrain its answer, by the names of `structured_outputs`.

    Raises:
        InvalidRequest: they contradict each other, or what else the request constrains its answer by.
    """
    guided = {name: fields[f"guided_{name}"] for name in _GUIDED if f"guided_{name}" in fields}
    if not guided and "structured_outputs" not in fields:
        return ()
    first = f"guided_{next(iter(guided))}" if guided else "structured_outputs"
    if guided and "structured_outputs" in fields:
        raise _contradiction(first, "it can't be used with 'structured_outputs'.")
    if fields.get("response_format", {"type": "text"})["type"] != "text":
        raise _contradiction(first, "it can't be used with a 'response_format' other than text.")
    if isinstance(fields.get("tool_choice", fields.get("function_call")), dict):
        raise _contradiction(first, "it can't be used with a 'tool_choice' that names a tool.")
    if guided:
        try:
            _refuse_contradictions(guided)
        except _Fault as fault:
            raise _contradiction(first, str(fault)) from None
    return tuple(guided)


def _contradiction(name: str, why: str) -> InvalidRequest:
    return InvalidRequest(f"Invalid '{name}': {why}", param=name, code="invalid_value")
