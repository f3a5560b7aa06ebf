"""A file of named arrays: written whole or not at all, memory-mapped by whoever reads it.

One line with a checksum and where each array is, then the arrays. The line is written last, into the room that was
kept for it, so a file whose writer died has none.
"""

import json
import math
import mmap
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

MAGIC = "narthex-segment"
FORMAT = 1
_HEAD = 4096
_ALIGNED = 64


class Damaged(Exception):
    """This is no such file, or not all of it: to be made anew."""


class Arrays:
    """A mapped file. The arrays keep the mapping alive, also when the file is deleted."""

    def __init__(self, path: Path) -> None:
        """Map `path`.

        Raises:
            Damaged: it is missing, truncated, or its first line is not what was written.
        """
        try:
            with path.open("rb") as file:
                head = _head(file.read(_HEAD))
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError) as error:
            raise Damaged(str(error)) from error
        if len(self._map) != head["size"]:
            raise Damaged(f"{len(self._map)} bytes, where {head['size']} were written")
        self.notes: dict[str, Any] = head["notes"]
        self._places: dict[str, Any] = head["arrays"]

    def array(self, name: str) -> NDArray[Any]:
        """One of them, read-only."""
        offset, dtype, shape = self._places[name]
        count = math.prod(shape)
        return np.frombuffer(self._map, np.dtype(dtype), count, offset).reshape(shape)


class ArraysFile:
    """A file being written; nobody sees it before `finish`. The caller removes what it left when something fails."""

    def __init__(self, path: Path) -> None:
        self._file = os.fdopen(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "w+b")
        self._size = _HEAD
        self._places: dict[str, Any] = {}
        self._maps: list[np.memmap[Any, Any]] = []

    def array(self, name: str, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
        """Room for an array, to be filled in."""
        dtype = np.dtype(dtype)
        self._places[name] = (self._size, dtype.str, shape)
        offset, count = self._size, math.prod(shape)
        self._size += -(-count * dtype.itemsize // _ALIGNED) * _ALIGNED
        # A full disk is an error here, where writing into the mapping would end the process.
        os.posix_fallocate(self._file.fileno(), 0, self._size)
        if not count:
            return np.empty(shape, dtype)
        mapped: np.memmap[Any, Any] = np.memmap(self._file, dtype, "r+", offset, shape)
        self._maps.append(mapped)
        return mapped

    def finish(self, notes: dict[str, Any]) -> None:
        """Write the first line, and all of it to the disk; then close."""
        for mapped in self._maps:
            mapped.flush()
        told = {"magic": MAGIC, "format": FORMAT, "size": self._size, "notes": notes, "arrays": self._places}
        text = json.dumps(told).encode()
        self._file.seek(0)
        self._file.write(b"%08x %s\n" % (zlib.crc32(text), text))
        self._file.flush()
        os.fsync(self._file.fileno())
        self.close()

    def close(self) -> None:
        """Let go of the file."""
        self._maps.clear()
        self._file.close()


def _head(raw: bytes) -> dict[str, Any]:
    checksum, _, text = raw.partition(b"\n")[0].partition(b" ")
    if int(checksum, 16) != zlib.crc32(text):
        raise ValueError("the first line is not what was written")
    head: dict[str, Any] = json.loads(text)
    if head.get("magic") != MAGIC or head.get("format") != FORMAT:
        raise ValueError("another format")
    return head
