"""`/api/collections/{key}/jobs`: what becomes of uploads, rebuilds and imports."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Sequence

from narthex.core.documents import Collection
from narthex.core.errors import Draining
from narthex.core.jobs import Job
from narthex.dialects.thyris_files import job_object
from narthex.http.asgi import EVENTS, Headers, header
from narthex.http.exchange import Exchange
from narthex.http.native import granted, query_flag, while_wanted
from narthex.jobs.queue import JobQueue
from narthex.retrieval.library import Library
from narthex.wire import sse
from narthex.wire.json import encode

_EVENT_HEADERS: Headers = [EVENTS, (b"cache-control", b"no-cache"), (b"x-accel-buffering", b"no")]
PING_AFTER_S = 15.0


class JobsEndpoints:
    """The endpoints over the collections of one library."""

    def __init__(self, library: Library, queue: JobQueue) -> None:
        self._library = library
        self._queue = queue

    async def list(self, exchange: Exchange) -> None:
        """`GET /api/collections/{key}/jobs`: newest first; `?open=true`: only those that are not over."""
        only_open = query_flag(exchange, "open")
        jobs = await self._queue.of(await self._collection(exchange), only_open=only_open)
        await exchange.reply(200, encode({"jobs": [job_object(job) for job in jobs]}))

    async def retrieve(self, exchange: Exchange) -> None:
        """`GET /api/collections/{key}/jobs/{job}`; as events where the caller accepts `text/event-stream`."""
        job = await self._job(exchange)
        if b"text/event-stream" in (header(exchange.headers, b"accept") or b""):
            await self._follow(exchange, job)
        else:
            await exchange.reply(200, encode(job_object(job)))

    async def events(self, exchange: Exchange) -> None:
        """`GET /api/collections/{key}/jobs/{job}/events`: the job each time it has changed, until it is over."""
        await self._follow(exchange, await self._job(exchange))

    async def cancel(self, exchange: Exchange) -> None:
        """`DELETE /api/collections/{key}/jobs/{job}`: cancel it, if it is not over."""
        await self._queue.cancel(await self._collection(exchange), exchange.parameters["job"])
        await exchange.done()

    async def _follow(self, exchange: Exchange, job: Job) -> None:
        if exchange.method == "HEAD":
            await exchange.begin(200, _EVENT_HEADERS)
            await exchange.send(b"", more=False)
            return
        try:
            async with while_wanted(exchange), contextlib.aclosing(_paced(self._queue.follow(job))) as changes:
                await exchange.begin(200, _EVENT_HEADERS)
                async for now in changes:
                    await exchange.send(sse.PING if now is None else sse.encode(encode(job_object(now))))
            await exchange.send(b"", more=False)
        except Draining as error:
            if not exchange.begun:
                raise
            await exchange.send(sse.encode(encode({"error": error.message})), more=False)

    async def _collection(self, exchange: Exchange) -> Collection:
        return await self._library.collection(granted(exchange), exchange.parameters["key"])

    async def _job(self, exchange: Exchange) -> Job:
        return await self._queue.get(await self._collection(exchange), exchange.parameters["job"])


async def waited(exchange: Exchange, queue: JobQueue, jobs: Sequence[Job], *, within_s: float) -> list[Job]:
    """The jobs, once all are over or the time is; as they are where the server stops: they are done by the next one.

    Raises:
        CallerLeft: nobody waits any more.
    """
    if not within_s or not jobs:
        return list(jobs)
    try:
        async with while_wanted(exchange):
            return await queue.wait(jobs, within_s=within_s)
    except Draining:
        return list(jobs)


async def _paced(changes: AsyncIterator[Job]) -> AsyncGenerator[Job | None, None]:
    """The changes, and None whenever there was none for a while."""
    change = asyncio.ensure_future(anext(changes, None))
    try:
        while True:
            done, _ = await asyncio.wait({change}, timeout=PING_AFTER_S)
            if not done:
                yield None
                continue
            if (now := change.result()) is None:
                return
            yield now
            change = asyncio.ensure_future(anext(changes, None))
    finally:
        change.cancel()
