"""Chat through the official client: answers, sampling, stops, limits, seeds."""

import time

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion
from tests.server_process import CHAT_MODEL, SLASHED, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

STORY = [{"role": "user", "content": "Tell me a story about a fox."}]
COUNT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20"
PARROT = [
    {"role": "user", "content": "Write the numbers from 1 to 20."},
    {"role": "assistant", "content": COUNT},
    {"role": "user", "content": "Write the numbers from 1 to 20."},
]
"""What follows is so likely that no rounding in the engine changes it."""


def ask(client: OpenAI, messages: object = STORY, **options: object) -> ChatCompletion:
    options = {"model": CHAT_MODEL, "max_tokens": 16} | options
    return client.chat.completions.create(messages=messages, **options)  # type: ignore[call-overload, no-any-return]


def text(answer: ChatCompletion, choice: int = 0) -> str:
    return answer.choices[choice].message.content or ""


@pytest.mark.direct
def test_an_answer_has_every_field(client: OpenAI) -> None:
    before = int(time.time())
    answer = ask(client)
    assert answer.id.startswith("chatcmpl-")
    assert answer.object == "chat.completion"
    assert before - 1 <= answer.created <= time.time() + 1
    assert answer.model == CHAT_MODEL
    assert answer.system_fingerprint is not None
    assert len(answer.system_fingerprint) == 13
    assert answer.service_tier is None
    (choice,) = answer.choices
    assert (choice.index, choice.finish_reason, choice.logprobs) == (0, "length", None)
    message = choice.message
    assert (message.role, message.refusal, message.annotations, message.tool_calls) == ("assistant", None, [], None)
    assert message.content
    usage = answer.usage
    assert usage is not None
    assert usage.completion_tokens == 16
    assert usage.prompt_tokens > 10
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.prompt_tokens_details is not None
    assert usage.completion_tokens_details is not None
    assert usage.completion_tokens_details.reasoning_tokens == 0


@pytest.mark.anyio
async def test_async_client(aclient: AsyncOpenAI) -> None:
    answer = await aclient.chat.completions.create(model=CHAT_MODEL, messages=STORY, max_tokens=4)  # type: ignore[arg-type]
    assert answer.choices[0].finish_reason == "length"
    stream = await aclient.chat.completions.create(  # type: ignore[call-overload]
        model=CHAT_MODEL, messages=STORY, max_tokens=4, stream=True
    )
    chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].finish_reason for chunk in chunks][-1] == "length"


@pytest.mark.direct
def test_headers_of_an_answer(client: OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model=CHAT_MODEL, messages=STORY, max_tokens=2)  # type: ignore[arg-type]
    answer = raw.parse()
    assert answer._request_id == raw.headers["x-request-id"]
    assert answer._request_id.startswith("req_")
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["x-narthex-deployment"] == f"local/{CHAT_MODEL}"
    assert "x-narthex-ignored" not in raw.headers


def test_a_public_name_with_a_slash(client: OpenAI) -> None:
    assert ask(client, model=SLASHED, max_tokens=1).model == SLASHED


def test_the_fingerprint_stays(client: OpenAI) -> None:
    assert ask(client, max_tokens=1).system_fingerprint == ask(client, PARROT, max_tokens=2).system_fingerprint


def test_the_service_tier_is_told_where_it_was_asked_for(client: OpenAI) -> None:
    for asked, used in (("auto", "default"), ("priority", "priority"), ("fast", "priority"), ("scale", "scale")):
        assert ask(client, max_tokens=1, service_tier=asked).service_tier == used


# --- choices ---------------------------------------------------------------------------------------------------------


def test_four_choices(client: OpenAI) -> None:
    answer = ask(client, n=4, max_tokens=12, seed=5)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert len({text(answer, index) for index in range(4)}) > 1
    assert answer.usage is not None
    assert {choice.finish_reason for choice in answer.choices} == {"length"}
    assert answer.usage.completion_tokens == 48
    assert answer.usage.prompt_tokens == ask(client, max_tokens=1).usage.prompt_tokens  # type: ignore[union-attr]


def test_choices_at_temperature_zero_are_equal_and_each_is_counted(client: OpenAI) -> None:
    one = ask(client, PARROT, temperature=0)
    three = ask(client, PARROT, temperature=0, n=3)
    assert [text(three, index) for index in range(3)] == [text(one)] * 3
    assert one.usage is not None
    assert three.usage is not None
    assert three.usage.completion_tokens == 3 * one.usage.completion_tokens
    assert three.usage.prompt_tokens == one.usage.prompt_tokens


# --- sampling --------------------------------------------------------------------------------------------------------


def test_top_p_zero_is_greedy(client: OpenAI) -> None:
    assert text(ask(client, PARROT, top_p=0)) == text(ask(client, PARROT, temperature=0)) != ""


def test_penalties_change_the_text(client: OpenAI) -> None:
    assert COUNT.startswith(text(ask(client, PARROT, temperature=0, frequency_penalty=0, presence_penalty=0)))
    assert not COUNT.startswith(text(ask(client, PARROT, temperature=0, frequency_penalty=2)))
    plain, penalised = (text(ask(client, temperature=0, presence_penalty=value, max_tokens=40)) for value in (0, 2))
    assert plain != penalised


# --- limits and ends -------------------------------------------------------------------------------------------------


def test_the_newer_limit_wins(client: OpenAI) -> None:
    answer = ask(client, max_tokens=3, max_completion_tokens=7)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 7
    answer = ask(client, max_tokens=7, max_completion_tokens=3)
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3


def test_ends_by_itself(client: OpenAI) -> None:
    answer = ask(client, PARROT, temperature=0, max_tokens=200)
    assert (text(answer), answer.choices[0].finish_reason) == (COUNT, "stop")


def test_a_prompt_longer_than_the_window(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, [{"role": "user", "content": "word " * 9000}])
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")
    assert "8192 tokens" in caught.value.message


def test_a_limit_beyond_the_window(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, max_tokens=8192)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "messages")


def test_the_window_may_be_filled(client: OpenAI) -> None:
    prompt = ask(client, PARROT, max_tokens=1).usage.prompt_tokens  # type: ignore[union-attr]
    answer = ask(client, PARROT, temperature=0, max_tokens=8192 - prompt)
    assert answer.choices[0].finish_reason == "stop"
    with pytest.raises(openai.BadRequestError):
        ask(client, PARROT, max_tokens=8193 - prompt)


# --- other keys ------------------------------------------------------------------------------------------------------


def test_a_key_with_the_needed_grants_will_do(server: Server) -> None:
    key = server.key(surfaces=("chat",), models=("smol*",))
    with OpenAI(base_url=server.base_url, api_key=key, max_retries=0) as narrow:
        assert ask(narrow, max_tokens=1).choices
