"""`/v1/embeddings`."""

import base64
import json
import struct
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import InvalidRequest, NarthexError
from narthex.core.ports import Call, Decoded
from narthex.core.stream import EmbeddingsReady, Frame, OutOfOrder, Usage, UsageReported
from narthex.dialects.openai_embeddings import EmbeddingsDialect

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]
MakeCall = Callable[..., Call]
DIALECT = EmbeddingsDialect()


@pytest.mark.parametrize(
    ("sent", "texts", "tokens"),
    [
        ("a", ("a",), ()),
        (["a", "b"], ("a", "b"), ()),
        (["a"] * 2048, ("a",) * 2048, ()),
        ([1, 2], (), ((1, 2),)),
        ([0] * 2048, (), ((0,) * 2048,)),
        ([[1], [2, 3]], (), ((1,), (2, 3))),
    ],
)
def test_all_forms_of_an_input(sent: Any, texts: Any, tokens: Any, decode: Decode) -> None:
    request = decode("embeddings", {"input": sent}).request
    assert isinstance(request, EmbeddingsRequest)
    assert (request.texts, request.tokens) == (texts, tokens)
    assert (request.encoding_format, request.dimensions) == ("float", None)


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"input": None}, "invalid_type", "input"),
    ({"input": 1}, "invalid_type", "input"),
    ({"input": {}}, "invalid_type", "input"),
    ({"input": ""}, "invalid_value", "input"),
    ({"input": []}, "empty_array", "input"),
    ({"input": ["a", ""]}, "invalid_value", "input[1]"),
    ({"input": ["a", 1]}, "invalid_type", "input[1]"),
    ({"input": [1, "a"]}, "invalid_type", "input[1]"),
    ({"input": [False]}, "invalid_type", "input[0]"),
    ({"input": [None]}, "invalid_type", "input[0]"),
    ({"input": [[]]}, "empty_array", "input[0]"),
    ({"input": [[1], "a"]}, "invalid_type", "input[1]"),
    ({"input": [[-1]]}, "integer_below_min_value", "input[0][0]"),
    ({"input": ["a"] * 2049}, "array_above_max_length", "input"),
    ({"input": [0] * 2049}, "array_above_max_length", "input"),
    ({"input": [[0]] * 2049}, "array_above_max_length", "input"),
    ({"input": [[0] * 2049]}, "array_above_max_length", "input[0]"),
    ({"encoding_format": "int8"}, "invalid_value", "encoding_format"),
    ({"encoding_format": 1}, "invalid_type", "encoding_format"),
    ({"dimensions": 0}, "integer_below_min_value", "dimensions"),
    ({"dimensions": "1"}, "invalid_type", "dimensions"),
    ({"user": 1}, "invalid_type", "user"),
    ({"model": 1}, "invalid_type", "model"),
    ({"temperature": 1}, "unknown_parameter", "temperature"),
    ({"Dimensions": 1}, "unknown_parameter", "Dimensions"),
]


@pytest.mark.parametrize(("fields", "code", "param"), REFUSED)
def test_it_is_refused_where_it_is_wrong(fields: dict[str, Any], code: str, param: str, refuse: Refuse) -> None:
    assert refuse("embeddings", fields) == (code, param)


@pytest.mark.parametrize("field", ["model", "input"])
def test_required_fields_are_required(field: str) -> None:
    body = {"model": "m", "input": "a"}
    del body[field]
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.decode(json.dumps(body).encode(), profile="openai", strict=True)
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", field)


VECTORS = tuple(struct.pack("<3f", *values) for values in ((1, 0, -0.5), (0.1, 2, 3)))
FRAMES = [Frame.of(EmbeddingsReady(VECTORS), UsageReported(Usage(prompt_tokens=8)))]


@pytest.mark.parametrize("encoding", ["float", "base64", None])
def test_an_answer(encoding: str | None, make_call: MakeCall) -> None:
    call = make_call("embeddings", {"input": ["a", "b"], "encoding_format": encoding, "dimensions": 3, "user": None})
    answer = json.loads(DIALECT.encode_answer(call, FRAMES, created=7))
    written = [entry.pop("embedding") for entry in answer["data"]]
    assert answer == {
        "object": "list",
        "model": "m",
        "data": [{"object": "embedding", "index": 0}, {"object": "embedding", "index": 1}],
        "usage": {"prompt_tokens": 8, "total_tokens": 8},
    }
    if encoding == "base64":
        assert tuple(map(base64.b64decode, written)) == VECTORS
    else:
        assert tuple(struct.pack("<3f", *vector) for vector in written) == VECTORS


@pytest.mark.parametrize("frames", [[], FRAMES[:1], [Frame.of(EmbeddingsReady(()))]])
def test_a_vector_for_each_input_or_none_at_all(frames: list[Frame], make_call: MakeCall) -> None:
    with pytest.raises(OutOfOrder):
        DIALECT.encode_answer(make_call("embeddings"), frames, created=7)


def test_usage_that_nobody_told_is_nought(make_call: MakeCall) -> None:
    call = make_call("embeddings", {"input": [[1], [2]]})
    answer = json.loads(DIALECT.encode_answer(call, [Frame.of(EmbeddingsReady(VECTORS))], created=7))
    assert answer["usage"] == {"prompt_tokens": 0, "total_tokens": 0}


def test_there_is_no_stream(make_call: MakeCall) -> None:
    with pytest.raises(NarthexError):
        DIALECT.encoder(make_call("embeddings"), created=7)
