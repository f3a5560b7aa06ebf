"""Whatever a compiled grammar lets through is valid by the schema: random schemas, with texts drawn from their grammars
and random texts, on both programs that read our grammars.
"""

import itertools
import json
import random
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.grammar_engines import ENGINES, EOS, Matcher

from narthex.sandbox.formats import PATTERNS
from narthex.sandbox.grammar import rule
from narthex.sandbox.schema_text import SchemaRefused

NAMES = st.sampled_from(["a", "b", "ab", "é"])
NUMBERS = st.sampled_from([0, 1, -1, 2, 3, 5, 10, -7, 0.5, 1.5, -2.25, 100, 12, 99, 0.1, 7.0, 1e3, 123456, -0.5])
SCALARS = st.none() | st.booleans() | NUMBERS | st.sampled_from(["", "a", "b", "ab", "x1", "é\n"])
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2), max_leaves=4
)
TEXTS = st.sampled_from(
    ["^a", "b$", "^[a-z]*$", "[0-9]", "^a|b$", "^(a|b)+$", "", "^.$", r"\w", "[^a]", r"^\s?x", r"^\D*$"]
)
TYPES = st.sampled_from(
    [
        *("object", "object", "array", "string", "number", "integer", "null", "boolean"),
        *(["string", "null"], ["integer", "object"], ["array", "string"]),
    ]
)
SPECIAL = set(b'"}],:abx{[0123\\u06')


def optional(**keywords: Any) -> Any:
    """Some of the keywords."""
    return st.fixed_dictionaries({}, optional=keywords)


def _level(inner: Any) -> Any:
    """Schemas around others."""
    lists = st.lists(inner, min_size=1, max_size=2)
    leaf = optional(
        type=TYPES,
        minLength=st.integers(0, 3),
        maxLength=st.integers(1, 5),
        pattern=TEXTS,
        format=st.sampled_from(sorted(PATTERNS)),
        minimum=NUMBERS,
        maximum=NUMBERS,
        exclusiveMinimum=NUMBERS,
        exclusiveMaximum=NUMBERS,
        multipleOf=st.sampled_from([1, 2, 3, 5, 0.5, 0.1, 0.25, 10, 7, 1.5, 0.01]),
        enum=st.lists(VALUES, min_size=1, max_size=3),
        const=VALUES,
    )
    obj = optional(
        type=st.sampled_from(["object", ["object", "string"]]),
        properties=st.dictionaries(NAMES, inner, max_size=3),
        required=st.lists(NAMES, max_size=2, unique=True),
        additionalProperties=inner | st.just(False),
        patternProperties=st.dictionaries(st.sampled_from(["^a", "b$", "^x"]), inner, max_size=1),
        minProperties=st.integers(0, 2),
        maxProperties=st.integers(1, 3),
    )
    arr = optional(
        type=st.just("array"),
        items=inner,
        prefixItems=lists,
        minItems=st.integers(0, 2),
        maxItems=st.integers(1, 3),
    )
    both = optional(
        **{"allOf": lists, "anyOf": lists, "oneOf": lists, "$ref": st.sampled_from(["#", "#/$defs/p", "#/$defs/q"])}
    )
    mixed = st.tuples(obj | arr | leaf, both).map(lambda parts: parts[0] | parts[1])
    return leaf | obj | arr | mixed


SCHEMAS = st.recursive(st.booleans() | optional(type=TYPES), _level, max_leaves=8)
ROOTS = st.tuples(SCHEMAS, SCHEMAS, SCHEMAS).map(
    lambda drawn: (drawn[0] if isinstance(drawn[0], dict) else {}) | {"$defs": {"p": drawn[1], "q": drawn[2]}}
)


def drawn_text(matcher: Matcher, choice: random.Random) -> bytes | None:
    """A text from a grammar; None where it doesn't end soon."""
    text = bytearray()
    for _ in range(100):
        allowed = matcher.allowed()
        if not allowed or (EOS in allowed and (len(allowed) == 1 or choice.random() < 0.4)):
            return bytes(text) if allowed else None
        tokens = [token for token in allowed if token < 128] or [token for token in allowed if token != EOS]
        liked = [token for token in tokens if token in SPECIAL]
        token = choice.choice(liked if liked and choice.random() < 0.8 else tokens)
        matcher.consume(token)
        text.append(token)
    return None


def spellings(value: Any) -> list[bytes]:
    plain = json.dumps(value, ensure_ascii=False)
    return [plain.encode(), plain.replace('"a"', '"\\u0061"', 1).encode()]


def is_finite(value: Any) -> bool:
    """JSON has numbers that no double holds; no validator has an opinion on those."""
    return "Infinity" not in json.dumps(value)


def check(schema: dict[str, Any], values: list[Any], seed: int) -> None:
    """Nothing invalid passes."""
    try:
        compiled = rule(json.dumps(schema).encode())
    except SchemaRefused:
        return
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
    choice = random.Random(seed)
    for engine, _ in itertools.product(ENGINES, range(3)):
        text = drawn_text(engine(compiled), choice)
        if text is not None and is_finite(value := json.loads(text)):
            assert validator.is_valid(value), (engine, text, compiled)
    for engine, value in itertools.product(ENGINES, values):
        for text in spellings(value):
            if engine(compiled).accepts(text):
                assert validator.is_valid(value), (engine, text, compiled)


SEEDS = st.integers(0, 2**16)
RELAXED = settings(
    max_examples=400, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@given(schema=ROOTS, values=st.lists(VALUES, max_size=4), seed=SEEDS)
@RELAXED
def test_what_a_grammar_lets_through_is_valid(schema: dict[str, Any], values: list[Any], seed: int) -> None:
    check(schema, values, seed)


@pytest.mark.soak
@given(schema=ROOTS, values=st.lists(VALUES, max_size=4), seed=SEEDS)
@settings(RELAXED, max_examples=20_000, derandomize=False)
def test_what_many_grammars_let_through_is_valid(schema: dict[str, Any], values: list[Any], seed: int) -> None:
    check(schema, values, seed)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_texts_of_a_format_are_of_that_format(name: str) -> None:
    for seed in range(60):
        check({"type": "string", "format": name}, [], seed)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"properties": {"a": {"type": "integer"}}}, {"properties": {"b": {"type": "string"}}}),
        ({"properties": {"a": {"minimum": 3}}, "required": ["a"]}, {"additionalProperties": {"type": "integer"}}),
        ({"additionalProperties": False, "properties": {"a": True}}, {"properties": {"b": True}, "required": ["a"]}),
        ({"additionalProperties": {"maxLength": 1}}, {"additionalProperties": {"minLength": 1}, "required": ["b"]}),
        ({"enum": [{"a": 1}, {"a": 2}]}, {"properties": {"a": {"minimum": 2}}}),
    ],
)
@pytest.mark.parametrize("join", ["allOf", "$ref", "anyOf", "oneOf"])
def test_objects_that_meet(first: Any, second: Any, join: str) -> None:
    schema: dict[str, Any] = {"type": "object", **first}
    schema |= {"$ref": "#/$defs/other", "$defs": {"other": second}} if join == "$ref" else {join: [second]}
    values = [{"a": 1}, {"a": 3}, {"a": "x"}, {"b": "xx"}, {"a": 2, "b": 1}, {"b": "x"}, {"a": 3, "c": "yy"}, {}]
    for seed in range(8):
        check(schema, values, seed)
