"""What an embedded model is given of a conversation, by the official client; the prompt's tokens tell."""

from typing import Any

import pytest
from openai import APIError, BadRequestError, InternalServerError, OpenAI
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

SYSTEM = {"role": "system", "content": "Be brief."}
CALL = {"id": "c1", "type": "function", "function": {"name": "look", "arguments": '{"at": "the sky"}'}}
TALK: list[Any] = [
    SYSTEM,
    {"role": "user", "content": "Who was the first of them all?"},
    {"role": "assistant", "content": "Ada was, as far as anybody knows."},
    {"role": "user", "content": "And who came after her?"},
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "tool", "tool_call_id": "c1", "content": "Grace did."},
    {"role": "user", "content": "And then?"},
]


def asked(shallow: OpenAI, messages: list[Any], **fields: Any) -> tuple[int, str | None]:
    """The prompt's tokens and how many messages were left out."""
    raw = shallow.chat.completions.with_raw_response.create(
        model=CHAT_MODEL, messages=messages, max_tokens=1, extra_body=fields
    )
    usage = raw.parse().usage
    assert usage is not None
    return usage.prompt_tokens, raw.headers.get("x-narthex-forgotten")


@pytest.fixture(scope="module")
def counts(shallow: OpenAI) -> dict[int, int]:
    """The tokens of the prompt with so many of the messages after the system's."""
    return {kept: asked(shallow, [SYSTEM, *TALK[-kept:]])[0] for kept in (1, 4, 5, 6)}


@pytest.mark.parametrize(("k", "kept"), [(1, 1), (2, 1), (3, 4 - 1), (4, 4), (5, 5), (6, 6), (99, 6)])
def test_the_last_messages_with_their_calls(k: int, kept: int, *, shallow: OpenAI, counts: dict[int, int]) -> None:
    strategy = {"name": "last_k", "params": {"k": k}}
    tokens, forgotten = asked(shallow, TALK, memory_strategy=strategy)
    assert forgotten == (str(6 - kept) if kept < 6 else None)
    assert tokens == counts.get(kept, tokens)


@pytest.mark.parametrize("kept", [1, 4, 5, 6])
def test_a_budget_is_kept_to_the_token(kept: int, *, shallow: OpenAI, counts: dict[int, int]) -> None:
    tokens, forgotten = asked(shallow, TALK, token_budget=counts[kept])
    assert (tokens, forgotten) == (counts[kept], str(6 - kept) if kept < 6 else None)


def test_one_token_less_leaves_out_more(shallow: OpenAI, counts: dict[int, int]) -> None:
    assert asked(shallow, TALK, token_budget=counts[6] - 1) == (counts[5], "1")
    with pytest.raises(BadRequestError) as caught:
        asked(shallow, TALK, token_budget=counts[1] - 1)
    assert (caught.value.param, caught.value.code) == ("token_budget", "context_length_exceeded")
    assert f"{counts[1] - 1} tokens" in caught.value.message
    assert f"{counts[1]} tokens" in caught.value.message


def test_both_at_once(shallow: OpenAI, counts: dict[int, int]) -> None:
    strategy = {"name": "last_k", "k": 5}
    assert asked(shallow, TALK, memory_strategy=strategy, token_budget=counts[6]) == (counts[5], "1")
    assert asked(shallow, TALK, memory_strategy=strategy, token_budget=counts[4]) == (counts[4], "2")


def test_streams_tell_it_too(shallow: OpenAI, counts: dict[int, int]) -> None:
    raw = shallow.chat.completions.with_raw_response.create(
        model=CHAT_MODEL, messages=TALK, max_tokens=1, stream=True, stream_options={"include_usage": True},
        extra_body={"token_budget": counts[4]},
    )  # fmt: skip
    assert raw.headers["x-narthex-forgotten"] == "2"
    *_, last = raw.parse()
    assert last.usage is not None
    assert last.usage.prompt_tokens == counts[4]


def test_the_time_of_one_request(shallow: OpenAI) -> None:
    long: Any = {"model": CHAT_MODEL, "messages": TALK, "max_tokens": 8000}
    endless = {"ignore_eos": True, "inference_timeout": "0.4"}
    with pytest.raises(InternalServerError) as caught:
        shallow.chat.completions.create(**long, extra_body=endless)
    assert caught.value.status_code == 504
    with pytest.raises(APIError, match=r"0\.4 s"):
        list(shallow.chat.completions.create(**long, stream=True, extra_body=endless))


@pytest.mark.parametrize("field", ["inference_extra_params", "inference_extra_headers"])
def test_an_embedded_model_takes_no_additions(field: str, shallow: OpenAI) -> None:
    with pytest.raises(BadRequestError) as caught:
        asked(shallow, TALK, **{field: {"x-a": "b"}})
    assert (caught.value.param, caught.value.code) == (field, "unsupported_parameter")
