"""Files on their way in: each is here from its upload until its job has ended, under the job's id.

All methods block.
"""

import contextlib
import os
import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import IO

from narthex.core.errors import StorageError, StorageFull
from narthex.storage.sqlite.errors import translate

FOLDER = "uploads"
"""In the data folder."""
_NAME = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


class Uploads:
    """The folder of uploaded files, shared by all processes of a server."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, job_id: str) -> Path:
        """Where a job's file is, if it has one."""
        return self._folder / job_id

    def reserve(self, job_id: str) -> Path:
        """Where a file may be made.

        Raises:
            StorageError: the folder can't be made.
        """
        with translated():
            self._folder.mkdir(mode=0o700, exist_ok=True)
        return self.path(job_id)

    def create(self, job_id: str) -> IO[bytes]:
        """A new, empty file; the caller writes, keeps and closes it.

        Raises:
            StorageError: it can't be made; StorageFull where the disk is full.
        """
        with translated():
            return os.fdopen(os.open(self.reserve(job_id), os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b")

    def keep(self, file: IO[bytes]) -> None:
        """Make what was written durable.

        Raises:
            StorageError: it can't be written; StorageFull where the disk is full.
        """
        with translated():
            file.flush()
            os.fsync(file.fileno())
            folder = os.open(self._folder, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def remove(self, job_id: str) -> None:
        """Delete a job's file, if there is one."""
        self.path(job_id).unlink(missing_ok=True)

    def sweep(self, open_ids: Collection[str], *, before_s: float) -> int:
        """Delete files that were last written before this time (unix seconds) and belong to no open job; how many."""
        removed = 0
        with contextlib.suppress(FileNotFoundError), os.scandir(self._folder) as entries:
            for entry in entries:
                if not _NAME(entry.name) or entry.name in open_ids:
                    continue
                with contextlib.suppress(FileNotFoundError):
                    if entry.stat().st_mtime < before_s:
                        Path(entry).unlink()
                        removed += 1
        return removed


@contextlib.contextmanager
def translated() -> Iterator[None]:
    """What the disk says, in our words."""
    try:
        yield
    except OSError as error:
        failure = translate(error)
        raise (
            StorageFull() if isinstance(failure, StorageFull) else StorageError("The file can't be kept now.")
        ) from error
