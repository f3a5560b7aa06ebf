"""What Gemini's models are told of calls of the past."""

import json
from typing import Any

import pytest

from narthex.dialects.openai_chat import ChatDialect
from narthex.providers.gemini import UNSIGNED
from narthex.providers.presets import PRESETS, codecs

TOOLS = [{"type": "function", "function": {"name": "add"}}]
HELLO = {"role": "user", "content": "Hi"}


def call(id_: str) -> dict[str, Any]:
    return {"id": id_, "type": "function", "function": {"name": "add", "arguments": "{}"}}


CALLED: list[dict[str, Any]] = [
    HELLO,
    {"role": "assistant", "content": None, "tool_calls": [call("a"), call("b")]},
    {"role": "tool", "content": "1", "tool_call_id": "a"},
    {"role": "tool", "content": "2", "tool_call_id": "b"},
    {"role": "assistant", "content": "Once more.", "tool_calls": [call("c")]},
    {"role": "tool", "content": "3", "tool_call_id": "c"},
    {"role": "assistant", "content": "Done.", "tool_calls": None},
    {"role": "assistant", "content": "Done.", "tool_calls": []},
    HELLO,
]


def sent(messages: list[dict[str, Any]], model: str) -> list[dict[str, Any]]:
    body = json.dumps({"model": "m", "messages": messages, "tools": TOOLS}).encode()
    request = ChatDialect().decode(body, profile="openai", strict=True).request
    preset = PRESETS["gemini"]
    told: list[dict[str, Any]] = json.loads(codecs(preset, preset.traits)["chat"].build(request, model=model))[
        "messages"
    ]
    return told


@pytest.mark.parametrize(
    "model", ["gemini-3-pro-preview", "gemini-3.5-flash", "models/gemini-4-pro", "gemini-flash-latest"]
)
def test_the_first_call_of_each_message_is_marked(model: str) -> None:
    told = sent(CALLED, model)
    assert [[each.get("extra_content") for each in message.get("tool_calls") or []] for message in told] == [
        [], [UNSIGNED, None], [], [], [UNSIGNED], [], [], [], [],
    ]  # fmt: skip
    for message in told:
        for each in message.get("tool_calls") or []:
            each.pop("extra_content", None)
    assert told == CALLED


@pytest.mark.parametrize(
    "model", ["gemini-2.5-flash", "gemini-2.0-flash-001", "models/gemini-1.5-pro", "gemini-2.5-pro"]
)
def test_older_models_want_none(model: str) -> None:
    assert sent(CALLED, model) == CALLED


def test_calls_of_the_older_form_are_marked_too() -> None:
    older = [HELLO, {"role": "assistant", "content": None, "function_call": {"name": "add", "arguments": "{}"}}, HELLO]
    assert sent(older, "gemini-3-pro-preview")[1]["tool_calls"][0]["extra_content"] == UNSIGNED
    assert "extra_content" not in sent(older, "gemini-2.5-pro")[1]["tool_calls"][0]


def test_without_calls_nothing_changes() -> None:
    assert sent([HELLO], "gemini-3-pro-preview") == [HELLO]
