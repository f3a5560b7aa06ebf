"""Connections to one SQLite file: a reader on the loop's thread, one writer thread, both opened anew after a fault.

Rules: the loop's connection only reads and never waits; every write starts with `BEGIN IMMEDIATE`; a file that is gone
is an error and never a new, empty database.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Literal, TypeVar

import apsw
import structlog

from narthex.core.errors import ConfigError, StorageError
from narthex.storage.sqlite.errors import CONNECTION_SURVIVES, translate
from narthex.storage.sqlite.walindex import WalIndex

log = structlog.get_logger(__name__)

T = TypeVar("T")
Query = Callable[[apsw.Connection], T]
"""Runs statements and returns values, never a cursor: an open cursor would hold its view of the file."""
Synchronous = Literal["FULL", "NORMAL"]

OLDEST_SQLITE = (3, 51, 3)
BUSY_TIMEOUT_MS = 10_000
_JOURNAL_LIMIT_BYTES = 4 * 1024 * 1024
_BESIDES_PAGES = 160 * 1024
"""Bytes that a connection has for its schema, its statements and the keyword index."""


def require_sqlite(version: str) -> None:
    """Refuse a library in which two writers can corrupt a WAL file: fixed in 3.51.3.

    Raises:
        ConfigError: `version` is older.
    """
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise ConfigError(f"SQLite {version} can corrupt databases that several processes write: {oldest} is needed.")


def open_connection(path: Path, *, synchronous: Synchronous, create: bool = False) -> apsw.Connection:
    """Open with our settings; blocks. The caller closes it.

    Raises:
        StorageError: the file can't be opened; StorageFull where the disk is full.
        ConfigError: the library is too old, or the file system can't hold a WAL file.
    """
    require_sqlite(apsw.sqlite_lib_version())
    connection = None
    try:
        if create:
            path.touch(mode=0o600)  # SQLite gives its WAL and SHM files the mode of the database
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        connection.set_busy_timeout(BUSY_TIMEOUT_MS)
        _configure(connection, synchronous)
    except (apsw.Error, OSError) as error:
        failure = translate(error, connection)
        close(connection)
        raise failure from error
    except BaseException:
        close(connection)
        raise
    return connection


def _configure(connection: apsw.Connection, synchronous: Synchronous) -> None:
    if (mode := connection.pragma("journal_mode", "wal")) != "wal":
        raise ConfigError(f"{connection.filename} can't be kept in WAL mode (it is {mode}): use a local disk.")
    connection.pragma("synchronous", synchronous)
    connection.pragma("foreign_keys", 1)
    connection.pragma("journal_size_limit", _JOURNAL_LIMIT_BYTES)


def close(connection: apsw.Connection | None) -> None:
    """Close, whatever state it is in."""
    if connection is not None:
        with contextlib.suppress(apsw.Error):
            connection.close()


def held_bytes(connection: apsw.Connection) -> int:
    """Of memory, by a connection that has been used."""
    pages: int = connection.status(apsw.SQLITE_DBSTATUS_CACHE_USED)[0]
    return _BESIDES_PAGES + pages


@contextlib.contextmanager
def immediate(connection: apsw.Connection) -> Iterator[None]:
    """One transaction that may write: committed at the end of the block, undone by any exception."""
    connection.execute("begin immediate")
    try:
        yield
        connection.execute("commit")
    except BaseException:
        # A full disk may have undone it already.
        if connection.in_transaction:
            with contextlib.suppress(apsw.Error):
                connection.execute("rollback")
        raise


class Writer:
    """The one thread that writes a file, in the order of the calls."""

    def __init__(self, path: Path, synchronous: Synchronous) -> None:
        self._path = path
        self._synchronous = synchronous
        self._executor = ThreadPoolExecutor(1, thread_name_prefix=f"write-{path.name}")
        self._connection: apsw.Connection | None = None
        self._was_used = False
        self.bytes = 0
        """Of memory, after the last change."""

    async def run(self, change: Query[T]) -> T:
        """Run `change` in a transaction of its own. Once begun it ends, even when the caller is cancelled.

        Raises:
            StorageError: the file can't be written; StorageFull where the disk is full.
            NarthexError: whatever `change` raises; the transaction is undone.
        """
        self._was_used = True
        return await asyncio.get_running_loop().run_in_executor(self._executor, self._transact, change)

    async def aclose(self) -> None:
        """Finish what is queued, then close."""
        if self._was_used:  # else there is no thread yet, and nothing to close
            await asyncio.get_running_loop().run_in_executor(self._executor, self._drop)
        self._executor.shutdown(wait=False)

    def _transact(self, change: Query[T]) -> T:
        if self._connection is None:
            self._connection = open_connection(self._path, synchronous=self._synchronous)
        connection = self._connection
        try:
            with immediate(connection):
                made = change(connection)
            self.bytes = held_bytes(connection)
        except apsw.Error as error:
            failure = translate(error, connection)
            log.warning("a write failed", file=self._path.name, error=repr(error))
            if not isinstance(error, CONNECTION_SURVIVES):
                self._drop()
            raise failure from error
        return made

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        self.bytes = 0
        close(connection)


class Database:
    """One file for one event loop. Made by an `open_…` function, which has brought its schema up to date."""

    def __init__(self, path: Path, *, synchronous: Synchronous) -> None:
        self._path = path
        self._synchronous = synchronous
        self._writer = Writer(path, synchronous)
        self._reader: apsw.Connection | None = None
        self._index: WalIndex | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    async def open(self) -> None:
        """Open the reader. While it is open the WAL files stay, so a disk that fills up later can still be read.

        Raises:
            StorageError: the file can't be opened.
        """
        await self._open_reader()

    def state(self) -> bytes | None:
        """What differs as soon as anybody has committed anything; None: nobody can say. Costs no system call."""
        return None if self._index is None else self._index.headers()

    async def read(self, query: Query[T]) -> T:
        """Run `query` here and now (keep it under 50 µs), or in a thread while the file is locked.

        Raises:
            StorageError: the file can't be read.
        """
        reader = self._reader or await self._open_reader()
        try:
            return query(reader)
        except (apsw.BusyError, apsw.LockedError):
            pass
        except apsw.Error as error:
            raise self._failed(error, reader) from error
        return await self.read_aside(query)

    async def read_aside(self, query: Query[T]) -> T:
        """Run `query` in a thread, with a connection of its own: for what takes longer.

        Raises:
            StorageError: the file can't be read.
        """
        if self._closed:
            raise StorageError("The database is closed.")
        return await asyncio.to_thread(self._read_patiently, query)

    async def write(self, change: Query[T]) -> T:
        """Run `change` in one transaction on the writer's thread; durable once this returns.

        Raises:
            StorageError: the file can't be written; StorageFull where the disk is full.
        """
        if self._closed:
            raise StorageError("The database is closed.")
        return await self._writer.run(change)

    async def aclose(self) -> None:
        """Finish the queued writes and close; later calls raise StorageError."""
        if not self._closed:
            self._closed = True
            self._drop_reader()
            await self._writer.aclose()

    async def _open_reader(self) -> apsw.Connection:
        async with self._opening:
            if self._closed:
                raise StorageError("The database is closed.")
            if self._reader is None:
                self._reader = await asyncio.to_thread(self._open_for_reading)
                self._reader.set_busy_timeout(0)
                with contextlib.suppress(OSError, ValueError):
                    self._index = WalIndex(self._path)
            return self._reader

    def _open_for_reading(self) -> apsw.Connection:
        connection = open_connection(self._path, synchronous=self._synchronous)
        connection.pragma("query_only", 1)
        return connection

    def _read_patiently(self, query: Query[T]) -> T:
        connection = self._open_for_reading()
        try:
            return query(connection)
        except apsw.Error as error:
            raise self._failed(error, connection) from error
        finally:
            close(connection)

    def _failed(self, error: apsw.Error, reader: apsw.Connection) -> Exception:
        log.warning("a read failed", file=self._path.name, error=repr(error))
        failure = translate(error, reader)
        if reader is self._reader and not isinstance(error, CONNECTION_SURVIVES):
            self._drop_reader()
        return failure

    def _drop_reader(self) -> None:
        reader, self._reader, self._index = self._reader, None, None
        close(reader)
