"""`control.db`: accounts, projects, keys, collections, jobs. Few writes, each one durable before it is answered."""

import asyncio
from pathlib import Path

from narthex.core.keys import Clock
from narthex.storage.sqlite.collections import SqliteCollections
from narthex.storage.sqlite.connection import Database
from narthex.storage.sqlite.jobs import SqliteJobs
from narthex.storage.sqlite.keys import SqliteKeys
from narthex.storage.sqlite.migrate import prepare

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
    await asyncio.to_thread(prepare, path, schema=SCHEMA, clock=clock, create=create)
    database = Database(path, synchronous="FULL")
    await database.open()
    return ControlStore(database, clock=clock)
