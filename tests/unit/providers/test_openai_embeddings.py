"""Embeddings as servers of OpenAI's format take and answer them."""

import base64
import json
import struct
from typing import Any

import pytest

from narthex.core.capabilities import State
from narthex.core.chat import Sampling
from narthex.core.completions import CompletionRequest
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import NarthexError, UpstreamProtocolError, UpstreamRateLimited, UpstreamUnavailable
from narthex.core.stream import EmbeddingsReady, Frame
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.providers import openai_embeddings
from narthex.providers.openai_embeddings import EmbeddingsDecoder, OpenAIEmbeddings
from narthex.providers.openai_rows import Row, native


def embeddings(**fields: Any) -> EmbeddingsRequest:
    body = json.dumps({"model": "m", "input": "text"} | fields).encode()
    request = EmbeddingsDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(request, EmbeddingsRequest)
    return request


def built(codec: OpenAIEmbeddings, **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(codec.build(embeddings(**fields), model="theirs"))
    return body


def vector(*numbers: float) -> bytes:
    return struct.pack(f"<{len(numbers)}f", *numbers)


def answer(*rows: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"object": "list", "data": rows} | fields).encode()


def decoded(data: bytes, *, vectors: int = 1, dimensions: int | None = None) -> list[Frame]:
    decoder = EmbeddingsDecoder(vectors=vectors, dimensions=dimensions)
    return [*decoder.feed(data), *decoder.end()]


def vectors_of(data: bytes, *, vectors: int = 1, dimensions: int | None = None) -> tuple[bytes, ...]:
    (frame,) = decoded(data, vectors=vectors, dimensions=dimensions)
    ready = frame.events[0]
    assert isinstance(ready, EmbeddingsReady)
    return ready.vectors


# --- requests --------------------------------------------------------------------------------------------------------


def test_base64_is_asked_for_whatever_the_caller_did() -> None:
    assert built(OpenAIEmbeddings(), dimensions=2, user="me", encoding_format="float") == {
        "model": "theirs", "input": "text", "dimensions": 2, "user": "me", "encoding_format": "base64",
    }  # fmt: skip


def test_a_server_without_these_fields_is_not_told_of_them() -> None:
    row = Row(honoured=native("model", "input") | {"encoding_format": State.EMULATED, "dimensions": State.EMULATED})
    assert set(built(OpenAIEmbeddings(row), dimensions=2, encoding_format="base64")) == {"model", "input"}


def test_is_asked_for_nothing_else() -> None:
    other = CompletionRequest(model="m", prompts=("a",), sampling=Sampling(), fields={}, sent={})
    with pytest.raises(NarthexError):
        OpenAIEmbeddings().build(other, model="m")


# --- answers ---------------------------------------------------------------------------------------------------------


def test_text_and_numbers_are_the_same_vectors_in_the_order_of_the_inputs() -> None:
    written = base64.b64encode(vector(0.5, -0.25)).decode()
    data = answer({"index": 1, "embedding": [1, 2.0]}, {"index": 0, "embedding": written})
    assert vectors_of(data, vectors=2) == (vector(0.5, -0.25), vector(1, 2))
    assert vectors_of(answer({"embedding": [1]}, {"embedding": [2]}), vectors=2) == (vector(1), vector(2))


def test_the_usage_is_told_with_them() -> None:
    (frame,) = decoded(answer({"index": 0, "embedding": [1]}, usage={"prompt_tokens": 8, "total_tokens": 8}))
    assert frame.usage is not None
    assert (frame.usage.prompt_tokens, frame.usage.completion_tokens) == (8, 0)
    (untold,) = decoded(answer({"index": 0, "embedding": [1]}))
    assert untold.usage is None


def test_tokens_are_inputs_too() -> None:
    decoder = OpenAIEmbeddings().decoder(embeddings(input=[[1, 2], [3]], dimensions=1))
    data = answer({"index": 0, "embedding": [3, 4]}, {"index": 1, "embedding": [-2, 0]})
    (frame,) = [*decoder.feed(data), *decoder.end()]
    assert frame.events[0] == EmbeddingsReady((vector(1), vector(-1)))


def test_vectors_that_are_too_long_are_cut_to_unit_length() -> None:
    assert vectors_of(answer({"index": 0, "embedding": [3, 4, 5]}), dimensions=2) == (vector(0.6, 0.8),)
    assert vectors_of(answer({"index": 0, "embedding": [3, 4]}), dimensions=2) == (vector(3, 4),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>",
        b"\xff",
        b'{"data": [{"index": 0}]}',
        answer(),
        answer({"index": 1, "embedding": [1]}),
        answer({"index": 0, "embedding": [1]}, {"index": 0, "embedding": [1]}),
        answer({"index": 0, "embedding": []}),
        answer({"index": 0, "embedding": ""}),
        answer({"index": 0, "embedding": "AAA"}),
        answer({"index": 0, "embedding": "AAAA"}),
        answer({"index": 0, "embedding": "ä"}),
        answer({"index": 0, "embedding": [1e300]}),
        answer({"index": 0, "embedding": base64.b64encode(vector(1, float("nan"))).decode()}),
    ],
)
def test_what_is_no_vector_is_an_error(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        decoded(data)


def test_vectors_differ_in_nothing_but_their_numbers() -> None:
    with pytest.raises(UpstreamProtocolError):
        decoded(answer({"index": 0, "embedding": [1]}, {"index": 1, "embedding": [1, 2]}), vectors=2)
    with pytest.raises(UpstreamProtocolError):
        decoded(answer({"index": 0, "embedding": [1]}), dimensions=2)


@pytest.mark.parametrize(
    ("error", "kind"),
    [({"message": "x", "code": 429}, UpstreamRateLimited), ({"message": "x"}, UpstreamUnavailable)],
)
def test_an_error_in_an_answer_of_200(error: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        decoded(json.dumps({"error": error}).encode())


def test_an_answer_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_embeddings, "MAX_BODY_BYTES", 10)
    decoder = EmbeddingsDecoder(vectors=1)
    assert list(decoder.feed(b" " * 10)) == []
    with pytest.raises(UpstreamProtocolError):
        decoder.feed(b" ")
