"""Sound that is made faster than it is heard: a little of it in memory, the rest in a file without a name.

Rule: who listens slowly holds neither the engine nor an encoder, which go on and end.
"""

import asyncio
import os
import tempfile
import threading
from collections import Counter, deque
from collections.abc import AsyncGenerator
from pathlib import Path

from narthex.core.errors import QueueFull
from narthex.storage.uploads import translated

IN_MEMORY_BYTES = 1024 * 1024
_PIECE = 64 * 1024
_SHARES = 4
"""One key may hold so large a part of a shelf."""
_RETRY_S = 5


class Shelf:
    """What all spools of a worker have in files. Beyond `most_bytes` who makes sound waits for who hears it; so no key
    begins another text that has its share of them.
    """

    def __init__(self, folder: Path | None, *, most_bytes: int = 1024**3) -> None:
        """`folder`: None for the system's own."""
        self.folder = folder
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._of_keys: Counter[str] = Counter()

    def add(self, key: str, size: int) -> None:
        """So many bytes more of a key, or fewer."""
        self.held_bytes += size
        self._of_keys[key] += size
        if not self._of_keys[key]:
            del self._of_keys[key]

    def check(self, key: str) -> None:
        """Whether a key may begin another text.

        Raises:
            QueueFull: it has its share already.
        """
        if self._of_keys[key] * _SHARES >= self.most_bytes:
            raise QueueFull("Too much that was spoken for this key has not been heard yet.", retry_after_s=_RETRY_S)


class Spool:
    """For one writer and one reader, of one loop. Close it."""

    def __init__(self, shelf: Shelf, *, key: str = "") -> None:
        """`key`: whose share of the shelf it takes."""
        self._shelf = shelf
        self._key = key
        self._pieces: deque[bytes] = deque()
        self._held = 0  # bytes of `_pieces`, which all come before those of the file
        self._file: int | None = None
        self._using = threading.Lock()  # of the file: who is cancelled leaves a thread behind that may be at it still
        self._written = self._read = 0
        self._put, self._taken = asyncio.Event(), asyncio.Event()
        self._ended = self._closed = False
        self._error: Exception | None = None

    async def put(self, piece: bytes) -> None:
        """Keep it until it is read.

        Raises:
            StorageError: it can't be written; StorageFull where the disk is full.
        """
        while not self._in_memory and self._shelf.held_bytes >= self._shelf.most_bytes:
            self._taken.clear()
            await self._taken.wait()
        if self._in_memory:
            self._pieces.append(piece)
            self._held += len(piece)
        else:
            if self._read == self._written:
                self._read = self._written = 0
            with translated():
                await asyncio.to_thread(self._append, piece, self._written)
            self._written += len(piece)
            self._shelf.add(self._key, len(piece))
        self._put.set()

    def end(self, error: Exception | None = None) -> None:
        """Nothing follows, but for this error."""
        self._ended, self._error = True, error
        self._put.set()

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """What was put, in order. Raises what it ended with."""
        while True:
            self._put.clear()
            if self._pieces:
                piece = self._pieces.popleft()
                self._held -= len(piece)
            elif self._read < self._written:
                with translated():
                    piece = await asyncio.to_thread(self._at, self._read)
                self._read += len(piece)
                self._shelf.add(self._key, -len(piece))
            elif not self._ended:
                await self._put.wait()
                continue
            elif self._error is not None:
                raise self._error
            else:
                return
            self._taken.set()
            yield piece

    async def aclose(self) -> None:
        """Drop what was not read."""
        self._shelf.add(self._key, self._read - self._written)
        self._read = self._written
        await asyncio.to_thread(self._close)

    @property
    def _in_memory(self) -> bool:
        """Whether the next piece goes there: not before those that went into the file are read."""
        return self._read == self._written and self._held < IN_MEMORY_BYTES

    # --- in threads

    def _append(self, piece: bytes, at: int) -> None:
        with self._using:
            if self._closed:
                return
            if self._file is None:
                with tempfile.TemporaryFile(dir=self._shelf.folder, buffering=0) as made:
                    self._file = os.dup(made.fileno())
            if not at:
                os.ftruncate(self._file, 0)
            left = memoryview(piece)
            while left:
                count = os.pwrite(self._file, left, at)
                left, at = left[count:], at + count

    def _at(self, place: int) -> bytes:
        with self._using:
            assert self._file is not None  # noqa: S101 - something was written there
            return os.pread(self._file, min(_PIECE, self._written - place), place)

    def _close(self) -> None:
        with self._using:
            self._closed = True
            if self._file is not None:
                os.close(self._file)
                self._file = None
