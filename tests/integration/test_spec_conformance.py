"""What the official client and the server say to each other is what OpenAI's published specification says.

Checked is everything that this session's tests exchanged before this module ran, and a round of calls of its own.
"""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import numpy as np
import openai
import pytest
from openai import OpenAI
from tests.exchanges import HttpExchange
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, SLASHED

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

SPECIFICATION = Path(__file__).parents[3] / "shared" / "specs" / "openai.openapi.json"
ADDRESS = "urn:openai"
REQUESTS = {
    "/v1/chat/completions": "CreateChatCompletionRequest",
    "/v1/completions": "CreateCompletionRequest",
    "/v1/embeddings": "CreateEmbeddingRequest",
}
ANSWERS = {
    ("POST", "/v1/chat/completions"): "CreateChatCompletionResponse",
    ("POST", "/v1/completions"): "CreateCompletionResponse",
    ("POST", "/v1/embeddings"): "CreateEmbeddingResponse",
    ("GET", "/v1/models"): "ListModelsResponse",
    ("GET", "/v1/models/"): "Model",
    ("DELETE", "/v1/models/"): "DeleteModelResponse",
}
CHUNKS = {
    "/v1/chat/completions": "CreateChatCompletionStreamResponse",
    "/v1/completions": "CreateCompletionResponse",
}
HELLO = [{"role": "user", "content": "Hello!"}]


def modern(schema: Any) -> Any:
    """The same schema without `nullable`, which the specification still uses here and there and its version forgot."""
    if isinstance(schema, list):
        return [modern(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    plain = {name: modern(each) for name, each in schema.items() if name != "nullable" or isinstance(each, dict)}
    return {"anyOf": [plain, {"type": "null"}]} if schema.get("nullable") is True else plain


class Specification:
    """Validators by the names of the specification's schemas."""

    def __init__(self, document: dict[str, Any]) -> None:
        self._registry = jsonschema_rs.Registry([(ADDRESS, document)], draft=jsonschema_rs.Draft202012)
        self._validators: dict[str, Any] = {}

    def faults(self, name: str, value: Any) -> list[str]:
        """What is wrong with a value of the schema `name`."""
        if name not in self._validators:
            reference = {"$ref": f"{ADDRESS}#/components/schemas/{name}"}
            self._validators[name] = jsonschema_rs.Draft202012Validator(reference, registry=self._registry)
        return [
            f"{name} {fault.instance_path}: {fault.message[:300]}"
            for fault in self._validators[name].iter_errors(value)
        ]


@pytest.fixture(scope="module")
def specification() -> Specification:
    if not SPECIFICATION.is_file():
        pytest.skip("the specification is not at hand")
    return Specification(modern(json.loads(SPECIFICATION.read_text())))


@pytest.fixture(scope="module")
def whole_round(client: OpenAI, exchanges: list[HttpExchange]) -> list[HttpExchange]:
    """One call of each kind, so that this module has what to check when it runs alone."""
    chat: Any = client.chat.completions.create
    completions: Any = client.completions.create
    usage = {"include_usage": True}
    for options in ({}, {"n": 2}, {"service_tier": "auto"}, {"user": "u", "metadata": {"a": "b"}, "stop": ["x", "y"]}):
        chat(model=CHAT_MODEL, messages=HELLO, max_tokens=2, **options)
        list(chat(model=CHAT_MODEL, messages=HELLO, max_tokens=2, stream=True, stream_options=usage, **options))
    list(chat(model=CHAT_MODEL, messages=HELLO, max_tokens=2, stream=True))
    completions(model=CHAT_MODEL, prompt=["a", "b"], max_tokens=2, n=2)
    list(completions(model=CHAT_MODEL, prompt=[1, 2], max_tokens=2, stream=True, stream_options=usage))
    client.embeddings.create(model=EMBEDDING_MODEL, input=["a", "b"], dimensions=64)
    client.embeddings.create(model=EMBEDDING_MODEL, input="a", encoding_format="float")
    client.models.list()
    client.models.retrieve(SLASHED)
    for call in (
        lambda: client.models.retrieve("nobody"),
        lambda: client.models.delete(CHAT_MODEL),
        lambda: chat(model=CHAT_MODEL, messages=HELLO, temperature=3),
    ):
        with pytest.raises(openai.APIStatusError):
            call()
    return exchanges


def ended(chunk: Any) -> Any:
    """A chunk of text completions as if it were the last: the specification describes the whole answer only."""
    if chunk["object"] == "text_completion":
        for choice in chunk["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
        if chunk.get("usage", ...) is None:
            del chunk["usage"]
    return chunk


def answer_schema(exchange: HttpExchange) -> str:
    path = exchange.path.partition("?")[0]
    if exchange.status != 200:
        return "ErrorResponse"
    if path.startswith("/v1/models/"):
        path = "/v1/models/"
    return ANSWERS[exchange.method, path]


def numbers(answer: Any) -> Any:
    """Vectors as numbers: the specification knows base64 in requests and forgets it in answers."""
    for each in answer.get("data", ()):
        if isinstance(each.get("embedding"), str):
            each["embedding"] = np.frombuffer(base64.b64decode(each["embedding"]), "<f4").tolist()
    return answer


def scored(answer: Any) -> Any:
    """Nothing comes before the first token of an echoed prompt: OpenAI tells null, and its specification forgets it."""
    for choice in answer.get("choices", ()):
        told = choice.get("logprobs") or {}
        if (told.get("token_logprobs") or [0])[0] is None:
            told["token_logprobs"][0], told["top_logprobs"][0] = 0, {}
    return answer


def events(received: bytes) -> Iterator[Any]:
    for line in received.split(b"\n"):
        if line.startswith(b"data: ") and line != b"data: [DONE]":
            yield json.loads(line[6:])


def test_requests(specification: Specification, whole_round: list[HttpExchange]) -> None:
    """Of those that were answered: what the server took and the specification doesn't is an extension, not a test."""
    checked = 0
    for exchange in whole_round:
        if exchange.status == 200 and exchange.method == "POST":
            assert specification.faults(REQUESTS[exchange.path], json.loads(exchange.sent)) == []
            checked += 1
    assert checked >= 10


def test_answers(specification: Specification, whole_round: list[HttpExchange]) -> None:
    seen = set()
    for exchange in whole_round:
        if exchange.content_type.startswith("application/json") and exchange.complete:
            name = answer_schema(exchange)
            assert specification.faults(name, scored(numbers(json.loads(exchange.received)))) == [], exchange.sent
            seen.add(name)
    assert seen >= {*ANSWERS.values(), "ErrorResponse"} - {"DeleteModelResponse"}


def test_chunks(specification: Specification, whole_round: list[HttpExchange]) -> None:
    seen = set()
    for exchange in whole_round:
        if exchange.received.endswith(b"data: [DONE]\n\n"):  # where the client stops to read
            name = CHUNKS[exchange.path]
            for event in events(exchange.received):
                assert specification.faults(name, scored(ended(event))) == [], exchange.sent
            seen.add(name)
    assert seen == set(CHUNKS.values())


def test_the_validator_finds_faults(specification: Specification) -> None:
    assert specification.faults("Model", {"id": "a", "object": "model", "owned_by": "b"})
    assert specification.faults("CreateChatCompletionResponse", {"id": 3})
