"""What requests may say of chat templates: bounds, names that hide, and messages to go on with."""

from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.ports import Decoded
from narthex.core.templates import ARGUMENTS

Decode = Callable[..., Decoded]
Refuse = Callable[..., tuple[str | None, str | None]]

USER = {"role": "user", "content": "Hi"}
BEGUN = {"role": "assistant", "content": "Once upon"}
CALLING = {
    "role": "assistant",
    "content": "So",
    "tool_calls": [{"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
}


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"enable_thinking": False, "tags": ["a", 1, None, True, 0.5]},
        {str(number): number for number in range(16)},
        {"a": "x" * 4000},
        {"a": list(range(32))},
    ],
    ids=str,
)
def test_variables_are_plain(variables: dict[str, Any], decode: Decode) -> None:
    assert decode("chat", {"chat_template_kwargs": variables}).request.fields["chat_template_kwargs"] == variables


@pytest.mark.parametrize(
    ("value", "code", "param"),
    [
        ([], "invalid_type", "chat_template_kwargs"),
        ("x", "invalid_type", "chat_template_kwargs"),
        ({str(number): 1 for number in range(17)}, "object_above_max_properties", "chat_template_kwargs"),
        ({"a": "x" * 4100}, "string_above_max_length", "chat_template_kwargs"),
        ({"a": "é" * 2100}, "string_above_max_length", "chat_template_kwargs"),
        ({"a": [1] * 33}, "array_above_max_length", "chat_template_kwargs.a"),
        ({"a": {"b": 1}}, "invalid_type", "chat_template_kwargs.a"),
        ({"a": [[1]]}, "invalid_type", "chat_template_kwargs.a[0]"),
        ({"a": [1, {}]}, "invalid_type", "chat_template_kwargs.a[1]"),
    ],
    ids=str,
)
def test_variables_have_bounds(value: Any, code: str, param: str, refuse: Refuse) -> None:
    assert refuse("chat", {"chat_template_kwargs": value}) == (code, param)


@pytest.mark.parametrize("name", sorted(ARGUMENTS))
def test_no_argument_hides_among_them(name: str, refuse: Refuse) -> None:
    for value in (True, "x", None, {"a": 1}):
        fields = {"chat_template_kwargs": {"enable_thinking": True, name: value}}
        assert refuse("chat", fields) == ("unsupported_parameter", f"chat_template_kwargs.{name}")


def test_a_template_has_a_length(decode: Decode, refuse: Refuse) -> None:
    longest = "é" * (32 * 1024)
    assert decode("chat", {"chat_template": longest}).request.fields["chat_template"] == longest
    assert refuse("chat", {"chat_template": longest + "x"}) == ("string_above_max_length", "chat_template")
    assert refuse("chat", {"chat_template": 1}) == ("invalid_type", "chat_template")


@pytest.mark.parametrize("name", ["add_generation_prompt", "continue_final_message"])
def test_flags_are_flags(name: str, refuse: Refuse) -> None:
    assert refuse("chat", {name: 1}) == ("invalid_type", name)
    assert refuse("chat", {name: None}) == (None, None)
    assert refuse("chat", {name: False}) == (None, None)


@pytest.mark.parametrize(
    ("fields", "passes"),
    [
        ({"messages": [USER, BEGUN]}, True),
        ({"messages": [USER, BEGUN], "add_generation_prompt": False}, True),
        ({"messages": [USER, BEGUN | {"content": [{"type": "text", "text": "Once"}]}]}, True),
        ({"messages": [USER, BEGUN], "add_generation_prompt": True}, False),
        ({"messages": [USER]}, False),
        ({"messages": [USER, BEGUN, USER]}, False),
        ({"messages": [USER, BEGUN | {"content": " \n"}]}, False),
        ({"messages": [USER, BEGUN | {"content": None, "refusal": "No."}]}, False),
        ({"messages": [USER, CALLING]}, False),
        (
            {
                "messages": [
                    USER,
                    {"role": "assistant", "content": "a", "function_call": {"name": "f", "arguments": ""}},
                ]
            },
            False,
        ),
    ],
    ids=str,
)
def test_what_can_be_gone_on_with(fields: dict[str, Any], passes: bool, refuse: Refuse) -> None:
    expected = (None, None) if passes else ("invalid_value", "continue_final_message")
    assert refuse("chat", {"continue_final_message": True, **fields}) == expected


def test_texts_have_no_template(decode: Decode) -> None:
    """There the fields are known, and for the model to refuse."""
    fields = decode("completions", {"continue_final_message": True, "chat_template": "x"}).request.fields
    assert fields["continue_final_message"] is True
