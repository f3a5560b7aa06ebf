"""Prompts told again before their answers, and scored, through the official client."""

import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.callers import COMPLETIONS, calling
from tests.server_inside import free, until, working
from tests.server_process import CHAT_MODEL, Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

COUNT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12,"
UNICODE = "Größe 😀 東京"
PROSE = "The old lighthouse keeper climbed the stairs each evening, lit the lamp, and wrote down what he had seen. "
IM_START, IM_END, COMMA = 1, 2, 28
HALF_AN_EMOJI = 40303


def complete(client: OpenAI, prompt: object = COUNT, **options: Any) -> Any:
    options = {"model": CHAT_MODEL, "temperature": 0, "max_tokens": 4, "echo": True} | options
    return client.completions.create(prompt=prompt, **options)  # type: ignore[call-overload]


def scored(client: OpenAI, prompt: object, **options: Any) -> Any:
    return complete(client, prompt, **{"max_tokens": 0, "logprobs": 1} | options)


def slices(text: str, offsets: list[int]) -> list[str]:
    return [text[begin:end] for begin, end in zip(offsets, [*offsets[1:], len(text)], strict=True)]


# --- without log probabilities


def test_the_text_begins_with_the_prompt(shallow: OpenAI) -> None:
    plain, echoed = complete(shallow, echo=False), complete(shallow)
    assert echoed.choices[0].text == COUNT + plain.choices[0].text
    assert echoed.choices[0].logprobs is None
    assert (echoed.usage.prompt_tokens, echoed.usage.completion_tokens) == (plain.usage.prompt_tokens, 4)


def test_each_choice_of_each_prompt(shallow: OpenAI) -> None:
    prompts = [COUNT, UNICODE, ""]
    choices = complete(shallow, prompts, n=2, temperature=1).choices
    assert [choice.index for choice in choices] == list(range(6))
    for choice in choices:
        assert choice.text.startswith(prompts[choice.index // 2])


def test_streamed(shallow: OpenAI) -> None:
    prompts, texts = [COUNT, UNICODE], ["", "", "", ""]
    for chunk in complete(shallow, prompts, n=2, seed=1, stream=True):
        texts[chunk.choices[0].index] += chunk.choices[0].text
    assert texts == [choice.text for choice in complete(shallow, prompts, n=2, seed=1).choices]
    assert all(text.startswith(prompts[index // 2]) for index, text in enumerate(texts))


def test_token_ids_are_told_as_text(shallow: OpenAI) -> None:
    choice = complete(shallow, [IM_START, COMMA, IM_END]).choices[0]
    assert choice.text.startswith("<|im_start|>,<|im_end|>")
    assert complete(shallow, [HALF_AN_EMOJI], max_tokens=0).choices[0].text == " �"


@pytest.mark.parametrize("prompt", ["", "<|endoftext|>"])
def test_no_prompt_is_no_text(shallow: OpenAI, prompt: str) -> None:
    choice = scored(shallow, prompt).choices[0]
    assert (choice.text, choice.finish_reason) == ("", "length")
    assert choice.logprobs.model_dump() == {
        "tokens": [""], "token_logprobs": [None], "top_logprobs": [None], "text_offset": [0],
    }  # fmt: skip


def test_nothing_but_the_prompt(shallow: OpenAI) -> None:
    answer = complete(shallow, [COUNT, "A"], max_tokens=0, n=2)
    assert [(choice.text, choice.finish_reason) for choice in answer.choices] == [
        (COUNT, "length"), (COUNT, "length"), ("A", "length"), ("A", "length"),
    ]  # fmt: skip
    assert answer.usage.completion_tokens == 0


# --- with them


@pytest.mark.parametrize("count", [0, 1, 5])
def test_every_token_of_the_prompt_has_an_entry(shallow: OpenAI, count: int) -> None:
    answer = scored(shallow, PROSE, logprobs=count)
    told = answer.choices[0].logprobs
    assert answer.choices[0].text == PROSE
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == answer.usage.prompt_tokens
    assert slices(PROSE, told.text_offset) == told.tokens
    assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
    for token, logprob, rivals in zip(told.tokens[1:], told.token_logprobs[1:], told.top_logprobs[1:], strict=True):
        assert rivals[token] == logprob <= 0
        assert max(count, 1) <= len(rivals) <= count + 1
        assert sum(map(math.exp, rivals.values())) <= 1 + 1e-6
        best = list(rivals.values())[:count]
        assert best == sorted(best, reverse=True)
    assert (answer.usage.completion_tokens, answer.choices[0].finish_reason) == (0, "length")


@pytest.mark.parametrize("prompt", ["Hello, my name is", COUNT, "The capital of France is", "Once upon a time"])
def test_a_token_scores_as_it_did_when_it_was_generated(client: OpenAI, prompt: str) -> None:
    generated = complete(client, prompt, echo=False, max_tokens=6, logprobs=1).choices[0]
    told = scored(client, prompt + generated.text).choices[0].logprobs
    begin = told.text_offset.index(len(prompt))
    assert told.tokens[begin:] == generated.logprobs.tokens
    assert told.token_logprobs[begin:] == pytest.approx(generated.logprobs.token_logprobs, abs=1e-2)


def test_prompt_and_answer_are_one_list(shallow: OpenAI) -> None:
    prompt, alone = scored(shallow, COUNT).choices[0], complete(shallow, COUNT, echo=False, logprobs=1).choices[0]
    both = complete(shallow, COUNT, logprobs=1)
    told = both.choices[0].logprobs
    assert both.choices[0].text == prompt.text + alone.text
    assert told.tokens == prompt.logprobs.tokens + alone.logprobs.tokens
    assert told.text_offset[-4:] == [len(COUNT) + offset for offset in alone.logprobs.text_offset]
    assert told.token_logprobs[1:-4] == pytest.approx(prompt.logprobs.token_logprobs[1:], abs=1e-2)
    assert slices(both.choices[0].text, told.text_offset) == told.tokens
    assert both.usage.completion_tokens == 4


def test_a_streamed_list_is_the_whole_one(shallow: OpenAI) -> None:
    options: dict[str, Any] = {"logprobs": 2, "n": 2, "seed": 1}
    whole = complete(shallow, [COUNT, UNICODE], **options).choices
    found: dict[int, dict[str, list[Any]]] = {choice.index: {} for choice in whole}
    for chunk in complete(shallow, [COUNT, UNICODE], stream=True, **options):
        choice = chunk.choices[0]
        for name, values in (choice.logprobs.model_dump() if choice.logprobs else {}).items():
            found[choice.index].setdefault(name, []).extend(values)
    for choice in whole:
        expected = choice.logprobs.model_dump()
        streamed = found[choice.index]
        assert (streamed["tokens"], streamed["text_offset"]) == (expected["tokens"], expected["text_offset"])
        assert streamed["token_logprobs"][1:] == pytest.approx(expected["token_logprobs"][1:], abs=1e-2)


def test_parts_of_characters_have_entries_of_their_own(client: OpenAI) -> None:
    answer = scored(client, UNICODE)
    told = answer.choices[0].logprobs
    assert told.tokens == [
        "Gr", "ö", "ß", "e", "bytes: \\xf0\\x9f\\x98", "bytes:\\x80", "bytes: \\xe6", "bytes:\\x9d", "bytes:\\xb1",
        "bytes:\\xe4\\xba", "bytes:\\xac",
    ]  # fmt: skip
    assert told.text_offset == [0, 2, 3, 4, 5, 6, 7, 8, 8, 9, 9]
    assert all(logprob < 0 for logprob in told.token_logprobs[1:])
    assert told.token_logprobs[1] < -10  # looked up or not, each is as likely as the model thinks
    assert told.token_logprobs[-1] > -2
    for token, logprob, rivals in zip(told.tokens[1:], told.token_logprobs[1:], told.top_logprobs[1:], strict=True):
        assert rivals[token] == logprob


def test_a_prompt_that_begins_within_a_character(shallow: OpenAI) -> None:
    told = scored(shallow, [HALF_AN_EMOJI, 218, 218, HALF_AN_EMOJI, COMMA]).choices[0].logprobs
    assert [token.removeprefix("bytes:") for token in told.tokens] == [
        " \\xf0\\x9f\\x98", "\\x80", "\\x80", " \\xf0\\x9f\\x98", ",",
    ]  # fmt: skip
    assert all(logprob < 0 for logprob in told.token_logprobs[1:])


def test_tokens_that_end_texts_do_not_end_the_scoring(shallow: OpenAI) -> None:
    prompt = [IM_START, COMMA, IM_END, COMMA, 0, IM_END, HALF_AN_EMOJI, IM_START, COMMA]
    told = scored(shallow, prompt).choices[0].logprobs
    assert len(told.tokens) == len(prompt)
    assert told.tokens[:6] == ["<|im_start|>", ",", "<|im_end|>", ",", "<|endoftext|>", "<|im_end|>"]
    assert all(logprob < 0 for logprob in told.token_logprobs[1:])


def test_one_token_has_nothing_before_it(shallow: OpenAI) -> None:
    told = scored(shallow, [COMMA]).choices[0].logprobs
    assert told.model_dump() == {
        "tokens": [","], "token_logprobs": [None], "top_logprobs": [None], "text_offset": [0],
    }  # fmt: skip


def test_several_prompts_are_scored_each_by_itself(shallow: OpenAI) -> None:
    prompts = [COUNT, PROSE, COUNT]
    choices = scored(shallow, prompts, n=2).choices
    assert [choice.text for choice in choices] == [prompt for prompt in prompts for _ in range(2)]
    assert choices[0].logprobs.tokens == choices[4].logprobs.tokens != choices[2].logprobs.tokens
    assert choices[0].logprobs.token_logprobs[1:] == pytest.approx(choices[4].logprobs.token_logprobs[1:], abs=0.2)


def test_long_prompts(shallow: OpenAI) -> None:
    prompt = PROSE * 26
    answer = scored(shallow, prompt)
    told = answer.choices[0].logprobs
    assert answer.usage.prompt_tokens == len(told.tokens) > 512
    assert slices(prompt, told.text_offset) == told.tokens
    assert all(logprob is not None for logprob in told.token_logprobs[1:])


def test_what_repeats_is_expected(client: OpenAI) -> None:
    told = scored(client, PROSE * 4).choices[0].logprobs
    assert sum(told.token_logprobs[-20:]) > sum(told.token_logprobs[1:21])


def test_scoring_is_no_saving_of_the_cache(shallow: OpenAI) -> None:
    usage = complete(shallow, PROSE[::-1], logprobs=0, temperature=1).usage
    assert usage.prompt_tokens_details.cached_tokens == 0


# --- what can go wrong


def test_a_prompt_beyond_the_window(shallow: OpenAI) -> None:
    for prompt, limit in (("word " * 9000, 0), ([COMMA] * 8192, 0), (COUNT, 8192)):
        with pytest.raises(openai.BadRequestError) as caught:
            scored(shallow, prompt, max_tokens=limit)
        assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize("prompt", [[49152], [[1], [5, 49152]]])
def test_a_token_id_outside_the_vocabulary(shallow: OpenAI, prompt: object) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        scored(shallow, prompt)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "prompt")


@pytest.fixture(scope="module")
def own(start_server: StartServer) -> Iterator[Server]:
    with start_server() as running:
        yield running


@pytest.mark.anyio
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", [PROSE * 60, "😀 東京 " * 60], ids=["forced", "looked up"])
async def test_a_hang_up_ends_the_scoring(own: Server, text: str, stream: bool) -> None:
    body = {"model": CHAT_MODEL, "prompt": text, "echo": True, "logprobs": 1, "max_tokens": 0, "stream": stream}

    async def works() -> bool:
        return await working(own) == 1

    async with calling(own, COMPLETIONS, body) as caller:
        await until(works)
        caller.leave()
        assert await until(lambda: free(own)) < 3
