"""`/api/collections/{key}/files`: files become documents, by jobs that outlive the request."""

from typing import Any
from urllib.parse import quote

import msgspec

from narthex.core.documents import Chunking, Collection, Document, Documents, max_chunk_size
from narthex.core.errors import InvalidRequest
from narthex.core.jobs import Job, NewJob
from narthex.core.keys import Principal
from narthex.dialects.thyris_files import UploadFields, job_object, seconds, unchanged_object, upload_fields
from narthex.http.asgi import Headers
from narthex.http.exchange import Exchange
from narthex.http.jobs import waited
from narthex.http.native import granted, query_value, tell_ignored
from narthex.http.uploading import UploadedFile, UploadForm, received
from narthex.jobs.queue import JobQueue
from narthex.retrieval.filenames import key_of
from narthex.retrieval.ingest import Upload
from narthex.retrieval.library import Library, Stores
from narthex.storage.uploads import Uploads
from narthex.wire.json import encode


class Taken(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one file: a job, or nothing to do. `new`: there was no document of its key."""

    key: str
    job: Job | None
    document_id: str = ""
    new: bool = False


class _Keeps:
    """A file of a form, as the one who gives it a job sees it."""

    def __init__(self, job_id: str, form: UploadForm) -> None:
        self.job_id = job_id
        self._form = form

    def keep(self) -> None:
        """It is its job's from now on."""
        self._form.kept.add(self.job_id)


class FilesEndpoint:
    """Takes uploads for the collections of one library."""

    def __init__(
        self,
        library: Library,
        stores: Stores,
        queue: JobQueue,
        uploads: Uploads,
        *,
        limit_bytes: int,
        lenient: bool,
    ) -> None:
        self._library = library
        self._stores = stores
        self._queue = queue
        self._uploads = uploads
        self._limit_bytes = limit_bytes
        self._lenient = lenient

    async def create(self, exchange: Exchange) -> None:
        """`POST /api/collections/{key}/files`: one or more `file` parts; 202, or what came of it with `?wait=`."""
        principal = granted(exchange)
        wait_s = seconds(query_value(exchange, "wait") or "0")
        collection = await self._library.collection(principal, exchange.parameters["key"])
        strict = principal.key.strict and not self._lenient
        async with received(exchange, self._uploads, limit_bytes=self._limit_bytes) as form:
            fields = upload_fields(form.fields, files=len(form.files), strict=strict)
            tell_ignored(exchange, fields.ignored)
            chunking = _chunking(collection, fields)
            keys = _keys(fields, form.files)
            taken = [
                await self._taken(
                    principal, collection, _upload(key, file, fields, chunking), _Keeps(file.job_id, form)
                )
                for key, file in zip(keys, form.files, strict=True)
            ]
        jobs = {each.job.id: each.job for each in taken if each.job is not None}
        now = await waited(exchange, self._queue, list(jobs.values()), within_s=wait_s)
        jobs = {job.id: job for job in now}
        await _reply(exchange, collection, taken, jobs)

    async def _taken(self, principal: Principal, collection: Collection, upload: Upload, file: "_Keeps") -> Taken:
        """Queue a file, unless the same is stored, or queued, already."""
        waiting = await self._queue.last_open(collection, upload.key)
        async with self._stores.open(collection) as documents:
            former = await documents.get(upload.key)
            if waiting is None and former is not None and _is_same(former, upload):
                await self._described(documents, former, upload)
                return Taken(key=upload.key, job=None, document_id=former.id)
        payload: dict[str, Any] = msgspec.to_builtins(upload)
        if waiting is not None and waiting.payload == payload:
            return Taken(key=upload.key, job=waiting, new=former is None)
        new = NewJob(
            kind="ingest",
            account_id=principal.account.id,
            key_id=principal.key.id,
            collection_id=collection.id,
            collection_key=collection.key,
            subject=upload.key,
            payload=payload,
        )
        job = await self._queue.add(new, job_id=file.job_id)
        file.keep()
        return Taken(key=upload.key, job=job, new=former is None)

    @staticmethod
    async def _described(documents: Documents, former: Document, upload: Upload) -> None:
        if upload.description and upload.description != former.description:
            await documents.describe(former.key, upload.description)


def _keys(fields: UploadFields, files: tuple[UploadedFile, ...]) -> list[str]:
    if fields.key is not None:
        return [fields.key]
    for file in files:
        if not file.name.strip():
            raise InvalidRequest("A file has no name: give it one, or a 'key'.", param="file")
    return [key_of(file.name) for file in files]


def _chunking(collection: Collection, fields: UploadFields) -> Chunking:
    most = max_chunk_size(collection.model)
    size = fields.chunk_size or most
    if size > most:
        message = f"Invalid 'chunkSize': the model '{collection.model.name}' takes at most {most}, but got {size}."
        raise InvalidRequest(message, param="chunkSize")
    return Chunking(mode=fields.mode, size=size)


def _upload(key: str, file: UploadedFile, fields: UploadFields, chunking: Chunking) -> Upload:
    return Upload(
        key=key,
        name=file.name,
        media_type=file.media_type,
        description=fields.description,
        chunking=chunking,
        sha256=file.sha256,
    )


def _is_same(former: Document, upload: Upload) -> bool:
    return former.sha256.hex() == upload.sha256 and former.chunking == upload.chunking and bool(former.name)


async def _reply(exchange: Exchange, collection: Collection, taken: list[Taken], jobs: dict[str, Job]) -> None:
    listed: list[dict[str, Any]] = []
    for each in taken:
        if each.job is None:
            listed.append(unchanged_object(key=each.key, document_id=each.document_id))
        else:
            listed.append(job_object(jobs[each.job.id]))
    answer: dict[str, Any] = {"jobs": listed}
    states = {job.state for job in jobs.values()}
    if states & {"queued", "running"}:
        status = 202
    elif states - {"done"}:
        failed = next(job for job in jobs.values() if job.state != "done")
        status = failed.result.get("status", 400)
        answer["error"] = failed.error or "The job was cancelled."
    else:
        status = 201 if any(each.new for each in taken) else 200
    headers: Headers = [(b"content-type", b"application/json")]
    if status == 202 and len(jobs) == 1:
        [job_id] = jobs
        place = f"/api/collections/{quote(collection.key, safe='')}/jobs/{job_id}"
        headers.append((b"location", place.encode()))
    await exchange.reply(status, encode(answer), headers)
