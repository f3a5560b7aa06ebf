"""What a request tells its template, and what the template does not look at."""

import json
from typing import Any

import msgspec
import pytest

from narthex.core.chat import ChatRequest
from narthex.core.errors import InvalidRequest, RequestError, UnsupportedParameter
from narthex.dialects.openai_chat import ChatDialect
from narthex.engine.local.prompt import Marks, chat_variables, control_pattern
from narthex.engine.local.steering import check_heeded, continued

USER = {"role": "user", "content": "Hi"}
BEGUN = {"role": "assistant", "content": "Well, "}
THINKS = "{% if enable_thinking is defined and not enable_thinking %}x{% endif %}{{ tone }}{{ eos_token }}"
ASKS = "{{ messages }}{% if add_generation_prompt %}>{% endif %}"


def chat(**fields: Any) -> ChatRequest:
    body = json.dumps({"model": "m", "messages": [USER]} | fields).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return request


def fault(template: str, **fields: Any) -> RequestError | None:
    try:
        check_heeded(chat(**fields).fields, template, model="m")
    except RequestError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("template", "fields"),
    [
        ("", {}),
        ("", {"add_generation_prompt": True, "chat_template_kwargs": {}}),
        (ASKS, {"add_generation_prompt": False}),
        (THINKS, {"chat_template_kwargs": {"enable_thinking": False, "tone": "dry"}}),
        (THINKS, {"chat_template_kwargs": {"enable_thinking": False}, "reasoning_effort": "none"}),
        (THINKS, {"chat_template_kwargs": {"enable_thinking": True}, "reasoning_effort": "low"}),
    ],
)
def test_what_the_template_looks_at_passes(template: str, fields: dict[str, Any]) -> None:
    assert fault(template, **fields) is None


@pytest.mark.parametrize(
    ("template", "fields", "param"),
    [
        ("{{ messages }}", {"add_generation_prompt": False}, "add_generation_prompt"),
        (ASKS, {"reasoning_effort": "low"}, "reasoning_effort"),
        (ASKS, {"chat_template_kwargs": {"tone": "dry"}}, "chat_template_kwargs.tone"),
        ("{{ 'tone' }} tone", {"chat_template_kwargs": {"tone": "dry"}}, "chat_template_kwargs.tone"),
        (THINKS, {"chat_template_kwargs": {"tone": "dry", "eos_token": ""}}, "chat_template_kwargs.eos_token"),
        (THINKS, {"chat_template_kwargs": {"x" * 200: 1}}, "chat_template_kwargs." + "x" * 100),
    ],
)
def test_what_it_does_not_is_refused_by_name(template: str, fields: dict[str, Any], param: str) -> None:
    error = fault(template, **fields)
    assert isinstance(error, UnsupportedParameter)
    assert (error.param, error.code) == (param, "unsupported_parameter")


def test_two_fields_do_not_tell_it_different_things() -> None:
    error = fault(THINKS, reasoning_effort="low", chat_template_kwargs={"enable_thinking": False})
    assert isinstance(error, InvalidRequest)
    assert (error.param, error.code) == ("chat_template_kwargs.enable_thinking", "invalid_value")


def test_variables_stand_beside_the_conversation() -> None:
    marks = Marks(control_pattern(["<s>"]))
    request = chat(chat_template_kwargs={"tone": "<s>", "tags": ["a", 1]}, add_generation_prompt=False)
    found = chat_variables(request, ASKS + THINKS, bracket=marks.bracket, special={"eos_token": "</s>"})
    assert found["messages"] == [USER]
    assert (found["tags"], found["add_generation_prompt"], found["eos_token"]) == (["a", 1], False, "</s>")
    assert [span.ours for span in marks.split(found["tone"])] == [False]


def test_the_last_message_is_what_there_is_of_the_answer() -> None:
    going_on = continued(chat(messages=[USER, BEGUN], continue_final_message=True, add_generation_prompt=False))
    assert ([message.role for message in going_on.request.messages], going_on.begun) == (["user"], "Well, ")
    variables = chat_variables(going_on.request, ASKS, bracket=lambda value: value, special={})
    assert variables["add_generation_prompt"] is True
    plain = chat(messages=[USER, BEGUN])
    assert continued(plain).begun == ""
    assert continued(msgspec.structs.replace(plain, begun="So")).begun == "So"
