"""Further sampling fields: what they become, and their bounds."""

from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.chat import Sampling
from narthex.core.ports import Decoded, Surface

Decode = Callable[..., Decoded]
Refuse = Callable[..., tuple[str | None, str | None]]
SURFACES: tuple[Surface, ...] = ("chat", "completions")
LEAST, MOST = "decimal_below_min_value", "decimal_above_max_value"


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"top_k": 5}, {"top_k": 5}),
        ({"top_k": -1}, {"top_k": 0}),
        ({"min_p": 0.5, "repetition_penalty": 1.2}, {"min_p": 0.5, "repetition_penalty": 1.2}),
        ({"stop_token_ids": [2, 3], "ignore_eos": True}, {"stop_token_ids": (2, 3), "ignore_eos": True}),
        ({"include_stop_str_in_output": True}, {"include_stop": True}),
        ({"min_tokens": 1}, {"min_tokens": 1}),
        ({"length_penalty": 2, "use_beam_search": True, "add_special_tokens": False}, {}),
    ],
)
def test_they_are_read(surface: Surface, fields: dict[str, Any], expected: dict[str, Any], decode: Decode) -> None:
    request = decode(surface, {"max_tokens": 9} | fields).request
    assert request.sampling == Sampling(max_tokens=9, **expected)  # type: ignore[union-attr]
    assert fields.keys() <= request.fields.keys()


@pytest.mark.parametrize("surface", SURFACES)
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("top_k", -2, "integer_below_min_value"),
        ("top_k", True, "invalid_type"),
        ("min_p", 1.1, MOST),
        ("min_p", -0.1, LEAST),
        ("repetition_penalty", 0, LEAST),
        ("repetition_penalty", -1, LEAST),
        ("repetition_penalty", "1", "invalid_type"),
        ("stop_token_ids", [-1], "integer_below_min_value"),
        ("stop_token_ids", [1] * 129, "array_above_max_length"),
        ("include_stop_str_in_output", 1, "invalid_type"),
        ("ignore_eos", "yes", "invalid_type"),
        ("min_tokens", -1, "integer_below_min_value"),
        ("length_penalty", "long", "invalid_type"),
        ("best_of", 129, "integer_above_max_value"),
        ("echo", 1, "invalid_type"),
    ],
)
def test_their_bounds(surface: Surface, name: str, value: Any, code: str, refuse: Refuse) -> None:
    found, param = refuse(surface, {name: value})
    assert (found, (param or "").partition("[")[0]) == (code, name)


@pytest.mark.parametrize("surface", SURFACES)
def test_no_answer_has_to_be_longer_than_it_may(surface: Surface, refuse: Refuse) -> None:
    assert refuse(surface, {"min_tokens": 5, "max_tokens": 4}) == ("invalid_value", "min_tokens")
    assert refuse(surface, {"min_tokens": 4, "max_tokens": 4}) == (None, None)


def test_the_best_of_a_chat_s_choices(decode: Decode, refuse: Refuse) -> None:
    request = decode("chat", {"best_of": 3, "n": 2}).request
    assert request.best_of == 3  # type: ignore[union-attr]
    assert decode("chat", {"n": 2}).request.best_of == 2  # type: ignore[union-attr]
    tools = {"tools": [{"type": "function", "function": {"name": "add"}}]}
    functions = {"functions": [{"name": "add"}]}
    for fields in ({"best_of": 2, "n": 3}, {"best_of": 2, "stream": True}, {"best_of": 2} | tools):
        assert refuse("chat", fields) == ("invalid_value", "best_of")
    assert refuse("chat", {"best_of": 2} | functions) == ("invalid_value", "best_of")
    assert refuse("chat", {"best_of": 1, "stream": True} | tools) == (None, None)
