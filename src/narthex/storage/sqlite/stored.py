"""`core.stored.StoredChats` on SQLite: `completions.db`, opened when it is first asked for.

Reads are done in threads: a page holds long texts. What is stored at the same moment is written in one transaction.
"""

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import apsw

from narthex.core.errors import NarthexError, StorageFull
from narthex.core.keys import Clock
from narthex.core.stored import ChatPage, ChatQuery, Reach, StoredChat
from narthex.ipc.tasks import TaskSet
from narthex.storage.sqlite import stored_rows as rows
from narthex.storage.sqlite.connection import Database, Query, T
from narthex.storage.sqlite.migrate import prepare

FILE = "completions.db"
SCHEMA = "completions"
_TOGETHER = 64
"""So many are written in one transaction, at most."""


class SqliteStoredChats:
    """The store in one file, for one event loop. Close it with `aclose`."""

    def __init__(self, path: Path, *, clock: Clock) -> None:
        self._path = path
        self._clock = clock
        self._opening = asyncio.Lock()
        self._opened: Database | None = None
        self._waiting: list[tuple[rows.NewRow, asyncio.Future[None]]] = []
        self._tasks = TaskSet()
        self._writing: asyncio.Task[None] | None = None

    async def aclose(self) -> None:
        """Finish what is under way, and close."""
        if self._writing is not None:
            await asyncio.wait((self._writing,))
        await self._tasks.aclose()
        if self._opened is not None:
            await self._opened.aclose()

    async def make_room(self, account_id: str, *, max_bytes: int) -> None:
        """See `StoredChats`."""
        database = await self._database()
        kept = await database.read(lambda connection: rows.kept_bytes(connection, account_id))
        if kept >= max_bytes:
            raise StorageFull(
                f"This account has stored {kept} bytes of completions, and may store {max_bytes}: delete some first."
            )

    async def add(self, chat: StoredChat, *, account_id: str, messages: bytes) -> None:
        """See `StoredChats`."""
        row = await asyncio.to_thread(rows.compressed, chat, account_id=account_id, messages=messages)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((row, done))
        if self._writing is None or self._writing.done():
            self._writing = self._tasks.start(self._write())
        await done

    async def _write(self) -> None:
        """Write all that waits, and what comes meanwhile."""
        while self._waiting:
            batch, self._waiting = self._waiting[:_TOGETHER], self._waiting[_TOGETHER:]
            failure = await self._written([row for row, _ in batch])
            for _, done in batch:
                if done.done():  # nobody waits for it any more
                    continue
                if failure is None:
                    done.set_result(None)
                else:
                    done.set_exception(failure)

    async def _written(self, batch: Sequence[rows.NewRow]) -> NarthexError | None:
        try:
            database = await self._database()
            await database.write(partial(rows.insert, batch=batch))
        except NarthexError as error:
            return error
        return None

    async def get(self, reach: Reach, chat_id: str) -> StoredChat:
        """See `StoredChats`."""
        return await self._read(lambda connection: rows.shown(connection, rows.find(connection, reach, chat_id)))

    async def messages(self, reach: Reach, chat_id: str) -> bytes:
        """See `StoredChats`."""
        return await self._read(lambda connection: rows.messages(connection, rows.find(connection, reach, chat_id)))

    async def list(self, reach: Reach, query: ChatQuery) -> ChatPage:
        """See `StoredChats`."""
        return await self._read(lambda connection: rows.page(connection, reach, query))

    async def relabel(self, reach: Reach, chat_id: str, metadata: Mapping[str, str]) -> StoredChat:
        """See `StoredChats`."""
        database = await self._database()
        return await database.write(lambda connection: rows.relabel(connection, reach, chat_id, metadata=metadata))

    async def delete(self, reach: Reach, chat_id: str) -> None:
        """See `StoredChats`."""
        database = await self._database()
        await database.write(lambda connection: rows.delete(connection, reach, chat_id))

    async def prune(self, *, before_s: int, at_most: int) -> int:
        """See `StoredChats`."""
        database = await self._database()
        return await database.write(lambda connection: rows.prune(connection, before_s=before_s, at_most=at_most))

    async def oldest_s(self) -> int | None:
        """See `StoredChats`."""
        if not self._path.exists():
            return None
        return await (await self._database()).read(rows.oldest_s)

    async def _read(self, query: Query[T]) -> T:
        database = await self._database()

        def at_one_moment(connection: apsw.Connection) -> T:
            connection.execute("begin")  # what was listed is still there when it is read; closing it ends this
            return query(connection)

        return await database.read_aside(at_one_moment)

    async def _database(self) -> Database:
        async with self._opening:
            if self._opened is None:
                await asyncio.to_thread(prepare, self._path, schema=SCHEMA, clock=self._clock)
                self._opened = Database(self._path, synchronous="FULL")
            return self._opened
