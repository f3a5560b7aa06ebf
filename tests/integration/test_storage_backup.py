import asyncio
import hashlib
import stat
import tarfile
import threading
from io import BytesIO

import apsw
import msgspec
import pytest

from narthex import __version__
from narthex.core.documents import Collection, EmbeddingModel
from narthex.core.errors import ConfigError, Conflict, InvalidRequest, StorageError
from narthex.core.keys import Grants, NewKey
from narthex.storage.sqlite.backup import Entry, Manifest, backup, restore
from narthex.storage.sqlite.collection_file import SUPERSEDED, create_file
from narthex.storage.sqlite.connection import immediate, open_connection
from narthex.storage.sqlite.control import open_control

pytestmark = [pytest.mark.anyio, pytest.mark.patient]


def clock() -> int:
    return 7_000


@pytest.fixture
async def data(tmp_path):
    """A folder that is being served: its database stays open, with changes that are in the WAL only."""
    data = tmp_path / "data"
    data.mkdir()
    store = await open_control(data / "control.db", clock=clock)
    await store.keys.ensure_admin()
    [key] = await store.keys.list()
    model = EmbeddingModel(name="m", dim=2)
    made = Collection(id="c1", account_id=key.account_id, key="k", model=model, created_ms=1)
    await store.collections.create(made)
    for name in ("c1", "c1_2", "gone"):  # in service, half made, and of a collection that is deleted
        create_file(data / "collections" / name, model, clock=clock)
    documents = open_connection(data / "collections" / "c1" / "c.db", synchronous="FULL")
    documents.execute("create table t(x); insert into t values(1)").fetchall()
    (data / "collections" / "c1" / "seg-1.bin").write_bytes(b"codes")
    (data / "models").mkdir()
    (data / "models" / "m.gguf").write_bytes(b"GGUF")
    (data / "admin.key").write_text("nx-secret")
    (data / "version.json").write_text("{}")
    yield data
    documents.close()
    await store.aclose()


@pytest.fixture
def archive(data, tmp_path):
    backup(data, tmp_path / "a.tar.gz", clock=clock)
    return tmp_path / "a.tar.gz"


@pytest.fixture
def empty(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "lock").touch()
    return empty


async def names(folder):
    store = await open_control(folder / "control.db", clock=clock)
    try:
        return [key.name for key in await store.keys.list()]
    finally:
        await store.aclose()


async def test_a_served_folder_comes_back_as_it_was(data, tmp_path, empty):
    made = backup(data, tmp_path / "a.tar.gz", clock=clock)
    assert [entry.path for entry in made.files] == ["collections/c1/c.db", "control.db", "version.json"]
    assert (made.program, made.created_ms) == (__version__, 7_000)
    assert restore(tmp_path / "a.tar.gz", empty, replace=False, clock=clock) == made
    assert await names(empty) == ["admin"]
    copy = apsw.Connection(str(empty / "collections" / "c1" / "c.db"))
    assert copy.execute("select x from t").fetchall() == [(1,)]
    copy.close()
    assert stat.S_IMODE((empty / "control.db").stat().st_mode) == 0o600
    assert not list(empty.glob(".restore-*"))


async def test_the_archive_is_private_and_holds_no_secret(archive):
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(archive) as tar:
        assert tar.getnames()[0] == "manifest.json"
        assert not any("key" in name or "gguf" in name for name in tar.getnames())
    assert [path.name for path in archive.parent.iterdir() if path.name.startswith(".")] == []


async def test_a_backup_is_consistent_while_others_write(data, tmp_path, empty):
    path = data / "pairs.db"
    connection = open_connection(path, synchronous="NORMAL", create=True)
    connection.execute("create table a(x); create table b(x)").fetchall()
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        while not stop.is_set():
            with immediate(connection):
                connection.execute("insert into a values(zeroblob(2000))")
                connection.execute("insert into b values(1)")
            begun.set()

    async with asyncio.TaskGroup() as group:
        group.create_task(asyncio.to_thread(write))
        await asyncio.to_thread(begun.wait, 10)
        for number in range(5):
            await asyncio.to_thread(backup, data, tmp_path / f"{number}.tar.gz", clock=clock)
        stop.set()
    connection.close()
    restore(tmp_path / "4.tar.gz", empty, replace=False, clock=clock)
    copy = apsw.Connection(str(empty / "pairs.db"))
    [(a, b)] = copy.execute("select (select count(*) from a), (select count(*) from b)").fetchall()
    copy.close()
    assert a == b > 0


async def test_a_backup_overwrites_nothing_and_needs_a_database(data, archive, tmp_path, empty):
    with pytest.raises(Conflict):
        backup(data, archive, clock=clock)
    with pytest.raises(InvalidRequest, match="no database"):
        backup(empty, tmp_path / "b.tar.gz", clock=clock)
    with pytest.raises(InvalidRequest, match="no folder"):
        backup(data, tmp_path / "nowhere" / "b.tar.gz", clock=clock)


async def test_a_damaged_database_is_not_backed_up(data, tmp_path):
    (data / "bad.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        backup(data, tmp_path / "b.tar.gz", clock=clock)
    assert not (tmp_path / "b.tar.gz").exists()


async def test_a_folder_that_is_not_empty_is_replaced_only_when_asked(archive, tmp_path):
    data = tmp_path / "used"
    data.mkdir()
    store = await open_control(data / "control.db", clock=clock)
    await store.keys.create(NewKey(name="newer"), within=Grants.everything())
    await store.aclose()
    (data / "control.db-wal").write_bytes(b"stale")
    for kept in ("admin.key", "narthex.yaml"):
        (data / kept).write_text("kept")
    (data / "limits.bin").write_bytes(b"old")
    with pytest.raises(Conflict, match="not empty"):
        restore(archive, data, replace=False, clock=clock)
    restore(archive, data, replace=True, clock=clock)
    assert await names(data) == ["admin"]
    assert (data / "admin.key").read_text() == "kept"
    assert (data / "narthex.yaml").exists()
    assert not (data / "limits.bin").exists()
    (data / "replaced-7000" / "control.db-wal").unlink()
    assert await names(data / "replaced-7000") == ["newer"]


def pack(path, files, *, manifest=None, members=()):
    """An archive with these files; `manifest` where it shall not be the true one."""
    if manifest is None:
        entries = tuple(
            Entry(path=name, bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
            for name, content in files.items()
        )
        manifest = Manifest(format=1, program="9", created_ms=0, files=entries)
    with tarfile.open(path, "w:gz") as tar:
        first = manifest if isinstance(manifest, bytes) else msgspec.json.encode(manifest)
        for name, content in {"manifest.json": first, **files}.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, BytesIO(content))
        for member in members:
            tar.addfile(member)
    return path


@pytest.mark.parametrize(
    "name",
    ["../evil.db", "/etc/evil.db", "collections/../../evil.db", "collections/x/y/c.db", "admin.key", "x.db/c", "lock"],
)
async def test_a_file_that_does_not_belong_there_is_refused(name, tmp_path, empty):
    with pytest.raises(InvalidRequest):
        restore(pack(tmp_path / "a.tar.gz", {name: b"x"}), empty, replace=False, clock=clock)
    assert [path.name for path in empty.iterdir()] == ["lock"]
    assert not (tmp_path / "evil.db").exists()


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE])
async def test_only_plain_files_are_unpacked(kind, tmp_path, empty):
    member = tarfile.TarInfo("x.db")
    member.type, member.linkname = kind, "../../evil"
    manifest = Manifest(
        format=1, program="9", created_ms=0, files=(Entry(path="x.db", bytes=0, sha256=hashlib.sha256().hexdigest()),)
    )
    with pytest.raises(InvalidRequest):
        restore(pack(tmp_path / "a.tar.gz", {}, manifest=manifest, members=[member]), empty, replace=False, clock=clock)
    assert [path.name for path in empty.iterdir()] == ["lock"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (Entry(path="x.db", bytes=1, sha256="00"), "damaged"),
        (Entry(path="x.db", bytes=2, sha256="00"), "doesn't belong"),
        (Entry(path="y.db", bytes=1, sha256="00"), "doesn't belong"),
    ],
)
async def test_what_differs_from_the_manifest_is_refused(entry, reason, tmp_path, empty):
    manifest = Manifest(format=1, program="9", created_ms=0, files=(entry,))
    with pytest.raises(InvalidRequest, match=reason):
        restore(pack(tmp_path / "a.tar.gz", {"x.db": b"x"}, manifest=manifest), empty, replace=False, clock=clock)


async def test_a_missing_file_is_refused(tmp_path, empty):
    manifest = Manifest(format=1, program="9", created_ms=0, files=(Entry(path="y.db", bytes=1, sha256="00"),))
    with pytest.raises(InvalidRequest, match=r"lacks y\.db"):
        restore(pack(tmp_path / "a.tar.gz", {}, manifest=manifest), empty, replace=False, clock=clock)


async def test_another_format_is_refused(tmp_path, empty):
    manifest = Manifest(format=2, program="9", created_ms=0, files=())
    with pytest.raises(InvalidRequest, match="Narthex 9"):
        restore(pack(tmp_path / "a.tar.gz", {}, manifest=manifest), empty, replace=False, clock=clock)


async def test_what_is_no_archive_is_refused(archive, tmp_path, empty):
    whole = archive.read_bytes()
    broken = {
        "text": b"hello",
        "nothing": b"",
        "cut": whole[: len(whole) // 2],
        "flipped": whole[:200] + bytes([whole[200] ^ 255]) + whole[201:],
        "other": pack(tmp_path / "p.tar.gz", {}, manifest=b"[]").read_bytes(),
    }
    for content in broken.values():
        (tmp_path / "b.tar.gz").write_bytes(content)
        with pytest.raises(InvalidRequest):
            restore(tmp_path / "b.tar.gz", empty, replace=False, clock=clock)
    with tarfile.open(tmp_path / "c.tar.gz", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("x.db"))
    with pytest.raises(InvalidRequest):
        restore(tmp_path / "c.tar.gz", empty, replace=False, clock=clock)
    with pytest.raises(StorageError):
        restore(tmp_path / "missing.tar.gz", empty, replace=False, clock=clock)
    assert [path.name for path in empty.iterdir()] == ["lock"]


async def test_a_database_that_is_damaged_or_newer_replaces_nothing(data, archive, tmp_path, empty):
    with pytest.raises(StorageError, match="not a database"):
        restore(pack(tmp_path / "b.tar.gz", {"x.db": b"no database" * 99}), empty, replace=False, clock=clock)
    newer = tmp_path / "newer.db"
    connection = apsw.Connection(str(newer))
    connection.execute("create table schema_version(n, sha256)").fetchall()
    connection.executemany("insert into schema_version values(?, 'x')", [(n,) for n in range(1, 99)])
    connection.close()
    with pytest.raises(ConfigError, match="newer"):
        restore(pack(tmp_path / "c.tar.gz", {"control.db": newer.read_bytes()}), empty, replace=False, clock=clock)
    damaged = bytearray((data / "control.db").read_bytes())
    with tarfile.open(archive) as tar:
        content = tar.extractfile("control.db")
        assert content is not None
        damaged = bytearray(content.read())
    damaged[4096:] = b"\xa5" * (len(damaged) - 4096)
    with pytest.raises(StorageError, match="damaged"):
        restore(pack(tmp_path / "d.tar.gz", {"control.db": bytes(damaged)}), empty, replace=False, clock=clock)
    assert [path.name for path in empty.iterdir()] == ["lock"]


async def test_a_collection_that_is_just_being_replaced_takes_writes_again_once_restored(data, empty, tmp_path):
    """Its row still names the former generation, whose file refuses writes already."""
    live = apsw.Connection(str(data / "collections" / "c1" / "c.db"))
    live.execute("insert into meta(k, v) values(?, '')", (SUPERSEDED,)).fetchall()
    backup(data, tmp_path / "b.tar.gz", clock=clock)
    assert live.execute("select count(*) from meta where k = ?", (SUPERSEDED,)).fetchall() == [(1,)]
    live.close()
    restore(tmp_path / "b.tar.gz", empty, replace=False, clock=clock)
    copy = apsw.Connection(str(empty / "collections" / "c1" / "c.db"))
    assert copy.execute("select count(*) from meta where k = ?", (SUPERSEDED,)).fetchall() == [(0,)]
    copy.close()
