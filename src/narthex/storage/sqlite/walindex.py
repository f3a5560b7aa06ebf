"""Whether anything was committed to a database: seen in its WAL index, without a lock and without a system call.

Source: https://sqlite.org/walformat.html, section 2.1. The index begins with two copies of a header which every commit
of any process changes (a counter, the last frame, checksums) before it returns; by these SQLite's own readers know.

Rule 1: read it only while this process has a connection open: then nobody may cut the file short.
Rule 2: its descriptor is never closed: that would drop the locks which SQLite has on the file in this process (POSIX).
"""

import mmap
import os
import threading
from pathlib import Path

_HEADERS_BYTES = 2 * 48

_opening = threading.Lock()
_mapped: dict[tuple[int, int], tuple[int, mmap.mmap]] = {}
"""What is mapped in this process, by device and inode: each once, for as long as the process lives."""


class WalIndex:
    """The index of one database that a connection of this process has open."""

    def __init__(self, database: Path) -> None:
        """Map it. Raises `OSError` or `ValueError` where it can't be."""
        file = database.with_name(f"{database.name}-shm")
        with _opening:
            there = file.stat()
            known = _mapped.get((there.st_dev, there.st_ino))
            if known is None:
                descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
                known = descriptor, mmap.mmap(descriptor, _HEADERS_BYTES, access=mmap.ACCESS_READ)
                _mapped[there.st_dev, there.st_ino] = known
        self._bytes = known[1]

    def headers(self) -> bytes:
        """Equal to what they were as long as nothing was committed since."""
        return self._bytes[:_HEADERS_BYTES]
