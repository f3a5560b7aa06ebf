"""Embeddings through the official client."""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
import numpy.typing as npt
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from safetensors.numpy import load_file
from tests.integration.test_embedder_vectors import TEXTS, reference
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL
from tokenizers import Tokenizer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]


def embed(client: OpenAI, given: object, **options: object) -> Any:
    return client.embeddings.create(model=EMBEDDING_MODEL, input=given, **options)  # type: ignore[arg-type]


def vectors(answer: Any) -> npt.NDArray[np.float64]:
    return np.array([each.embedding for each in answer.data])


@pytest.fixture(scope="module")
def tokenizer(models_dir: Path) -> Tokenizer:
    found: Tokenizer = Tokenizer.from_file(str(models_dir / EMBEDDING_MODEL / "tokenizer.json"))
    found.no_truncation()
    found.no_padding()
    return found


def test_an_answer_has_every_field(client: OpenAI) -> None:
    answer = embed(client, "hello")
    assert (answer.object, answer.model) == ("list", EMBEDDING_MODEL)
    assert [(each.object, each.index) for each in answer.data] == [("embedding", 0)]
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == 3
    assert "completion_tokens" not in answer.usage.model_dump()
    assert vectors(answer).shape == (1, 384)
    assert np.linalg.norm(vectors(answer)[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.anyio
async def test_async_client(aclient: AsyncOpenAI) -> None:
    answer = await aclient.embeddings.create(model=EMBEDDING_MODEL, input=["a", "b"])
    assert len(answer.data) == 2


def test_four_forms_of_input(client: OpenAI, tokenizer: Tokenizer) -> None:
    ids: Sequence[int] = tokenizer.encode("hello world").ids
    texts = vectors(embed(client, ["hello world", "another"]))
    for given in ("hello world", ["hello world"], list(ids), [list(ids)]):
        answer = embed(client, given)
        assert vectors(answer)[0] @ texts[0] == pytest.approx(1, abs=1e-4)
        assert answer.usage.prompt_tokens == len(ids)
    assert texts[0] @ texts[1] < 0.9


def test_base64_and_numbers_are_the_same(http: httpx2.Client) -> None:
    body = {"model": EMBEDDING_MODEL, "input": ["one", "two"]}
    as_text = http.post("/v1/embeddings", json=body | {"encoding_format": "base64"}).json()
    as_numbers = http.post("/v1/embeddings", json=body | {"encoding_format": "float"}).json()
    plain = http.post("/v1/embeddings", json=body).json()
    assert plain == as_numbers
    for one, other in zip(as_text["data"], as_numbers["data"], strict=True):
        decoded = np.frombuffer(base64.b64decode(one["embedding"]), "<f4")
        assert decoded.shape == (384,)
        assert np.array_equal(decoded, np.array(other["embedding"], "<f4"))


def test_dimensions_are_cut_and_made_unit_length_again(client: OpenAI) -> None:
    whole = vectors(embed(client, "a cut text"))[0]
    for dimensions in (1, 100, 384):
        cut = vectors(embed(client, "a cut text", dimensions=dimensions))[0]
        expected = whole[:dimensions] / np.linalg.norm(whole[:dimensions])
        assert cut.shape == (dimensions,)
        assert np.linalg.norm(cut) == pytest.approx(1, abs=1e-5)
        assert np.allclose(cut, expected, atol=1e-5)


def test_agrees_with_the_models_own_arithmetic(client: OpenAI, models_dir: Path, tokenizer: Tokenizer) -> None:
    tensors = load_file(models_dir / EMBEDDING_MODEL / "model.safetensors")
    texts = [text for text in TEXTS if text and len(tokenizer.encode(text).ids) <= 512]
    assert len(texts) >= 4
    for text, vector in zip(texts, vectors(embed(client, texts)), strict=True):
        ids = tokenizer.encode(text).ids
        assert vector @ reference(tensors, ids, layers=6, heads=12, eps=1e-12) >= 0.9999


def test_many_inputs_keep_their_order(client: OpenAI) -> None:
    texts = [f"number {index}" for index in range(256)]
    answer = embed(client, texts)
    assert [each.index for each in answer.data] == list(range(256))
    assert vectors(answer)[200] @ vectors(embed(client, texts[200]))[0] == pytest.approx(1, abs=1e-4)


def test_many_lists_of_tokens(client: OpenAI) -> None:
    answer = embed(client, [[101, 2000 + index, 102] for index in range(64)])
    assert len(answer.data) == 64
    assert answer.usage.prompt_tokens == 192


def test_a_text_that_is_too_long(client: OpenAI) -> None:
    for given in ("word " * 600, [2000] * 513):
        with pytest.raises(openai.BadRequestError) as caught:
            embed(client, given)
        assert caught.value.code == "context_length_exceeded"
        assert (caught.value.param or "").startswith("input")


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        ({}, "missing_required_parameter", "input"),
        ({"input": ""}, "invalid_value", "input"),
        ({"input": []}, "empty_array", "input"),
        ({"input": ["a", ""]}, "invalid_value", "input[1]"),
        ({"input": [[]]}, "empty_array", "input[0]"),
        ({"input": ["a"] * 2049}, "array_above_max_length", "input"),
        ({"input": [1] * 2049}, "array_above_max_length", "input"),
        ({"input": 3}, "invalid_type", "input"),
        ({"input": ["a", 3]}, "invalid_type", "input[1]"),
        ({"input": "a", "encoding_format": "int8"}, "invalid_value", "encoding_format"),
        ({"input": "a", "dimensions": 0}, "integer_below_min_value", "dimensions"),
        ({"input": "a", "dimensions": 385}, "integer_above_max_value", "dimensions"),
        ({"input": "a", "stream": True}, "unknown_parameter", "stream"),
        ({"input": "a", "Dimensions": 3}, "unknown_parameter", "Dimensions"),
        ({"input": "a", "model": CHAT_MODEL}, "unsupported_value", "model"),
    ],
)
def test_what_is_wrong_is_named(http: httpx2.Client, body: dict[str, object], code: str, param: str) -> None:
    answer = http.post("/v1/embeddings", json={"model": EMBEDDING_MODEL} | body)
    error = answer.json()["error"]
    assert (answer.status_code, error["code"], error["param"]) == (400, code, param), error


def test_a_token_id_outside_the_vocabulary(http: httpx2.Client) -> None:
    answer = http.post("/v1/embeddings", json={"model": EMBEDDING_MODEL, "input": [30522]})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"].startswith("input")


@pytest.mark.direct
def test_the_user_has_no_effect(client: OpenAI) -> None:
    raw = client.embeddings.with_raw_response.create(model=EMBEDDING_MODEL, input="a", user="someone")
    assert raw.headers["x-narthex-ignored"] == "user"
