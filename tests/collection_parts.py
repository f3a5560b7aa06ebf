"""Documents whose vectors and words tell what they are."""

import hashlib

import numpy as np
from numpy.typing import NDArray

from narthex.core.documents import Chunk, Chunking, Collection, EmbeddingModel, NewDocument

DIM = 16
MODEL = EmbeddingModel(name="embedder", dim=DIM, digest="d1")


def collection(id_: str = "c-1", *, generation: int = 1, model: EmbeddingModel = MODEL) -> Collection:
    return Collection(id=id_, account_id="a", key="k", model=model, generation=generation, created_ms=1)


def vector(*seed: object) -> bytes:
    """Of unit length; the same for the same words."""
    number = int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:8], "big")
    row: NDArray[np.float32] = np.random.default_rng(number).standard_normal(DIM).astype("<f4")
    return bytes(row / np.linalg.norm(row))


def document(key: str, *words: str, version: int = 0, original: bytes | None = None):
    """What `put` takes: a document with a chunk for each of `words`."""
    text = " ".join(words)
    chunks, at = [], 0
    for word in words:
        chunks.append(Chunk(start=at, stop=at + len(word), text=word))
        at += len(word) + 1
    new = NewDocument(
        key=key, text=text, sha256=hashlib.sha256(text.encode()).digest(), chunking=Chunking(size=10), original=original
    )
    return new, chunks, [vector(key, version, place) for place in range(len(chunks))]
