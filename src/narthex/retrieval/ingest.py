"""From a file, or a text, to a stored document, one embedded batch after the other.

Rules: what is embedded is kept at once, so that whoever goes on after a crash embeds no more than the last batch again;
nothing of a document is seen before all of it is there; the next batches are embedded while the last is written.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from narthex.core.documents import Chunk, Chunking, Document, Embedded, NewDocument
from narthex.core.errors import InvalidRequest, NarthexError, NotFound
from narthex.retrieval.extract.client import Extractor
from narthex.storage.sqlite.documents import SqliteDocuments
from narthex.storage.sqlite.staging import Missing

T = TypeVar("T")

Embed = Callable[[Sequence[str]], Awaitable[Embedded]]
Tell = Callable[[int, int, str], None]
"""(done, total, what it is at)."""

FIRST_BATCH, LARGEST_BATCH = 16, 64
_QUICK_S, _SLOW_S = 1.0, 8.0
AHEAD = 2
"""Batches that are asked for at a time: with one the model would wait while we take in its answer."""
_PAGE = 1024
TRIES = 6
_LONGEST_PAUSE_S = 30.0
KEPT_ORIGINAL_BYTES = 64 * 1024 * 1024
"""A larger file's text is stored, but not the file itself: it can't be read anew with other settings."""


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A file that is to be a document. `sha256`: hex, of its bytes."""

    key: str
    name: str
    media_type: str = ""
    description: str = ""
    chunking: Chunking
    sha256: str


class Notes(msgspec.Struct, kw_only=True):
    """What a job has to remember, should another process go on with it."""

    total: int = 0
    tokens: int = 0
    cut: int = 0
    """Chunks of which the model read but the beginning."""
    warnings: list[str] = []

    def all_warnings(self) -> tuple[str, ...]:
        """What the one who brought the document should know."""
        if not self.cut:
            return tuple(self.warnings)
        told = (
            f"{self.cut} of {self.total} chunks are longer than the model reads: by meaning they are found by their "
            "beginning only. Use a smaller chunkSize."
        )
        return (*self.warnings, told)


class Ingestion:
    """Brings one document into a collection, as the job `job_id`."""

    def __init__(self, documents: SqliteDocuments, job_id: str, *, embed: Embed, notes: Notes, tell: Tell) -> None:
        self._documents = documents
        self._job_id = job_id
        self._embed = embed
        self._notes = notes
        self._tell = tell

    async def file(self, source: Path, upload: Upload, *, extractor: Extractor) -> Document:
        """Store a file, going on from where a former try got.

        Raises:
            InvalidRequest: no text can be drawn out of it.
            UnsupportedMediaType: nothing here reads such files.
            NarthexError: what the model or the store ended with.
        """
        if not await self._begun():
            self._tell(0, 0, "reading the file")
            await self._stage(source, upload, extractor)
        return await self.embedded()

    async def text(self, new: NewDocument, chunks: Sequence[Chunk]) -> Document:
        """Store a document that is cut already, going on from where a former try got. Raises as `file`."""
        self._notes.total = len(chunks)
        if not await self._begun():
            await self._documents.stage_begin(self._job_id, new, chunks)
        return await self.embedded()

    async def embedded(self) -> Document:
        """Embed what is staged and make it count."""
        await self._vectors()
        self._tell(self._notes.total, self._notes.total, "storing")
        return await self._documents.stage_commit(self._job_id, tokens=self._notes.tokens)

    async def _begun(self) -> bool:
        try:
            await self._documents.staged_missing(self._job_id, n=1)
        except NotFound:
            return False
        return self._notes.total > 0

    async def _stage(self, source: Path, upload: Upload, extractor: Extractor) -> None:
        if not await asyncio.to_thread(source.is_file):  # after a backup was restored, for one
            raise InvalidRequest("The uploaded file is not here any more: upload it again.")

        def told(done: int, total: int) -> None:
            self._tell(0, 0, f"reading the file: page {done} of {total}")

        extraction = await patiently(
            lambda: extractor.extract(
                source,
                name=upload.name,
                media_type=upload.media_type or None,
                chunking=upload.chunking,
                progress=told,
            )
        )
        original = await asyncio.to_thread(_original, source)
        warnings = list(extraction.warnings)
        if original is None:
            warnings.append("The file itself is too large to be kept: to cut it otherwise, upload it again.")
        new = NewDocument(
            key=upload.key,
            text=extraction.text,
            sha256=bytes.fromhex(upload.sha256),
            chunking=upload.chunking,
            description=upload.description,
            media_type=extraction.media_type,
            name=upload.name,
            original=original,
        )
        if not extraction.chunks:
            raise InvalidRequest("There is no text in this file.")
        await self._documents.stage_begin(self._job_id, new, extraction.chunks)
        self._notes.total, self._notes.tokens, self._notes.cut = len(extraction.chunks), 0, 0
        self._notes.warnings = warnings

    async def _vectors(self) -> None:
        size = FIRST_BATCH
        while missing := await self._documents.staged_missing(self._job_id, n=_PAGE):
            size = await self._page(missing, size)

    async def _page(self, missing: Sequence[Missing], size: int) -> int:
        """Embed these, some batches at a time; the size that batches should have from here on."""
        asked: deque[tuple[Sequence[Missing], asyncio.Future[tuple[Embedded, float]]]] = deque()
        writing: asyncio.Future[None] | None = None
        try:
            while missing or asked:
                while missing and len(asked) < AHEAD:
                    batch, missing = missing[:size], missing[size:]
                    asked.append((batch, asyncio.ensure_future(self._asked(batch))))
                embedded, elapsed_s = await asked[0][1]
                batch, _ = asked.popleft()
                size = _next_size(size, elapsed_s)
                if writing is not None:
                    await writing
                writing = asyncio.ensure_future(self._keep(batch, embedded))
            if writing is not None:
                await writing
        finally:
            for _, task in asked:
                task.cancel()
            if left := {task for _, task in asked} | ({writing} if writing is not None else set()):
                await asyncio.wait(left)
        return size

    async def _asked(self, batch: Sequence[Missing]) -> tuple[Embedded, float]:
        began_s = time.monotonic()
        embedded = await patiently(lambda: self._embed([one.chunk.indexed for one in batch]))
        return embedded, time.monotonic() - began_s

    async def _keep(self, batch: Sequence[Missing], embedded: Embedded) -> None:
        await self._documents.stage_vectors(
            self._job_id, [(one.index, vector) for one, vector in zip(batch, embedded.vectors, strict=True)]
        )
        self._notes.tokens += embedded.tokens
        self._notes.cut += len(embedded.cut)
        self._tell(batch[-1].index + 1, self._notes.total, "embedding")


async def patiently(work: Callable[[], Awaitable[T]]) -> T:
    """Do it, and again where it fails in a way that may pass, for about a minute in all.

    Raises:
        NarthexError: what the last try ended with.
    """
    for tried in range(1, TRIES + 1):
        try:
            return await work()
        except NarthexError as error:
            if not error.retryable or tried == TRIES:
                raise
            pause_s = min(error.retry_after_s or 2.0 ** (tried - 1), _LONGEST_PAUSE_S)
        await asyncio.sleep(pause_s)
    raise AssertionError("unreachable")


def notes_of(result: dict[str, Any]) -> Notes:
    """The notes that a job's former owner left."""
    return msgspec.convert(result.get("notes", {}), Notes)


def _next_size(size: int, elapsed_s: float) -> int:
    """Large enough that calls cost little, small enough that little is lost with one."""
    if elapsed_s < _QUICK_S:
        return min(size * 2, LARGEST_BATCH)
    return max(size // 2, 1) if elapsed_s > _SLOW_S else size


def _original(source: Path) -> bytes | None:
    return source.read_bytes() if source.stat().st_size <= KEPT_ORIGINAL_BYTES else None
