"""Log probabilities and `logit_bias` through the official client, on both surfaces, whole and streamed."""

import math
from typing import Any

import httpx2
import pytest
from openai import OpenAI
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

QUESTION = [{"role": "user", "content": "Name three colours."}]
COUNT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
COMMA = 28


def chat(client: OpenAI, **options: Any) -> Any:
    options = {"model": CHAT_MODEL, "messages": QUESTION, "temperature": 0, "max_tokens": 8, "logprobs": True} | options
    return client.chat.completions.create(**options)


def complete(client: OpenAI, prompt: object = COUNT, **options: Any) -> Any:
    options = {"model": CHAT_MODEL, "temperature": 0, "max_tokens": 8} | options
    return client.completions.create(prompt=prompt, **options)  # type: ignore[call-overload]


def spelled(entries: Any) -> bytes:
    return b"".join(bytes(entry.bytes) for entry in entries)


# --- chats


@pytest.mark.parametrize("count", [0, 1, 5, 20])
def test_each_token_has_its_rivals(client: OpenAI, count: int) -> None:
    choice = chat(client, top_logprobs=count).choices[0]
    entries = choice.logprobs.content
    assert choice.logprobs.refusal is None
    assert len(entries) == 8
    assert spelled(entries) == choice.message.content.encode()
    for entry in entries:
        rivals = [rival.logprob for rival in entry.top_logprobs]
        assert len(rivals) == count
        assert rivals == sorted(rivals, reverse=True)
        assert sum(map(math.exp, rivals)) <= 1 + 1e-6
        assert len({rival.token for rival in entry.top_logprobs}) == count
        if count:
            assert (entry.top_logprobs[0].token, entry.top_logprobs[0].logprob) == (entry.token, entry.logprob)


def test_none_unless_asked_for(client: OpenAI) -> None:
    assert chat(client, logprobs=False).choices[0].logprobs is None
    assert complete(client).choices[0].logprobs is None


def test_a_stream_has_those_of_the_whole_answer(client: OpenAI) -> None:
    options = {"top_logprobs": 3, "seed": 5, "temperature": 1, "max_tokens": 24}
    whole = chat(client, **options).choices[0]
    entries = []
    for chunk in chat(client, stream=True, **options):
        choice = chunk.choices[0]
        if choice.delta.content:
            assert spelled(choice.logprobs.content) == choice.delta.content.encode()
            entries += choice.logprobs.content
    assert [entry.model_dump() for entry in entries] == [entry.model_dump() for entry in whole.logprobs.content]


@pytest.mark.parametrize("temperature", [0, 1])
def test_every_choice_has_its_own(client: OpenAI, temperature: int) -> None:
    for choice in chat(client, n=3, temperature=temperature, top_logprobs=1).choices:
        assert spelled(choice.logprobs.content) == choice.message.content.encode()


def test_they_are_the_models_own_whatever_is_sampled(client: OpenAI) -> None:
    plain = chat(client, max_tokens=1).choices[0].logprobs.content[0]
    forced = chat(client, max_tokens=1, temperature=2, logit_bias={str(COMMA): 100}, top_logprobs=1)
    entry = forced.choices[0].logprobs.content[0]
    assert entry.token == ","
    assert entry.logprob < plain.logprob
    assert (entry.top_logprobs[0].token, entry.top_logprobs[0].logprob) == (plain.token, plain.logprob)


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_stop_string_cuts_off_is_not_told(client: OpenAI, stream: bool) -> None:
    whole = complete(client, max_tokens=12, logprobs=0).choices[0]
    stop = whole.text[6:9]
    assert stop not in whole.text[:8]
    answer = complete(client, max_tokens=12, logprobs=0, stop=[stop], stream=stream)
    choices = [chunk.choices[0] for chunk in answer] if stream else answer.choices
    told = [choice.logprobs for choice in choices if choice.logprobs is not None]
    assert "".join(choice.text for choice in choices) == whole.text[:6]
    assert "".join(token for one in told for token in one.tokens) == whole.text[:6]
    assert whole.logprobs.token_logprobs[0] == told[0].token_logprobs[0]


def test_text_that_only_might_have_been_a_stop_string_is_told(client: OpenAI) -> None:
    whole = complete(client, max_tokens=12, logprobs=1).choices[0]
    for cut in (4, 7):
        stop = [whole.text[cut:] + "?"]
        held = complete(client, max_tokens=12, logprobs=1, stop=stop).choices[0]
        assert (held.text, held.logprobs.model_dump()) == (whole.text, whole.logprobs.model_dump())


def test_control_tokens_among_the_rivals_have_names(client: OpenAI) -> None:
    options = {"messages": [{"role": "user", "content": "Say only: Hi"}], "max_tokens": 40, "top_logprobs": 20}
    content = chat(client, **options).choices[0].logprobs.content
    rivals = [rival for entry in content for rival in entry.top_logprobs]
    assert all(rival.token for rival in rivals)
    assert {rival.token for rival in rivals if rival.bytes is None} >= {"<|im_end|>"}
    assert all(
        bytes(rival.bytes).decode() == rival.token for rival in rivals if rival.bytes and "\\x" not in rival.token
    )


def test_an_answer_without_a_word_has_none(client: OpenAI) -> None:
    choice = chat(client, logit_bias={"2": 100}, top_logprobs=2).choices[0]
    assert (choice.message.content, choice.finish_reason) == ("", "stop")
    assert choice.logprobs.content == []


def test_a_character_of_several_tokens_is_one_entry(client: OpenAI) -> None:
    """The bytes of an emoji, forced one after the other."""
    answer = complete(client, "Größe 😀 東京 😀 東京 😀 東京 😀", max_tokens=6, logprobs=2)
    choice = answer.choices[0]
    assert "東" in choice.text
    assert "".join(choice.logprobs.tokens) == choice.text
    assert len(choice.logprobs.tokens) < answer.usage.completion_tokens


# --- text completions


@pytest.mark.parametrize("count", [0, 1, 5])
def test_lists_of_the_older_form(client: OpenAI, count: int) -> None:
    choice = complete(client, logprobs=count, temperature=1, seed=3).choices[0]
    told = choice.logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == len(told.text_offset) == 8
    ends = [*told.text_offset[1:], len(choice.text)]
    assert [choice.text[begin:end] for begin, end in zip(told.text_offset, ends, strict=True)] == told.tokens
    for token, logprob, rivals in zip(told.tokens, told.token_logprobs, told.top_logprobs, strict=True):
        assert rivals[token] == logprob
        assert max(count, 1) <= len(rivals) <= count + 1


def test_a_stream_has_those_of_the_whole_completion(client: OpenAI) -> None:
    options = {"logprobs": 2, "n": 2, "temperature": 1, "seed": 9, "prompt": [COUNT, "Größe"]}
    whole = complete(client, **options).choices
    found: dict[int, dict[str, list[Any]]] = {choice.index: {} for choice in whole}
    for chunk in complete(client, stream=True, **options):
        choice = chunk.choices[0]
        for name, values in (choice.logprobs.model_dump() if choice.logprobs else {}).items():
            found[choice.index].setdefault(name, []).extend(values)
    assert [found[choice.index] for choice in whole] == [choice.logprobs.model_dump() for choice in whole]


def test_nothing_generated_has_empty_lists(client: OpenAI) -> None:
    told = complete(client, logprobs=2, max_tokens=0).choices[0].logprobs
    assert (told.tokens, told.token_logprobs, told.top_logprobs, told.text_offset) == ([], [], [], [])


# --- logit_bias


def test_a_token_can_be_forced_whatever_is_against_it(client: OpenAI) -> None:
    against = {"frequency_penalty": 2, "presence_penalty": 2, "temperature": 2, "max_tokens": 70}
    assert complete(client, logit_bias={str(COMMA): 100}, **against).choices[0].text == "," * 70
    assert chat(client, logit_bias={str(COMMA): 100}, logprobs=False).choices[0].message.content == "," * 8


def test_a_token_can_be_banned(client: OpenAI) -> None:
    told = complete(client, logprobs=0).choices[0].logprobs.tokens
    assert "," in told
    assert (
        "," not in complete(client, logit_bias={str(COMMA): -100}, max_tokens=20, logprobs=0).choices[0].logprobs.tokens
    )


def test_a_small_bias_moves_what_is_near(client: OpenAI) -> None:
    """The count goes on with a space and digits; the comma is far behind, and no farther than the bias lifts it."""
    told = complete(client, max_tokens=1, logprobs=5, echo=True).choices[0].logprobs
    best = told.token_logprobs[-1]
    lifted = {bias: complete(client, max_tokens=1, logit_bias={str(COMMA): bias}).choices[0].text for bias in (1, 60)}
    assert best > -1
    assert lifted == {1: told.tokens[-1], 60: ","}


@pytest.mark.parametrize("path", ["chat/completions", "completions"])
def test_an_id_of_no_token(http: httpx2.Client, path: str) -> None:
    body = (
        {"model": CHAT_MODEL, "messages": QUESTION} if path.startswith("chat") else {"model": CHAT_MODEL, "prompt": "a"}
    )
    answer = http.post(f"/v1/{path}", json=body | {"logit_bias": {"5": 1, "49152": 1}})
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, "invalid_value", "logit_bias")
    assert "49152" in error["message"]
