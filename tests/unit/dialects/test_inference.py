"""Fields by which a request says how it is to be served."""

from typing import Any

import pytest

from narthex.core.errors import InvalidRequest, RequestError
from narthex.core.extras import HEADERS, PARAMS
from narthex.core.memory import LastK
from narthex.dialects.inference import INFERENCE, MEMORY

ALL = MEMORY | INFERENCE
TIMEOUT, STRATEGY = "inference_timeout", "memory_strategy"


def nested(levels: int) -> Any:
    """Arrays, one in the other."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("field", "value", "parsed"),
    [
        (STRATEGY, {"name": "last_k", "k": 3}, LastK(3)),
        (STRATEGY, {"name": "last_k", "params": {"k": 3}}, LastK(3)),
        (STRATEGY, {"name": "last_k", "k": 3.0, "params": None}, LastK(3)),
        ("token_budget", 1, 1),
        (TIMEOUT, 5, 5.0),
        (TIMEOUT, 0.25, 0.25),
        (TIMEOUT, "5", 5.0),
        (TIMEOUT, "0.25", 0.25),
        (TIMEOUT, ".5", 0.5),
        (PARAMS, {"mirostat": {"a": [1]}}, {"mirostat": {"a": [1]}}),
        (PARAMS, {}, {}),
        (PARAMS, {"a": nested(32)}, {"a": nested(32)}),
        (HEADERS, {"X-Team": "a b"}, {"x-team": "a b"}),
        (HEADERS, {}, {}),
    ],
    ids=repr,
)
def test_values(field: str, value: Any, parsed: Any) -> None:
    assert ALL[field].parse(value, field) == parsed


@pytest.mark.parametrize(
    ("field", "value", "param", "code"),
    [
        (STRATEGY, "last_k", STRATEGY, "invalid_type"),
        (STRATEGY, {}, f"{STRATEGY}.name", "missing_required_parameter"),
        (STRATEGY, {"name": "first_k", "k": 1}, f"{STRATEGY}.name", "invalid_value"),
        (STRATEGY, {"name": "last_k"}, f"{STRATEGY}.k", "missing_required_parameter"),
        (STRATEGY, {"name": "last_k", "k": None}, f"{STRATEGY}.k", "missing_required_parameter"),
        (STRATEGY, {"name": "last_k", "k": 0}, f"{STRATEGY}.k", "integer_below_min_value"),
        (STRATEGY, {"name": "last_k", "k": "3"}, f"{STRATEGY}.k", "invalid_type"),
        (STRATEGY, {"name": "last_k", "params": {}}, f"{STRATEGY}.params.k", "missing_required_parameter"),
        (STRATEGY, {"name": "last_k", "params": {"k": -1}}, f"{STRATEGY}.params.k", "integer_below_min_value"),
        (STRATEGY, {"name": "last_k", "k": 1, "params": {"k": 1}}, f"{STRATEGY}.params", "invalid_value"),
        (STRATEGY, {"name": "last_k", "k": 1, "n": 1}, f"{STRATEGY}.n", "unknown_parameter"),
        ("token_budget", 0, "token_budget", "integer_below_min_value"),
        ("token_budget", "5", "token_budget", "invalid_type"),
        (TIMEOUT, 0, TIMEOUT, "decimal_below_min_value"),
        (TIMEOUT, "0", TIMEOUT, "decimal_below_min_value"),
        (TIMEOUT, -1, TIMEOUT, "decimal_below_min_value"),
        (TIMEOUT, True, TIMEOUT, "invalid_type"),
        (TIMEOUT, [], TIMEOUT, "invalid_type"),
        *((TIMEOUT, text, TIMEOUT, "invalid_value") for text in ("", "5s", " 5", "-5", "1e3", "inf", "nan", "٣", "5.")),
        (PARAMS, [], PARAMS, "invalid_type"),
        (PARAMS, {str(number): 1 for number in range(33)}, PARAMS, "object_above_max_properties"),
        (PARAMS, {"model": "x"}, f"{PARAMS}.model", "unsupported_parameter"),
        (PARAMS, {"a": 1, "b": nested(33)}, f"{PARAMS}.b", "invalid_value"),
        (PARAMS, {"b": {"c": nested(32)}}, f"{PARAMS}.b", "invalid_value"),
        (PARAMS, {"Tokenize": True}, f"{PARAMS}.Tokenize", "unsupported_parameter"),
        (HEADERS, "x", HEADERS, "invalid_type"),
        (HEADERS, {"Host": "x"}, f"{HEADERS}.Host", "unsupported_parameter"),
        (HEADERS, {"x-a\r\nhost": "x"}, f"{HEADERS}.x-a\r\nhost", "unsupported_parameter"),
        (HEADERS, {"x-a": 1}, f"{HEADERS}.x-a", "invalid_type"),
        (HEADERS, {"x-a": "b\r\nhost: c"}, f"{HEADERS}.x-a", "invalid_value"),
        (HEADERS, {"x-a": "b", "X-A": "b"}, f"{HEADERS}.X-A", "invalid_value"),
    ],
    ids=repr,
)
def test_faults(field: str, value: Any, param: str, code: str) -> None:
    with pytest.raises(RequestError) as caught:
        ALL[field].parse(value, field)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_a_headers_value_is_not_told() -> None:
    with pytest.raises(InvalidRequest) as caught:
        INFERENCE[HEADERS].parse({"x-a": "hush\n"}, HEADERS)
    assert "hush" not in caught.value.message
