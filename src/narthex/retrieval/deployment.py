"""The embedder as a deployment of `/v1/embeddings`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from narthex.core.capabilities import EMBEDDINGS, Capabilities
from narthex.core.embeddings import EmbeddingsRequest, shorten
from narthex.core.errors import EngineUnavailable
from narthex.core.ports import NO_CLOCKS, Call, Ensure, Opened, Stream, Surface
from narthex.core.stream import EmbeddingsReady, Frame, Usage, UsageReported
from narthex.retrieval.embed import Embedder, Embeddings


class EmbedderDeployment:
    """Answers embeddings calls with one embedder process, which is started when it isn't there."""

    def __init__(self, model: str, embedder: Embedder, *, child: str, ensure: Ensure) -> None:
        self._model = model
        self._embedder = embedder
        self._child = child
        self._ensure = ensure

    @property
    def name(self) -> str:
        """See `Deployment.name`."""
        return f"local/{self._model}"

    clocks = NO_CLOCKS

    @property
    def fingerprint(self) -> str | None:
        """Embeddings have none."""
        return None

    def capabilities(self, surface: Surface) -> Capabilities | None:
        """See `Deployment.capabilities`."""
        return EMBEDDINGS if surface == "embeddings" else None

    def continues(self, call: Call) -> bool:
        """See `Deployment.continues`."""
        return False

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        request = call.request
        assert isinstance(request, EmbeddingsRequest)  # noqa: S101 - the router asks for no other surface
        yield self._frames(request)

    async def _frames(self, request: EmbeddingsRequest) -> AsyncIterator[Frame]:
        try:
            found = await self._embed(request)
        except EngineUnavailable:
            await self._ensure(self._child)
            found = await self._embed(request)
        yield Frame.of(
            EmbeddingsReady(tuple(shorten(bytes(vector), request.dimensions) for vector in found.vectors)),
            UsageReported(Usage(prompt_tokens=sum(found.tokens))),
        )

    async def _embed(self, request: EmbeddingsRequest) -> Embeddings:
        if request.tokens:
            return await self._embedder.embed(tokens=request.tokens)
        return await self._embedder.embed(texts=request.texts)
