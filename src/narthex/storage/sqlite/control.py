"""`control.db`: accounts, projects, keys, collections, jobs. Few writes, each one durable before it is answered."""

import asyncio
from pathlib import Path

import apsw

from narthex.core.errors import ConfigError
from narthex.core.keys import Clock
from narthex.storage.sqlite.collections import SqliteCollections
from narthex.storage.sqlite.connection import Database, open_connection
from narthex.storage.sqlite.errors import translate
from narthex.storage.sqlite.jobs import SqliteJobs
from narthex.storage.sqlite.keys import SqliteKeys
from narthex.storage.sqlite.migrate import load, migrate

FILE = "control.db"
SCHEMA = "control"


class ControlStore:
    """The open database, for one event loop. Whoever opened it closes it."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self.keys = SqliteKeys(database, clock=clock)
        self.collections = SqliteCollections(database)
        self.jobs = SqliteJobs(database, clock=clock)

    async def aclose(self) -> None:
        """Finish the queued writes and close."""
        await self._database.aclose()


async def open_control(path: Path, *, clock: Clock, create: bool = True) -> ControlStore:
    """Open `path` and bring its schema up to date. Several processes may do so at once.

    Args:
        path: the file; its folder exists.
        clock: stamps what is made.
        create: whether a missing file is made.

    Raises:
        ConfigError: the file is missing and shall not be made; it comes from a newer program; SQLite is too old.
        StorageError: the file can't be read or written; StorageFull where the disk is full.
    """
    await asyncio.to_thread(_prepare, path, clock=clock, create=create)
    database = Database(path, synchronous="FULL")
    await database.open()
    return ControlStore(database, clock=clock)


def _prepare(path: Path, *, clock: Clock, create: bool) -> None:
    if not create and not path.exists():
        raise ConfigError(f"There is no database at {path}.")
    connection = open_connection(path, synchronous="FULL", create=create)
    try:
        migrate(connection, load(SCHEMA), clock=clock)
    except apsw.Error as error:
        raise translate(error, connection) from error
    finally:
        connection.close()
