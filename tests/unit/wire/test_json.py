"""JSON bodies against the standard library as a plain reference."""

import itertools
import json
import math
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from narthex.core.errors import InvalidRequest
from narthex.wire.json import NOT_JSON, TOO_DEEP, encode, top_level, value

LARGEST, SMALLEST = 2**63 - 1, -(2**63)


def ours(body: bytes) -> dict[str, Any] | None:
    try:
        return {name: value(raw) for name, raw in top_level(body).items()}
    except InvalidRequest:
        return None


class Refused(Exception):
    pass


def reference(body: bytes) -> dict[str, Any] | None:
    """The same rules, said slowly."""
    depth: list[list[tuple[str, Any]]] = []

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        depth.append(pairs)
        return dict(pairs)

    def constant(name: str) -> None:
        raise Refused(name)

    try:
        document = json.loads(body.decode(), object_pairs_hook=keep, parse_constant=constant)
        if not isinstance(document, dict) or len(depth[-1]) != len(document):
            return None
        for name, item in document.items():
            check(item, slack=1000 if name == "seed" else 0)
        for _, item in itertools.chain(*depth[:-1]):  # also what a second name of the same object hides
            check(item)
        json.dumps(depth, ensure_ascii=False).encode()  # lone surrogates
    except (ValueError, Refused):
        return None
    return document


def check(item: Any, *, slack: int = 0) -> None:
    if isinstance(item, dict | list):
        for each in item.values() if isinstance(item, dict) else item:
            check(each)
    elif isinstance(item, float):
        if not math.isfinite(item):
            raise Refused
    elif isinstance(item, int) and not SMALLEST - slack <= item <= LARGEST + slack:
        raise Refused


SPACE = st.sampled_from(["", "", "", " ", "\n", "\t\r\n "])
NUMBERS = st.sampled_from(
    ["0", "-0", "1", "12", "123", "1.5", "1e5", "1E-3", "1e400", "-1e400", "0.12345678901234567890123", "NaN", "01",
     "-", str(LARGEST), str(LARGEST + 1), str(SMALLEST), str(SMALLEST - 1), str(LARGEST + 1000), str(LARGEST + 1001),
     str(SMALLEST - 1000), str(SMALLEST - 1001), "123456789012345678901234567890"]
)  # fmt: skip
STRINGS = st.sampled_from(
    ['""', '"a"', '"ab"', '"a\\"b"', '"\\\\"', '"\\\\\\""', '"\\u0061"', '"\\ud83d\\ude00"', '"\\ud800"', '"é😀"',
     '"}"', '",\\"a\\":1"', '"\\x"', '"\x01"', '"1234567890123456789012"', '"seed"', '"\\u0073eed"']
)  # fmt: skip
NAMES = st.sampled_from(
    ['"a"', '"b"', '"\\u0061"', '"seed"', '"a\\"b"', '"a\\\\"', '"é"', '"\\u00e9"', '""', '"\\ud800"']
)


@st.composite
def documents(draw: st.DrawFn, depth: int = 0) -> str:
    kind = draw(st.integers(0, 5)) if depth else 5
    gap = lambda: draw(SPACE)  # noqa: E731
    if kind <= 1:
        return draw(NUMBERS)
    if kind == 2:
        return draw(STRINGS)
    if kind == 3:
        return draw(st.sampled_from(["null", "true", "false", "tru", "[1 2]", "[1,]"]))
    length = draw(st.integers(0, 3)) if depth < 3 else 0
    if kind == 4:
        return "[" + ",".join(gap() + draw(documents(depth=depth + 1)) + gap() for _ in range(length)) + "]"
    pairs = (
        gap() + draw(NAMES) + gap() + ":" + gap() + draw(documents(depth=depth + 1)) + gap() for _ in range(length)
    )
    return gap() + "{" + (",".join(pairs) or gap()) + "}" + gap()


@given(documents())
@example('{"a":12,"a":1}')
@example('{"a":1,"a":12}')
@example('{"a":1, "b":2 , "a":1}')
@example('{"a":1,"\\u0061":1}')
@example('{"a":1.5,"a":1}')
@example('{"é":1,"\\u00e9":1}')
@example(" {} ")
@example('{"a":{"b":1,"b":2}}')
@example('{"a":{"a":9223372036854775808,"a":0}}')
@example('{"a":{"b":1e400,"b":2}}')
@example('{"a":"\\ud800"}')
@example('{"a":1,}')
@example('{"a":1}x')
@example("[]")
@example("")
def test_it_reads_what_the_reference_reads(text: str) -> None:
    body = text.encode("utf-8", "surrogatepass")
    assert ours(body) == reference(body)


@given(st.binary(max_size=40))
@example(b"\xef\xbb\xbf{}")
@example(b'{"a":"\xff"}')
@example(b'{"\xff":1}')
@example(b'{"a":"\xed\xa0\x80"}')
def test_it_reads_no_bytes_that_the_reference_does_not(body: bytes) -> None:
    assert ours(body) == reference(body)


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 99) | st.text(max_size=9) | st.lists(st.none(), max_size=3)))
def test_it_reads_what_others_write(document: dict[str, Any]) -> None:
    for text in (json.dumps(document), json.dumps(document, indent=1), json.dumps(document, separators=(",", ":"))):
        assert ours(text.encode()) == document
    assert ours(encode(document)) == document


@given(st.text(min_size=1, max_size=5), st.sampled_from(["1", "12", '"a"', "[]", "{}", "null"]), SPACE)
def test_a_name_that_comes_twice_is_told(name: str, second: str, space: str) -> None:
    written = json.dumps(name)
    for first in ("1", "12", '"a"', "[]", "{}", "null"):
        body = f"{{{written}:{first},{space}{written}:{second}}}".encode()
        with pytest.raises(InvalidRequest, match="Duplicate parameter") as caught:
            top_level(body)
        assert caught.value.param == name


def test_values_are_kept_as_they_were_sent() -> None:
    fields = top_level(b' { "a" : 1.0 ,\n"b":[ 1, 2 ],"c":"\\u00e9" } ')
    assert {name: bytes(raw) for name, raw in fields.items()} == {"a": b"1.0", "b": b"[ 1, 2 ]", "c": b'"\\u00e9"'}


@pytest.mark.parametrize(
    ("body", "param", "code"),
    [
        (b'{"n":9223372036854775808}', "n", "integer_above_max_value"),
        (b'{"n":-9223372036854775809}', "n", "integer_below_min_value"),
        (b'{"seed":9223372036854776808}', "seed", "integer_above_max_value"),
        (b'{"a":{"seed":9223372036854776000}}', "a.seed", "integer_above_max_value"),
        (b'{"a":[0,{"b":99999999999999999999}]}', "a[1].b", "integer_above_max_value"),
    ],
)
def test_an_integer_that_64_bits_do_not_hold_is_named(body: bytes, param: str, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        top_level(body)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_the_documented_range_of_seed_and_text_of_digits_pass() -> None:
    body = b'{"seed":9223372036854776000,"a":"99999999999999999999","b":{"c":0.99999999999999999999}}'
    assert set(top_level(body)) == {"seed", "a", "b"}


def test_long_names_are_cut_in_errors() -> None:
    for body in (
        b'{"%b":1, "%b":2}' % (b"n" * 9999, b"n" * 9999),
        b'{"a":{"%b":99999999999999999999}}' % (b"n" * 9999),
    ):
        with pytest.raises(InvalidRequest) as caught:
            top_level(body)
        assert len(caught.value.message) < 500


@pytest.mark.parametrize("inner", [b"[" * 100_000 + b"]" * 100_000, b'{"a":' * 50_000 + b"1" + b"}" * 50_000])
def test_deep_nesting_is_refused(inner: bytes) -> None:
    with pytest.raises(InvalidRequest) as caught:
        top_level(b'{"a":%b}' % inner)
    assert caught.value.message == TOO_DEEP


def test_values_are_checked_one_by_one() -> None:
    with pytest.raises(InvalidRequest) as caught:
        value(msgspec.Raw(b'"\\ud800"'))
    assert caught.value.message == NOT_JSON
    with pytest.raises(InvalidRequest) as caught:
        value(msgspec.Raw(b"[" * 100_000 + b"]" * 100_000))
    assert caught.value.message == TOO_DEEP
