"""OpenAI's embeddings format as a provider speaks it. No I/O.

Source: contract section 1.7. The server is asked for base64, 6 bytes a number instead of some 12, where it knows the
field; lists of numbers are read as well. What the caller asked for is written by the dialect.
"""

import base64
import math
import struct
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from narthex.core.capabilities import Capabilities
from narthex.core.embeddings import EmbeddingsRequest, shorten
from narthex.core.errors import UpstreamError, UpstreamProtocolError
from narthex.core.ports import Request
from narthex.core.stream import EmbeddingsReady, Event, Frame, UsageReported
from narthex.providers.codec import UsualCodec, of_kind
from narthex.providers.openai import WireUsage, usage_of
from narthex.providers.openai_codec import AS_SENT
from narthex.providers.openai_errors import stream_error
from narthex.providers.openai_refusals import refusal
from narthex.providers.openai_rows import Row, Rules, body, for_model, native, native_fields, native_names
from narthex.providers.traits import ModelTraits
from narthex.providers.whole import Document
from narthex.wire.json import UNREADABLE

PATH = "/embeddings"
HONOURED: Rules = native("model", "input", "encoding_format", "dimensions", "user")
"""What OpenAI itself honours."""

MAX_BODY_BYTES = 256 * 1024 * 1024
"""2048 vectors of 8192 numbers, as text."""


class OpenAIEmbeddings(UsualCodec):
    """Embeddings by one model. See `Codec`."""

    path = PATH

    def __init__(self, row: Row | None = None, traits: ModelTraits = AS_SENT) -> None:
        """`row`: of the server; None: OpenAI's own. Numbers are asked for where it knows no `encoding_format`."""
        self._row = row or Row(honoured=HONOURED)
        self._honoured = for_model(self._row.honoured, traits)
        self._native = native_names(self._honoured)

    def build(self, request: Request, *, model: str) -> bytes:
        """See `Codec.build`."""
        members: dict[str, Any] = native_fields(of_kind(request, EmbeddingsRequest), self._native)
        if "encoding_format" in self._native:
            members["encoding_format"] = "base64"
        return body(members, self._row, model=model, streams=False)

    def decoder(self, request: Request) -> "EmbeddingsDecoder":
        """See `Codec.decoder`."""
        asked = of_kind(request, EmbeddingsRequest)
        return EmbeddingsDecoder(vectors=len(asked.texts) + len(asked.tokens), dimensions=asked.dimensions)

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """See `Codec.parse_error`."""
        return refusal(status, headers, body)

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return self._honoured


class _Row(msgspec.Struct):
    embedding: str | list[float]
    index: int | None = None


class _Answer(msgspec.Struct):
    data: list[_Row] | None = None
    usage: WireUsage | None = None
    error: Any = None


_answer = msgspec.json.Decoder(_Answer).decode


class EmbeddingsDecoder(Document):
    """Decodes one answer of so many `vectors`. Those that are longer than `dimensions` are cut, to unit length."""

    def __init__(self, *, vectors: int, dimensions: int | None = None) -> None:
        self._vectors = vectors
        self._dimensions = dimensions
        super().__init__(limit_bytes=MAX_BODY_BYTES)

    def end(self) -> Iterator[Frame]:
        """The one frame: all vectors in the order of the inputs, and the usage, if there was any.

        Raises:
            UpstreamError: the server reported an error.
            UpstreamProtocolError: what it sent can't be read or is not what was asked for.
        """
        try:
            answer = _answer(self.whole())
        except UNREADABLE as error:
            raise UpstreamProtocolError from error
        if answer.error:
            raise stream_error(answer.error)
        events: list[Event] = [EmbeddingsReady(self._ordered(answer.data or []))]
        if answer.usage is not None:
            events.append(UsageReported(usage_of(answer.usage)))
        yield Frame.of(*events)

    def _ordered(self, rows: list[_Row]) -> tuple[bytes, ...]:
        placed = {place if row.index is None else row.index: row for place, row in enumerate(rows)}
        if len(rows) != self._vectors or set(placed) != set(range(self._vectors)):
            raise UpstreamProtocolError("The model's server sent other vectors than were asked for.")
        vectors = tuple(self._cut(_floats(placed[index].embedding)) for index in range(self._vectors))
        if len(set(map(len, vectors))) > 1:
            raise UpstreamProtocolError("The model's server sent vectors of different lengths.")
        return vectors

    def _cut(self, vector: bytes) -> bytes:
        have, wanted = len(vector) // 4, self._dimensions
        if wanted is not None and have < wanted:
            raise UpstreamProtocolError("The model's server sent shorter vectors than were asked for.")
        return shorten(vector, wanted)


def _floats(embedding: str | list[float]) -> bytes:
    """One vector as float32, little-endian."""
    try:
        if isinstance(embedding, str):
            vector = base64.b64decode(embedding, validate=True)
        else:
            vector = struct.pack(f"<{len(embedding)}f", *embedding)
        total = sum(struct.unpack(f"<{len(vector) // 4}f", vector))
    except (ValueError, struct.error, OverflowError) as error:  # of base64, of bytes, of numbers
        raise UpstreamProtocolError from error
    if not vector or not math.isfinite(total):  # one that is no number spoils the sum
        raise UpstreamProtocolError("The model's server sent a vector that is none.")
    return vector
