"""Jobs of the kind `import`: the documents of an exported collection, whose file has the job's id."""

import asyncio

import msgspec

from narthex.core.documents import Collection
from narthex.core.errors import InvalidRequest
from narthex.core.jobs import Job
from narthex.jobs.ingesting import Site
from narthex.jobs.runner import Outcome, Progress
from narthex.retrieval.ingest import Embed, Ingestion, Notes
from narthex.retrieval.portable import Portable, PortableFile
from narthex.storage.sqlite.documents import SqliteDocuments


class Importing:
    """See `Work`."""

    def __init__(self, site: Site) -> None:
        self._site = site

    async def run(self, job: Job, progress: Progress) -> Outcome:
        """See `Work.run`."""
        site = self._site
        principal, collection = await site.principal(job), await site.collection(job)
        source = site.uploads.path(job.id)
        if not await asyncio.to_thread(source.is_file):
            raise InvalidRequest("The uploaded file is not here any more: upload it again.")
        embed = await site.embed(collection, principal)
        file = await asyncio.to_thread(PortableFile, source)
        try:
            async with site.stores.open(collection) as documents:
                taking = _Taking(documents, collection, file, embed=embed, job_id=job.id, progress=progress)
                count = await taking.all()
        finally:
            await asyncio.to_thread(file.close)
        site.look_at(collection)
        return Outcome(result={"documents": count, "reusedVectors": taking.reuses})

    async def ended(self, job: Job) -> None:
        """See `Work.ended`."""
        await asyncio.to_thread(self._site.uploads.remove, job.id)


class _Taking:
    """One file's documents on their way into a collection."""

    def __init__(
        self,
        documents: SqliteDocuments,
        collection: Collection,
        file: PortableFile,
        *,
        embed: Embed,
        job_id: str,
        progress: Progress,
    ) -> None:
        self._documents = documents
        self._file = file
        self._embed = embed
        self._job_id = job_id
        self._progress = progress
        former = file.about.model
        told = bool(former.digest and collection.model.digest)  # a name alone does not say whose it is
        self.reuses = told and former.agrees_with(collection.model)

    async def all(self) -> int:
        """Store them all, those that are there already aside; how many the file has."""
        count, total = await asyncio.to_thread(self._file.count)
        done, after = 0, 0
        while (found := await asyncio.to_thread(self._file.document, after)) is not None:
            after, portable = found
            await self._take(portable, done=done, total=total)
            done += len(portable.chunks)
            self._progress.tell(done, total, "importing")
        return count

    async def _take(self, portable: Portable, *, done: int, total: int) -> None:
        new = portable.new
        there = await self._documents.get(new.key)
        if there is not None and (there.sha256, there.chunking) == (new.sha256, new.chunking):
            return
        if self.reuses:
            await self._documents.put(new, portable.chunks, portable.vectors, tokens=portable.tokens)
            return

        def told(of_this: int, _: int, message: str) -> None:
            self._progress.tell(done + of_this, total, message)

        name = msgspec.json.encode(new.key).decode()
        ingestion = Ingestion(self._documents, f"{self._job_id}:{name}", embed=self._embed, notes=Notes(), tell=told)
        await ingestion.text(new, portable.chunks)
