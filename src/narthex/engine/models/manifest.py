"""What stands beside an installed model: its files with size, time and digest, so that a start need not read 90 MB.

A file whose size and time are those of the manifest is taken to be the one that was installed; when only the time
differs it is read again, and the manifest is renewed if the digest is right.
"""

import contextlib
import hashlib
import os
from pathlib import Path
from typing import BinaryIO

import msgspec

from narthex.core.errors import ModelLoadFailed, ModelNotFound
from narthex.core.models import ModelKind

FILE_NAME = "manifest.json"


class InstalledFile(msgspec.Struct, frozen=True, kw_only=True):
    """One file as it was when its digest was computed."""

    path: str
    size_bytes: int
    mtime_ns: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """An installed model."""

    name: str
    kind: ModelKind
    source: str
    licence: str | None
    files: tuple[InstalledFile, ...]

    @property
    def size_bytes(self) -> int:
        """Of its files together."""
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str:
        """The SHA-256 of the first file, which is the one that holds the weights."""
        return self.files[0].sha256


def sha256_of(path: Path) -> str:
    """The digest of a file, in hex. Blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stamp(folder: Path, path: str, *, sha256: str) -> InstalledFile:
    """The entry for a file whose digest is known."""
    status = (folder / path).stat()
    return InstalledFile(path=path, size_bytes=status.st_size, mtime_ns=status.st_mtime_ns, sha256=sha256)


def load(folder: Path) -> Manifest:
    """The manifest in `folder`.

    Raises:
        ModelNotFound: there is none.
        ModelLoadFailed: it can't be read.
    """
    try:
        return msgspec.json.decode((folder / FILE_NAME).read_bytes(), type=Manifest)
    except (FileNotFoundError, NotADirectoryError):
        raise ModelNotFound(
            f"The model {folder.name} is not installed; `narthex models pull {folder.name}` installs it."
        ) from None
    except (OSError, msgspec.MsgspecError) as error:
        raise ModelLoadFailed(f"{folder.name}/{FILE_NAME} can't be read: {error}") from error


def save(folder: Path, manifest: Manifest) -> None:
    """Write it durably: whoever reads sees the old one or the new one."""
    draft = folder / f".{FILE_NAME}.{os.getpid()}"
    with draft.open("wb") as file:
        file.write(msgspec.json.format(msgspec.json.encode(manifest)))
        sync(file)
    draft.replace(folder / FILE_NAME)
    sync_folder(folder)


def check(folder: Path, *, verify: bool = False) -> Manifest:
    """The manifest, after its files were compared with it; `verify` reads them whole in any case. Blocks.

    Raises:
        ModelNotFound: not installed.
        ModelLoadFailed: a file is missing, truncated or changed; the message names it.
    """
    manifest = load(folder)
    renewed = tuple(_checked(folder, file, verify=verify) for file in manifest.files)
    if renewed != manifest.files:
        manifest = msgspec.structs.replace(manifest, files=renewed)
        with contextlib.suppress(OSError):  # a read-only folder stays as it is and is read again next time
            save(folder, manifest)
    return manifest


def _checked(folder: Path, file: InstalledFile, *, verify: bool) -> InstalledFile:
    shown = f"{folder.name}/{file.path}"
    try:
        status = (folder / file.path).stat()
        if status.st_size != file.size_bytes:
            what = "truncated" if status.st_size < file.size_bytes else "changed"
            raise ModelLoadFailed(f"{shown} is {what}: it has {status.st_size} bytes of {file.size_bytes}.")
        if status.st_mtime_ns == file.mtime_ns and not verify:
            return file
        found = sha256_of(folder / file.path)
    except OSError as error:
        raise ModelLoadFailed(f"{shown} can't be read: {error.strerror}.") from error
    if found != file.sha256:
        raise wrong_digest(shown, expected=file.sha256, found=found)
    return msgspec.structs.replace(file, mtime_ns=status.st_mtime_ns)


def wrong_digest(file: str, *, expected: str, found: str) -> ModelLoadFailed:
    """The error for a file that is not the one it should be."""
    return ModelLoadFailed(f"{file} is not the expected file: SHA-256 {expected} expected, got {found}.")


def sync(file: BinaryIO) -> None:
    """Bring what was written to the disk."""
    file.flush()
    os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Bring the names in `folder` to the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
