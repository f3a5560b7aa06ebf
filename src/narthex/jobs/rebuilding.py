"""Jobs of the kind `rebuild`: a collection with another model, or cut otherwise. The payload is a `Rebuild`.

Rule: one at a time for each collection, to the end of its cleaning up. A job that was cancelled is over at once for
whoever asks, and the next one makes a generation of the same name.

The next generation is made beside the one that serves. The switch is one row in the control database; the former file
takes no writes from just before it on, so that none is lost: whoever comes too late writes to the new one.
"""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any, Literal
from weakref import WeakValueDictionary

import msgspec

from narthex.core.documents import Collection, EmbeddingModel, max_chunk_size, model_changed, no_collection
from narthex.core.errors import Conflict, Superseded
from narthex.core.jobs import Job
from narthex.jobs.ingesting import Site
from narthex.jobs.runner import Outcome, Progress, PutOff
from narthex.retrieval.ingest import patiently
from narthex.retrieval.reembed import Manner, Mirror, fingerprint_now
from narthex.storage.sqlite.documents import SqliteDocuments


class Rebuild(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for. `generation`: of what is made; `mode` and `size` None: as each document is."""

    model: EmbeddingModel
    generation: int
    mode: Literal["windows", "structure"] | None = None
    size: int | None = None


class Rebuilding:
    """See `Work`."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._at_work: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        """By collection; whoever holds one or waits for it keeps it."""

    async def run(self, job: Job, progress: Progress) -> Outcome:
        """See `Work.run`."""
        async with self._alone(job.collection_id):
            return await self._run(job, progress)

    async def ended(self, job: Job) -> None:
        """See `Work.ended`."""
        async with self._alone(job.collection_id):
            await self._clean_up(job)

    @asynccontextmanager
    async def _alone(self, collection_id: str) -> AsyncIterator[None]:
        lock = self._at_work.setdefault(collection_id, asyncio.Lock())
        async with lock:
            yield

    async def _run(self, job: Job, progress: Progress) -> Outcome:
        site, rebuild = self._site, msgspec.convert(job.payload, Rebuild)
        principal, collection = await site.principal(job), await site.collection(job)
        if collection.generation >= rebuild.generation:
            if job.attempts == 1:
                raise Conflict("The collection was rebuilt meanwhile, as another request had asked for.")
            return Outcome(result=_result(collection))  # who did it died before it could say so
        model = await patiently(lambda: site.embedding.identify(rebuild.model.name, principal=principal))
        if not model.agrees_with(rebuild.model):
            raise model_changed(collection)
        target = _target(collection, rebuild)
        if job.attempts == 1:  # what another rebuild has left there
            await site.stores.drop(target)
        manner = Manner(
            mode=rebuild.mode,
            size=rebuild.size,
            largest=max_chunk_size(rebuild.model),
            keeps_vectors=collection.model.agrees_with(rebuild.model),
        )
        async with site.stores.open(collection) as old, site.stores.open(target) as new:
            mirror = Mirror(
                old,
                new,
                manner,
                job_id=job.id,
                embed=lambda texts: site.embedding.embed(model.name, texts, principal=principal),
                extractor=site.extractor,
                tell=progress.tell,
            )
            while True:
                seen = await mirror.mirror()
                if not await progress.is_ours():
                    raise PutOff
                if await _to_its_end(self._switched(old, rebuild, collection, seen)):
                    break
                progress.tell(progress.done, progress.total, "following what was changed meanwhile")
        site.look_at(target)
        return Outcome(result=_result(target))

    async def _clean_up(self, job: Job) -> None:
        site, rebuild = self._site, msgspec.convert(job.payload, Rebuild)
        collection = await site.collections.by_id(job.collection_id)
        if collection is not None and collection.generation < rebuild.generation:
            async with site.stores.open(collection) as documents:
                await documents.file.reinstate()
            await site.stores.drop(_target(collection, rebuild))

    async def _switched(self, old: SqliteDocuments, rebuild: Rebuild, collection: Collection, seen: bytes) -> bool:
        """Let the new generation take over, unless something was changed in the old one since it was `seen`."""

        def changed(connection: Any) -> str | None:
            return None if fingerprint_now(connection) == seen else "changed"

        try:
            if await old.file.supersede(changed) is not None:
                return False
        except Superseded:
            pass  # by who died before the row was changed
        now = await self._site.collections.by_id(collection.id)
        if now is None:
            raise no_collection(collection.key)
        await self._site.collections.replace(_target(now, rebuild))
        return True


async def _to_its_end(switching: Coroutine[Any, Any, bool]) -> bool:
    """Wait for it even when cancelled meanwhile: half of it must not happen beside whoever cleans up."""
    task = asyncio.ensure_future(switching)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is None and task.result():
            return True  # too late: it has taken over
        raise


def _target(collection: Collection, rebuild: Rebuild) -> Collection:
    return msgspec.structs.replace(collection, model=rebuild.model, generation=rebuild.generation)


def _result(collection: Collection) -> dict[str, Any]:
    return {"model": collection.model.name, "generation": collection.generation}
