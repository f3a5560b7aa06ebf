"""The canonical embeddings request. Source: contract section 1.7."""

from collections.abc import Mapping
from typing import Any, Literal

import msgspec


class EmbeddingsRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One embeddings call: either `texts` or `tokens` holds the inputs, in order."""

    model: str
    texts: tuple[str, ...] = ()
    tokens: tuple[tuple[int, ...], ...] = ()
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = None
    fields: Mapping[str, Any]
    sent: Mapping[str, msgspec.Raw]
