"""A collection's own file, `<folder>/c.db`: one thread writes it; it is read in a thread shared with other collections.

Rules: the file says which model made its vectors, and refuses another; what is in the folder beside it is derived.
"""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import apsw
import structlog

from narthex.core.documents import EmbeddingModel
from narthex.core.errors import Conflict, StorageError, Superseded
from narthex.core.keys import Clock
from narthex.storage.sqlite.connection import Writer, close, held_bytes, immediate, open_connection
from narthex.storage.sqlite.errors import CONNECTION_SURVIVES, translate
from narthex.storage.sqlite.fetching import fetched
from narthex.storage.sqlite.migrate import Migration, load, migrate

log = structlog.get_logger(__name__)

T = TypeVar("T")

FILE = "c.db"
SCHEMA = "collection"
SUPERSEDED = "superseded"
"""In `meta`, where another generation has taken over."""
READ_CACHE_KIB = 256
"""More makes no search faster: pages that are not here come from the system's own cache."""
_PATIENCE = 6
"""How often a write is tried, each time for as long as a connection waits for a lock."""

_migrations: Callable[[], tuple[Migration, ...]] = lru_cache(1)(lambda: load(SCHEMA))


def folder_name(collection_id: str, generation: int) -> str:
    """Of a collection's generation, among the folders of all collections."""
    return collection_id if generation == 1 else f"{collection_id}_{generation}"


def create_file(folder: Path, model: EmbeddingModel, *, clock: Clock) -> None:
    """Make the folder and the file where they are missing, and bring the schema up to date; blocks.

    Raises:
        Conflict: the vectors in the file were made by another model.
        ConfigError: a newer program made the file.
        StorageError: the file can't be read or written; StorageFull where the disk is full.
    """
    close(_open_checked(folder, model, clock=clock))


def _open_checked(folder: Path, model: EmbeddingModel, *, clock: Clock) -> apsw.Connection:
    connection = None
    try:
        if new := not (folder / FILE).exists():
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        connection = open_connection(folder / FILE, synchronous="FULL", create=new)
        migrate(connection, _migrations(), clock=clock)
        _require_model(connection, model)
    except (apsw.Error, OSError) as error:
        failure = translate(error, connection)
        close(connection)
        raise failure from error
    except BaseException:
        close(connection)
        raise
    return connection


def _require_model(connection: apsw.Connection, model: EmbeddingModel) -> None:
    found = dict(fetched(connection, "select k, v from meta"))
    if "dim" not in found:
        with immediate(connection):
            connection.executemany(
                "insert into meta(k, v) values(?, ?) on conflict(k) do nothing",
                (("model", model.name), ("digest", model.digest), ("dim", str(model.dim))),
            )
        found = dict(fetched(connection, "select k, v from meta"))
    made_with = EmbeddingModel(name=found["model"], digest=found["digest"], dim=int(found["dim"]))
    if not made_with.agrees_with(model):
        raise Conflict(
            f"The collection's vectors were made by `{made_with.name}` ({made_with.dim} dimensions), which is not the "
            f"`{model.name}` ({model.dim} dimensions) of now: rebuild the collection."
        )


def _unless_superseded(connection: apsw.Connection, change: Callable[[apsw.Connection], T]) -> T:
    if connection.execute("select 1 from meta where k = ?", (SUPERSEDED,)).fetchall():
        raise Superseded
    return change(connection)


class CollectionFile:
    """One open file. `reading` runs one call at a time; `closing` what the next reader need not wait for. Both
    belong to the caller, who also closes this.
    """

    def __init__(self, folder: Path, *, reading: Executor, closing: Executor) -> None:
        self.folder = folder
        self._path = folder / FILE
        self._writer = Writer(self._path, "FULL")
        self._reading = reading
        self._closing = closing
        self._reader: apsw.Connection | None = None
        self._reader_bytes = 0
        self._opened = 0
        self._closed = self._dropped = False

    async def open(self, model: EmbeddingModel, *, clock: Clock) -> None:
        """See `create_file`, with one connection for the check and for reading.

        Raises:
            Conflict, ConfigError, StorageError: as `create_file`.
        """
        if not self._path.exists():  # making one takes some ms, for which no search shall wait
            await asyncio.to_thread(create_file, self.folder, model, clock=clock)
        await asyncio.get_running_loop().run_in_executor(self._reading, self._open_checked, model, clock)
        self._opened = _inode(self._path)

    @property
    def bytes(self) -> int:
        """Of memory, after the last call."""
        return self._reader_bytes + self._writer.bytes

    @property
    def exists(self) -> bool:
        """Whether there is a file of its name, open or not."""
        return self._path.exists()

    @property
    def is_there(self) -> bool:
        """Whether it still is the file of its name. What is written to one that was deleted is lost."""
        return _inode(self._path) == self._opened

    async def write(self, change: Callable[[apsw.Connection], T]) -> T:
        """Run `change` in one transaction on the writer's thread; durable once this returns.

        Raises:
            Superseded: another file has taken this one's place, and nothing is written here any more.
            StorageError: the file can't be written; StorageFull where the disk is full.
        """
        for last in (False,) * (_PATIENCE - 1) + (True,):
            self._require_open()
            try:
                return await self._writer.run(lambda connection: _unless_superseded(connection, change))
            except StorageError as error:
                # Another process stores a document of a hundred thousand chunks: that is one transaction.
                if last or not isinstance(error.__cause__, apsw.BusyError):
                    raise
        raise AssertionError("unreachable")

    async def read(self, query: Callable[[apsw.Connection], T]) -> T:
        """Run `query` in one read transaction on the reading thread.

        Raises:
            StorageError: the file can't be read.
        """
        self._require_open()
        return await asyncio.get_running_loop().run_in_executor(self._reading, self._read, query)

    def shut(self) -> None:
        """From now on every call raises StorageError; `aclose` does the rest."""
        self._closed = True

    async def aclose(self) -> None:
        """Finish the queued writes and close."""
        self.shut()
        if not self._dropped:
            self._dropped = True
            # Both are under way before anything is awaited, so that a caller who is cancelled leaves nothing open.
            dropped = asyncio.get_running_loop().run_in_executor(self._reading, self._drop)
            await self._writer.aclose()
            await asyncio.wrap_future(await dropped)

    async def supersede(self, unless: Callable[[apsw.Connection], T | None]) -> T | None:
        """Refuse every write from now on, by whichever process, and for good; decided in one transaction: where
        `unless` finds a reason against it, nothing changes and that is returned.

        Raises:
            Superseded: it is refused already.
            StorageError: the file can't be written.
        """

        def change(connection: apsw.Connection) -> T | None:
            reason = unless(connection)
            if reason is None:
                connection.execute("insert into meta(k, v) values(?, '')", (SUPERSEDED,))
            return reason

        return await self.write(change)

    async def reinstate(self) -> None:
        """Take writes again: what was to take this file's place never did.

        Raises:
            StorageError: the file can't be written.
        """
        self._require_open()
        await self._writer.run(lambda one: one.execute("delete from meta where k = ?", (SUPERSEDED,)).fetchall())

    def _require_open(self) -> None:
        if self._closed:
            raise StorageError("The collection is closed.")

    def _read(self, query: Callable[[apsw.Connection], T]) -> T:
        try:
            reader = self._reader or self._open()
            with reading(reader):
                found = query(reader)
            self._reader_bytes = held_bytes(reader)
        except apsw.Error as error:
            log.warning("a read failed", file=self._path.name, error=repr(error))
            failure = translate(error, self._reader)
            if not isinstance(error, CONNECTION_SURVIVES):
                self._drop()
            raise failure from error
        return found

    def _open_checked(self, model: EmbeddingModel, clock: Clock) -> None:
        self._reader = _reader(_open_checked(self.folder, model, clock=clock))

    def _open(self) -> apsw.Connection:
        self._reader = open_reader(self._path)
        return self._reader

    def _drop(self) -> "Future[None]":
        reader, self._reader = self._reader, None
        self._reader_bytes = 0
        return self._closing.submit(close, reader)


def _inode(path: Path) -> int:
    """0: there is none. An open file's is nobody else's."""
    try:
        return path.stat().st_ino
    except OSError:
        return 0


def open_reader(path: Path) -> apsw.Connection:
    """A connection that only reads. The caller closes it.

    Raises:
        StorageError: the file can't be opened.
    """
    return _reader(open_connection(path, synchronous="FULL"))


def _reader(connection: apsw.Connection) -> apsw.Connection:
    try:
        connection.pragma("cache_size", -READ_CACHE_KIB)
        connection.execute("create virtual table temp.vocabulary using fts5vocab('main', 'fts', 'row')").fetchall()
        connection.pragma("query_only", 1)
    except apsw.Error as error:
        failure = translate(error, connection)
        close(connection)
        raise failure from error
    return connection


@contextmanager
def reading(connection: apsw.Connection) -> Iterator[None]:
    """One read transaction: everything in the block sees the same state of the file."""
    connection.execute("begin")
    try:
        yield
    finally:
        if connection.in_transaction:
            connection.execute("rollback")
