import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from narthex.core.errors import InvalidRequest, ModelLoadFailed, ModelNotFound, StorageFull
from narthex.engine.models import manifest
from narthex.engine.models.disk import full_disk_named, require_room
from narthex.engine.models.manifest import Manifest
from narthex.engine.models.store import ModelStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An installed model of two files."""
    folder = tmp_path / "models" / "tiny"
    (folder / "sub").mkdir(parents=True)
    files = []
    for name, body in (("weights.gguf", b"weights"), ("sub/config.json", b"{}")):
        (folder / name).write_bytes(body)
        files.append(manifest.stamp(folder, name, sha256=hashlib.sha256(body).hexdigest()))
    manifest.save(folder, Manifest(name="tiny", kind="chat", source="x", licence=None, files=tuple(files)))
    return folder


@pytest.fixture
def store(folder: Path) -> ModelStore:
    return ModelStore(folder.parent)


def test_finds_what_is_installed(store: ModelStore, folder: Path) -> None:
    (folder.parent / ".tiny.partial").mkdir()
    (folder.parent / "not-a-model").mkdir()
    (folder.parent / "damaged").mkdir()
    (folder.parent / "damaged" / "manifest.json").write_text("[]")
    (found,) = store.installed()
    assert (found.name, found.size_bytes, found.digest) == ("tiny", 9, hashlib.sha256(b"weights").hexdigest())
    assert store.path("tiny") == folder / "weights.gguf"
    assert store.resolve("hf:acme/tiny-GGUF").name == "tiny"
    assert ModelStore(folder / "nowhere").installed() == []


def test_refuses_what_is_damaged(store: ModelStore, folder: Path) -> None:
    expected, found = hashlib.sha256(b"weights").hexdigest(), hashlib.sha256(b"wEights").hexdigest()
    (folder / "weights.gguf").write_bytes(b"wei")
    with pytest.raises(ModelLoadFailed, match=r"tiny/weights.gguf is truncated: it has 3 bytes of 7\."):
        store.path("tiny")
    (folder / "weights.gguf").write_bytes(b"weights and more")
    with pytest.raises(ModelLoadFailed, match="is changed: it has 16 bytes of 7"):
        store.path("tiny")
    (folder / "weights.gguf").write_bytes(b"wEights")
    os.utime(folder / "weights.gguf", ns=(1, 1))
    with pytest.raises(ModelLoadFailed, match=f"SHA-256 {expected} expected, got {found}"):
        store.path("tiny")
    (folder / "weights.gguf").unlink()
    with pytest.raises(ModelLoadFailed, match="can't be read: No such file"):
        store.path("tiny")
    (folder / "manifest.json").write_text("{")
    with pytest.raises(ModelLoadFailed, match=r"manifest\.json can't be read"):
        store.path("tiny")


def test_trusts_size_and_time_until_told_otherwise(store: ModelStore, folder: Path) -> None:
    before = (folder / "weights.gguf").stat()
    (folder / "weights.gguf").write_bytes(b"wEights")
    os.utime(folder / "weights.gguf", ns=(before.st_atime_ns, before.st_mtime_ns))
    store.check("tiny")
    with pytest.raises(ModelLoadFailed, match="is not the expected file"):
        store.check("tiny", verify=True)


def test_a_new_time_alone_renews_the_manifest(store: ModelStore, folder: Path) -> None:
    os.utime(folder / "weights.gguf", ns=(5, 5))
    assert store.check("tiny").files[0].mtime_ns == 5
    assert manifest.load(folder).files[0].mtime_ns == 5
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", "sub", "weights.gguf"]


def test_removes(store: ModelStore, folder: Path) -> None:
    store.remove("tiny")
    assert not folder.exists()
    for name in ("tiny", "../tiny", "."):
        with pytest.raises(ModelNotFound):
            store.remove(name)
        with pytest.raises((ModelNotFound, InvalidRequest)):
            store.path(name)


def test_what_is_not_installed_says_how(store: ModelStore) -> None:
    with pytest.raises(ModelNotFound, match="`narthex models pull other` installs it"):
        store.resolve("other")


def test_a_file_is_checked_before_it_is_used(store: ModelStore, tmp_path: Path) -> None:
    path = tmp_path / "junk.gguf"
    path.write_bytes(b"junk")
    with pytest.raises(ModelLoadFailed, match=r"junk\.gguf is not a GGUF file"):
        store.resolve(str(path))


def test_room(tmp_path: Path) -> None:
    require_room(tmp_path, 1)
    with pytest.raises(StorageFull, match="MiB left; 1099511627776 MiB are needed"):
        require_room(tmp_path, 1 << 60)


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageFull), full_disk_named(tmp_path), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    with pytest.raises(FileNotFoundError), full_disk_named(tmp_path):
        (tmp_path / "none").read_bytes()


@pytest.fixture(autouse=True)
def _no_leftovers(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob(".manifest*"))
