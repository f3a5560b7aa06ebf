"""Embedding models that come as GGUF: a deployment of `/v1/embeddings` on a llama.cpp engine."""

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from narthex.core.capabilities import EMBEDDINGS
from narthex.core.deployments import Local
from narthex.core.embeddings import EmbeddingsRequest, shorten
from narthex.core.errors import ContextLengthExceeded, EngineUnavailable, NarthexError
from narthex.core.ports import Call, Ensure, Opened, Stream
from narthex.core.slots import Slots, Want
from narthex.core.stream import EmbeddingsReady, Frame, Usage, UsageReported
from narthex.engine.local.llama import LlamaServer

_AT_A_TIME = 8
"""Inputs of one call that may be in the engine's queue."""


class GgufEmbeddings(Local):
    """Embeds with one engine, each input as a request of its own: the queue keeps callers apart."""

    def __init__(self, model: str, server: LlamaServer, *, child: str, slots: Slots, ensure: Ensure) -> None:
        super().__init__(model, surface="embeddings", honoured=EMBEDDINGS)
        self._server = server
        self._child = child
        self._slots = slots
        self._ensure = ensure

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        request = call.request
        assert isinstance(request, EmbeddingsRequest)  # noqa: S101 - the router asks for no other surface
        try:
            inputs = await self._tokens(request)
        except EngineUnavailable:
            await self._ensure(self._child)
            inputs = await self._tokens(request)
        yield self._frames(call, request, inputs)

    async def _tokens(self, request: EmbeddingsRequest) -> Sequence[Sequence[int]]:
        if request.tokens:
            return request.tokens
        return [await self._server.tokenize(text, control=False, begin=True) for text in request.texts]

    async def _frames(
        self, call: Call, request: EmbeddingsRequest, inputs: Sequence[Sequence[int]]
    ) -> AsyncIterator[Frame]:
        gate = asyncio.Semaphore(_AT_A_TIME)
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._vector(call, tokens, gate)) for tokens in inputs]
        except* NarthexError as group_error:
            raise group_error.exceptions[0] from None
        vectors = tuple(shorten(task.result(), request.dimensions) for task in tasks)
        usage = Usage(prompt_tokens=sum(map(len, inputs)))
        yield Frame.of(EmbeddingsReady(vectors), UsageReported(usage))

    async def _vector(self, call: Call, tokens: Sequence[int], gate: asyncio.Semaphore) -> bytes:
        key, account = call.principal.key.id, call.principal.account.id
        async with gate:
            try:
                async with self._slots.lease(Want(key=key, account=account, prompt_tokens=len(tokens), max_new=0)):
                    numbers = await self._server.embed(tokens)
            except ContextLengthExceeded as error:
                raise ContextLengthExceeded(error.message, param="input") from None
        return struct.pack(f"<{len(numbers)}f", *numbers)
