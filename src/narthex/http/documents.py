"""`/api/collections/{key}/documents` and `/search`. Source: contract sections 3.6, 3.7 and 11.

Lists, reading one and searching are extensions of ours. `?content=true` adds the text, so that quotes can be checked.
"""

from collections.abc import Callable
from typing import Any

from narthex.core.documents import Collection
from narthex.core.keys import Principal
from narthex.dialects.thyris_documents import (
    citation_object,
    document_body,
    document_object,
    left_object,
    search_body,
    store_usage,
)
from narthex.http.exchange import Exchange
from narthex.http.native import granted, json_body, query_flag, tell_ignored, while_wanted
from narthex.retrieval.library import Library, Question, Retrieved, Stored, TextDocument
from narthex.wire.json import encode

Grown = Callable[[Collection, int], None]
"""Is told how many chunks were stored in a collection."""


class DocumentsEndpoints:
    """The endpoints over one library."""

    def __init__(self, library: Library, *, grown: Grown, body_limit_bytes: int, lenient: bool) -> None:
        self._library = library
        self._grown = grown
        self._body_limit_bytes = body_limit_bytes
        self._lenient = lenient

    async def list(self, exchange: Exchange) -> None:
        """`GET /api/collections/{key}/documents`."""
        found = await self._library.documents(granted(exchange), exchange.parameters["key"])
        await exchange.reply(200, encode({"documents": [document_object(each) for each in found]}))

    async def retrieve(self, exchange: Exchange) -> None:
        """`GET /api/collections/{key}/documents/{document}`."""
        principal, (key, document) = granted(exchange), _keys(exchange)
        answer = document_object(await self._library.document(principal, key, document))
        if query_flag(exchange, "content"):
            answer["content"] = await self._library.text(principal, key, document)
        await exchange.reply(200, encode(answer))

    async def create(self, exchange: Exchange) -> None:
        """`POST /api/collections/{key}/documents/{document}`: only a new one."""
        await self._put(exchange, replace=False)

    async def put(self, exchange: Exchange) -> None:
        """`PUT /api/collections/{key}/documents/{document}`: a new one, or another version."""
        await self._put(exchange, replace=True)

    async def delete(self, exchange: Exchange) -> None:
        """`DELETE /api/collections/{key}/documents/{document}`."""
        await self._library.remove(granted(exchange), *_keys(exchange))
        await exchange.done()

    async def search(self, exchange: Exchange) -> None:
        """`POST /api/collections/{key}/search`: what a chat would be given, without a chat."""
        principal = granted(exchange)
        sent = await json_body(exchange, limit_bytes=self._body_limit_bytes)
        body = search_body(sent, strict=principal.key.strict and not self._lenient)
        tell_ignored(exchange, body.ignored)
        question = Question(
            text=body.text,
            n=body.n,
            documents=body.documents,
            per_document=body.per_document,
            retrieval=body.retrieval,
            weight=body.weight,
        )
        async with while_wanted(exchange):
            retrieved = await self._library.retrieve(principal, exchange.parameters["key"], question)
        if body.weight is not None and retrieved.retrieval != "hybrid":
            tell_ignored(exchange, ("weight",))  # there is nothing to weigh
        await exchange.reply(200, encode(_found(principal, retrieved, explain=body.explain)))

    async def _put(self, exchange: Exchange, *, replace: bool) -> None:
        principal = granted(exchange)
        sent = await json_body(exchange, limit_bytes=self._body_limit_bytes)
        body = document_body(sent, strict=principal.key.strict and not self._lenient)
        del sent
        tell_ignored(exchange, body.ignored)
        given = TextDocument(
            content=body.content, description=body.description, chunk_size=body.chunk_size, structure=body.structure
        )
        async with while_wanted(exchange):
            stored = await self._library.put(principal, *_keys(exchange), given, replace=replace)
        if not stored.unchanged:
            self._grown(stored.collection, stored.document.chunks)
        await exchange.reply(201 if stored.new else 200, encode(_stored(principal, stored)))


def _keys(exchange: Exchange) -> tuple[str, str]:
    return exchange.parameters["key"], exchange.parameters["document"]


def _stored(principal: Principal, stored: Stored) -> dict[str, Any]:
    store = store_usage(
        tokens=stored.tokens,
        chunks=stored.document.chunks,
        chunk_size_sum=stored.characters,
        duration_ms=stored.duration_ms,
    )
    answer: dict[str, Any] = {
        "documentId": stored.document.id,
        "usage": {
            "apiKeyID": principal.key.id,
            "embeddingModel": stored.collection.model.name,
            "documentStore": store,
        },
    }
    if stored.unchanged:
        answer["unchanged"] = True
    if stored.warnings:
        answer["warnings"] = stored.warnings
    return answer


def _found(principal: Principal, retrieved: Retrieved, *, explain: bool) -> dict[str, Any]:
    hits = retrieved.found.hits
    store = store_usage(
        tokens=retrieved.tokens,
        chunks=len(hits),
        chunk_size_sum=sum(len(hit.chunk.text) for hit in hits),
        duration_ms=retrieved.duration_ms,
    )
    answer: dict[str, Any] = {
        "sources": list(dict.fromkeys(hit.document_key for hit in hits)),
        "citations": [citation_object(hit) for hit in hits],
        "usage": {
            "apiKeyID": principal.key.id,
            "embeddingModel": retrieved.collection.model.name,
            "documentStore": store,
        },
        "warnings": retrieved.warnings,
    }
    if explain:
        answer["explain"] = {
            "retrieval": retrieved.retrieval,
            "weight": retrieved.weight,
            "words": retrieved.found.words,
            "left": [left_object(each) for each in retrieved.found.left],
        }
    return answer
