"""Whatever a compiled grammar lets through is valid by the schema: random schemas, with texts from their grammars and
texts that nearly are, on both programs that read our grammars.
"""

import itertools
import json
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.grammar_engines import ENGINES
from tests.random_schemas import Schemas

from narthex.sandbox.formats import PATTERNS
from narthex.sandbox.grammar import rule
from narthex.sandbox.schema_text import SchemaRefused


def is_finite(value: Any) -> bool:
    """JSON has numbers that no double holds; no validator has an opinion on those."""
    return "Infinity" not in json.dumps(value)


def check(schema: dict[str, Any], schemas: Schemas) -> None:
    """Nothing invalid passes."""
    try:
        compiled = rule(json.dumps(schema).encode())
    except SchemaRefused:
        return
    validator = jsonschema_rs.Draft202012Validator(schema, validate_formats=True, offline=True)
    others = [schemas.spelled(schemas.value(2)) for _ in range(2)]
    for engine, _ in itertools.product(ENGINES, range(2)):
        text = schemas.text(engine(compiled))
        if text is not None and is_finite(value := json.loads(text)):
            assert validator.is_valid(value), (engine, text, compiled)
            others += [schemas.changed(text) for _ in range(2)]
    for engine, text in itertools.product(ENGINES, others):
        if engine(compiled).accepts(text) and is_finite(value := json.loads(text)):
            assert validator.is_valid(value), (engine, text, compiled)


RELAXED = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def drawn(seed: int) -> None:
    schemas = Schemas(seed)
    schema = schemas.root()
    check(schema, schemas)


@given(seed=st.integers(0, 2**40))
@settings(RELAXED, max_examples=100, derandomize=True)
def test_what_a_grammar_lets_through_is_valid(seed: int) -> None:
    drawn(seed)


@pytest.mark.soak
@given(seed=st.integers(0, 2**40))
@settings(RELAXED, max_examples=20_000)
def test_what_many_grammars_let_through_is_valid(seed: int) -> None:
    drawn(seed)


@pytest.mark.parametrize("name", sorted(PATTERNS))
def test_texts_of_a_format_are_of_that_format(name: str) -> None:
    for seed in range(12):
        check({"type": "string", "format": name}, Schemas(seed))


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
    for seed in range(8):
        check(schema, Schemas(seed))


ENDS = (None, 0, 1, 0.5, -2.25, 9.99, 2**53)
AROUND = [
    *("0", "-0", "0.0", "1", "1.0", "-1", "0.5", "0.50", "1.5", "1.500", "1.25", "1.2", "9.9", "10", "9.99", "9.991"),
    *("-2.25", "-2.250", "-2.3", "-0.4", "1e3", "9007199254740992", "9007199254740993", "-9007199254740992"),
]


@pytest.mark.parametrize("type_", ["number", "integer"])
@pytest.mark.parametrize("engine", ENGINES)
def test_numbers_at_their_bounds(type_: Any, engine: Any) -> None:
    keys = itertools.product(("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))
    for (lower, upper), low, high in itertools.product(keys, ENDS, ENDS):
        bounds = {key: end for key, end in ((lower, low), (upper, high)) if end is not None}
        try:
            compiled = rule(json.dumps({"type": type_, **bounds}).encode())
        except SchemaRefused:
            continue
        validator = jsonschema_rs.Draft202012Validator({"type": type_, **bounds})
        passed = [text for text in AROUND if engine(compiled).accepts(text.encode())]
        assert [text for text in passed if not validator.is_valid(json.loads(text))] == [], bounds
