"""`prediction` through the official client: the same text, true counts, and in streams too."""

from typing import Any

import pytest
from openai import OpenAI
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.direct

COUNTING = [{"role": "user", "content": "Count from 1 to 40, separated by commas, and say nothing else."}]
LENGTH = 40


def ask(client: OpenAI, predicted: Any = None, **options: Any) -> Any:
    body: dict[str, Any] = {"model": CHAT_MODEL, "messages": COUNTING, "temperature": 0, "max_tokens": LENGTH}
    if predicted is not None:
        body["prediction"] = {"type": "content", "content": predicted}
    return client.chat.completions.create(**body | options)


def counts(answer: Any) -> tuple[int, int]:
    details = answer.usage.completion_tokens_details
    return details.accepted_prediction_tokens, details.rejected_prediction_tokens


@pytest.fixture(scope="module")
def told(client: OpenAI) -> Any:
    """The answer without a prediction; the process that checks them runs by then."""
    while not counts(ask(client, "1", max_tokens=1))[0]:
        pass
    return ask(client)


def test_the_very_text_is_accepted(client: OpenAI, told: Any) -> None:
    text = told.choices[0].message.content
    answer = ask(client, text)
    accepted, rejected = counts(answer)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (text, told.choices[0].finish_reason)
    assert accepted >= LENGTH * 0.8
    assert rejected == 0
    assert answer.usage.completion_tokens == told.usage.completion_tokens
    assert answer.usage.prompt_tokens == told.usage.prompt_tokens


@pytest.mark.parametrize("begins_right", [0, 0.4])
def test_another_text_is_dropped(client: OpenAI, told: Any, begins_right: float) -> None:
    text = told.choices[0].message.content
    right = text[: int(len(text) * begins_right)]
    answer = ask(client, right + "The quick brown fox jumps over the lazy dog. " * 5)
    accepted, rejected = counts(answer)
    assert answer.choices[0].message.content == text
    assert (accepted > 5) == (rejected > 0) == bool(begins_right)
    assert rejected < LENGTH / 2
    assert answer.usage.completion_tokens == told.usage.completion_tokens + rejected


def test_what_is_right_further_on_is_found_again(client: OpenAI, told: Any) -> None:
    text = told.choices[0].message.content
    answer = ask(client, [{"type": "text", "text": "Surely: "}, {"type": "text", "text": text}])
    accepted, _ = counts(answer)
    assert answer.choices[0].message.content == text
    assert accepted >= LENGTH / 2


def test_a_stream_of_it(client: OpenAI, told: Any) -> None:
    text = told.choices[0].message.content
    chunks = list(ask(client, text, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == text
    assert counts(chunks[-1])[0] >= LENGTH * 0.8


@pytest.mark.parametrize(
    "options",
    [
        {"n": 2},
        {"stop": ["20"]},
        {"logprobs": True},
        {"logit_bias": {"11": 1}},
        {"frequency_penalty": 0.1},
        {"response_format": {"type": "json_object"}},
    ],
    ids=str,
)
def test_it_has_no_effect_where_it_can_not_be_checked(client: OpenAI, options: dict[str, Any]) -> None:
    without = ask(client, max_tokens=12, **options)
    answer = ask(client, "1, 2, 3, 4, 5, 6, 7, 8", max_tokens=12, **options)
    assert [each.message.content for each in answer.choices] == [each.message.content for each in without.choices]
    assert counts(answer) == (0, 0)


def test_a_seeded_draw_is_the_same(client: OpenAI) -> None:
    seeded = {"temperature": 0.4, "top_p": 0.9, "seed": 5}
    text = ask(client, **seeded).choices[0].message.content
    answer = ask(client, text, **seeded)
    assert answer.choices[0].message.content == text
    assert counts(answer)[0] > 10
