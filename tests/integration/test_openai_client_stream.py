"""Streams through the official client, and byte by byte."""

import json
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

COUNT = "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20"
PARROT = [
    {"role": "user", "content": "Write the numbers from 1 to 20."},
    {"role": "assistant", "content": COUNT},
    {"role": "user", "content": "Write the numbers from 1 to 20."},
]


def chunks_of(client: OpenAI, **options: object) -> list[Any]:
    options = {"model": CHAT_MODEL, "messages": PARROT, "temperature": 0, "max_tokens": 8} | options
    return list(client.chat.completions.create(stream=True, **options))  # type: ignore[call-overload]


def test_the_text_of_a_stream_is_that_of_the_answer(client: OpenAI) -> None:
    options = {"model": CHAT_MODEL, "messages": PARROT, "temperature": 0, "max_tokens": 100}
    whole = client.chat.completions.create(**options).choices[0].message.content  # type: ignore[call-overload]
    chunks = chunks_of(client, max_tokens=100)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole == COUNT
    assert len(chunks) > 10
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_shape_of_a_stream(client: OpenAI) -> None:
    chunks = chunks_of(client)
    assert len({(chunk.id, chunk.created, chunk.model, chunk.system_fingerprint) for chunk in chunks}) == 1
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert all(len(chunk.choices) == 1 for chunk in chunks)
    first, *between, last = [chunk.choices[0] for chunk in chunks]
    assert (first.delta.role, first.delta.content, first.delta.refusal) == ("assistant", "", None)
    assert {choice.delta.role for choice in between} == {None}
    assert {choice.finish_reason for choice in (first, *between)} == {None}
    assert (last.finish_reason, last.delta.model_dump(exclude_unset=True)) == ("length", {})
    assert all(chunk.usage is None and "usage" not in chunk.model_fields_set for chunk in chunks)


def test_the_usage_chunk(client: OpenAI) -> None:
    chunks = chunks_of(client, stream_options={"include_usage": True})
    *others, last = chunks
    assert last.choices == []
    assert last.usage.completion_tokens == 8
    assert last.usage.total_tokens == last.usage.prompt_tokens + 8
    assert last.usage.completion_tokens_details.reasoning_tokens == 0
    assert all(chunk.usage is None and "usage" in chunk.model_fields_set for chunk in others)
    assert all(chunk.choices for chunk in others)
    assert last.id == others[0].id


@pytest.mark.direct
def test_each_choice_starts_once_and_ends_once(client: OpenAI) -> None:
    chunks = chunks_of(client, n=4, temperature=1, seed=3, stream_options={"include_usage": True})
    seen = [chunk.choices[0] for chunk in chunks[:-1]]
    for index in range(4):
        mine = [choice for choice in seen if choice.index == index]
        assert [choice.delta.role for choice in mine] == ["assistant", *[None] * (len(mine) - 1)]
        assert [choice.finish_reason for choice in mine if choice.finish_reason] == ["length"]
        assert mine[-1].finish_reason == "length"
    assert chunks[-1].usage.completion_tokens == 32


def test_greedy_choices_are_streamed_alike(client: OpenAI) -> None:
    texts = ["", "", ""]
    for chunk in chunks_of(client, n=3):
        texts[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
    assert len(set(texts)) == 1
    assert texts[0]


def test_the_bytes_of_a_stream(http: httpx2.Client) -> None:
    body = {"model": CHAT_MODEL, "messages": PARROT, "max_tokens": 3, "stream": True}
    with http.stream("POST", "/v1/chat/completions", json=body) as answer:
        content = answer.read()
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"
    assert answer.headers["x-request-id"].startswith("req_")
    assert int(answer.headers["openai-processing-ms"]) >= 0
    assert content.endswith(b"data: [DONE]\n\n")
    assert content.count(b"[DONE]") == 1
    events = content.split(b"\n\n")
    assert events[-1] == b""
    for event in events[:-2]:
        assert event.startswith(b"data: {")
        assert b"\n" not in event
        json.loads(event[6:])


def test_a_stream_that_can_not_begin_is_an_error_with_a_status(client: OpenAI) -> None:
    for options, expected in (
        ({"model": "nobody"}, openai.NotFoundError),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, openai.BadRequestError),
        ({"temperature": 3}, openai.BadRequestError),
    ):
        with pytest.raises(expected):
            chunks_of(client, **options)


def test_stream_helper_of_the_client(client: OpenAI) -> None:
    with client.chat.completions.stream(model=CHAT_MODEL, messages=PARROT, max_tokens=100, temperature=0) as stream:  # type: ignore[arg-type]
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert "content.delta" in kinds
    assert final.choices[0].message.content == COUNT


def test_the_tier_is_in_every_chunk(client: OpenAI) -> None:
    assert {chunk.service_tier for chunk in chunks_of(client, max_tokens=2, service_tier="flex")} == {"flex"}
