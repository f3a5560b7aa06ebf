"""`/api/collections` and what is below: reading requests and writing answers. Source: contract sections 3.5 to 3.7, 11.

`retrieval`, `weight` and `mode` are extensions of ours, and so is the whole of `search`.
"""

from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from narthex.core.documents import (
    MAX_CONTENT_BYTES,
    MAX_DESCRIPTION,
    RETRIEVALS,
    Collection,
    Document,
    Hit,
    Left,
    Retrieval,
    Scores,
)
from narthex.core.errors import RequestTooLarge
from narthex.dialects.body import Body, Form
from narthex.dialects.fields import BOOLEAN, Field, array, choice, integer, invalid, missing, number, string

MAX_CHUNKS_FOUND = 50
DEFAULT_CHUNKS_FOUND = 5
MAX_FILTER = 100

_CONTENT = string(shortest=1)


def _content(value: Any, path: str) -> str:
    text: str = _CONTENT.parse(value, path)
    size = len(text) if text.isascii() else len(text.encode())
    if size > MAX_CONTENT_BYTES:
        raise RequestTooLarge(f"The content has {size} bytes of UTF-8; a document may have {MAX_CONTENT_BYTES}.")
    return text


KEYS = array(string(shortest=1), 1, MAX_FILTER)
"""Of documents."""

COLLECTION: dict[str, Field] = {
    "model": string(shortest=1),
    "description": string(longest=MAX_DESCRIPTION),
    "retrieval": choice(*RETRIEVALS),
    "weight": number(0, 1),
}
COLLECTION_REQUIRED = ("model",)
DOCUMENT: dict[str, Field] = {
    "content": Field(_content, _CONTENT.schema | {"maxLength": MAX_CONTENT_BYTES}),
    "description": string(longest=MAX_DESCRIPTION),
    "chunkSize": integer(1),
    "mode": choice("windows", "structure"),
}
DOCUMENT_REQUIRED = ("content",)
_QUERY = string(shortest=1)
_N = integer(1, MAX_CHUNKS_FOUND)
SEARCH: dict[str, Field] = {
    "query": _QUERY,
    "input": _QUERY,
    "n": _N,
    "n_documents": _N,
    "documents": KEYS,
    "per_document": integer(1, MAX_CHUNKS_FOUND),
    "retrieval": choice(*RETRIEVALS),
    "weight": number(0, 1),
    "explain": BOOLEAN,
}

_OF_NO_PROFILE = "openai"
"""Profiles narrow `/v1`; this one has nothing to say of these fields."""
_COLLECTION = Form("chat", COLLECTION, COLLECTION_REQUIRED)
_DOCUMENT = Form("chat", DOCUMENT, DOCUMENT_REQUIRED)
_SEARCH = Form("chat", SEARCH, ())


class CollectionBody(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of a collection; None where nothing was."""

    model: str
    description: str
    retrieval: Retrieval | None
    weight: float | None
    ignored: tuple[str, ...]


class DocumentBody(msgspec.Struct, frozen=True, kw_only=True):
    """A document as it was given. `description`: "" where there was none."""

    content: str
    description: str
    chunk_size: int | None
    structure: bool
    ignored: tuple[str, ...]


class SearchBody(msgspec.Struct, frozen=True, kw_only=True):
    """A search as it was asked for."""

    text: str
    n: int
    documents: tuple[str, ...] | None
    per_document: int | None
    retrieval: Retrieval | None
    weight: float | None
    explain: bool
    ignored: tuple[str, ...]


def collection_body(body: bytes, *, strict: bool) -> CollectionBody:
    """Raises `RequestError` naming the field at fault."""
    read = _COLLECTION.read(body, profile=_OF_NO_PROFILE, strict=strict)
    return CollectionBody(
        model=read.fields["model"],
        description=read.fields.get("description", ""),
        retrieval=cast(Retrieval | None, read.fields.get("retrieval")),
        weight=read.fields.get("weight"),
        ignored=read.ignored,
    )


def document_body(body: bytes, *, strict: bool) -> DocumentBody:
    """Raises `RequestError` naming the field at fault; `RequestTooLarge` for content over the limit."""
    read = _DOCUMENT.read(body, profile=_OF_NO_PROFILE, strict=strict)
    return DocumentBody(
        content=read.fields["content"],
        description=read.fields.get("description", ""),
        chunk_size=read.fields.get("chunkSize"),
        structure=read.fields.get("mode") == "structure",
        ignored=read.ignored,
    )


def search_body(body: bytes, *, strict: bool) -> SearchBody:
    """Raises `RequestError` naming the field at fault."""
    read = _SEARCH.read(body, profile=_OF_NO_PROFILE, strict=strict)
    return SearchBody(
        text=_either(read, "query", "input"),
        n=_either(read, "n", "n_documents", default=DEFAULT_CHUNKS_FOUND),
        documents=read.fields.get("documents"),
        per_document=read.fields.get("per_document"),
        retrieval=cast(Retrieval | None, read.fields.get("retrieval")),
        weight=read.fields.get("weight"),
        explain=read.fields.get("explain", False),
        ignored=read.ignored,
    )


def _either(read: Body, name: str, other: str, *, default: Any = None) -> Any:
    """One value that has two names."""
    if name in read.fields and other in read.fields:
        raise invalid(other, f"'{name}' is the same: send one of them.")
    value = read.fields.get(name, read.fields.get(other, default))
    if value is None:
        raise missing(name)
    return value


# --- answers ---------------------------------------------------------------------------------------------------------


def collection_object(collection: Collection) -> dict[str, Any]:
    """One collection."""
    return {
        "id": collection.id,
        "key": collection.key,
        "model": collection.model.name,
        "description": collection.description,
        "retrieval": collection.retrieval,
        "weight": collection.weight,
    }


def document_object(document: Document) -> dict[str, Any]:
    """One document without its text."""
    return {
        "id": document.id,
        "key": document.key,
        "description": document.description,
        "mediaType": document.media_type,
        "name": document.name or None,
        "sha256": document.sha256.hex(),
        "characters": document.characters,
        "chunks": document.chunks,
        "chunkSize": document.chunking.size,
        "mode": document.chunking.mode,
        "tokens": document.tokens,
        "createdAt": rfc3339(document.created_ms // 1000),
    }


def store_usage(*, tokens: int, chunks: int, chunk_size_sum: int, duration_ms: int) -> dict[str, int]:
    """What the documents' side of a request used."""
    return {
        "embeddingTokens": tokens,
        "chunks": chunks,
        "chunkSizeSum": chunk_size_sum,
        "duration": duration_ms,
    }


def citation_object(hit: Hit, *, block: int | None = None) -> dict[str, Any]:
    """Where a chunk stands: `quote` is just what the document's text has from `start` up to `end`, in code points."""
    chunk = hit.chunk
    cited: dict[str, Any] = {
        "documentKey": hit.document_key,
        "chunkIndex": hit.index,
        "start": chunk.start,
        "end": chunk.stop,
        "page": chunk.page,
        "quote": chunk.text,
        "scores": scores_object(hit.scores),
    }
    return cited if block is None else {"number": block} | cited


def left_object(left: Left) -> dict[str, Any]:
    """A chunk that was not taken, and why."""
    return {
        "documentKey": left.document_key,
        "chunkIndex": left.index,
        "scores": scores_object(left.scores),
        "why": left.why,
    }


def scores_object(scores: Scores) -> dict[str, float | None]:
    """Scores as numbers of a few digits; null where that search did not find the chunk."""
    return {"vector": _rounded(scores.vector), "bm25": _rounded(scores.bm25), "fused": _rounded(scores.fused)}


def _rounded(score: float | None) -> float | None:
    return None if score is None else round(score, 6)


def rfc3339(unix_s: int) -> str:
    """A time in UTC."""
    return datetime.fromtimestamp(unix_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
