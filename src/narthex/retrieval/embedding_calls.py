"""Vectors for documents and questions, by ordinary embeddings calls: whichever provider serves the model."""

import math
import secrets
import struct
import time
from collections.abc import Callable, Sequence
from typing import Protocol, runtime_checkable

import msgspec

from narthex.core.documents import Embedded, EmbeddingModel
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import (
    ContextLengthExceeded,
    InvalidRequest,
    ModelNotFound,
    NarthexError,
    UpstreamProtocolError,
)
from narthex.core.fold import folded
from narthex.core.keys import Principal
from narthex.core.ports import Call, Deployment, Handler
from narthex.core.stream import OutOfOrder

AT_ONCE = 64
"""Texts of one call: a model of this server then serves others in between, and no other server finds them too many."""
_SHORTEST = 16
"""Code points; a text of which a model takes not even as much is not embedded."""
_UNIT = 1e-3
"""How far from 1 a length may be that is taken for it."""


@runtime_checkable
class Identified(Protocol):
    """A deployment that knows what it makes vectors with."""

    async def embedding_model(self) -> EmbeddingModel:
        """By any name. Raises `EngineError` where it can't be asked."""
        ...


class _Part(msgspec.Struct, frozen=True):
    """The vectors of some texts. `cut`: which of them were read in part."""

    vectors: tuple[bytes, ...]
    tokens: int
    cut: tuple[int, ...] = ()

    def and_then(self, other: "_Part") -> "_Part":
        """Both, as of one list of texts."""
        shifted = tuple(len(self.vectors) + index for index in other.cut)
        return _Part(self.vectors + other.vectors, self.tokens + other.tokens, self.cut + shifted)


class EmbeddingCalls:
    """`core.documents.Embedding` over the router. `deployments`: who answers for a public name, or `ModelNotFound`."""

    def __init__(self, handler: Handler, *, deployments: Callable[[str], Sequence[Deployment]]) -> None:
        self._handler = handler
        self._deployments = deployments

    async def identify(self, model: str, *, principal: Principal) -> EmbeddingModel:
        """See `Embedding`."""
        self._refuse_unless_granted(model, principal)
        deployments = self._deployments(model)
        if all(each.capabilities("embeddings") is None for each in deployments):
            raise InvalidRequest(f"Invalid 'model': the model '{model}' makes no embeddings.", param="model")
        for deployment in deployments:
            if isinstance(deployment, Identified):
                return msgspec.structs.replace(await deployment.embedding_model(), name=model)
        probe = await self.embed(model, ["probe"], principal=principal)
        return EmbeddingModel(name=model, dim=len(probe.vectors[0]) // 4)

    async def embed(self, model: str, texts: Sequence[str], *, principal: Principal) -> Embedded:
        """See `Embedding`."""
        self._refuse_unless_granted(model, principal)
        done = _Part((), 0)
        for start in range(0, len(texts), AT_ONCE):
            part = await self._part(model, tuple(texts[start : start + AT_ONCE]), principal)
            done = done.and_then(part)
        return Embedded(vectors=done.vectors, tokens=done.tokens, cut=done.cut)

    async def _part(self, model: str, texts: tuple[str, ...], principal: Principal) -> _Part:
        """By halves where something is too long: so the others are read whole."""
        try:
            return await self._call(model, texts, principal)
        except NarthexError as error:
            if not _too_long(error):
                raise
        if len(texts) == 1:
            return await self._beginning(model, texts[0], principal)
        middle = len(texts) // 2
        first = await self._part(model, texts[:middle], principal)
        return first.and_then(await self._part(model, texts[middle:], principal))

    async def _beginning(self, model: str, text: str, principal: Principal) -> _Part:
        """Of as much of a text as the model reads. Where its server does not cut, we find out how much that is."""
        while True:
            try:
                part = await self._call(model, (text,), principal, truncate=True)
            except NarthexError as error:
                if not _too_long(error) or len(text) <= _SHORTEST:
                    raise
            else:
                return _Part(part.vectors, part.tokens, (0,))
            text = text[: len(text) * 2 // 3]

    async def _call(self, model: str, texts: tuple[str, ...], principal: Principal, *, truncate: bool = False) -> _Part:
        given = {"model": model, "input": list(texts)}
        request = EmbeddingsRequest(
            model=model,
            texts=texts,
            truncate=truncate,
            fields={"model": model, "input": (texts, ())},
            sent={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in given.items()},
        )
        call = Call(
            request,
            id=secrets.token_hex(16),
            surface="embeddings",
            principal=principal,
            started_s=time.monotonic(),
        )
        async with self._handler(call) as frames:
            held = [frame async for frame in frames]
        try:
            fold = folded(held)
        except OutOfOrder as error:
            raise UpstreamProtocolError from error
        if len(fold.vectors) != len(texts):
            raise UpstreamProtocolError("The model's server sent other vectors than were asked for.")
        tokens = fold.usage.prompt_tokens if fold.usage is not None else 0
        return _Part(tuple(map(_unit, fold.vectors)), tokens)

    @staticmethod
    def _refuse_unless_granted(model: str, principal: Principal) -> None:
        if not principal.may_use_model(model):
            raise ModelNotFound.named(model)


def _too_long(error: NarthexError) -> bool:
    """Whether a text did not fit the model, as our own engines say it or as other servers do."""
    return error.code == ContextLengthExceeded.default_code


def _unit(vector: bytes) -> bytes:
    """The same direction, of length 1. Most models give that already."""
    numbers = struct.unpack(f"<{len(vector) // 4}f", vector)
    length = math.sqrt(math.fsum(number * number for number in numbers))
    if abs(length - 1) <= _UNIT or not length:
        return vector
    return struct.pack(f"<{len(numbers)}f", *(number / length for number in numbers))
