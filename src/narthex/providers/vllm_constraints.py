"""Constrained output at vLLM: its older `guided_*` fields as today's `structured_outputs`. No I/O.

Source: contract section 7.2; vLLM dropped the older names, and ignores in silence what it doesn't know.

The limits for schemas are the contract's against hostile input: vLLM compiles them in the process that serves
everybody, and other servers may. The dialect has those for all else.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from narthex.core.capabilities import Limited, State, Verdict
from narthex.core.constrained import MAX_PATTERN_BYTES
from narthex.providers.openai_rows import Rules

_LONGEST = 64 * 1024
_DEEPEST = 32
_MOST_NODES = 2000
_TYPES = frozenset(("array", "boolean", "integer", "null", "number", "object", "string"))
_OLDER = ("guided_json", "guided_regex", "guided_choice", "guided_grammar", "guided_whitespace_pattern")


def check_schema(name: str, value: Any) -> None:
    """Refuse a schema, or its text, beyond the limits; it stands in the field `name`.

    Raises:
        Verdict: says what is wrong with it.
    """
    if (why := _fault(msgspec.json.decode(value) if isinstance(value, str) else value)) is not None:
        raise Verdict(name, f"Invalid '{name}': {why}")


def _fault(schema: Any) -> str | None:
    if len(msgspec.json.encode(schema)) > _LONGEST:
        return f"it is longer than {_LONGEST} bytes."
    for number, (node, depth) in enumerate(_nodes(schema)):
        if depth > _DEEPEST or number >= _MOST_NODES:
            return f"it is nested deeper than {_DEEPEST} or has more than {_MOST_NODES} nodes."
        if isinstance(node, dict) and (why := _fault_of_node(node)) is not None:
            return why
    return None


def _nodes(value: Any, depth: int = 1) -> Iterator[tuple[Any, int]]:
    """Every object and array within a value, those too deep not looked into."""
    if isinstance(value, dict | list):
        yield value, depth
        for each in value.values() if isinstance(value, dict) else value:
            yield from _nodes(each, depth + 1) if depth <= _DEEPEST else ()


def _fault_of_node(node: dict[str, Any]) -> str | None:
    kinds, pattern = node.get("type"), node.get("pattern")
    listed = [kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else []
    if any(kind not in _TYPES for kind in listed):
        return "it names a type that there is not."
    if isinstance(pattern, str) and len(pattern.encode(errors="replace")) > MAX_PATTERN_BYTES:
        return f"it has a pattern of more than {MAX_PATTERN_BYTES} bytes."
    return None


def _structured(value: Any) -> None:
    if "json" in value:
        check_schema("structured_outputs.json", value["json"])


CONSTRAINED: Rules = {
    **dict.fromkeys(_OLDER, State.EMULATED),
    "guided_json": Limited(
        state=State.EMULATED, limits="within limits", check=lambda value: check_schema("guided_json", value)
    ),
    "structured_outputs": Limited(limits="within limits", check=_structured),
    "guided_decoding_backend": State.NO_EFFECT,
}
"""The rows of these fields, on every surface."""


def structured(sent: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """The older fields of a request, by the names that they have in `structured_outputs`."""
    return {name.removeprefix("guided_"): sent[name] for name in _OLDER if name in sent}
