"""Chroma: a collection on the disk, with its texts. It has no hybrid search of its own here."""

from pathlib import Path
from typing import Any

import chromadb
from serving import N, serve

SPACE = {"hnsw": {"space": "ip", "ef_search": 64, "ef_construction": 128, "max_neighbors": 16}}


class Chroma:
    def __init__(self, folder: Path) -> None:
        client = chromadb.PersistentClient(str(folder), chromadb.Settings(anonymized_telemetry=False))
        self.collection = client.get_or_create_collection("rows", embedding_function=None, configuration=SPACE)

    def ingest(self, low: int, vectors: Any, texts: list[str]) -> None:
        ids = [str(low + at) for at in range(len(vectors))]
        self.collection.add(ids=ids, embeddings=vectors, documents=texts)

    def index(self) -> None:
        """It is made as rows come."""

    def search(self, vector: Any, text: str | None) -> list[int]:
        if text is not None:
            raise NotImplementedError("no search by words")
        found = self.collection.query(query_embeddings=[vector], n_results=N, include=["documents"])
        return [int(id_) for id_ in found["ids"][0]]


if __name__ == "__main__":
    serve(Chroma)
