"""`/v1/embeddings`. Source: contract sections 1.7 and 11."""

import base64
import struct
from collections.abc import Sequence
from typing import Any

from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import NarthexError
from narthex.core.fold import folded
from narthex.core.ports import Call, Decoded, StreamEncoder, Surface
from narthex.core.stream import Frame, OutOfOrder, Usage
from narthex.dialects.body import Form
from narthex.dialects.fields import (
    STRING,
    Field,
    array,
    choice,
    integer,
    invalid,
    string,
    wrong_type,
)
from narthex.wire.json import encode

MAX_INPUTS = 2048
_TEXT = string(shortest=1)
_TOKEN = integer(0, 2**31 - 1)
_TOKENS = array(_TOKEN, 1, MAX_INPUTS)


def _inputs(value: Any, path: str) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """(texts, token lists): one of them holds the inputs."""
    if isinstance(value, str):
        return (_TEXT.parse(value, path),), ()
    if not isinstance(value, list):
        raise wrong_type(path, expected="a string or an array", value=value)
    if not value:
        raise invalid(path, "empty array. Expected at least one input.", code="empty_array")
    if isinstance(value[0], str):
        return array(_TEXT, 1, MAX_INPUTS).parse(value, path), ()
    if isinstance(value[0], list):
        return (), array(_TOKENS, 1, MAX_INPUTS).parse(value, path)
    return (), (_TOKENS.parse(value, path),)


INPUT = Field(
    _inputs,
    {
        "anyOf": [
            _TEXT.schema,
            array(_TEXT, 1, MAX_INPUTS).schema,
            _TOKENS.schema,
            array(_TOKENS, 1, MAX_INPUTS).schema,
        ]
    },
)
FIELDS: dict[str, Field] = {
    "input": INPUT,
    "model": string(shortest=1),
    "encoding_format": choice("float", "base64"),
    "dimensions": integer(1),
    "user": STRING,
}
REQUIRED = ("model", "input")
FORM = Form("embeddings", FIELDS, REQUIRED)


class EmbeddingsDialect:
    """The OpenAI-compatible embeddings surface."""

    surface: Surface = "embeddings"

    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """Read and check a request; see `Dialect.decode`."""
        read = FORM.read(body, profile=profile, strict=strict)
        fields = read.fields
        texts, tokens = fields["input"]
        request = EmbeddingsRequest(
            model=fields["model"],
            texts=texts,
            tokens=tokens,
            encoding_format=fields.get("encoding_format", "float"),
            dimensions=fields.get("dimensions"),
            fields=fields,
            sent=read.sent,
        )
        return Decoded(request, read.ignored)

    def encoder(self, call: Call, *, created: int) -> StreamEncoder:
        """There is no streamed form."""
        raise NarthexError("embeddings are not streamed")

    def encode_answer(self, call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
        """One list object."""
        request = call.request
        assert isinstance(request, EmbeddingsRequest)  # noqa: S101 - the surface decides the type
        fold = folded(frames)
        if len(fold.vectors) != len(request.texts) + len(request.tokens):
            raise OutOfOrder(f"{len(fold.vectors)} vectors for {len(request.texts) + len(request.tokens)} inputs")
        data = [
            {"object": "embedding", "index": index, "embedding": _written(vector, request.encoding_format)}
            for index, vector in enumerate(fold.vectors)
        ]
        used = (fold.usage or Usage(prompt_tokens=0)).prompt_tokens
        usage = {"prompt_tokens": used, "total_tokens": used}
        return encode({"object": "list", "data": data, "model": request.model, "usage": usage})


def _written(vector: bytes, encoding_format: str) -> str | list[float]:
    """A vector of little-endian float32 as base64 text or as numbers."""
    if encoding_format == "base64":
        return base64.b64encode(vector).decode()
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))
