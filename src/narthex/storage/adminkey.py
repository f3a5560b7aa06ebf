"""`<data>/admin.key`: the first key, readable by this user only. The local command line uses it."""

import contextlib
import os
import secrets
from pathlib import Path

from narthex.core.errors import StorageError
from narthex.core.keys import Secret
from narthex.storage.sqlite.errors import translate

FILE = "admin.key"


def write_admin_key(data_dir: Path, secret: Secret) -> Path:
    """Write the file with mode 600, whole or not at all; returns where it is.

    Raises:
        StorageError: it can't be written; StorageFull where the disk is full.
    """
    target = data_dir / FILE
    partial = data_dir / f".{FILE}.{secrets.token_hex(4)}"
    try:
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secret.reveal() + "\n")
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise translate(error) from error
    return target


def read_admin_key(data_dir: Path) -> Secret | None:
    """The key, or None where there is no such file.

    Raises:
        StorageError: the file is there and can't be read.
    """
    try:
        text = (data_dir / FILE).read_text("ascii").strip()
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(f"{FILE} can't be read.") from error
    return Secret(text) if text else None
