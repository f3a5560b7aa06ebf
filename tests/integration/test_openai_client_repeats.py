"""The same question, asked again of an idle engine, gets the same answer: at temperature 0, and for a seed."""

from collections.abc import Iterator

import pytest
from openai import OpenAI
from tests.server_process import CHAT_MODEL, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

QUESTION = [{"role": "user", "content": "Tell me a story about a fox."}]


@pytest.fixture(scope="module")
def client(start_server: StartServer) -> Iterator[OpenAI]:
    """Towards an engine that nobody else uses."""
    with (
        start_server({"embedder": {"default": None}}, models=(CHAT_MODEL,)) as server,
        OpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0) as it,
    ):
        yield it


def texts(client: OpenAI, **options: object) -> tuple[str, ...]:
    options = {"model": CHAT_MODEL, "messages": QUESTION, "max_tokens": 6} | options
    answer = client.chat.completions.create(**options)  # type: ignore[call-overload]
    return tuple(choice.message.content for choice in answer.choices)


def test_temperature_zero_repeats(client: OpenAI) -> None:
    assert len({texts(client, temperature=0) for _ in range(8)}) == 1


def test_a_seed_repeats(client: OpenAI) -> None:
    assert len({texts(client, seed=1234) for _ in range(8)}) == 1
    assert texts(client, seed=1235, max_tokens=12) != texts(client, seed=1234, max_tokens=12)


@pytest.mark.parametrize("seed", [-9223372036854776000, 9223372036854776000, -1, 0, 4294967295])
def test_every_documented_seed_repeats(client: OpenAI, seed: int) -> None:
    assert texts(client, seed=seed) == texts(client, seed=seed)


def test_without_a_seed_answers_differ(client: OpenAI) -> None:
    assert len({texts(client, temperature=2.0) for _ in range(5)}) > 1
