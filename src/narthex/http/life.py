"""`/api/collections/{key}/rebuild`, `/export` and `/import`: a collection made anew, taken out, and put in."""

import asyncio
import contextlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO
from urllib.parse import quote

import msgspec

from narthex.core.documents import Collection, Embedding, EmbeddingModel, max_chunk_size
from narthex.core.errors import Conflict, InvalidRequest
from narthex.core.jobs import Job, NewJob
from narthex.core.keys import Principal
from narthex.dialects.thyris_files import RebuildBody, import_fields, job_object, rebuild_body, seconds
from narthex.http.asgi import Headers
from narthex.http.exchange import Exchange
from narthex.http.jobs import waited
from narthex.http.native import granted, json_body, query_value, tell_ignored, while_wanted
from narthex.http.uploading import received
from narthex.jobs.queue import JobQueue
from narthex.jobs.rebuilding import Rebuild
from narthex.retrieval.library import CollectionChange, Library
from narthex.retrieval.portable import MEDIA_TYPE, About, PortableFile, export
from narthex.storage.uploads import Uploads
from narthex.wire.json import encode

_PIECE_BYTES = 1024 * 1024


class LifeEndpoints:
    """The endpoints over the collections of one library. `path`: of a collection's folder."""

    def __init__(
        self,
        library: Library,
        embedding: Embedding,
        queue: JobQueue,
        uploads: Uploads,
        *,
        path: Callable[[Collection], Path],
        body_limit_bytes: int,
        upload_limit_bytes: int,
        lenient: bool,
    ) -> None:
        self._library = library
        self._embedding = embedding
        self._queue = queue
        self._uploads = uploads
        self._path = path
        self._body_limit_bytes = body_limit_bytes
        self._upload_limit_bytes = upload_limit_bytes
        self._lenient = lenient

    async def rebuild(self, exchange: Exchange) -> None:
        """`POST /api/collections/{key}/rebuild`: with another model, or cut otherwise; 202, or 200 with `?wait=`."""
        principal = granted(exchange)
        wait_s = seconds(query_value(exchange, "wait") or "0")
        collection = await self._library.collection(principal, exchange.parameters["key"])
        sent = await json_body(exchange, limit_bytes=self._body_limit_bytes)
        body = rebuild_body(sent, strict=principal.key.strict and not self._lenient)
        tell_ignored(exchange, body.ignored)
        async with while_wanted(exchange):
            name = body.model or collection.model.name
            model = await self._embedding.identify(name, principal=principal)
        _check_size(body.chunk_size, model)
        await self._refuse_if_busy(collection)
        job = await self._queue.add(_new("rebuild", principal, collection, _payload(body, model, collection)))
        await self._reply(exchange, job, wait_s=wait_s, done=200)

    async def export(self, exchange: Exchange) -> None:
        """`GET /api/collections/{key}/export`: all of it as one file, as of one moment."""
        collection = await self._library.collection(granted(exchange), exchange.parameters["key"])
        # Made, so that it is there even if nothing was ever stored.
        await self._library.documents(granted(exchange), collection.key)
        file, size = await asyncio.to_thread(self._exported, collection)
        name = quote(f"{collection.key}.narthex", safe="")
        headers: Headers = [
            (b"content-type", MEDIA_TYPE.encode()),
            (b"content-length", b"%d" % size),
            (b"content-disposition", f"attachment; filename*=UTF-8''{name}".encode()),
        ]
        with contextlib.closing(file):
            async with while_wanted(exchange):
                await exchange.begin(200, headers)
                while piece := await asyncio.to_thread(file.read, _PIECE_BYTES):
                    await exchange.send(piece)
                await exchange.send(b"", more=False)

    async def take_in(self, exchange: Exchange) -> None:
        """`POST /api/collections/{key}/import`: a new collection out of an exported file; 202, or 201 with `?wait=`."""
        principal = granted(exchange)
        key = exchange.parameters["key"]
        wait_s = seconds(query_value(exchange, "wait") or "0")
        strict = principal.key.strict and not self._lenient
        async with received(exchange, self._uploads, limit_bytes=self._upload_limit_bytes) as form:
            fields = import_fields(form.fields, files=len(form.files), strict=strict)
            tell_ignored(exchange, fields.ignored)
            [file] = form.files
            about = await asyncio.to_thread(_about, self._uploads.path(file.job_id))
            change = CollectionChange(
                model=fields.model or about.model.name,
                description=about.description,
                retrieval=about.retrieval,
                weight=about.weight,
            )
            collection = await self._library.create(principal, key, change)
            form.kept.add(file.job_id)
            job = await self._queue.add(_new("import", principal, collection, {}), job_id=file.job_id)
        await self._reply(exchange, job, wait_s=wait_s, done=201)

    async def _reply(self, exchange: Exchange, job: Job, *, wait_s: float, done: int) -> None:
        [job] = await waited(exchange, self._queue, [job], within_s=wait_s)
        if job.is_open:
            await exchange.reply(202, encode(job_object(job)))
        elif job.state == "done":
            await exchange.reply(done, encode(job_object(job)))
        else:
            error = {"error": job.error or "The job was cancelled."}
            await exchange.reply(job.result.get("status", 400), encode(error))

    async def _refuse_if_busy(self, collection: Collection) -> None:
        if (job := await self._queue.last_open(collection, "")) is not None:
            raise Conflict(f"The job {job.id} is at this collection already: wait for it, or cancel it.")

    def _exported(self, collection: Collection) -> tuple[IO[bytes], int]:
        """The file, which has no name any more, and its size."""
        target = self._uploads.reserve(str(uuid.uuid4()))
        try:
            export(self._path(collection), target, collection)
            file = target.open("rb")
            return file, target.stat().st_size
        finally:
            target.unlink(missing_ok=True)


def _check_size(size: int | None, model: EmbeddingModel) -> None:
    if size is not None and size > (most := max_chunk_size(model)):
        message = f"Invalid 'chunkSize': the model '{model.name}' takes at most {most}, but got {size}."
        raise InvalidRequest(message, param="chunkSize")


def _payload(body: RebuildBody, model: EmbeddingModel, collection: Collection) -> dict[str, object]:
    rebuild = Rebuild(model=model, generation=collection.generation + 1, mode=body.mode, size=body.chunk_size)
    made: dict[str, object] = msgspec.to_builtins(rebuild)
    return made


def _new(kind: str, principal: Principal, collection: Collection, payload: dict[str, object]) -> NewJob:
    return NewJob(
        kind=kind,  # type: ignore[arg-type]
        account_id=principal.account.id,
        key_id=principal.key.id,
        collection_id=collection.id,
        collection_key=collection.key,
        payload=payload,
    )


def _about(path: Path) -> About:
    with contextlib.closing(PortableFile(path)) as file:
        return file.about
