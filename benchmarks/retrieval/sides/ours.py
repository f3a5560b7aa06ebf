"""Narthex: a collection's file and its code file, asked through the event loop as a worker does."""

import asyncio
import logging
from pathlib import Path
from typing import Any

import structlog
from serving import N, serve

from narthex.core.documents import Chunk, Chunking, Collection, EmbeddingModel, NewDocument, Query
from narthex.retrieval.opened import OpenCollections
from narthex.retrieval.rebuild import rebuild

DIM = 384


def collection(name: str = "c") -> Collection:
    model = EmbeddingModel(name="mixture", dim=DIM)
    return Collection(id=name, account_id="a", key=name, model=model, created_ms=1)


class Ours:
    def __init__(self, folder: Path) -> None:
        structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
        self.loop = asyncio.new_event_loop()
        self.collections = OpenCollections(folder, clock=lambda: 1)
        self.name = "c"

    def ingest(self, low: int, vectors: Any, texts: list[str]) -> None:
        self.loop.run_until_complete(self._put(low, vectors, texts))

    def index(self) -> None:
        rebuild(self.collections.path(collection()), clock=lambda: 1)

    def search(self, vector: Any, text: str | None) -> list[int]:
        return self.loop.run_until_complete(self._search(vector, text))

    async def _put(self, low: int, vectors: Any, texts: list[str]) -> None:
        chunks = [Chunk(start=0, stop=len(text), text=text) for text in texts]
        new = NewDocument(key=str(low), text="".join(texts), sha256=b"", chunking=Chunking(size=900))
        async with self.collections.open(collection(self.name)) as documents:
            await documents.put(new, chunks, [row.tobytes() for row in vectors], tokens=0)

    async def _search(self, vector: Any, text: str | None) -> list[int]:
        query = Query(n=N, vector=None if vector is None else vector.tobytes(), text=text)
        async with self.collections.open(collection(self.name)) as documents:
            found = await documents.search(query)
        return [int(hit.document_key) + hit.index for hit in found.hits]


if __name__ == "__main__":
    serve(Ours)
