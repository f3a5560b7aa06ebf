"""Documents on their way into a collection: chunks wait for their vectors, and one transaction makes them count.

A document whose embedding takes minutes survives the death of its process chunk by chunk, and nobody sees half of it.
Every function runs inside its caller's transaction.
"""

from collections.abc import Sequence

import apsw
import msgspec

from narthex.core.documents import Chunk, Document, NewDocument
from narthex.core.errors import Conflict, NotFound
from narthex.storage.sqlite.document_rows import Packed, Piece, chunk, insert, unpack
from narthex.storage.sqlite.fetching import fetched

_PIECES = "select start, stop, page, context, text, e from staged_chunk where job = ? order by ord"
_MISSING = """
select ord, start, stop, page, context, text from staged_chunk where job = ? and e is null order by ord limit ?
"""


class Missing(msgspec.Struct, frozen=True, kw_only=True):
    """A staged chunk that has no vector yet. `index` counts the document's chunks from 0."""

    index: int
    chunk: Chunk


def begin(
    connection: apsw.Connection, job: str, new: NewDocument, *, packed: Packed, chunks: Sequence[Chunk], now_ms: int
) -> None:
    """Keep a document for `job`; what the job had staged before goes."""
    drop(connection, job)
    bare = msgspec.structs.replace(new, text="", original=None)
    connection.execute(
        "insert into staged(job, document, body, original, created_ms) values(?, ?, ?, ?, ?)",
        (job, msgspec.msgpack.encode(bare), packed.body, packed.original, now_ms),
    )
    connection.executemany(
        "insert into staged_chunk(job, ord, start, stop, page, context, text) values(?, ?, ?, ?, ?, ?, ?)",
        ((job, order, part.start, part.stop, part.page, part.context, part.text) for order, part in enumerate(chunks)),
    )


def set_vectors(connection: apsw.Connection, job: str, vectors: Sequence[tuple[int, bytes | memoryview]]) -> None:
    """Keep the vectors of some of a job's chunks.

    Raises:
        NotFound: nothing, or no such chunk, is staged for the job.
    """
    connection.executemany(
        "update staged_chunk set e = ? where job = ? and ord = ?",
        ((bytes(vector), job, index) for index, vector in vectors),
    )
    # The count of the last one is enough to tell whether the job was dropped meanwhile.
    if vectors and connection.changes() == 0:
        raise NotFound("Nothing is staged for this job.")


def missing(connection: apsw.Connection, job: str, n: int) -> tuple[Missing, ...]:
    """The first `n` chunks of a job that lack their vector.

    Raises:
        NotFound: nothing is staged for the job.
    """
    if not fetched(connection, "select 1 from staged where job = ?", job):
        raise NotFound("Nothing is staged for this job.")
    rows = fetched(connection, _MISSING, job, n)
    return tuple(Missing(index=order, chunk=chunk(columns)) for order, *columns in rows)


def commit(connection: apsw.Connection, job: str, *, tokens: int, now_ms: int) -> Document:
    """Make a staged document count; a former version of it goes.

    Raises:
        NotFound: nothing is staged for the job.
        Conflict: a chunk still lacks its vector.
    """
    found = fetched(connection, "select document, body, original from staged where job = ?", job)
    if not found:
        raise NotFound("Nothing is staged for this job.")
    [[document, body, original]] = found
    rows = fetched(connection, _PIECES, job)
    if any(vector is None for *_, vector in rows):
        raise Conflict("Not every chunk has its vector yet.")
    bare = msgspec.msgpack.decode(document, type=NewDocument)
    made = insert(
        connection,
        msgspec.structs.replace(bare, text=unpack(body).decode()),
        Packed(body=body, original=original),
        pieces=[Piece(chunk=chunk(columns), vector=vector) for *columns, vector in rows],
        tokens=tokens,
        now_ms=now_ms,
    )
    drop(connection, job)
    return made


def drop(connection: apsw.Connection, job: str) -> bool:
    """Forget what is staged for a job. False: nothing was."""
    return bool(fetched(connection, "delete from staged where job = ? returning 1", job))
