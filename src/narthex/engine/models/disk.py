"""Room on the disk: asked for before a large write, and named plainly when it runs out in the middle of one."""

import contextlib
import errno
import shutil
from collections.abc import Iterator
from pathlib import Path

from narthex.core.errors import StorageFull

_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_MIB = 1024 * 1024


def require_room(folder: Path, size_bytes: int) -> None:
    """Compare the room left on the disk of `folder` with what will be written there.

    Raises:
        StorageFull: it does not fit.
    """
    free = shutil.disk_usage(folder).free
    if free < size_bytes:
        raise StorageFull(f"{folder} has {free // _MIB} MiB left; {-(-size_bytes // _MIB)} MiB are needed.")


@contextlib.contextmanager
def full_disk_named(folder: Path) -> Iterator[None]:
    """Turn the operating system's "no space left" into our error.

    Raises:
        StorageFull: a write inside ran out of room.
    """
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise StorageFull(f"The disk of {folder} is full.") from error
        raise
