"""What callers constrain the text of an answer by: vLLM's `guided_*` fields, and its newer `structured_outputs`.

Source: contract section 7.2. Only shape and size are checked here; whether it can be held, by whoever compiles it.
"""

from collections.abc import Mapping
from typing import Any

import msgspec

from narthex.core.constrained import (
    ANY_OBJECT,
    MAX_CHOICES,
    MAX_GRAMMAR_BYTES,
    MAX_GRAMMAR_NESTING,
    MAX_PATTERN_BYTES,
    ChoiceFormat,
    Constraint,
    GrammarFormat,
    JsonFormat,
    RegexFormat,
)
from narthex.dialects.fields import BOOLEAN, STRING, Field, array, choice, either, invalid, record, string
from narthex.wire.json import UNREADABLE, encode

BACKENDS = ("auto", "guidance", "lm-format-enforcer", "outlines", "xgrammar")
"""Names that were once to be chosen from; they mean nothing to whoever compiles."""


def _object_text(value: Any, path: str) -> str:
    """A schema as text stays text."""
    text: str = STRING.parse(value, path)
    try:
        parsed = msgspec.json.decode(text)
    except UNREADABLE:
        raise invalid(path, "the text is not JSON.") from None
    if not isinstance(parsed, dict):
        raise invalid(path, "the text is no JSON object.")
    return text


def _grammar(value: Any, path: str) -> str:
    text: str = string(shortest=1).parse(value, path)
    if len(text.encode(errors="replace")) > MAX_GRAMMAR_BYTES:
        raise invalid(path, f"it is larger than {MAX_GRAMMAR_BYTES} bytes.", code="string_above_max_length")
    depth = 0
    for character in text:
        depth = max(0, depth + (character in "([{") - (character in ")]}"))
        if depth > MAX_GRAMMAR_NESTING:
            raise invalid(path, f"it is nested deeper than {MAX_GRAMMAR_NESTING}.")
    return text


def _yes(value: Any, path: str) -> bool:
    if BOOLEAN.parse(value, path) is not True:
        raise invalid(path, "it may only be true.")
    return True


SCHEMA = either(
    (dict, Field(lambda value, _: value, {"type": "object"})),
    (str, Field(_object_text, {"type": "string"})),
    expected="an object or its text",
)
_PATTERN = string(shortest=1, longest=MAX_PATTERN_BYTES)
_CONSTRAINTS: Mapping[str, Field] = {
    "json": SCHEMA,
    "regex": _PATTERN,
    "choice": array(string(shortest=1), 1, MAX_CHOICES),
    "grammar": Field(_grammar, {"type": "string", "minLength": 1, "maxLength": MAX_GRAMMAR_BYTES}),
}
_JSON_OBJECT = Field(_yes, {"const": True})


def _structured(values: dict[str, Any], path: str) -> dict[str, Any]:
    named = [name for name in (*_CONSTRAINTS, "json_object") if name in values]
    if len(named) != 1:
        raise invalid(path, f"exactly one of {', '.join((*_CONSTRAINTS, 'json_object'))} must be given.")
    if named[0] not in {"json", "json_object"}:
        for name in _OF_JSON:
            if name in values:
                raise invalid(f"{path}.{name}", "it is only allowed beside 'json' or 'json_object'.")
    if values.get("disable_any_whitespace") and "whitespace_pattern" in values:
        raise invalid(f"{path}.whitespace_pattern", "it can't be used with 'disable_any_whitespace'.")
    return values


_OF_JSON: Mapping[str, Field] = {
    "whitespace_pattern": _PATTERN,
    "disable_any_whitespace": BOOLEAN,
    "disable_additional_properties": BOOLEAN,
}

GUIDED: dict[str, Field] = {
    **{f"guided_{name}": field for name, field in _CONSTRAINTS.items()},
    "guided_decoding_backend": choice(*BACKENDS),
    "guided_whitespace_pattern": _PATTERN,
    "structured_outputs": record({**_CONSTRAINTS, "json_object": _JSON_OBJECT, **_OF_JSON}, build=_structured),
}
"""The fields on every surface that makes text."""

_OLDER = tuple(f"guided_{name}" for name in _CONSTRAINTS)
_NAMES = frozenset((*_OLDER, "guided_whitespace_pattern", "structured_outputs"))


def constraint_of(fields: Mapping[str, Any]) -> Constraint | None:
    """What parsed fields constrain the answer's text by, `response_format` apart.

    Raises:
        InvalidRequest: they contradict each other, or what else the request asks of its answer's form.
    """
    if _NAMES.isdisjoint(fields):  # nearly always
        return None
    older = [name for name in _OLDER if name in fields]
    _refuse_contradictions(fields, older)
    if not older:
        return _of_structured(fields["structured_outputs"])
    spacing = fields.get("guided_whitespace_pattern")
    return _constraint(older[0].removeprefix("guided_"), fields[older[0]], path=older[0], spacing=spacing)


def _refuse_contradictions(fields: Mapping[str, Any], older: list[str]) -> None:
    if "guided_whitespace_pattern" in fields and "guided_json" not in fields:
        raise invalid("guided_whitespace_pattern", "it is only allowed beside 'guided_json'.")
    named = [*older, *(["structured_outputs"] if "structured_outputs" in fields else [])]
    if len(named) > 1:
        raise invalid(named[0], f"it can't be used with '{named[1]}'.")
    if fields.get("response_format", {"type": "text"})["type"] != "text":
        raise invalid(named[0], "it can't be used with a 'response_format' other than text.")
    if isinstance(fields.get("tool_choice", fields.get("function_call")), dict):
        raise invalid(named[0], "it can't be used with a 'tool_choice' that names a tool.")


def _of_structured(values: Mapping[str, Any]) -> Constraint:
    path = "structured_outputs"
    spacing = "" if values.get("disable_any_whitespace") else values.get("whitespace_pattern")
    if "json_object" in values:
        return JsonFormat(schema=ANY_OBJECT, path=path, spacing=spacing, spacing_path=f"{path}.whitespace_pattern")
    name = next(name for name in _CONSTRAINTS if name in values)
    return _constraint(name, values[name], path=f"{path}.{name}", spacing=spacing)


def _constraint(name: str, value: Any, *, path: str, spacing: str | None) -> Constraint:
    match name:
        case "json":
            schema = value.encode() if isinstance(value, str) else encode(value)
            before = path.removesuffix("json")
            return JsonFormat(schema=schema, path=path, spacing=spacing, spacing_path=f"{before}whitespace_pattern")
        case "regex":
            return RegexFormat(pattern=value, path=path)
        case "choice":
            return ChoiceFormat(options=value, path=path)
        case _:
            return GrammarFormat(grammar=value, path=path)
