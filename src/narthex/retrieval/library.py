"""Collections and what is in them, as callers use them: whose they are, what may be stored, and what is found.

Source: contract sections 3.5 to 3.7, 9 and 11. Rules: what a caller was not granted does not exist for them; nothing of
a document is stored unless all of it is; vectors of two models never mix.
"""

import contextlib
import hashlib
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import Protocol, TypeVar

import msgspec
import structlog

from narthex.core.documents import (
    MAX_COLLECTION_KEY,
    MAX_DOCUMENT_KEY,
    Chunking,
    Collection,
    Collections,
    Document,
    Documents,
    Embedded,
    Embedding,
    Found,
    NewDocument,
    Query,
    Retrieval,
    is_key,
    max_chunk_size,
    model_changed,
    no_collection,
)
from narthex.core.errors import Conflict, InvalidRequest, NotFound, PermissionDenied, StorageError, Superseded
from narthex.core.keys import Clock, Principal
from narthex.retrieval.given import chunks_of, warnings_of
from narthex.retrieval.selection import look_at, select

log = structlog.get_logger(__name__)

T = TypeVar("T")

_TRIES = 3
"""For a change that others may undo meanwhile."""


class Stores(Protocol):
    """Where the documents of collections are."""

    def open(self, collection: Collection) -> AbstractAsyncContextManager[Documents]:
        """A collection's documents, for as long as the block lasts."""
        ...

    async def remove(self, collection_id: str) -> None:
        """Delete a collection's files; its row is gone already."""
        ...


class CollectionChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller says of a collection. None: what it was, or the default of a new one. A description that
    is not sent is "" (contract 3.5), also when an old one is replaced (Q4).
    """

    model: str
    description: str = ""
    retrieval: Retrieval | None = None
    weight: float | None = None


class TextDocument(msgspec.Struct, frozen=True, kw_only=True):
    """A document as a caller gives it. `chunk_size` None: the model's maximum."""

    content: str
    description: str = ""
    chunk_size: int | None = None
    structure: bool = False
    """Cut at headings, paragraphs and sentences."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a document. `new`: there was none of its key. `tokens`: that were embedded now.

    `characters`: of its chunks together.
    """

    collection: Collection
    document: Document
    new: bool
    unchanged: bool = False
    tokens: int = 0
    characters: int
    duration_ms: int = 0
    warnings: tuple[str, ...] = ()


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What to search for. `n`: chunks wanted; `retrieval` and `weight`: other than the collection's, where given.

    `documents`: keys of the only ones to search; None: all. `per_document`: the most chunks of one; None: fairly.
    """

    text: str
    n: int = 5
    documents: tuple[str, ...] | None = None
    per_document: int | None = None
    retrieval: Retrieval | None = None
    weight: float | None = None


class Retrieved(msgspec.Struct, frozen=True, kw_only=True):
    """What was found, how, and what that took. `tokens`: that were embedded for the question."""

    collection: Collection
    found: Found
    retrieval: Retrieval
    weight: float
    tokens: int
    duration_ms: int
    warnings: tuple[str, ...] = ()


class Library:
    """All collections, for callers. `clock` stamps what is made."""

    def __init__(self, collections: Collections, stores: Stores, embedding: Embedding, *, clock: Clock) -> None:
        self._collections = collections
        self._stores = stores
        self._embedding = embedding
        self._clock = clock

    # --- collections -------------------------------------------------------------------------------------------------

    async def collection(self, principal: Principal, key: str) -> Collection:
        """One collection. Raises `NotFound`, also where it is not granted."""
        if not is_key(key, longest=MAX_COLLECTION_KEY) or not principal.may_use_collection(key):
            raise no_collection(key)
        found = await self._collections.get(principal.account.id, key)
        if found is None:
            raise no_collection(key)
        return found

    async def collections(self, principal: Principal) -> tuple[Collection, ...]:
        """Those that are granted, by key."""
        every = await self._collections.list(principal.account.id)
        return tuple(each for each in every if principal.may_use_collection(each.key))

    async def create(self, principal: Principal, key: str, change: CollectionChange) -> Collection:
        """A new collection.

        Raises:
            InvalidRequest: the key can't be one, or the model makes no embeddings.
            PermissionDenied: the key is not granted.
            Conflict: there is one of this key.
            ModelNotFound: there is no such model, or it is not granted.
        """
        _check_new_key(key, name="collectionKey", longest=MAX_COLLECTION_KEY)
        if not principal.may_use_collection(key):
            raise PermissionDenied("This key may not use a collection of this name.")
        if await self._collections.get(principal.account.id, key) is not None:
            raise Conflict(f"The collection '{key}' exists already.", param="collectionKey")
        model = await self._embedding.identify(change.model, principal=principal)
        new = Collection(
            id=str(uuid.uuid4()),
            account_id=principal.account.id,
            key=key,
            model=model,
            description=change.description,
            created_ms=self._clock(),
        )
        return await self._collections.create(_changed(new, change))

    async def change(self, principal: Principal, key: str, change: CollectionChange) -> tuple[Collection, bool]:
        """Create a collection, or change what there is of it; and whether it is new.

        Raises:
            Conflict: it has another model.
            RequestError: as `create`.
        """
        for _ in range(_TRIES):
            if is_key(key, longest=MAX_COLLECTION_KEY) and principal.may_use_collection(key):
                found = await self._collections.get(principal.account.id, key)
                if found is not None and found.model.name != change.model:
                    message = f"The collection '{key}' has the model '{found.model.name}': vectors of two must not mix."
                    raise Conflict(message, param="model")
                if found is not None:
                    return await self._collections.replace(_changed(found, change)), False
            try:
                return await self.create(principal, key, change), True
            except Conflict:  # somebody else was faster
                continue
        raise Conflict(f"The collection '{key}' is made and deleted by others just now.", param="collectionKey")

    async def delete(self, principal: Principal, key: str) -> None:
        """Delete a collection with all that is in it. Raises `NotFound`."""
        collection = await self.collection(principal, key)
        await self._collections.delete(collection.account_id, key)
        try:
            await self._stores.remove(collection.id)
        except StorageError as error:  # it is gone for everybody; a sweep deletes the rest
            log.warning("files of a deleted collection are left", collection=collection.id, error=error.message)

    # --- documents ---------------------------------------------------------------------------------------------------

    async def documents(self, principal: Principal, key: str) -> tuple[Document, ...]:
        """All documents of a collection, by key. Raises `NotFound`."""
        async with self._stores.open(await self.collection(principal, key)) as documents:
            return await documents.list()

    async def document(self, principal: Principal, key: str, document_key: str) -> Document:
        """One document, without its text. Raises `NotFound`."""
        async with self._stores.open(await self.collection(principal, key)) as documents:
            found = await documents.get(document_key)
        if found is None:
            raise _no_document(document_key)
        return found

    async def text(self, principal: Principal, key: str, document_key: str) -> str:
        """The text of a document: what its chunks' offsets count in. Raises `NotFound`."""
        async with self._stores.open(await self.collection(principal, key)) as documents:
            found = await documents.text(document_key)
        if found is None:
            raise _no_document(document_key)
        return found

    async def remove(self, principal: Principal, key: str, document_key: str) -> None:
        """Delete a document with all that was made of it. Raises `NotFound`."""
        await _anew(lambda: self._remove(principal, key, document_key))

    async def _remove(self, principal: Principal, key: str, document_key: str) -> None:
        async with self._stores.open(await self.collection(principal, key)) as documents:
            if not await documents.delete(document_key):
                raise _no_document(document_key)

    async def put(
        self, principal: Principal, key: str, document_key: str, given: TextDocument, *, replace: bool
    ) -> Stored:
        """Store a document. What has the same text and chunks already is not embedded again.

        Raises:
            NotFound: there is no such collection.
            InvalidRequest: a key, the text or the chunks' size or number can't be.
            Conflict: there is one of this key and `replace` is off; or the collection's model is another one by now.
            Superseded: the collection is rebuilt again and again.
        """
        _check_new_key(key, name="collectionKey", longest=MAX_COLLECTION_KEY)
        _check_new_key(document_key, name="documentKey", longest=MAX_DOCUMENT_KEY)
        return await _anew(lambda: self._put(principal, key, document_key, given, replace=replace))

    async def _put(
        self, principal: Principal, key: str, document_key: str, given: TextDocument, *, replace: bool
    ) -> Stored:
        began = time.monotonic()
        collection = await self.collection(principal, key)
        new = _new_document(collection, document_key, given)
        async with self._stores.open(collection) as documents:
            former = await documents.get(document_key)
            if former is not None and not replace:
                raise Conflict(f"The document '{document_key}' exists already.", param="documentKey")
            if former is not None and _same(former, new):
                same = await documents.describe(document_key, new.description, renew=True)
                if same is not None:
                    size = same.characters
                    return Stored(collection=collection, document=same, new=False, unchanged=True, characters=size)
        chunks = await chunks_of(given.content, new.chunking)
        embedded = await self._embedded(collection, [chunk.indexed for chunk in chunks], principal)
        collection = await self._still(collection)
        async with self._stores.open(collection) as documents:
            is_new = former is None
            try:
                stored = await documents.put(new, chunks, embedded.vectors, tokens=embedded.tokens, replace=not is_new)
            except Conflict as error:
                if isinstance(error, Superseded) or not replace:
                    raise
                is_new = False  # somebody else made one meanwhile, and only one is told that it is new
                stored = await documents.put(new, chunks, embedded.vectors, tokens=embedded.tokens, replace=True)
        return Stored(
            collection=collection,
            document=stored,
            new=is_new,
            tokens=embedded.tokens,
            characters=sum(len(chunk.text) for chunk in chunks),
            duration_ms=_since_ms(began),
            warnings=warnings_of(embedded, collection),
        )

    async def _still(self, before: Collection) -> Collection:
        """As it is now. Raises `NotFound`, or `Superseded` where vectors made before don't belong there."""
        now = await self._collections.by_id(before.id)
        if now is None:
            raise no_collection(before.key)
        if now.generation != before.generation:
            raise Superseded
        return now

    # --- search ------------------------------------------------------------------------------------------------------

    async def retrieve(self, principal: Principal, key: str, question: Question) -> Retrieved:
        """The best chunks for a question. Nothing is found in an empty collection, which is no error.

        Raises:
            NotFound: there is no such collection.
            Conflict: its model is another one by now.
        """
        began = time.monotonic()
        collection = await self.collection(principal, key)
        retrieval = question.retrieval or collection.retrieval
        weight = collection.weight if question.weight is None else question.weight
        embedded = Embedded(vectors=(), tokens=0)
        if retrieval != "keyword":
            embedded = await self._embedded(collection, [question.text], principal)
        query = Query(
            n=look_at(question.n),
            vector=embedded.vectors[0] if embedded.vectors else None,
            text=None if retrieval == "vector" else question.text,
            weight=weight,
            documents=question.documents,
        )
        async with self._stores.open(collection) as documents:
            found = await documents.search(query)
            unknown = [name for name in question.documents or () if await documents.get(name) is None]
        warnings = [f"There is no document '{name}' in the collection '{key}'." for name in unknown]
        if embedded.cut:
            warnings.append("The question is longer than the embedding model reads: its beginning was searched for.")
        return Retrieved(
            collection=collection,
            found=select(found, n=question.n, per_document=question.per_document),
            retrieval=retrieval,
            weight=weight,
            tokens=embedded.tokens,
            duration_ms=_since_ms(began),
            warnings=tuple(warnings),
        )

    async def _embedded(self, collection: Collection, texts: list[str], principal: Principal) -> Embedded:
        """Vectors by the collection's model, and by no other of its name."""
        made_with = collection.model
        if made_with.digest:
            now = await self._embedding.identify(made_with.name, principal=principal)
            if not now.agrees_with(made_with):
                raise model_changed(collection)
        embedded = await self._embedding.embed(made_with.name, texts, principal=principal)
        if any(len(vector) != 4 * made_with.dim for vector in embedded.vectors):
            raise model_changed(collection)
        return embedded


async def _anew(change: Callable[[], Awaitable[T]]) -> T:
    """Where a rebuild has taken the place of what was to be changed, change the new one."""
    for _ in range(_TRIES - 1):
        with contextlib.suppress(Superseded):
            return await change()
    return await change()


def _check_new_key(key: str, *, name: str, longest: int) -> None:
    if not is_key(key, longest=longest):
        message = f"Invalid '{name}': expected 1 to {longest} characters, none of them a slash or a control character."
        raise InvalidRequest(message, param=name)


def _changed(collection: Collection, change: CollectionChange) -> Collection:
    given = {
        "description": change.description,
        "retrieval": change.retrieval,
        "weight": change.weight,
    }
    return msgspec.structs.replace(collection, **{name: value for name, value in given.items() if value is not None})


def _no_document(key: str) -> NotFound:
    return NotFound(f"There is no document '{key[:100]}' in this collection.", param="documentKey")


def _new_document(collection: Collection, key: str, given: TextDocument) -> NewDocument:
    most = max_chunk_size(collection.model)
    size = given.chunk_size or most
    if size > most:
        message = f"Invalid 'chunkSize': the model '{collection.model.name}' takes at most {most}, but got {size}."
        raise InvalidRequest(message, param="chunkSize", code="integer_above_max_value")
    if not given.content or given.content.isspace():
        raise InvalidRequest("Invalid 'content': there is nothing but white space in it.", param="content")
    return NewDocument(
        key=key,
        text=given.content,
        sha256=hashlib.sha256(given.content.encode()).digest(),
        chunking=Chunking(mode="structure" if given.structure else "windows", size=size),
        description=given.description,
    )


def _same(former: Document, new: NewDocument) -> bool:
    return former.sha256 == new.sha256 and former.chunking == new.chunking and former.media_type == new.media_type


def _since_ms(began_s: float) -> int:
    return round((time.monotonic() - began_s) * 1000)
