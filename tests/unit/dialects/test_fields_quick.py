"""Fields that are read straight from their bytes are read as the long way reads them, or not at all."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from narthex.core.errors import RequestError
from narthex.core.tools import NO_PARAMETERS, Tool
from narthex.dialects.fields import Field
from narthex.dialects.openai_chat import FIELDS, FORM
from narthex.dialects.tools import TOOLS
from narthex.wire.json import UNREADABLE, top_level

QUICK = {name: field for name, field in FIELDS.items() if field.quick is not None}
_NUMBERS = [
    b"0", b"-0", b"1", b"1.0", b"1.5", b"-2", b"2.0000000001", b"1e2", b"1e400", b"-1E-400", b"128", b"129", b"1e0",
    b"9223372036854775807", b"9223372036854775808", b"-9223372036854775808", b"-9223372036854775809",
    b"123456789012345678901234567890", b"0.1e1", b"3.0e0",
]  # fmt: skip
_OTHERS = [
    b"null", b"true", b"false", b'""', b'"a"', rb'"\u0061\n"', rb'"\ud83d\ude00"', rb'"\ud800"', b'"\xff"', b"[]",
    b"{}", b'"1"', "\"äöü\"".encode(), b"tru", b'"a', b"",
]  # fmt: skip


def found(field: Field, raw: bytes) -> Any:
    """What is read quickly; None where it takes the long way."""
    assert field.quick is not None
    try:
        return field.quick.read(msgspec.Raw(raw))
    except UNREADABLE:
        return None


def long_way(field: Field, raw: bytes) -> Any:
    """The value; None where it is refused, or asks for nothing."""
    try:
        value = msgspec.json.decode(raw)
        return None if value is None else field.parse(value, "x")
    except (RequestError, *UNREADABLE):
        return None


def test_most_fields_are_read_quickly() -> None:
    names = {"model", "messages", "temperature", "max_tokens", "n", "stream", "user", "tools", "top_p", "seed"}
    assert names - QUICK.keys() == {"top_p", "seed"}  # with values of their own that mean nothing, or beyond 64 bits


@pytest.mark.parametrize("name", sorted(QUICK))
@pytest.mark.parametrize("raw", _NUMBERS + _OTHERS)
def test_a_value_is_the_same_or_takes_the_long_way(name: str, raw: bytes) -> None:
    quick, slow = found(QUICK[name], raw), long_way(FIELDS[name], raw)
    assert quick is None or (type(quick), quick) == (type(slow), slow)


@pytest.mark.parametrize(
    ("name", "raw", "value"),
    [("temperature", b"1", 1.0), ("max_tokens", b"5", 5), ("user", b'"a"', "a"), ("stream", b"false", False)],
)
def test_usual_values_are_read_quickly(name: str, raw: bytes, value: Any) -> None:
    assert found(QUICK[name], raw) == value


_STOP = [b'"a"', b'["a","b"]', b"[]", b'""', b'[""]', b'["a","b","c","d","e"]', b"[1]", b"null"]


@given(
    st.dictionaries(st.sampled_from(sorted(QUICK)), st.sampled_from(_NUMBERS[:10] + _OTHERS[:8]), max_size=4),
    st.sampled_from([b"0.5", b"1", b"3", b"null"]),
    st.sampled_from(_STOP),
)
@settings(max_examples=300, deadline=None)
def test_fields_are_the_same_one_by_one_or_at_once(others: dict[str, bytes], temperature: bytes, stop: bytes) -> None:
    sent = {
        "model": b'"m"',
        "messages": b'[{"role":"user","content":"a"}]',
        **others,
        "temperature": temperature,
        "stop": stop,
    }
    body = b"{" + b",".join(b'"%b":%b' % (name.encode(), raw) for name, raw in sent.items()) + b"}"
    try:
        raw = top_level(body)
        _, slowly = FORM._parsed(raw, quickly=False)
    except RequestError:
        slowly = {}
    quickly = FORM._at_once(body, top_level(body)) if slowly else None
    assert quickly is None or list(quickly.items()) == list(slowly.items())
    assert quickly is None or [type(each) for each in quickly.values()] == [type(each) for each in slowly.values()]


def test_usual_fields_are_read_at_once() -> None:
    body = b'{"model":"m","messages":[{"role":"user","content":"a"}],"temperature":1,"stop":"a","stream":false}'
    assert FORM._at_once(body, top_level(body)) == FORM._parsed(top_level(body), quickly=False)[1]


# --- tools -----------------------------------------------------------------------------------------------------------

_NAMES = st.sampled_from(["f", "get_weather", "", "a b", "x" * 64, "x" * 65, "f\n", None, 5])
_TEXTS = st.sampled_from(["", "Does it.", "ä", None, 5])
_OBJECTS = st.sampled_from([{}, {"type": "object", "properties": {"a": {"enum": [1, None, 2.5]}}}, None, [], "{}"])
_FUNCTION = st.fixed_dictionaries(
    {"name": _NAMES},
    optional={
        "description": _TEXTS,
        "parameters": _OBJECTS,
        "strict": st.sampled_from([True, False, None, 1]),
        "x": st.just(1),
    },
)
_TOOL = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["function", "custom", None, 5]),
        "function": _FUNCTION | st.sampled_from([None, [], {}]),
        "cache_control": st.just({"type": "ephemeral"}),
    },
)
_PLAIN = st.fixed_dictionaries({"type": st.just("function"), "function": st.fixed_dictionaries({"name": st.just("f")})})


@given(st.lists(_PLAIN | _TOOL, max_size=4) | st.sampled_from([None, {}, "a", [None], [[]]]))
@settings(max_examples=100, deadline=None)
def test_tools_are_the_same_or_take_the_long_way(tools: Any) -> None:
    raw = json.dumps(tools).encode()
    quick = found(TOOLS, raw)
    assert quick is None or quick == long_way(TOOLS, raw)


def test_plain_functions_are_read_quickly_and_no_more_of_them_than_may_be() -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}, "strict": False}}
    assert found(TOOLS, json.dumps([tool] * 128).encode()) == (tool,) * 128
    assert found(TOOLS, json.dumps([tool] * 129).encode()) is None
    assert found(TOOLS, b"[]") is None


def test_a_tool_is_what_it_says_however_its_parameters_were_given() -> None:
    written = Tool(name="f", parameters=b'{"type":"object"}', path="p")
    given_ = Tool(name="f", parameters={"type": "object"}, path="p")
    assert (written == given_, hash(written) == hash(given_), repr(given_)) == (True, True, "Tool('f')")
    assert given_.parameters == b'{"type":"object"}'
    assert written != Tool(name="g", parameters=b'{"type":"object"}', path="p")
    assert written != "f"
    assert Tool(name="f", path="p").parameters == NO_PARAMETERS
