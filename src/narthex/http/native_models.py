"""`GET /api/models`: the models that a key may use, with what each takes. Source: contract sections 3.8 and 11."""

from collections.abc import Callable, Mapping
from typing import Any

from narthex.core.documents import MAX_CHUNKS, MAX_CONTENT_BYTES, EmbeddingModel, max_chunk_size
from narthex.core.models import ModelCard
from narthex.dialects.thyris import IMAGE_TYPES, MAX_IMAGE_SIDE
from narthex.http.exchange import Exchange
from narthex.http.models import granted
from narthex.policy.retrieval import CHARACTERS_PER_TOKEN
from narthex.wire.json import encode


class NativeModels:
    """The list. `cards` is asked anew each time; `sees`: whether a model may be given images."""

    def __init__(
        self, cards: Callable[[], Mapping[str, ModelCard]], *, sees: Callable[[str], bool], max_image_bytes: int
    ) -> None:
        self._cards = cards
        self._sees = sees
        self._max_image_bytes = max_image_bytes

    async def list(self, exchange: Exchange) -> None:
        """`GET /api/models`."""
        principal = granted(exchange)
        rows = [self._row(card) for name, card in sorted(self._cards().items()) if principal.may_use_model(name)]
        await exchange.reply(200, encode({"object": "list", "data": rows}))

    def _row(self, card: ModelCard) -> dict[str, Any]:
        row = {
            "id": card.id,
            "object": "model",
            "created": card.created,
            "owned_by": card.owned_by,
            "type": card.kind,
        }
        if card.kind == "chat":
            vision = {
                "formats": list(IMAGE_TYPES),
                "maxBytes": self._max_image_bytes,
                "maxWidth": MAX_IMAGE_SIDE,
                "maxHeight": MAX_IMAGE_SIDE,
            }
            row["contextSize"] = card.window or None
            row["maxInputCharacters"] = CHARACTERS_PER_TOKEN * card.window or None
            row["vision"] = vision if self._sees(card.id) else None
        elif card.kind == "embedding":
            model = EmbeddingModel(name=card.id, dim=card.dim, max_tokens=card.window)
            row["dimensions"] = card.dim or None
            row["maxDocumentSize"] = MAX_CONTENT_BYTES
            row["maxChunkSize"] = max_chunk_size(model)
            row["maxChunkCount"] = MAX_CHUNKS
            row["maxChunkTokens"] = card.window or None
        return row
