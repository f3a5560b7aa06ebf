"""Answers of at least so many tokens, over a real engine."""

from typing import Any

import httpx2
import pytest
from openai import OpenAI
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.patient

YES = [{"role": "user", "content": "Answer with the single word yes."}]
IM_END = 2


def asked(client: OpenAI, **fields: Any) -> Any:
    extra = {name: fields.pop(name) for name in ("min_tokens", "stop_token_ids", "ignore_eos") if name in fields}
    body = {"model": CHAT_MODEL, "messages": YES, "temperature": 0, "max_tokens": 28} | fields
    return client.chat.completions.create(**body, extra_body=extra)


def test_an_answer_does_not_end_sooner_and_may_end_then(client: OpenAI) -> None:
    short = asked(client)
    tokens, text = short.usage.completion_tokens, short.choices[0].message.content
    assert (short.choices[0].finish_reason, tokens < 20) == ("stop", True)
    assert asked(client, min_tokens=tokens - 1).choices[0].message.content == text
    for least in (tokens + 1, 28):
        long = asked(client, min_tokens=least)
        assert long.choices[0].message.content.startswith(text)
        assert long.usage.completion_tokens >= least
        assert long.choices[0].finish_reason == ("length" if long.usage.completion_tokens == 28 else "stop")


def test_so_do_streams_several_choices_and_log_probabilities(shallow: OpenAI) -> None:
    drawn = {"temperature": 1, "seed": 3, "n": 2, "max_tokens": 24, "min_tokens": 20}
    whole = asked(shallow, **drawn, logprobs=True)
    texts = ["", ""]
    for chunk in asked(shallow, **drawn, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert texts == [choice.message.content for choice in whole.choices]
    for choice in whole.choices:
        assert len(choice.logprobs.content) >= 20
        assert "".join(entry.token for entry in choice.logprobs.content[:19]) in choice.message.content


def test_tokens_that_stop_wait_too(client: OpenAI) -> None:
    late = asked(client, ignore_eos=True, stop_token_ids=[28, 30], min_tokens=15)
    assert late.usage.completion_tokens >= 15
    assert asked(client, stop_token_ids=[IM_END], min_tokens=12, max_tokens=12).usage.completion_tokens == 12


def test_what_has_no_end_is_left_alone(shallow: OpenAI) -> None:
    plain = asked(shallow, ignore_eos=True)
    assert asked(shallow, ignore_eos=True, min_tokens=20).choices == plain.choices


def test_texts_are_as_long(shallow_http: httpx2.Client) -> None:
    body = {"model": CHAT_MODEL, "prompt": ["Yes", "No"], "temperature": 0, "max_tokens": 12, "min_tokens": 12}
    answer = shallow_http.post("/v1/completions", json=body | {"stop_token_ids": list(range(2000))[:128]}).json()
    assert answer["usage"]["completion_tokens"] == 24
    endless = {"model": CHAT_MODEL, "messages": YES, "min_tokens": 10**15, "max_completion_tokens": None}
    refused = shallow_http.post("/v1/chat/completions", json=endless | {"tools": [TOOL], "tool_choice": "required"})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "min_tokens")


TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
