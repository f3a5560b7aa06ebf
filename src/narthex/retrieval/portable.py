"""A collection as one file that another server can take in: a SQLite database of documents, texts, originals, chunks
and vectors, with what made them. All functions block.

Rules: a file that comes from somewhere is never used as it is: its rows are checked one document at a time, and stored
anew; nothing in it is run.
"""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apsw
import msgspec

from narthex.core.documents import (
    MAX_DESCRIPTION,
    MAX_DOCUMENT_KEY,
    Chunk,
    Chunking,
    Collection,
    EmbeddingModel,
    NewDocument,
    Retrieval,
    is_key,
)
from narthex.core.errors import InvalidRequest, StorageError
from narthex.storage.sqlite.collection_file import FILE
from narthex.storage.sqlite.connection import BUSY_TIMEOUT_MS, close
from narthex.storage.sqlite.errors import translate

MEDIA_TYPE = "application/vnd.narthex.collection"
APPLICATION_ID = 0x4E585443
FORMAT = 1
MAX_TEXT_BYTES = 256 * 1024 * 1024
"""Of one document's text, or its original, taken in."""
_TABLES = ("document", "body", "original", "chunk", "vec")
_SCHEMA = """
create table about(k text primary key, v text not null) strict, without rowid;
create table document(id integer primary key, uuid text, key text, description text, media_type text, name text,
  sha256 blob, mode text, size integer, characters integer, chunks integer, tokens integer, created_ms integer) strict;
create table body(doc_id integer primary key, z blob) strict;
create table original(doc_id integer primary key, z blob) strict;
create table chunk(id integer primary key, doc_id integer, ord integer, start integer, stop integer, page integer,
  context text, text text) strict;
create table vec(id integer primary key, e blob) strict;
create index chunk_doc on chunk(doc_id, ord);
"""
_DOCUMENTS = """
select id, key, description, media_type, name, sha256, mode, size, tokens from document where id > ? order by id limit 1
"""
_CHUNKS = """
select c.start, c.stop, c.page, c.context, c.text, v.e from chunk c join vec v on v.id = c.id
where c.doc_id = ? order by c.ord
"""


class About(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says of its collection."""

    key: str
    model: EmbeddingModel
    description: str = ""
    retrieval: Retrieval = "hybrid"
    weight: float = 0.5


class Portable(msgspec.Struct, frozen=True, kw_only=True):
    """One document with its chunks, checked. `vectors` stand beside `chunks`."""

    new: NewDocument
    chunks: tuple[Chunk, ...]
    vectors: tuple[bytes, ...]
    tokens: int


def export(folder: Path, target: Path, collection: Collection) -> None:
    """Write the collection in `folder` to `target`, which is made, as of one moment.

    Raises:
        StorageError: something can't be read or written; StorageFull where the disk is full.
    """
    about = About(
        key=collection.key,
        model=collection.model,
        description=collection.description,
        retrieval=collection.retrieval,
        weight=collection.weight,
    )
    connection = None
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        connection = apsw.Connection(str(target), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        connection.pragma("journal_mode", "off")
        connection.pragma("synchronous", 0)
        for statement in (_SCHEMA, "attach ? as c"):
            connection.execute(statement, (str(folder / FILE),) if "attach" in statement else None).fetchall()
        connection.execute("begin").fetchall()
        for table in _TABLES:
            connection.execute(f"insert into main.{table} select * from c.{table}").fetchall()  # noqa: S608 - our own names
        connection.execute(
            "insert into about(k, v) values('collection', ?)", (msgspec.json.encode(about).decode(),)
        ).fetchall()
        connection.execute("commit").fetchall()
        connection.pragma("application_id", APPLICATION_ID)
        connection.pragma("user_version", FORMAT)
    except (apsw.Error, OSError) as error:
        raise translate(error, connection if isinstance(error, apsw.Error) else None) from error
    finally:
        close(connection)


class PortableFile:
    """A file that `export` wrote, or somebody else. Close it with `close`."""

    def __init__(self, path: Path) -> None:
        """Look whether it is one.

        Raises:
            InvalidRequest: it is not, or it is damaged.
        """
        self._connection: apsw.Connection | None = None
        with self._reading():
            # Not as a URI, and without writing: what stands beside it is not read either.
            self._connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
            for name, value in (("trusted_schema", 0), ("cell_size_check", 1), ("query_only", 1), ("mmap_size", 0)):
                self._connection.pragma(name, value)
            self._check(self._connection)
            [[text]] = self._connection.execute("select v from about where k = 'collection'").fetchall()
            self.about = msgspec.json.decode(str(text), type=About)
        if not 0 < self.about.model.dim <= 65536 or len(self.about.description) > MAX_DESCRIPTION:
            self.close()
            raise _damaged("what it says of itself can't be")

    @staticmethod
    def _check(connection: apsw.Connection) -> None:
        if (connection.pragma("application_id"), connection.pragma("user_version")) != (APPLICATION_ID, FORMAT):
            raise _damaged("it is no exported collection, or another version's")
        made = connection.execute("select type, name, sql from sqlite_schema where sql not null").fetchall()
        wanted = [statement.strip().split("(")[0].split() for statement in _SCHEMA.split(";") if statement.strip()]
        if sorted((str(kind), str(name)) for kind, name, _ in made) != sorted(
            (words[1], words[2]) for words in wanted
        ) or any("virtual" in str(sql).lower() for *_, sql in made):
            raise _damaged("it holds other tables")
        if connection.pragma("quick_check") != "ok":
            raise _damaged("the file is not whole")

    def count(self) -> tuple[int, int]:
        """Documents and chunks."""
        connection = self._open()
        with self._reading():
            [[documents]] = connection.execute("select count(*) from document").fetchall()
            [[chunks]] = connection.execute("select count(*) from chunk").fetchall()
        return int(documents), int(chunks)  # type: ignore[arg-type]

    def document(self, after: int) -> tuple[int, Portable] | None:
        """The next document, with its number; None: there is none. 0 begins.

        Raises:
            InvalidRequest: it can't be one.
        """
        connection = self._open()
        with self._reading():
            rows = connection.execute(_DOCUMENTS, (after,)).fetchall()
            if not rows:
                return None
            [[row, *columns]] = rows
            body = connection.execute("select z from body where doc_id = ?", (row,)).fetchall()
            original = connection.execute("select z from original where doc_id = ?", (row,)).fetchall()
            chunks = connection.execute(_CHUNKS, (row,)).fetchall()
        return int(row), self._portable(columns, body, original, chunks)  # type: ignore[arg-type]

    def close(self) -> None:
        """Close it."""
        connection, self._connection = self._connection, None
        close(connection)

    def _open(self) -> apsw.Connection:
        if self._connection is None:
            raise StorageError("The file is closed.")
        return self._connection

    @contextlib.contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (apsw.Error, msgspec.MsgspecError, ValueError) as error:
            self.close()
            raise _damaged("it can't be read") from error
        except InvalidRequest:
            self.close()
            raise

    def _portable(self, columns: Any, body: Any, original: Any, rows: Any) -> Portable:
        key, description, media_type, name, sha256, mode, size, tokens = columns
        if not body or not is_key(key, longest=MAX_DOCUMENT_KEY) or len(description) > MAX_DESCRIPTION:
            raise _damaged(f"the document '{str(key)[:100]}' can't be")
        try:
            text = _inflated(body[0][0]).decode()
            chunking = msgspec.convert({"mode": mode, "size": size}, Chunking)
        except (UnicodeDecodeError, msgspec.ValidationError):
            raise _damaged(f"the document '{key}' can't be read") from None
        chunks = tuple(
            Chunk(start=start, stop=stop, page=page, context=context, text=chunk)
            for start, stop, page, context, chunk, _ in rows
        )
        if any(text[each.start : each.stop] != each.text or each.start < 0 for each in chunks) or not chunks:
            raise _damaged(f"the chunks of '{key}' are not of its text")
        return Portable(
            new=NewDocument(
                key=key,
                text=text,
                sha256=sha256,
                chunking=chunking,
                description=description,
                media_type=media_type,
                name=name,
                original=_inflated(original[0][0]) if original else None,
            ),
            chunks=chunks,
            vectors=self._vectors(key, [vector for *_, vector in rows]),
            tokens=tokens,
        )

    def _vectors(self, key: str, vectors: list[bytes]) -> tuple[bytes, ...]:
        import numpy as np  # noqa: PLC0415 - a worker that imports nothing stays light

        width = 4 * self.about.model.dim
        if (
            any(len(vector) != width for vector in vectors)
            or not np.isfinite(np.frombuffer(b"".join(vectors), "<f4")).all()
        ):
            raise _damaged(f"the vectors of '{key}' can't be")
        return tuple(vectors)


def _inflated(z: bytes) -> bytes:
    """Never more than `MAX_TEXT_BYTES`, whatever is in it."""
    unpacking = zlib.decompressobj()
    try:
        data = unpacking.decompress(z, MAX_TEXT_BYTES)
    except zlib.error:
        raise _damaged("a text can't be unpacked") from None
    if unpacking.unconsumed_tail or not unpacking.eof:
        raise _damaged("a text is too large, or cut off")
    return data


def _damaged(why: str) -> InvalidRequest:
    return InvalidRequest(f"This file can't be imported: {why}.", param="file")
