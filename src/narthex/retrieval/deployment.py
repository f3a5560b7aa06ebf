"""The embedder as a deployment of `/v1/embeddings`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from narthex.core.capabilities import EMBEDDINGS
from narthex.core.deployments import Local
from narthex.core.documents import EmbeddingModel
from narthex.core.embeddings import EmbeddingsRequest, shorten
from narthex.core.errors import EngineUnavailable
from narthex.core.ports import Call, Ensure, Opened, Stream
from narthex.core.stream import EmbeddingsReady, Frame, Usage, UsageReported
from narthex.retrieval.embed import Embedder, Embeddings


class EmbedderDeployment(Local):
    """Answers embeddings calls with one embedder process, which is started when it isn't there."""

    def __init__(self, model: str, embedder: Embedder, *, child: str, ensure: Ensure) -> None:
        super().__init__(model, surface="embeddings", honoured=EMBEDDINGS)
        self._embedder = embedder
        self._child = child
        self._ensure = ensure

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        return self._open(call)

    async def embedding_model(self) -> EmbeddingModel:
        """What its vectors are made with.

        Raises:
            EngineError: the process can't be started.
        """
        try:
            info = await self._embedder.info()
        except EngineUnavailable:
            await self._ensure(self._child)
            info = await self._embedder.info()
        return EmbeddingModel(name=self.name, dim=info.dim, digest=info.digest, max_tokens=info.max_tokens)

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
            return await self._embedder.embed(tokens=request.tokens, truncate=request.truncate)
        return await self._embedder.embed(texts=request.texts, truncate=request.truncate)
