"""What becomes of a field that a deployment does or does not honour."""

from typing import Any

import pytest

from narthex.core.capabilities import Capabilities, Limited, State, Verdict, refusal, state_of, without_effect


def only_small(value: Any) -> None:
    if value > 2:
        raise Verdict("n", "At most 2.")


def only_short(value: Any) -> None:
    if len(value) > 3:
        raise Verdict("suffix", "Too long.")


def only_none(value: Any) -> None:
    if value:
        raise Verdict("tools[0]", "No tools.")


HONOURED: Capabilities = {
    "model": State.NATIVE,
    "n": Limited(limits="at most 2", check=only_small),
    "best_of": State.EMULATED,
    "user": State.NO_EFFECT,
    "seed": State.REFUSED,
    "suffix": Limited(state=State.NO_EFFECT, limits="short ones", check=only_short),
    "tools": Limited(state=State.REFUSED, limits="except none", check=only_none),
}


def test_what_is_honoured_passes() -> None:
    assert refusal({"model": "m", "n": 2, "best_of": 5, "user": "u"}, HONOURED, model="m") is None


@pytest.mark.parametrize("field", ["seed", "unheard_of"])
def test_a_field_is_refused_by_name(field: str) -> None:
    error = refusal({"model": "m", field: 1}, HONOURED, model="m")
    assert error is not None
    assert (error.status, error.code, error.param) == (400, "unsupported_parameter", field)
    assert error.message == f"'{field}' is not supported with the model 'm'."


def test_a_value_is_refused_by_name() -> None:
    error = refusal({"n": 3}, HONOURED, model="m")
    assert error is not None
    assert (error.code, error.param, error.message) == ("unsupported_value", "n", "At most 2. (model 'm')")


@pytest.mark.parametrize(
    ("field", "value", "passes"),
    [
        ("logprobs", False, True),
        ("logprobs", True, False),
        ("logprobs", 0, False),  # on /v1/completions: the chosen tokens
        ("best_of", 1, True),
        ("best_of", True, False),
        ("best_of", 2, False),
        ("echo", False, True),
        ("echo", 0, False),
        ("logit_bias", {}, True),
        ("logit_bias", {"1": 2}, False),
        ("modalities", ("text",), True),
        ("modalities", ("text", "audio"), False),
        ("tool_choice", "none", True),
        ("tool_choice", "auto", False),
        ("function_call", "none", True),
        ("suffix", "", True),
        ("response_format", {"type": "text"}, True),
        ("response_format", {"type": "json_object"}, False),
        ("store", False, True),
    ],
)
def test_a_value_that_asks_for_nothing_passes_anywhere(field: str, value: Any, passes: bool) -> None:
    assert (refusal({field: value}, {}, model="m") is None) is passes


def test_fields_without_effect_are_named() -> None:
    fields = {"model": "m", "user": "u", "suffix": "end", "unheard_of": 1}
    assert without_effect(fields, HONOURED) == ("user", "suffix")


@pytest.mark.parametrize(("fields", "param"), [({"suffix": "long"}, "suffix"), ({"tools": [1]}, "tools[0]")])
def test_limits_hold_whatever_the_state(fields: dict[str, Any], param: str) -> None:
    error = refusal(fields, HONOURED, model="m")
    assert error is not None
    assert (error.code, error.param) == ("unsupported_value", param)
    assert refusal({"suffix": "end", "tools": []}, HONOURED, model="m") is None


@pytest.mark.parametrize(
    ("field", "state"),
    [
        ("model", State.NATIVE),
        ("n", State.NATIVE),
        ("best_of", State.EMULATED),
        ("suffix", State.NO_EFFECT),
        ("tools", State.REFUSED),
        ("unheard_of", State.REFUSED),
    ],
)
def test_every_field_has_a_state(field: str, state: State) -> None:
    assert state_of(field, HONOURED) is state


def test_of_fields_that_are_all_honoured_none_is_refused_and_none_without_effect() -> None:
    honoured: Capabilities = {"model": State.NATIVE, "n": State.EMULATED, "user": State.NO_EFFECT}
    fields = {"model": "m", "n": 2}
    assert refusal(fields, honoured, model="m") is None
    assert without_effect(fields, honoured) == ()
    assert without_effect(fields | {"user": "u"}, honoured) == ("user",)
