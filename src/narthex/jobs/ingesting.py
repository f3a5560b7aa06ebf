"""Jobs of the kind `ingest`: one uploaded file each. The payload is an `Upload`; the file has the job's id."""

import asyncio
from collections.abc import Awaitable, Callable, Container
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from narthex.core.documents import Collection, Collections, Embedding, model_changed, no_collection
from narthex.core.errors import PermissionDenied, Superseded
from narthex.core.jobs import Job
from narthex.core.keys import Clock, Keys, Principal
from narthex.jobs.runner import Outcome, Progress, PutOff
from narthex.retrieval.extract.client import Extractor
from narthex.retrieval.ingest import Embed, Ingestion, Upload, notes_of, patiently
from narthex.storage.sqlite.documents import SqliteDocuments
from narthex.storage.uploads import Uploads


class Stores(Protocol):
    """Where the documents of collections are."""

    def open(self, collection: Collection) -> AbstractAsyncContextManager[SqliteDocuments]:
        """A collection's documents, for as long as the block lasts."""
        ...

    async def drop(self, collection: Collection) -> None:
        """Delete the files of one generation, which nobody uses."""
        ...


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What every kind of job works with."""

    keys: Keys
    collections: Collections
    stores: Stores
    embedding: Embedding
    extractor: Extractor
    uploads: Uploads
    open_jobs: Callable[[], Awaitable[Container[str]]]
    """The ids of all jobs that are not over."""
    look_at: Callable[[Collection], None]
    """Looks after a collection's index, soon."""
    clock: Clock

    async def principal(self, job: Job) -> Principal:
        """With whose rights a job is done.

        Raises:
            PermissionDenied: the key is not good any more.
        """
        principal = await self.keys.by_id(job.key_id)
        if principal is None or not principal.key.is_live(self.clock()):
            raise PermissionDenied("The key that asked for this was revoked or has expired.")
        if not principal.may_use_collection(job.collection_key):
            raise no_collection(job.collection_key)
        return principal

    async def collection(self, job: Job) -> Collection:
        """The collection of a job, as it is now.

        Raises:
            NotFound: it was deleted meanwhile.
        """
        found = await self.collections.by_id(job.collection_id)
        if found is None:
            raise no_collection(job.collection_key)
        return found

    async def embed(self, collection: Collection, principal: Principal) -> Embed:
        """What embeds with a collection's model.

        Raises:
            Conflict: the model of this name is another one now.
            NarthexError: the model can't be used.
        """
        name = collection.model.name
        now = await patiently(lambda: self.embedding.identify(name, principal=principal))
        if not now.agrees_with(collection.model):
            raise model_changed(collection)
        return lambda texts: self.embedding.embed(name, texts, principal=principal)


class Ingesting:
    """See `Work`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def run(self, job: Job, progress: Progress) -> Outcome:
        """See `Work.run`."""
        site, notes = self._site, notes_of(job.result)
        progress.noted = lambda: {"notes": msgspec.to_builtins(notes)}
        principal, collection = await site.principal(job), await site.collection(job)
        source = site.uploads.path(job.id)
        embed = await site.embed(collection, principal)
        upload = msgspec.convert(job.payload, Upload)
        async with site.stores.open(collection) as documents:
            ingestion = Ingestion(documents, job.id, embed=embed, notes=notes, tell=progress.tell)
            try:
                await _drop_left_over(site, documents)
                document = await ingestion.file(source, upload, extractor=site.extractor)
            except Superseded:
                raise PutOff from None
        site.look_at(collection)
        return Outcome(
            result={
                "documentId": document.id,
                "documentKey": document.key,
                "chunks": document.chunks,
                "embeddingTokens": document.tokens,
            },
            warnings=notes.all_warnings(),
        )

    async def ended(self, job: Job) -> None:
        """See `Work.ended`."""
        await drop_staged(self._site, job)
        await asyncio.to_thread(self._site.uploads.remove, job.id)


async def _drop_left_over(site: Site, documents: SqliteDocuments) -> None:
    """What jobs have staged that were given up: nobody was there to clean up after them."""
    staged = await documents.staged_jobs()
    living = await site.open_jobs() if staged else ()
    for name in staged:
        if name.partition(":")[0] not in living:
            await documents.stage_drop(name)


async def drop_staged(site: Site, job: Job) -> None:
    """Remove what a job had half done."""
    collection = await site.collections.by_id(job.collection_id)
    if collection is None:
        return
    async with site.stores.open(collection) as documents:
        try:
            await documents.stage_drop(job.id)
        except Superseded:
            return


def payload_of(upload: Upload) -> dict[str, Any]:
    """As a job keeps it."""
    kept: dict[str, Any] = msgspec.to_builtins(upload)
    return kept
