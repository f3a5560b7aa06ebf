"""Open collections, of which a worker keeps as many as fit into its memory.

All of a worker's searches run in one thread, so that however many there are, the event loop gets its turn.
"""

import asyncio
import contextlib
import os
import resource
import shutil
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Iterable
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import apsw
import structlog

from narthex.core.documents import Collection, Found, Query
from narthex.core.errors import StorageError
from narthex.core.keys import Clock
from narthex.ipc.tasks import TaskSet
from narthex.storage.sqlite.collection_file import CollectionFile, folder_name
from narthex.storage.sqlite.documents import SqliteDocuments
from narthex.storage.sqlite.errors import translate

if TYPE_CHECKING:
    from narthex.retrieval.index import Index

log = structlog.get_logger(__name__)

FOLDER = "collections"
"""In the data folder."""
MAX_BYTES = 256 * 1024 * 1024
_SHARE_OF_FILES = 16
"""A collection has at most six files open: all of them together then have three eighths of what a process may have."""
_NEW_MS = 60_000


class OpenDocuments(SqliteDocuments):
    """The documents of one collection, all of `core.documents.Documents`."""

    _index: "Index | None" = None

    @property
    def bytes(self) -> int:
        """Of memory, about, after the last call."""
        return self.file.bytes + (self._index.bytes if self._index else 0)

    async def search(self, query: Query) -> Found:
        """See `Documents`.

        Raises:
            ValueError: the query's vector has not the model's length.
        """
        return await self.file.read(lambda connection: self._search(connection, query))

    def _search(self, connection: apsw.Connection, query: Query) -> Found:
        if self._index is None:
            # One search at a time takes one core; numpy's library would take all, and wait for them by spinning.
            os.putenv("OPENBLAS_NUM_THREADS", "1")  # which it reads when it is loaded
            from narthex.retrieval.index import Index  # noqa: PLC0415 - a worker that never searches stays light

            self._index = Index(self.file.folder, dim=self.model.dim)
        return self._index.search(connection, query)


class _Entry:
    def __init__(self, documents: OpenDocuments) -> None:
        self.documents = documents
        self.users = 0
        self.bytes = 0
        self.forgotten = False


class OpenCollections:
    """Opens the collections in `folder`, and closes those that nobody has used for longest.

    For one event loop; whoever made it closes it.
    """

    def __init__(self, folder: Path, *, clock: Clock, max_bytes: int = MAX_BYTES) -> None:
        self._folder = folder
        self._clock = clock
        self._max_bytes = max_bytes
        self._most = _most()
        self._reading: Executor = ThreadPoolExecutor(1, thread_name_prefix="search")
        self._shutting: Executor = ThreadPoolExecutor(1, thread_name_prefix="close")
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._bytes = 0  # of all entries together
        self._opening: dict[str, asyncio.Lock] = {}
        self._closing = TaskSet()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    @contextlib.asynccontextmanager
    async def open(self, collection: Collection) -> AsyncIterator[OpenDocuments]:
        """The collection's documents, for as long as the block lasts. A file that is missing is made.

        Raises:
            Conflict: the vectors in the file were made by another model.
            StorageError: the file can't be opened.
        """
        entry = await self._entry(collection)
        entry.users += 1
        try:
            yield entry.documents
        finally:
            entry.users -= 1
            if not entry.forgotten:
                self._weigh(entry)
                self._evict()
            elif not entry.users:
                self._close(entry)

    def path(self, collection: Collection) -> Path:
        """The folder of a collection's generation."""
        return self._folder / folder_name(collection.id, collection.generation)

    def forget(self, collection_id: str) -> None:
        """Close a collection, every generation of it, once its last user is done."""
        for name in [name for name in self._entries if name.partition("_")[0] == collection_id]:
            self._forget(name)

    async def remove(self, collection_id: str) -> None:
        """Forget a collection and delete its files, every generation. Its row is gone already.

        Raises:
            StorageError: a file can't be deleted; `sweep` tries again.
        """
        self.forget(collection_id)
        await asyncio.to_thread(_delete, [self._folder / collection_id, *self._folder.glob(f"{collection_id}_*")])

    async def drop(self, collection: Collection) -> None:
        """Delete the files of one generation, which nobody uses.

        Raises:
            StorageError: a file can't be deleted; `sweep` never tries again while the collection lives.
        """
        name = folder_name(collection.id, collection.generation)
        if name in self._entries:
            entry = self._taken_out(name)
            entry.forgotten = True
            await entry.documents.file.aclose()
        await asyncio.to_thread(_delete, [self.path(collection)])

    async def sweep(self, living: Iterable[Collection], *, unused_for_s: float) -> None:
        """Delete the files of collections that are not among the living, and of generations that were switched away;
        but not yet those that were written less than `unused_for_s` ago: somebody may be at them.

        Raises:
            StorageError: a file can't be deleted.
        """
        oldest = {collection.id: collection.generation for collection in living}
        before_s = self._clock() / 1000 - unused_for_s

        def dead(folder: Path) -> bool:
            collection_id, _, generation = folder.name.partition("_")
            if generation and not generation.isdecimal():
                return False  # not of our making
            return int(generation or 1) < oldest.get(collection_id, 1 << 62) and _last_written_s(folder) < before_s

        def swept() -> None:
            _delete([folder for folder in self._folder.glob("*") if dead(folder)])

        await asyncio.to_thread(swept)

    async def aclose(self) -> None:
        """Close all. Nobody uses one any more."""
        self._closed = True
        for name in list(self._entries):
            self._close(self._taken_out(name))
        await asyncio.gather(*self._ending)
        await self._closing.aclose()
        for threads in (self._reading, self._shutting):
            await asyncio.to_thread(threads.shutdown)

    async def _entry(self, collection: Collection) -> _Entry:
        if self._closed:
            raise StorageError("The server is shutting down.")
        name = folder_name(collection.id, collection.generation)
        lock = self._opening.setdefault(name, asyncio.Lock())
        async with lock:
            if name in self._entries and not self._entries[name].documents.file.is_there:
                log.warning("the file of a collection was deleted or replaced while it was open", folder=name)
                self._forget(name)
            if name not in self._entries:
                self._entries[name] = _Entry(await self._made(collection))
            self._entries.move_to_end(name)
            entry = self._entries[name]
        self._opening.pop(name, None)
        return entry

    async def _made(self, collection: Collection) -> OpenDocuments:
        folder = self.path(collection)
        file = CollectionFile(folder, reading=self._reading, closing=self._shutting)
        if collection.generation == 1 and self._clock() - collection.created_ms > _NEW_MS and not file.exists:
            # Nobody has written to it yet, or somebody has deleted it: the row can't tell.
            log.warning("a collection has no file: it is made, empty", folder=folder.name, key=collection.key)
        await file.open(collection.model, clock=self._clock)
        return OpenDocuments(file, model=collection.model, clock=self._clock)

    def _forget(self, name: str) -> None:
        entry = self._taken_out(name)
        entry.forgotten = True
        if not entry.users:
            self._close(entry)

    def _taken_out(self, name: str) -> _Entry:
        entry = self._entries.pop(name)
        self._bytes -= entry.bytes
        return entry

    def _weigh(self, entry: _Entry) -> None:
        now = entry.documents.bytes
        self._bytes += now - entry.bytes
        entry.bytes = now

    def _too_many(self) -> bool:
        return self._bytes > self._max_bytes or len(self._entries) > self._most

    def _evict(self) -> None:
        if self._too_many():
            for name in [name for name, entry in self._entries.items() if not entry.users]:
                self._close(self._taken_out(name))
                if not self._too_many():
                    break

    def _close(self, entry: _Entry) -> None:
        entry.documents.file.shut()
        task = self._closing.start(entry.documents.file.aclose())
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)


def _most() -> int:
    """Collections that may be open."""
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return sys.maxsize if files == resource.RLIM_INFINITY else max(1, files // _SHARE_OF_FILES)


def _last_written_s(folder: Path) -> float:
    last_s = 0.0
    for path in (folder, *folder.glob("*")):
        with contextlib.suppress(FileNotFoundError):
            last_s = max(last_s, path.stat().st_mtime)
    return last_s


def _delete(folders: Iterable[Path]) -> None:
    for folder in folders:
        try:
            shutil.rmtree(folder)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise translate(error) from error
