"""The data folder as a whole: who uses it, which program wrote it, and where its processes meet.

Rule: whoever writes into a data folder holds its lock, from before the first write until its process ends. The kernel
gives the lock back when the holder dies, so no lock is ever stale.
"""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from pathlib import Path
from typing import Self

import msgspec

from narthex.core.errors import ConfigError
from narthex.supervisor.plan import SOCKET_PATH_BYTES, Stamp

_LONGEST_SOCKET_NAME_BYTES = 60


class Lock:
    """The right to use a data folder. Held until closed, across `exec` too if passed on."""

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def pass_on(self) -> int:
        """Let the program that this process becomes by `exec` inherit the lock; returns its descriptor."""
        os.set_inheritable(self.fd, True)  # noqa: FBT003 - the name says what is true
        return self.fd

    def close(self) -> None:
        """Give the folder free."""
        os.close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def lock(data: Path) -> Lock:
    """Take the data folder, which is made (mode 0700) when it isn't there.

    Raises:
        ConfigError: another process uses it, or it can't be written.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"The data folder {data} can't be used: {error.strerror}.") from error
    return _take(fd, data=data)


def adopt(fd: int, data: Path) -> Lock:
    """Take over the lock that a process before us passed on as `fd`; no child of ours inherits it.

    Raises:
        ConfigError: `fd` is not the lock of this folder, or another process uses the folder.
    """
    try:
        same = os.path.samestat(os.fstat(fd), (data / "lock").stat())
    except OSError:
        same = False
    if not same:
        raise ConfigError(f"Descriptor {fd} is not the lock of the data folder {data}.")
    os.set_inheritable(fd, False)  # noqa: FBT003 - the name says what is false
    return _take(fd, data=data)


def _take(fd: int, *, data: Path) -> Lock:
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.pread(fd, 32, 0).decode(errors="replace").strip()
        os.close(fd)
        who = f"process {holder}" if holder.isdecimal() else "another process"
        raise ConfigError(f"The data folder {data} is in use by {who}.") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
    return Lock(fd)


def stamp(data: Path, version: Stamp) -> None:
    """Note that this program writes the folder from now on. Call with the lock held, before anything is migrated.

    Raises:
        ConfigError: a newer program wrote the folder, or the note can't be read.
    """
    path = data / "version.json"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=Stamp)
    except FileNotFoundError:
        found = None
    except (OSError, msgspec.MsgspecError):
        raise ConfigError(f"{path} can't be read: it should say which program wrote the data folder.") from None
    if found is not None and found.schema > version.schema:
        raise ConfigError(
            f"The data folder {data} was written by Narthex {found.program} (schema {found.schema}); this is Narthex "
            f"{version.program} (schema {version.schema}). Use that version or a newer one, or another data folder."
        )
    if found != version:
        _replace(path, msgspec.json.encode(version) + b"\n")


def _replace(path: Path, content: bytes) -> None:
    fresh = path.with_suffix(".new")
    with fresh.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def run_dir(data: Path) -> Path:
    """The 0700 folder of this data folder's unix sockets, made when it isn't there. Call with the lock held.

    It is `<data>/run`, or, where socket paths in that would be too long, a temporary folder to which `<data>/run`
    links.
    """
    run = Path(os.path.abspath(data)) / "run"  # noqa: PTH100 - `resolve` would follow the link
    if len(os.fsencode(run)) + 1 + _LONGEST_SOCKET_NAME_BYTES > SOCKET_PATH_BYTES:
        return _temporary(run)
    if run.is_symlink():  # the folder was moved to a shorter path
        run.unlink()
    run.mkdir(mode=0o700, exist_ok=True)
    run.chmod(0o700)
    return run


def discard_run_dir(data: Path) -> None:
    """Remove a temporary folder of sockets; one inside the data folder stays. Call with the lock held."""
    run = data / "run"
    if run.is_symlink():
        shutil.rmtree(run.resolve(), ignore_errors=True)
        run.unlink()


def find_run_dir(data: Path) -> Path:
    """Where the sockets of a data folder are that somebody else serves."""
    return (data / "run").resolve()


def _temporary(run: Path) -> Path:
    if run.is_symlink():
        found = run.resolve()
        with contextlib.suppress(OSError):
            status = found.lstat()
            if status.st_uid == os.getuid() and stat.S_ISDIR(status.st_mode) and not status.st_mode & 0o077:
                return found
        run.unlink()
    elif run.is_dir():  # the folder was moved to a longer path
        for stale in run.iterdir():
            stale.unlink()
        run.rmdir()
    made = Path(tempfile.mkdtemp(prefix="narthex-"))
    run.symlink_to(made)
    return made
