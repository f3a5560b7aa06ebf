"""`core.documents.Documents` on a collection's file, all but the search."""

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path

import apsw
import msgspec

from narthex.core.documents import Chunk, Document, EmbeddingModel, NewDocument
from narthex.core.errors import Conflict
from narthex.core.keys import Clock
from narthex.storage.sqlite import document_rows as rows
from narthex.storage.sqlite import staging
from narthex.storage.sqlite.collection_file import CollectionFile
from narthex.storage.sqlite.fetching import fetched

_CHUNKS = """
select c.start, c.stop, c.page, c.context, c.text from chunk c join document d on d.id = c.doc_id
where d.key = ? order by c.ord
"""
_VECTORS = """
select v.e from chunk c join document d on d.id = c.doc_id join vec v on v.id = c.id where d.key = ? order by c.ord
"""
_BODY = "select b.z from body b join document d on d.id = b.doc_id where d.key = ?"
_ORIGINAL = "select o.z from original o join document d on d.id = o.doc_id where d.key = ?"

_DESCRIBE = "update document set description = ?, uuid = coalesce(?, uuid) where key = ?"


class Contents(msgspec.Struct, frozen=True, kw_only=True):
    """All that is stored of a document, as of one moment. `vectors` stand beside `chunks`: little-endian float32."""

    document: Document
    text: str
    original: bytes | None
    chunks: tuple[Chunk, ...]
    vectors: tuple[bytes, ...]


class Statistics(msgspec.Struct, frozen=True, kw_only=True):
    """How large a collection is, and how its index stands. `tail` and `dead`: chunks newer than the code file, and
    chunks in it that are gone.
    """

    documents: int
    chunks: int
    characters: int
    bytes: int
    """Of all its files."""
    indexed: int
    tail: int
    dead: int


class SqliteDocuments:
    """The documents of one collection. Whoever made the file closes it."""

    def __init__(self, file: CollectionFile, *, model: EmbeddingModel, clock: Clock) -> None:
        self.file = file
        self.model = model
        self._clock = clock

    async def put(
        self,
        new: NewDocument,
        chunks: Sequence[Chunk],
        vectors: Sequence[bytes | memoryview],
        *,
        tokens: int,
        replace: bool = True,
    ) -> Document:
        """See `Documents`.

        Raises:
            ValueError: a vector has not the model's length, or there are not as many as chunks.
        """
        pieces = [
            rows.Piece(chunk=chunk, vector=self._checked(vector)) for chunk, vector in zip(chunks, vectors, strict=True)
        ]
        packed = await asyncio.to_thread(rows.pack, new)
        now_ms = self._clock()

        def change(connection: apsw.Connection) -> Document:
            if not replace and _document(connection, new.key) is not None:
                raise Conflict(f"The document '{new.key}' exists already.", param="documentKey")
            return rows.insert(connection, new, packed, pieces=pieces, tokens=tokens, now_ms=now_ms)

        return await self.file.write(change)

    async def describe(self, key: str, description: str, *, renew: bool = False) -> Document | None:
        """See `Documents`."""
        id_ = rows.new_id() if renew else None

        def change(connection: apsw.Connection) -> Document | None:
            fetched(connection, _DESCRIBE, description, id_, key)
            return _document(connection, key)

        return await self.file.write(change)

    async def get(self, key: str) -> Document | None:
        """See `Documents`."""
        return await self.file.read(lambda connection: _document(connection, key))

    async def list(self) -> tuple[Document, ...]:
        """See `Documents`."""
        return await self.file.read(
            lambda connection: tuple(rows.document(row) for row in fetched(connection, rows.ALL))
        )

    async def text(self, key: str) -> str | None:
        """See `Documents`."""
        found = await self.file.read(lambda connection: _stored(connection, _BODY, key))
        return None if found is None else found.decode()

    async def original(self, key: str) -> bytes | None:
        """The bytes that the text was drawn from; None where the text itself was given, or there is no document."""
        return await self.file.read(lambda connection: _stored(connection, _ORIGINAL, key))

    async def chunks(self, key: str) -> tuple[Chunk, ...]:
        """A document's chunks in their order; none if there is no document."""
        return await self.file.read(lambda connection: _chunks(connection, key))

    async def contents(self, key: str) -> Contents | None:
        """All that is stored of a document."""
        return await self.file.read(lambda connection: _contents(connection, key))

    async def documents_after(self, row: int, n: int) -> tuple[tuple[int, Document], ...]:
        """The next `n` documents in the order in which they were stored, each with its row: 0 begins, and the last
        row goes on. A document that is replaced meanwhile comes again, with a higher row.
        """

        def query(connection: apsw.Connection) -> tuple[tuple[int, Document], ...]:
            found = fetched(connection, rows.AFTER, row, n)
            return tuple((at, rows.document(columns)) for at, *columns in found)

        return await self.file.read(query)

    async def delete(self, key: str) -> bool:
        """See `Documents`."""
        return await self.file.write(lambda connection: rows.remove(connection, key))

    async def statistics(self) -> Statistics:
        """Counts, of rows and of bytes on disk."""
        counted = await self.file.read(count)
        used = await asyncio.to_thread(_size, self.file.folder)
        return msgspec.structs.replace(counted, bytes=used)

    async def stage_begin(self, job: str, new: NewDocument, chunks: Sequence[Chunk]) -> None:
        """Keep a document whose chunks get their vectors later; what the job had staged before goes."""
        packed = await asyncio.to_thread(rows.pack, new)
        now_ms = self._clock()
        await self.file.write(
            lambda connection: staging.begin(connection, job, new, packed=packed, chunks=chunks, now_ms=now_ms)
        )

    async def stage_vectors(self, job: str, vectors: Sequence[tuple[int, bytes | memoryview]]) -> None:
        """Keep vectors, each with its chunk's index.

        Raises:
            NotFound: nothing is staged for the job.
            ValueError: a vector has not the model's length.
        """
        checked = [(index, self._checked(vector)) for index, vector in vectors]
        await self.file.write(lambda connection: staging.set_vectors(connection, job, checked))

    async def staged_missing(self, job: str, *, n: int = 256) -> tuple[staging.Missing, ...]:
        """The first `n` chunks that still lack their vector; none: the document is ready for `stage_commit`.

        Raises:
            NotFound: nothing is staged for the job.
        """
        return await self.file.read(lambda connection: staging.missing(connection, job, n))

    async def stage_commit(self, job: str, *, tokens: int) -> Document:
        """Make the document count, all at once; a former version of it goes.

        Raises:
            NotFound: nothing is staged for the job.
            Conflict: a chunk still lacks its vector.
        """
        now_ms = self._clock()
        return await self.file.write(lambda connection: staging.commit(connection, job, tokens=tokens, now_ms=now_ms))

    async def stage_drop(self, job: str) -> bool:
        """Forget what is staged for a job. False: nothing was."""
        return await self.file.write(lambda connection: staging.drop(connection, job))

    async def staged_jobs(self) -> tuple[str, ...]:
        """The jobs that have something staged, oldest first."""
        found = await self.file.read(
            lambda connection: fetched(connection, "select job from staged order by created_ms, job")
        )
        return tuple(job for (job,) in found)

    def _checked(self, vector: bytes | memoryview) -> bytes | memoryview:
        length = vector.nbytes if isinstance(vector, memoryview) else len(vector)
        if length != 4 * self.model.dim:
            raise ValueError(f"a vector of {length} bytes, where {self.model.dim} float32 are wanted")
        return vector


def count(connection: apsw.Connection) -> Statistics:
    """All but the bytes; takes time with the number of documents, not of chunks."""
    found = fetched(connection, "select rows, max_document from segment order by gen desc limit 1")
    [[indexed, newest]] = found or [(0, 0)]
    [[documents, chunks, characters, tail]] = fetched(
        connection,
        "select count(*), coalesce(sum(chunks), 0), coalesce(sum(characters), 0), "
        "coalesce(sum(iif(id > ?, chunks, 0)), 0) from document",
        newest,
    )
    return Statistics(
        documents=documents,
        chunks=chunks,
        characters=characters,
        bytes=0,
        indexed=indexed,
        tail=tail,
        dead=indexed - (chunks - tail),
    )


def _size(folder: Path) -> int:
    used = 0
    for path in folder.glob("*"):
        with contextlib.suppress(FileNotFoundError):  # a rebuild ends
            used += path.stat().st_size
    return used


def _document(connection: apsw.Connection, key: str) -> Document | None:
    found = fetched(connection, rows.ONE, key)
    return rows.document(found[0]) if found else None


def _stored(connection: apsw.Connection, query: str, key: str) -> bytes | None:
    found = fetched(connection, query, key)
    return rows.unpack(found[0][0]) if found else None


def _chunks(connection: apsw.Connection, key: str) -> tuple[Chunk, ...]:
    return tuple(rows.chunk(row) for row in fetched(connection, _CHUNKS, key))


def _contents(connection: apsw.Connection, key: str) -> Contents | None:
    document, text = _document(connection, key), _stored(connection, _BODY, key)
    if document is None or text is None:
        return None
    return Contents(
        document=document,
        text=text.decode(),
        original=_stored(connection, _ORIGINAL, key),
        chunks=_chunks(connection, key),
        vectors=tuple(vector for (vector,) in fetched(connection, _VECTORS, key)),
    )
