"""A data folder's databases in one archive, taken while the server runs, and back.

The archive is a tar.gz: `manifest.json` first, then every file that it lists. Each database is copied in one read
transaction, so each is whole and consistent in itself. Neither model files nor anything that can be rebuilt is in it,
and no secret: keys are stored as digests.
"""

import contextlib
import hashlib
import os
import re
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import apsw
import msgspec

from narthex import __version__
from narthex.core.errors import Conflict, InvalidRequest, StorageError
from narthex.core.keys import Clock
from narthex.storage.sqlite import control
from narthex.storage.sqlite.collection_file import SUPERSEDED, folder_name
from narthex.storage.sqlite.connection import BUSY_TIMEOUT_MS, close
from narthex.storage.sqlite.errors import translate
from narthex.storage.sqlite.migrate import load, pending

FORMAT = 1
MANIFEST = "manifest.json"
_STAMP = "version.json"
_NAMES = re.compile(r"[a-z_]+\.db|collections/[A-Za-z0-9_-]+/c\.db|version\.json")
_REPLACED = ("*.db", "*.db-wal", "*.db-shm", "*.bin", "collections", "uploads", _STAMP)
_MAX_MANIFEST_BYTES = 64 * 1024 * 1024
_UNREADABLE = (tarfile.TarError, zlib.error, EOFError, msgspec.MsgspecError)


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file of the archive; `path` is relative to the data folder."""

    path: str
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What the archive holds, and which program made it when (milliseconds since 1970)."""

    format: int
    program: str
    created_ms: int
    files: tuple[Entry, ...]


def backup(data_dir: Path, target: Path, *, clock: Clock) -> Manifest:
    """Write `target` (mode 600), whole or not at all; blocks.

    Raises:
        Conflict: `target` exists.
        InvalidRequest: `data_dir` holds no database, or the folder of `target` is missing.
        StorageError: something can't be read or written; StorageFull where the disk is full.
    """
    if target.exists():
        raise Conflict(f"{target} exists already.")
    if not (data_dir / control.FILE).is_file():
        raise InvalidRequest(f"There is no database in {data_dir}.")
    if not target.parent.is_dir():
        raise InvalidRequest(f"There is no folder {target.parent}.")
    with _disk(), tempfile.TemporaryDirectory(dir=target.parent, prefix=".narthex-backup-") as folder:
        staging = Path(folder)
        # First: it tells which of the collections' files are in service.
        _copy(data_dir / control.FILE, staging / control.FILE)
        for source in sorted(data_dir.glob("*.db")):
            if source.name != control.FILE:
                _copy(source, staging / source.name)
        _copy_collections(data_dir, staging)
        if (data_dir / _STAMP).is_file():
            shutil.copyfile(data_dir / _STAMP, staging / _STAMP)
        manifest = Manifest(format=FORMAT, program=__version__, created_ms=clock(), files=tuple(_entries(staging)))
        archive = staging / "archive"
        _pack(staging, archive, manifest=manifest)
        _sync(archive)
        archive.replace(target)
    return manifest


def restore(source: Path, data_dir: Path, *, replace: bool, clock: Clock) -> Manifest:
    """Put an archive's databases into `data_dir`; blocks. The caller holds the folder's lock.

    Everything is unpacked, compared with its digest and opened before anything is replaced. With `replace`, what was
    there moves into `<data>/replaced-<ms>`; the admin key's file, models and settings stay.

    Raises:
        Conflict: the folder is not empty and `replace` is false.
        InvalidRequest: this is no archive of ours, or it is damaged.
        ConfigError: a newer program made it.
        StorageError: something can't be read or written; StorageFull where the disk is full.
    """
    if not replace and any(path.name != "lock" for path in data_dir.iterdir()):
        raise Conflict(f"{data_dir} is not empty.")
    with _disk(), tempfile.TemporaryDirectory(dir=data_dir, prefix=".restore-") as folder:
        staging = Path(folder)
        try:
            manifest = _unpack(source, staging)
        except _UNREADABLE as error:
            raise InvalidRequest(f"{source.name} is not a backup, or it is damaged.") from error
        for entry in manifest.files:
            if entry.path.endswith(".db"):
                _check(staging / entry.path)
        _set_aside(data_dir, data_dir / f"replaced-{clock()}")
        # The control database comes last: without it the folder is plainly not ready.
        for entry in sorted(manifest.files, key=lambda entry: entry.path == control.FILE):
            target = data_dir / entry.path
            target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _sync(staging / entry.path)
            (staging / entry.path).replace(target)
        _sync(data_dir)
    return manifest


@contextlib.contextmanager
def _disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise translate(error) from error


def _copy(source: Path, copy: Path) -> None:
    reader = writer = None
    try:
        reader = apsw.Connection(str(source), flags=apsw.SQLITE_OPEN_READWRITE)
        reader.set_busy_timeout(BUSY_TIMEOUT_MS)
        copy.touch(mode=0o600)
        writer = apsw.Connection(str(copy))
        with writer.backup("main", reader, "main") as transfer:
            # All pages in one step: a read transaction, which holds up no writer in WAL mode.
            transfer.step(-1)
        writer.pragma("journal_mode", "delete")
    except apsw.Error as error:
        raise translate(error, writer) from error
    finally:
        close(writer)
        close(reader)


def _copy_collections(data_dir: Path, staging: Path) -> None:
    """Each in the generation that serves by the copied control database; what is made anew beside it is left out."""
    for name in _in_service(staging / control.FILE):
        source, copy = (folder / "collections" / name / "c.db" for folder in (data_dir, staging))
        if source.is_file():  # nothing was ever stored in it, else
            copy.parent.mkdir(parents=True)
            _copy(source, copy)
            _reinstate(copy)


def _in_service(copy: Path) -> list[str]:
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READONLY)
    try:
        if not connection.execute("select 1 from sqlite_schema where name = 'collection'").fetchall():
            return []  # it is older than collections are
        rows: list[Any] = connection.execute("select id, generation from collection order by id").fetchall()
        return [folder_name(collection_id, generation) for collection_id, generation in rows]
    finally:
        connection.close()


def _reinstate(copy: Path) -> None:
    """Its successor took over after the control database was copied, and is not in the archive."""
    connection = apsw.Connection(str(copy), flags=apsw.SQLITE_OPEN_READWRITE)
    try:
        connection.execute("delete from meta where k = ?", (SUPERSEDED,)).fetchall()
    except apsw.Error as error:
        raise translate(error, connection) from error
    finally:
        connection.close()


def _entries(folder: Path) -> Iterator[Entry]:
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        yield Entry(path=path.relative_to(folder).as_posix(), bytes=path.stat().st_size, sha256=digest)


def _pack(folder: Path, archive: Path, *, manifest: Manifest) -> None:
    with archive.open("xb") as raw, tarfile.open(fileobj=raw, mode="w:gz", compresslevel=6) as tar:
        archive.chmod(0o600)
        content = msgspec.json.format(msgspec.json.encode(manifest))
        tar.addfile(_member(MANIFEST, size=len(content), at_ms=manifest.created_ms), BytesIO(content))
        for entry in manifest.files:
            with (folder / entry.path).open("rb") as file:
                tar.addfile(_member(entry.path, size=entry.bytes, at_ms=manifest.created_ms), file)


def _member(name: str, *, size: int, at_ms: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mtime, member.mode = size, at_ms // 1000, 0o600
    return member


def _unpack(source: Path, staging: Path) -> Manifest:
    with tarfile.open(source, mode="r|gz") as tar:
        first = tar.next()
        if first is None or first.name != MANIFEST or first.size > _MAX_MANIFEST_BYTES:
            raise tarfile.ReadError("no manifest")
        manifest = msgspec.json.decode(_content(tar, first).read(), type=Manifest)
        if manifest.format != FORMAT:
            raise InvalidRequest(f"This backup was made by Narthex {manifest.program}, whose format is another.")
        missing = {entry.path: entry for entry in manifest.files}
        while (member := tar.next()) is not None:
            # The filter refuses what would leave the folder; the manifest and the pattern name what may be in it.
            tarfile.data_filter(member, str(staging))
            entry = missing.pop(member.name, None)
            if entry is None or not _NAMES.fullmatch(member.name) or member.size != entry.bytes:
                raise InvalidRequest(f"The backup holds a file that doesn't belong there: {member.name!r}.")
            _extract(_content(tar, member), staging / member.name, sha256=entry.sha256)
    if missing:
        raise InvalidRequest(f"The backup lacks {min(missing)}.")
    return manifest


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    if not member.isreg() or (content := tar.extractfile(member)) is None:
        raise tarfile.ReadError("not a file")
    return content


def _extract(content: IO[bytes], target: Path, *, sha256: str) -> None:
    target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    target.touch(mode=0o600)
    digest = hashlib.sha256()
    with target.open("wb") as file:
        while piece := content.read(1 << 20):
            digest.update(piece)
            file.write(piece)
    if digest.hexdigest() != sha256:
        raise InvalidRequest(f"The backup is damaged: {target.name} is not what was saved.")


def _check(path: Path) -> None:
    connection = None
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READWRITE)
        if connection.pragma("quick_check") != "ok":
            raise StorageError(f"{path.name} in the backup is damaged.")
        if path.name == control.FILE:
            pending(connection, load(control.SCHEMA))
    except apsw.Error as error:
        raise translate(error, connection) from error
    finally:
        close(connection)


def _set_aside(data_dir: Path, replaced: Path) -> None:
    for pattern in _REPLACED:
        for path in sorted(data_dir.glob(pattern)):
            replaced.mkdir(mode=0o700, exist_ok=True)
            path.replace(replaced / path.name)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
