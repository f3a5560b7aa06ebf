"""`best_of` and `suffix` through the official client."""

from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.chat_gguf import rewritten
from tests.server_process import CHAT_MODEL, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

PROMPT = "My favourite animal is the"
RANDOM = {"temperature": 1, "seed": 11}


def complete(client: OpenAI, prompt: object = PROMPT, **options: Any) -> Any:
    options = {"model": CHAT_MODEL, "max_tokens": 6} | options
    return client.completions.create(prompt=prompt, **options)  # type: ignore[call-overload]


def mean(choice: Any) -> float:
    return fmean(choice.logprobs.token_logprobs)


@pytest.mark.direct
def test_the_best_of_those_that_n_would_give(client: OpenAI) -> None:
    all_ = complete(client, n=5, logprobs=0, **RANDOM)
    order = [choice.text for choice in sorted(all_.choices, key=mean, reverse=True)]
    assert len(set(order)) > 2
    for n in (1, 2, 5):
        best = complete(client, n=n, best_of=5, **RANDOM)
        assert [choice.text for choice in best.choices] == order[:n]
        assert [choice.index for choice in best.choices] == list(range(n))
        assert all(choice.logprobs is None for choice in best.choices)
        assert best.usage.completion_tokens == all_.usage.completion_tokens
        assert best.usage.prompt_tokens == all_.usage.prompt_tokens


def test_they_keep_the_log_probabilities_that_were_asked_for(client: OpenAI) -> None:
    first, second = complete(client, n=2, best_of=4, logprobs=2, **RANDOM).choices
    assert mean(first) >= mean(second)
    assert "".join(first.logprobs.tokens) == first.text


def test_of_each_prompt(client: OpenAI) -> None:
    answer = complete(client, [PROMPT, "1, 2, 3, 4,", "Why"], n=2, best_of=3, temperature=1, logprobs=0)
    assert [choice.index for choice in answer.choices] == list(range(6))
    for better, worse in zip(answer.choices[::2], answer.choices[1::2], strict=True):
        assert mean(better) >= mean(worse)
    assert answer.usage.completion_tokens > 6 * 6


def test_where_all_are_alike(client: OpenAI) -> None:
    plain = complete(client, temperature=0)
    best = complete(client, temperature=0, best_of=3)
    assert [choice.text for choice in best.choices] == [plain.choices[0].text]
    assert best.usage.completion_tokens == 3 * plain.usage.completion_tokens


def test_with_the_prompt_before_them(client: OpenAI) -> None:
    choices = complete(client, n=2, best_of=3, echo=True, logprobs=1, **RANDOM).choices
    assert all(choice.text.startswith(PROMPT) for choice in choices)
    assert all("".join(choice.logprobs.tokens) == choice.text for choice in choices)
    only = complete(client, n=2, best_of=3, echo=True, max_tokens=0, logprobs=1)
    assert [choice.text for choice in only.choices] == [PROMPT] * 2


@pytest.mark.parametrize(
    "options", [{"best_of": 2, "stream": True}, {"best_of": 1, "n": 2}, {"best_of": 128, "prompt": ["a"] * 17}]
)
def test_what_can_not_be(client: OpenAI, options: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, **options)
    assert caught.value.param in {"best_of", "prompt"}


# --- suffix

PRE, SUF, MID = 3, 5, 4
NAME = "fills-in"


@pytest.fixture(scope="module")
def filling(models_dir: Path, start_server: StartServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """A client of a server whose model declares that it can fill in."""
    (source,) = (models_dir / CHAT_MODEL).glob("*.gguf")
    target = tmp_path_factory.mktemp("gguf") / "fills-in.gguf"
    tokens = {"pre": PRE, "suf": SUF, "mid": MID}
    numbers = {f"tokenizer.ggml.fim_{name}_token_id": token for name, token in tokens.items()}
    model = {"source": str(rewritten(source, target, numbers=numbers)), "threads": 1}
    config = {"engine": {"default": None, "models": {NAME: model}}, "embedder": {"default": None}}
    with (
        start_server(config, models=()) as server,
        OpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0, timeout=120) as client,
    ):
        yield client


def test_a_model_that_fills_in_gets_both_sides(filling: OpenAI) -> None:
    prompt, suffix = "def one():\n    ", "\n\none()"
    options: dict[str, Any] = {"model": NAME, "temperature": 0}
    filled = complete(filling, prompt, suffix=suffix, **options)
    sides = [complete(filling, text, max_tokens=0, **options).usage.prompt_tokens for text in (prompt, suffix)]
    assert filled.usage.prompt_tokens == sum(sides) + 3
    assert filled.choices[0].text != complete(filling, prompt, **options).choices[0].text
    assert complete(filling, [28], suffix=suffix, **options).usage.prompt_tokens == 1 + sides[1] + 3
    assert complete(filling, "", suffix=suffix, **options).usage.prompt_tokens == sides[1] + 3
    streamed = "".join(
        chunk.choices[0].text for chunk in complete(filling, prompt, suffix=suffix, stream=True, **options)
    )
    assert streamed == filled.choices[0].text


def test_filled_in_text_is_not_told_with_its_prompt(filling: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(filling, suffix="x", echo=True, model=NAME)
    assert caught.value.param == "echo"


def test_any_other_model_refuses(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, suffix="x")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "suffix")
    assert complete(client, suffix="").choices
