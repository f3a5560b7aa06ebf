"""The canonical embeddings request. Source: contract section 1.7."""

import math
import struct
from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from narthex.core.errors import InvalidRequest


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One embeddings call: either `texts` or `tokens` holds the inputs, in order.

    `truncate`: read the beginning of what is too long, and refuse nothing for it; heeded by models of this server.
    """

    model: str
    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    truncate: bool = False
    fields: Mapping[str, Any]
    sent: Mapping[str, msgspec.Raw]


def shorten(vector: bytes, dimensions: int | None) -> bytes:
    """The first `dimensions` numbers (None: all) of a little-endian float32 vector, of unit length again.

    Raises:
        InvalidRequest: the vector has fewer.
    """
    have = len(vector) // 4
    if dimensions is None or dimensions == have:
        return vector
    if dimensions > have:
        message = f"Invalid 'dimensions': this model has {have}, but {dimensions} were asked for."
        raise InvalidRequest(message, param="dimensions", code="integer_above_max_value")
    numbers = struct.unpack(f"<{dimensions}f", vector[: 4 * dimensions])
    length = math.sqrt(math.fsum(number * number for number in numbers)) or 1.0
    return struct.pack(f"<{dimensions}f", *(number / length for number in numbers))
