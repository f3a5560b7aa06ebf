"""`/api/collections`: sets of documents. Source: contract sections 3.5 and 11."""

from narthex.dialects.thyris_documents import CollectionBody, collection_body, collection_object
from narthex.http.exchange import Exchange
from narthex.http.native import granted, json_body, tell_ignored, while_wanted
from narthex.retrieval.library import CollectionChange, Library
from narthex.wire.json import encode


class CollectionsEndpoints:
    """The endpoints over one library."""

    def __init__(self, library: Library, *, body_limit_bytes: int, lenient: bool) -> None:
        self._library = library
        self._body_limit_bytes = body_limit_bytes
        self._lenient = lenient

    async def list(self, exchange: Exchange) -> None:
        """`GET /api/collections`."""
        found = await self._library.collections(granted(exchange))
        await exchange.reply(200, encode({"collections": [collection_object(each) for each in found]}))

    async def retrieve(self, exchange: Exchange) -> None:
        """`GET /api/collections/{key}`."""
        found = await self._library.collection(granted(exchange), exchange.parameters["key"])
        await exchange.reply(200, encode(collection_object(found)))

    async def create(self, exchange: Exchange) -> None:
        """`POST /api/collections/{key}`: only a new one."""
        principal, body = granted(exchange), await self._body(exchange)
        async with while_wanted(exchange):
            made = await self._library.create(principal, exchange.parameters["key"], _change(body))
        await exchange.reply(201, encode({"id": made.id}))

    async def put(self, exchange: Exchange) -> None:
        """`PUT /api/collections/{key}`: a new one, or what changes of the one there is."""
        principal, body = granted(exchange), await self._body(exchange)
        async with while_wanted(exchange):
            made, new = await self._library.change(principal, exchange.parameters["key"], _change(body))
        await exchange.reply(201 if new else 200, encode({"id": made.id}))

    async def delete(self, exchange: Exchange) -> None:
        """`DELETE /api/collections/{key}`, with all that is in it."""
        await self._library.delete(granted(exchange), exchange.parameters["key"])
        await exchange.done()

    async def _body(self, exchange: Exchange) -> CollectionBody:
        sent = await json_body(exchange, limit_bytes=self._body_limit_bytes)
        body = collection_body(sent, strict=granted(exchange).key.strict and not self._lenient)
        tell_ignored(exchange, body.ignored)
        return body


def _change(body: CollectionBody) -> CollectionChange:
    return CollectionChange(
        model=body.model, description=body.description, retrieval=body.retrieval, weight=body.weight
    )
