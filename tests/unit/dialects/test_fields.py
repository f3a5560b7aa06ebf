"""Checks of fields, and that the JSON Schemas they publish say the same."""

import math
from collections.abc import Callable
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from narthex.core.errors import InvalidRequest, UnknownParameter
from narthex.dialects import openai_chat, openai_completions, openai_embeddings
from narthex.dialects.fields import (
    BOOLEAN,
    JSON,
    NAME,
    STRING,
    Field,
    array,
    choice,
    integer,
    kind_of,
    mapping,
    nullable,
    number,
    parse_fields,
    record,
    refuse_unknown,
    string,
    tagged,
)

KNOWN = {
    f"{surface.__name__.rpartition('_')[2]}.{name}": field
    for surface in (openai_chat, openai_completions, openai_embeddings)
    for name, field in surface.FIELDS.items()
}
"""Every field of every surface."""
SCALARS = st.none() | st.booleans() | st.integers(-200, 3000) | st.floats(-200, 3000) | st.sampled_from(
    ["", "a", "auto", "none", "required", "text", "json_object", "json_schema", "user", "system", "assistant", "tool",
     "function", "custom", "low", "content", "alloy", "wav", "mp3", "24h", "30m", "explicit", "float", "m" * 65]
)  # fmt: skip
NAMES = st.sampled_from(
    ["type", "text", "role", "content", "name", "function", "custom", "json_schema", "schema", "strict", "arguments",
     "include_usage", "voice", "format", "id", "mode", "ttl", "model", "policy", "input", "unknown", "5", "parameters"]
)  # fmt: skip
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(NAMES, inner, max_size=4))


def takes(field: Field, value: Any) -> bool:
    try:
        field.parse(value, "f")
    except (InvalidRequest, UnknownParameter):
        return False
    return True


SCHEMAS = {name: jsonschema_rs.validator_for(field.schema) for name, field in KNOWN.items()}


@given(value=VALUES)
def test_what_a_field_takes_its_schema_takes(value: Any) -> None:
    for name, field in KNOWN.items():
        assert not takes(field, value) or SCHEMAS[name].is_valid(value), name


SIMPLE: dict[str, Field] = {
    "boolean": BOOLEAN, "integer": integer(-1, 5), "number": number(0, 2), "string": string(shortest=1, longest=3),
    "name": NAME, "choice": choice("a", "auto"), "array": array(integer(0), 1, 3), "json": JSON,
    "mapping": mapping(STRING, most=2, longest_key=5), "nullable": nullable(nullable(STRING)),
    "record": record({"name": STRING, "id": nullable(STRING)}, required=("id",)),
    "tagged": tagged({"text": record({"type": choice("text"), "text": STRING}, required=("type",)),
                      "custom": record({"type": choice("custom")}, required=("type",))}),
    "stop": openai_chat.FIELDS["stop"], "top_p": openai_chat.FIELDS["top_p"],
    "response_format": openai_chat.FIELDS["response_format"], "input": openai_embeddings.FIELDS["input"],
}  # fmt: skip


SIMPLE_SCHEMAS = {name: jsonschema_rs.validator_for(field.schema) for name, field in SIMPLE.items()}


@given(value=VALUES)
def test_a_field_and_its_schema_say_the_same(value: Any) -> None:
    for name, field in SIMPLE.items():
        assert takes(field, value) is SIMPLE_SCHEMAS[name].is_valid(value), name


@pytest.mark.parametrize(
    ("value", "kind"),
    [(True, "a boolean"), (1, "an integer"), (1.0, "a decimal"), ("", "a string"), ([], "an array"), ({}, "an object"),
     (None, "null")],
)  # fmt: skip
def test_types_are_named_as_a_caller_would(value: Any, kind: str) -> None:
    assert kind_of(value) == kind


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_field_takes_what_is_no_finite_number(value: float) -> None:
    for field in (number(), integer()):
        assert not takes(field, value)


def test_messages_say_what_was_expected() -> None:
    cases: list[tuple[Callable[[], Any], str]] = [
        (lambda: integer(1, 5).parse(0, "n"), "Expected a value >= 1, but got 0 instead."),
        (lambda: integer(1, 5).parse(6, "n"), "Expected a value <= 5, but got 6 instead."),
        (lambda: choice("a", "b", "c").parse("d", "n"), "Supported values are: 'a', 'b' and 'c'."),
        (lambda: choice("a").parse("d" * 1000, "n"), f"value '{'d' * 100}' is not supported."),
        (lambda: STRING.parse(None, "n"), "Invalid type for 'n': expected a string, but got null instead."),
    ]
    for call, text in cases:
        with pytest.raises(InvalidRequest) as caught:
            call()
        assert text in caught.value.message


def test_an_empty_path_is_the_body_itself() -> None:
    with pytest.raises(InvalidRequest) as caught:
        record({"a": STRING}, required=("a",)).parse({}, "")
    assert caught.value.param == "a"


def test_fields_that_nobody_knows_are_left_to_others() -> None:
    assert parse_fields({"a": "x", "b": 1}, {"a": STRING}) == {"a": "x"}
    assert refuse_unknown({"a": 1}, {"a": STRING}) == ()


def test_what_counts_as_unset_is_left_out() -> None:
    unset = Field(lambda _value, _path: UNSET, {})
    assert parse_fields({"a": 1, "b": 2}, {"a": unset, "b": JSON}) == {"b": 2}


def test_names_of_a_mapping_may_be_checked() -> None:
    def refuse(name: str, path: str) -> None:
        raise InvalidRequest(name, param=path)

    with pytest.raises(InvalidRequest, match="x"):
        mapping(JSON, key=refuse).parse({"x": 1}, "f")
    assert mapping(JSON).schema == {"type": "object", "additionalProperties": {}}
