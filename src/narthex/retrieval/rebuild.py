"""Makes a collection's code file anew: `python -m narthex.retrieval.rebuild FOLDER`, in a process of its own.

Rules: one at a time for each collection, whoever holds `build.lock`; searches go on with the former file until the new
one's row is committed; what a rebuild that was killed left behind, the next one removes.
"""

import contextlib
import fcntl
import os
import secrets
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import apsw
import numpy as np

from narthex.core.errors import NarthexError
from narthex.core.keys import Clock
from narthex.storage.sqlite.collection_file import FILE, open_reader, reading
from narthex.storage.sqlite.connection import close, immediate, open_connection
from narthex.storage.sqlite.documents import Statistics, count
from narthex.storage.sqlite.errors import translate
from narthex.storage.sqlite.fetching import fetched
from narthex.storage.sqlite.words import Words, words_of
from narthex.vectors.layout import Damaged
from narthex.vectors.segment import SegmentFile, open_segment

LOCK = "build.lock"
When = Literal["now", "soon", "never"]
"""When to make a code file anew; soon: once nothing else is to be done."""

FEW, SMALL = 500, 2000
"""Chunks that a search may well read without a code file; and those that it may until there is time to make one."""
_SHARE = 10
"""A tenth newer than the file, or gone from it, is too much."""
_BLOCK = 10_000
_NICE = 19

_VECTORS = "select id, e from vec where id > ? order by id limit ?"
_TEXTS = "select id, context, text from chunk where id > ? order by id limit ?"


def due(statistics: Statistics) -> When:
    """By how much is newer than the code file, or gone from it."""
    indexed, share = statistics.indexed, statistics.indexed // _SHARE
    if statistics.tail > max(SMALL, share) or statistics.dead > max(SMALL // _SHARE, share):
        return "now"
    return "soon" if statistics.tail > max(FEW, indexed) else "never"


def when_due(folder: Path) -> When:
    """The same, of a collection's folder; now where the code file is missing or damaged. Blocks for some ms.

    Raises:
        StorageError: the collection can't be read.
    """
    try:
        with contextlib.closing(open_reader(folder / FILE)) as connection, reading(connection):
            return due(count(connection)) if _is_whole(folder, connection) else "now"
    except apsw.Error as error:
        raise translate(error) from error


def needs_rebuild(folder: Path) -> bool:
    """Whether it is due at all. Blocks and raises as `when_due`."""
    return when_due(folder) != "never"


def rebuild(folder: Path, *, clock: Clock) -> bool:
    """Make the code file anew; blocks for 13 s a million chunks at the least. False: somebody else is at it.

    Raises:
        StorageError: the collection can't be read; StorageFull where the disk is full.
    """
    try:
        with _alone(folder) as alone:
            if alone:
                _rebuild(folder, clock=clock)
            return alone
    except (apsw.Error, OSError) as error:
        raise translate(error) from error


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[bool]:
    descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield True
    except BlockingIOError:
        yield False
    finally:
        os.close(descriptor)


def _is_whole(folder: Path, connection: apsw.Connection) -> bool:
    found = fetched(connection, "select file from segment order by gen desc limit 1")
    if not found:  # perhaps nothing at all: its maker died before the model's name was in it
        return True
    dim = int(fetched(connection, "select v from meta where k = 'dim'")[0][0])
    try:
        open_segment(folder / found[0][0], dim=dim)
    except Damaged:
        return False
    return True


def _rebuild(folder: Path, *, clock: Clock) -> None:
    connection = open_reader(folder / FILE)
    try:
        with reading(connection):
            [[generation]] = fetched(connection, "select coalesce(max(gen), 0) + 1 from segment")
            [[rows, max_chunk]] = fetched(connection, "select count(*), coalesce(max(id), 0) from chunk")
            [[max_document]] = fetched(connection, "select coalesce(max(id), 0) from document")
            name = f"seg-{generation}-{secrets.token_hex(4)}.bin"  # never that of another file
            if rows:
                _write(folder / name, connection, rows=rows)
    finally:
        close(connection)
    _switch(folder, name, row=(generation, name, rows, max_chunk, max_document, clock()) if rows else None)


def _write(path: Path, connection: apsw.Connection, *, rows: int) -> None:
    words = words_of(connection)
    dim = int(fetched(connection, "select v from meta where k = 'dim'")[0][0])
    with SegmentFile(path, rows=rows, dim=dim) as file:
        after = 0
        while vectors := fetched(connection, _VECTORS, after, _BLOCK):
            ids = np.fromiter((id_ for id_, _ in vectors), np.int64, len(vectors))
            matrix = np.frombuffer(b"".join(vector for _, vector in vectors), "<f4").reshape(-1, dim)
            file.add(ids, matrix, _worded(connection, words, after))
            after = vectors[-1][0]
        file.finish()


def _worded(connection: apsw.Connection, words: Words, after: int) -> list[list[str]]:
    return [
        words(f"{context}\n{text}" if context else text)
        for _, context, text in fetched(connection, _TEXTS, after, _BLOCK)
    ]


def _switch(folder: Path, name: str, *, row: tuple[object, ...] | None) -> None:
    connection = open_connection(folder / FILE, synchronous="FULL")
    try:
        with immediate(connection):
            connection.execute("delete from segment")
            if row is not None:
                connection.execute(
                    "insert into segment(gen, file, rows, max_chunk, max_document, made_ms) values(?, ?, ?, ?, ?, ?)",
                    row,
                )
        for path in folder.glob("seg-*"):
            if path.name != name:
                path.unlink(missing_ok=True)
        # Our long look at the file kept its log from being taken back; whoever is at that already may go on.
        with contextlib.suppress(apsw.BusyError):
            connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)
    except apsw.Error as error:
        raise translate(error, connection) from error
    finally:
        close(connection)


def main() -> None:
    """Of the module. Ends with 0 also where another process is at it, and with 1 after telling what failed."""
    os.nice(_NICE)
    try:
        rebuild(Path(sys.argv[1]), clock=lambda: time.time_ns() // 1_000_000)
    except NarthexError as error:
        sys.exit(f"{error.message}")


if __name__ == "__main__":
    main()
