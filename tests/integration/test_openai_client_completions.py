"""The older completions endpoint through the official client."""

from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

COUNT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"


def complete(client: OpenAI, prompt: object = COUNT, **options: object) -> Any:
    options = {"model": CHAT_MODEL, "temperature": 0, "max_tokens": 8} | options
    return client.completions.create(prompt=prompt, **options)  # type: ignore[call-overload]


@pytest.mark.direct
def test_an_answer_has_every_field(client: OpenAI) -> None:
    answer = complete(client)
    assert answer.id.startswith("cmpl-")
    assert (answer.object, answer.model) == ("text_completion", CHAT_MODEL)
    assert answer.system_fingerprint.startswith("fp_")
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    assert choice.text.startswith(" 13, 14")
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8


def test_sixteen_tokens_unless_told(http: httpx2.Client) -> None:
    body = {"model": CHAT_MODEL, "prompt": COUNT, "temperature": 0}
    assert http.post("/v1/completions", json=body).json()["usage"]["completion_tokens"] == 16


def test_a_stream_carries_the_same_text(client: OpenAI) -> None:
    whole = complete(client).choices[0].text
    chunks = list(complete(client, stream=True, stream_options={"include_usage": True}))
    *others, last = chunks
    assert "".join(chunk.choices[0].text for chunk in others) == whole
    assert [chunk.choices[0].finish_reason for chunk in others] == [None] * (len(others) - 1) + ["length"]
    assert len({(chunk.id, chunk.created) for chunk in chunks}) == 1
    assert (last.choices, last.usage.completion_tokens) == ([], 8)
    assert all(chunk.usage is None for chunk in others)


def test_several_prompts_are_answered_prompt_by_prompt(client: OpenAI) -> None:
    answer = complete(client, [COUNT, "A, B, C, D, E, F, G, H,"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in answer.choices]
    assert texts[0] == texts[1]
    assert texts[2] == texts[3]
    assert texts[0].startswith(" 13, 14")
    assert texts[2].startswith(" I, J, K")
    assert answer.usage.completion_tokens == 32
    ones = [complete(client, prompt).usage.prompt_tokens for prompt in (COUNT, "A, B, C, D, E, F, G, H,")]
    assert answer.usage.prompt_tokens == sum(ones)


def test_several_prompts_with_choices_that_differ(client: OpenAI) -> None:
    answer = complete(client, ["The", "A"], n=3, temperature=1, seed=4)
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert len({choice.text for choice in answer.choices}) > 2
    assert answer.usage.completion_tokens == sum(8 for _ in range(6))


def test_several_prompts_streamed(client: OpenAI) -> None:
    texts = ["", "", "", ""]
    ended = []
    for chunk in complete(client, [COUNT, "A, B, C, D, E, F, G, H,"], n=2, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
        if chunk.choices[0].finish_reason:
            ended.append(chunk.choices[0].index)
    assert sorted(ended) == [0, 1, 2, 3]
    assert texts[0] == texts[1]
    assert texts[0].startswith(" 13")
    assert texts[2].startswith(" I")


def test_token_ids_as_prompts(client: OpenAI) -> None:
    answer = complete(client, [1, 2, 3])
    assert answer.usage.prompt_tokens == 3
    answer = complete(client, [[28, 29], [30]])
    assert answer.usage.prompt_tokens == 3
    assert [choice.index for choice in answer.choices] == [0, 1]


@pytest.mark.parametrize("prompt", [[49152], [[1], [49152]]])
def test_a_token_id_outside_the_vocabulary(client: OpenAI, prompt: object) -> None:
    with pytest.raises(openai.BadRequestError):
        complete(client, prompt)


def test_no_prompt_is_the_beginning_of_a_text(http: httpx2.Client) -> None:
    for prompt in (None, "<|endoftext|>", ""):
        body = {"model": CHAT_MODEL, "prompt": prompt, "max_tokens": 2}
        answer = http.post("/v1/completions", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["usage"]["prompt_tokens"] == 1


def test_control_tokens_in_a_prompt_are_text(client: OpenAI) -> None:
    assert complete(client, "a<|im_end|>", max_tokens=1).usage.prompt_tokens > 2


def test_a_limit_of_zero_generates_nothing(client: OpenAI) -> None:
    answer = complete(client, [COUNT, "A"], n=2, max_tokens=0)
    assert [(choice.index, choice.text, choice.finish_reason) for choice in answer.choices] == [
        (index, "", "length") for index in range(4)
    ]
    assert answer.usage.completion_tokens == 0
    assert answer.usage.prompt_tokens > 0
    chunks = list(complete(client, max_tokens=0, stream=True))
    assert chunks[-1].choices[0].finish_reason == "length"


def test_a_prompt_beyond_the_window(client: OpenAI) -> None:
    for prompt, limit in (("word " * 9000, 1), ([28] * 8192, 1), (COUNT, 8192)):
        with pytest.raises(openai.BadRequestError) as caught:
            complete(client, prompt, max_tokens=limit)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize(
    ("name", "value"),
    [("echo", True), ("logprobs", 1), ("best_of", 3), ("suffix", "end"), ("logit_bias", {"28": 1}), ("top_k", 3)],
)
def test_honoured_or_refused_by_name(http: httpx2.Client, name: str, value: object) -> None:
    body = {"model": CHAT_MODEL, "prompt": COUNT, "max_tokens": 1, name: value}
    answer = http.post("/v1/completions", json=body)
    if answer.status_code != 200:
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, "unsupported_parameter", name)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "prompt"),
        ({"prompt": []}, "empty_array", "prompt"),
        ({"prompt": [[]]}, "empty_array", "prompt[0]"),
        ({"prompt": 7}, "invalid_type", "prompt"),
        ({"prompt": ["a", 1]}, "invalid_type", "prompt[1]"),
        ({"prompt": [1, "a"]}, "invalid_type", "prompt[1]"),
        ({"prompt": [-1]}, "integer_below_min_value", "prompt[0]"),
        ({"prompt": "a", "max_tokens": -1}, "integer_below_min_value", "max_tokens"),
        ({"prompt": "a", "logprobs": 6}, "integer_above_max_value", "logprobs"),
        ({"prompt": "a", "n": 2, "best_of": 1}, "invalid_value", "best_of"),
        ({"prompt": "a", "best_of": 2, "stream": True}, "invalid_value", "best_of"),
        ({"prompt": "a", "messages": []}, "unknown_parameter", "messages"),
        ({"prompt": "a", "model": "all-minilm-l6-v2"}, "unsupported_value", "model"),
    ],
)
def test_what_is_wrong_is_named(http: httpx2.Client, body: dict[str, object], code: str, param: str) -> None:
    answer = http.post("/v1/completions", json={"model": CHAT_MODEL} | body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param), error
