"""Compiles a schema into the right-hand side of a Lark rule, and proves on the way that it can be generated from.

The schema is written anew first (`narthex.sandbox.schema`); llguidance then compiles it strictly. What it refuses is
searched for the smallest part that it refuses, so that the error can name the place.
"""

import random
import re
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

import llguidance
import msgspec

from narthex.sandbox.endless import endless_reference
from narthex.sandbox.schema import Reader
from narthex.sandbox.schema_text import SchemaRefused, decode

Layout = Mapping[str, Any]

LAYOUT: Final[Layout] = {"whitespace_flexible": False, "item_separator": ", ", "key_separator": ": "}
"""The layout in which texts are generated: on one line, a blank after commas and colons."""
DENSE: Final[Layout] = {"whitespace_flexible": False, "item_separator": ",", "key_separator": ":"}
"""The same without blanks."""

_LIMITS: Final = llguidance.LLParserLimits(
    max_items_in_row=1800,
    initial_lexer_fuel=500_000,
    step_lexer_fuel=50_000,
    step_max_items=12_500,
    max_lexer_states=50_000,
    max_grammar_size=250_000,
)
"""Tighter than an engine's own, which has a larger vocabulary to try and must not give up half-way."""

_BLAME_S = 0.3
"""How long to search for the place of a refusal."""
_STEPS = 48
"""How many bytes of a text are tried, twice."""

_LONG: Final = 400
_WALKS: Final = 3
_LONG_S: Final = 0.25
"""Of the processor's time, for so many texts of so many bytes. One by a grammar that is not ambiguous takes a tenth."""

BYTES: Final = llguidance.LLTokenizer("byte")
"""One token for each byte."""
_REASON: Final = re.compile(r"failed to compile JSON schema: (.*)")
_EMPTY: Final = "no value is valid by it"
_COMPLEX: Final = "it is too complex"
_REASONS: Final = {
    "oneOf constraints": "the branches of `oneOf` may overlap",
    "disjoint": "its patterns may match the same name",
    "circular references": "it refers to itself beside other keywords",
    "Unsatisfiable": _EMPTY,
    "regex is empty": "its pattern is too complex",
    "too large": _COMPLEX,
    "too big": _COMPLEX,
    "fuel": _COMPLEX,
    "limit": _COMPLEX,
}
_CHILDREN: Final = ("items", "additionalProperties")
_CHILD_LISTS: Final = ("prefixItems", "anyOf", "allOf", "oneOf")
_CHILD_MAPS: Final = ("properties", "patternProperties")
_MEMBERS: Final = frozenset((*_CHILDREN, *_CHILD_MAPS, "prefixItems"))


def rule(schema: bytes, layout: Layout = LAYOUT) -> str:
    """The right-hand side of a rule for exactly the texts of a schema in a layout: `%json {…}`.

    Raises:
        SchemaRefused: it can't be held, with the place.
    """
    reader = Reader(decode(schema))
    written = reader.read()
    if (name := endless_reference(written)) is not None:
        raise SchemaRefused("Every value by this reference would be endless.", reader.targets[name])
    text = _rule(written, definitions={}, layout=layout)
    error = probe(text)
    if error is not None:
        raise _Blame(reader, written.get("$defs", {})).refusal(written, error)
    return text


def _rule(written: Any, *, definitions: dict[str, Any], layout: Layout = LAYOUT) -> str:
    body = {"anyOf": [written]} if isinstance(written, bool) else written
    extra = {"$defs": definitions} if definitions else {}
    return "%json " + msgspec.json.encode({"x-guidance": layout} | body | extra).decode()


def _matcher(text: str) -> llguidance.LLMatcher:
    return llguidance.LLMatcher(BYTES, f"%llguidance {{}}\nstart: {text}", log_level=0, limits=_LIMITS)


def _compile_error(text: str) -> str | None:
    matcher = _matcher(text)
    if matcher.is_error():
        return _reason(matcher.get_error())
    return next(iter(matcher.get_grammar_warnings()), None)


def _reason(message: str) -> str:
    """In our words, where they are known; the compiler's own may show how the schema was written anew."""
    for mark, reason in _REASONS.items():
        if mark in message:
            return reason
    found = _REASON.search(message)
    return (found[1] if found else message.splitlines()[0])[:200]


def probe(text: str) -> str | None:
    """Why no text can be begun by a rule, or why it costs too much; None if it works."""
    error = _compile_error(text)
    if error is not None:
        return error
    for seed in range(2):
        error = _walk(_matcher(text), random.Random(seed))  # noqa: S311 - the choice only has to vary
        if error is not None:
            return error
    return None


def _walk(matcher: llguidance.LLMatcher, choice: random.Random) -> str | None:
    """Generate the beginning of some text."""
    for _ in range(_STEPS):
        mask = matcher.compute_bitmask()
        if matcher.is_error():
            return _COMPLEX
        allowed = [token for token in range(256) if mask[token >> 3] >> (token & 7) & 1]
        if not allowed:
            return None if matcher.is_accepting() else _EMPTY
        # The end of a string now and then: what comes after it is to be tried too.
        token = ord('"') if ord('"') in allowed and choice.random() < 0.5 else choice.choice(allowed)
        if not matcher.consume_token(token):
            return _COMPLEX
    return None


def pace(text: str) -> str | None:
    """Why longer texts by a rule take ever longer to follow; None if they don't.

    What is ambiguous can take time by the square or cube of a text's length at each of its steps, and an engine takes
    its steps for all whom it answers.
    """
    began = time.process_time()
    for seed in range(_WALKS):
        matcher, choice = _matcher(text), random.Random(seed)  # noqa: S311 - the choice only has to vary
        for _ in range(_LONG):
            mask = matcher.compute_bitmask()
            allowed = [token for token in range(256) if mask[token >> 3] >> (token & 7) & 1]
            if matcher.is_error() or time.process_time() - began > _LONG_S:
                return "its texts are too ambiguous"
            if not allowed or not matcher.consume_token(choice.choice(allowed)):
                break
    return None


class _Blame:
    """Searches for the smallest part of a schema that can't be compiled."""

    def __init__(self, reader: Reader, definitions: dict[str, Any]) -> None:
        self._paths, self._origins = reader.paths, reader.origins
        self._definitions = definitions
        self._followed: set[int] = set()
        self._until = time.monotonic() + _BLAME_S

    def refusal(self, written: Any, error: str) -> SchemaRefused:
        path, node = "", written
        while True:
            for child in (*_children(node), *self._referred(node)):
                found = self._error(child)
                if found is not None:
                    node, error = child, found
                    path = self._paths.get(id(child), path)
                    break
            else:
                self._until = time.monotonic() + _BLAME_S / 2
                return SchemaRefused(f"This schema can't be held: {error}.", self._keyword(node, path))

    def _error(self, node: Any) -> str | None:
        if node is False or time.monotonic() > self._until:
            return None
        return probe(_rule(node, definitions=self._definitions))

    def _referred(self, node: Any) -> Iterator[Any]:
        """What the node refers to, unless that refers back: it then fails with its whole."""
        if isinstance(node, dict) and "$ref" in node:
            target = self._definitions[node["$ref"].rpartition("/")[2]]
            if id(target) not in self._followed:
                self._followed.add(id(target))
                yield target

    def _keyword(self, node: Any, path: str) -> str:
        """The keyword of the caller's without which the node could be held; those with schemas in them come last."""
        if not isinstance(node, dict):
            return path
        caller = self._origins.get(id(node), {})
        for key in sorted((key for key in node if key in caller), key=_MEMBERS.__contains__):
            rest = {other: value for other, value in node.items() if other != key}
            if key not in ("type", "$defs") and self._error(rest) is None and time.monotonic() < self._until:
                return caller[key]
        return path


def _children(node: Any) -> Iterator[Any]:
    if not isinstance(node, dict):
        return
    for key in _CHILDREN:
        if key in node:
            yield node[key]
    for key in _CHILD_LISTS:
        yield from node.get(key, ())
    for key in _CHILD_MAPS:
        yield from node.get(key, {}).values()
