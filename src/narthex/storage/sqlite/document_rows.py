"""What a document is in a collection's file: one row, its body, its chunks, their vectors and words.

Every function runs inside its caller's transaction.
"""

import uuid
import zlib
from collections.abc import Iterable, Sequence
from typing import Any

import apsw
import msgspec

from narthex.core.documents import Chunk, Chunking, Document, NewDocument
from narthex.core.errors import StorageError
from narthex.storage.sqlite.fetching import fetched
from narthex.storage.sqlite.words import searchable

_COLUMNS = "uuid, key, description, media_type, name, sha256, mode, size, characters, chunks, tokens, created_ms"
ONE = f"select {_COLUMNS} from document where key = ?"  # noqa: S608 - our own words
ALL = f"select {_COLUMNS} from document order by key"  # noqa: S608
AFTER = f"select id, {_COLUMNS} from document where id > ? order by id limit ?"  # noqa: S608
_INSERT = f"insert into document({_COLUMNS}) values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) returning id"


class Packed(msgspec.Struct, frozen=True, kw_only=True):
    """A document's text and original bytes as they are stored: zlib, level 1."""

    body: bytes
    original: bytes | None = None


class Piece(msgspec.Struct, frozen=True, kw_only=True):
    """A chunk and its vector."""

    chunk: Chunk
    vector: bytes | memoryview


def pack(new: NewDocument) -> Packed:
    """Compress what is kept of a document; takes 11 ms a MiB."""
    original = None if new.original is None else zlib.compress(new.original, 1)
    return Packed(body=zlib.compress(new.text.encode(), 1), original=original)


def unpack(z: bytes) -> bytes:
    """The other way round.

    Raises:
        StorageError: these are not the bytes that were stored.
    """
    try:
        return zlib.decompress(z)
    except zlib.error as error:
        raise StorageError("A document's stored text can't be read: restore a backup.") from error


def document(row: Sequence[Any]) -> Document:
    """Of the columns of `ONE`."""
    uuid_, key, description, media_type, name, sha256, mode, size, characters, chunks, tokens, created_ms = row
    return Document(
        id=uuid_,
        key=key,
        description=description,
        media_type=media_type,
        name=name,
        sha256=sha256,
        chunking=Chunking(mode=mode, size=size),
        characters=characters,
        chunks=chunks,
        tokens=tokens,
        created_ms=created_ms,
    )


def new_id() -> str:
    """For a new version of a document."""
    return str(uuid.uuid4())


def insert(
    connection: apsw.Connection,
    new: NewDocument,
    packed: Packed,
    *,
    pieces: Sequence[Piece],
    tokens: int,
    now_ms: int,
) -> Document:
    """Add a document; one that has its key goes."""
    remove(connection, new.key)
    made = Document(
        id=new_id(),
        key=new.key,
        description=new.description,
        media_type=new.media_type,
        name=new.name,
        sha256=new.sha256,
        chunking=new.chunking,
        characters=len(new.text),
        chunks=len(pieces),
        tokens=tokens,
        created_ms=now_ms,
    )
    [[row]] = fetched(connection, _INSERT, *_values(made))
    connection.execute("insert into body(doc_id, z) values(?, ?)", (row, packed.body))
    if packed.original is not None:
        connection.execute("insert into original(doc_id, z) values(?, ?)", (row, packed.original))
    _insert_pieces(connection, row, pieces)
    return made


def remove(connection: apsw.Connection, key: str) -> bool:
    """Take a document out of every table. False: there is none."""
    found = fetched(connection, "select id from document where key = ?", key)
    if not found:
        return False
    [[row]] = found
    ids = connection.execute("select id from chunk where doc_id = ?", (row,)).fetchall()
    connection.executemany("delete from vec where id = ?", ids)
    connection.executemany("delete from fts where rowid = ?", ids)
    connection.execute("delete from chunk where doc_id = ?", (row,))
    connection.execute("delete from document where id = ?", (row,))  # body and original go with it
    return True


def chunk(row: Sequence[Any]) -> Chunk:
    """Of the columns start, stop, page, context, text."""
    start, stop, page, context, text = row
    return Chunk(start=start, stop=stop, page=page, context=context, text=text)


def _values(made: Document) -> tuple[Any, ...]:
    return (
        made.id,
        made.key,
        made.description,
        made.media_type,
        made.name,
        made.sha256,
        made.chunking.mode,
        made.chunking.size,
        made.characters,
        made.chunks,
        made.tokens,
        made.created_ms,
    )


def _insert_pieces(connection: apsw.Connection, row: int, pieces: Sequence[Piece]) -> None:
    last = fetched(connection, "select seq from sqlite_sequence where name = 'chunk'")
    first = last[0][0] + 1 if last else 1
    ids = range(first, first + len(pieces))
    connection.executemany(
        "insert into chunk(id, doc_id, ord, start, stop, page, context, text) values(?, ?, ?, ?, ?, ?, ?, ?)",
        _chunk_rows(ids, row, pieces),
    )
    connection.executemany(
        "insert into vec(id, e) values(?, ?)",
        ((id_, bytes(piece.vector)) for id_, piece in zip(ids, pieces, strict=True)),
    )
    connection.executemany(
        "insert into fts(rowid, text) values(?, ?)",
        ((id_, searchable(piece.chunk.indexed)) for id_, piece in zip(ids, pieces, strict=True)),
    )


def _chunk_rows(ids: Iterable[int], row: int, pieces: Sequence[Piece]) -> Iterable[tuple[Any, ...]]:
    for order, (id_, piece) in enumerate(zip(ids, pieces, strict=True)):
        part = piece.chunk
        yield id_, row, order, part.start, part.stop, part.page, part.context, part.text
