import asyncio
import stat
import subprocess
import sys

import apsw
import pytest

from narthex.core.errors import ConfigError, StorageError, StorageFull
from narthex.core.keys import Grants, NewKey, Secret
from narthex.storage.adminkey import read_admin_key, write_admin_key
from narthex.storage.sqlite import connection as connections
from narthex.storage.sqlite.connection import Database, immediate, open_connection, require_sqlite
from narthex.storage.sqlite.control import ControlStore, open_control

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

ALL = Grants.everything()


@pytest.fixture
async def store(tmp_path):
    store = await open_control(tmp_path / "control.db", clock=lambda: 1)
    yield store
    await store.aclose()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.db"


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "2.99.99"])
def test_a_library_that_can_corrupt_files_is_refused(version):
    with pytest.raises(ConfigError, match=version):
        require_sqlite(version)
    require_sqlite("3.51.3")
    require_sqlite("3.54.1")


def test_a_connection_has_our_settings(path):
    connection = open_connection(path, synchronous="FULL", create=True)
    names = ("journal_mode", "synchronous", "foreign_keys", "busy_timeout", "journal_size_limit")
    assert [connection.pragma(name) for name in names] == ["wal", 2, 1, 10_000, 4_194_304]
    connection.close()
    connection = open_connection(path, synchronous="NORMAL")
    assert connection.pragma("synchronous") == 1
    connection.close()


class NoWal(apsw.Connection):
    """As on a file system that has no shared memory."""

    def pragma(self, *_):
        return "delete"


def test_a_place_that_can_not_hold_a_wal_file_is_refused(monkeypatch, path):
    monkeypatch.setattr(apsw, "Connection", NoWal)
    with pytest.raises(ConfigError, match="local disk"):
        open_connection(path, synchronous="FULL", create=True)


async def test_the_files_are_readable_by_this_user_only(store, path):
    await store.keys.ensure_admin()
    for name in ("control.db", "control.db-wal", "control.db-shm"):
        assert stat.S_IMODE(path.with_name(name).stat().st_mode) == 0o600


async def test_no_secret_is_in_any_file(store, tmp_path):
    _, secret = await store.keys.ensure_admin()
    for file in tmp_path.iterdir():
        assert secret.reveal().encode() not in file.read_bytes()


async def test_a_missing_file_is_made_only_where_asked(path):
    with pytest.raises(ConfigError, match="no database"):
        await open_control(path, clock=lambda: 1, create=False)
    with pytest.raises(StorageError):
        await open_control(path / "missing" / "control.db", clock=lambda: 1)
    assert not path.exists()


async def test_the_loops_connection_can_not_write(store):
    with pytest.raises(StorageError, match="read-only"):
        await store._database.read(lambda connection: connection.execute("delete from api_key"))


async def test_a_change_that_fails_is_undone_and_the_next_one_works(store):
    def change(connection):
        connection.execute("insert into account(id, name, created_ms) values('a', 'a', 1)")
        raise LookupError

    with pytest.raises(LookupError):
        await store._database.write(change)
    key, _ = await store.keys.create(NewKey(name="n", account="a"), within=ALL)
    assert key.account_id != "a"


async def test_a_change_that_was_begun_ends_though_its_caller_left(store):
    loop = asyncio.get_running_loop()
    begun, go_on = asyncio.Event(), asyncio.Event()

    def change(connection):
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(10)
        connection.execute("insert into account(id, name, created_ms) values('a', 'a', 1)")

    async with asyncio.TaskGroup() as group:
        caller = group.create_task(store._database.write(change))
        await begun.wait()
        caller.cancel()
        go_on.set()
    count = await store._database.write(lambda c: c.execute("select count(*) from account").fetchall())
    assert count == [(1,)]


async def test_a_closed_store_says_so(path):
    store = await open_control(path, clock=lambda: 1)
    await store.aclose()
    await store.aclose()
    with pytest.raises(StorageError, match="closed"):
        await store.keys.list()
    with pytest.raises(StorageError, match="closed"):
        await store.keys.ensure_admin()


async def test_a_read_that_meets_a_lock_goes_on_in_a_thread(store):
    _, secret = await store.keys.ensure_admin()
    refused = []

    def query(connection):
        if not refused:
            refused.append(connection.pragma("busy_timeout"))
            raise apsw.BusyError
        return connection.pragma("busy_timeout"), connection.execute("select digest from api_key").fetchall()

    assert await store._database.read(query) == (10_000, [(secret.digest,)])
    assert refused == [0]


async def test_a_read_in_a_thread_that_fails_says_so(store):
    def query(connection):
        raise apsw.BusyError

    with pytest.raises(StorageError, match="busy"):
        await store._database.read(query)
    await store.keys.ping()


async def test_a_locked_file_is_a_503_until_it_is_free(store, path, monkeypatch):
    key, secret = await store.keys.ensure_admin()
    await store.aclose()
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_MS", 20)
    holder = apsw.Connection(str(path))
    holder.pragma("locking_mode", "exclusive")
    with immediate(holder):
        holder.execute("update api_key set name = 'held'")
    database = Database(path, synchronous="FULL")
    waiting = ControlStore(database, clock=lambda: 1)
    with pytest.raises(StorageError):
        await waiting.keys.by_digest(secret.digest)
    with pytest.raises(StorageError):
        await waiting.keys.revoke("held")
    holder.close()
    assert (await waiting.keys.by_digest(secret.digest)).key.id == key.id
    await waiting.keys.revoke("held")
    await waiting.aclose()


async def test_a_new_file_that_another_process_holds_is_a_503(path, monkeypatch):
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_MS", 20)
    holder = open_connection(path, synchronous="FULL", create=True)
    with immediate(holder), pytest.raises(StorageError, match="busy"):
        await open_control(path, clock=lambda: 1)
    holder.close()
    await (await open_control(path, clock=lambda: 1)).aclose()


async def test_a_writer_waits_its_turn_while_reads_go_on(store, path):
    await store.keys.ensure_admin()
    other = open_connection(path, synchronous="FULL")
    other.execute("begin immediate")
    async with asyncio.TaskGroup() as group:
        change = group.create_task(store.keys.create(NewKey(name="n"), within=ALL))
        assert len(await store.keys.list()) == 1
        assert not change.done()
        other.execute("commit")
    other.close()
    assert len(await store.keys.list()) == 2


async def test_a_file_that_is_gone_is_a_503_and_never_a_new_database(path):
    opened = await open_control(path, clock=lambda: 1)
    _, secret = await opened.keys.ensure_admin()
    await opened.aclose()
    away = path.rename(path.with_suffix(".away"))
    store = ControlStore(Database(path, synchronous="FULL"), clock=lambda: 1)
    with pytest.raises(StorageError, match="opened"):
        await store.keys.by_digest(secret.digest)
    with pytest.raises(StorageError, match="opened"):
        await store.keys.ensure_admin()
    assert not path.exists()
    away.rename(path)
    assert (await store.keys.by_digest(secret.digest)).is_admin
    assert await store.keys.ensure_admin() is None
    await store.aclose()


async def test_a_damaged_file_is_a_503_until_it_is_whole_again(path):
    opened = await open_control(path, clock=lambda: 1)
    _, secret = await opened.keys.ensure_admin()
    await opened.aclose()
    whole = path.read_bytes()
    store = ControlStore(Database(path, synchronous="FULL"), clock=lambda: 1)
    assert await store._database.read(lambda c: c.pragma("user_version")) == 0
    path.write_bytes(whole[:4096] + b"\xa5" * (len(whole) - 4096))
    with pytest.raises(StorageError, match="damaged"):
        await store.keys.by_digest(secret.digest)
    with pytest.raises(StorageError, match="damaged"):
        await store.keys.revoke("admin")
    path.write_bytes(whole)
    assert (await store.keys.by_digest(secret.digest)).is_admin
    await store.keys.revoke("admin")
    await store.aclose()


async def test_what_is_no_database_is_refused(path):
    path.write_bytes(b"hello, world" * 1000)
    with pytest.raises(StorageError, match="not a database"):
        await open_control(path, clock=lambda: 1)


async def test_a_record_that_can_not_be_read_is_a_503(store):
    _, secret = await store.keys.ensure_admin()
    await store._database.write(lambda c: c.execute("update api_key set grants = '[]'").fetchall())
    with pytest.raises(StorageError, match="record"):
        await store.keys.by_digest(secret.digest)


async def fill(store):
    for number in range(200):
        await store.keys.create(NewKey(name=f"{number}"), within=ALL)


async def test_a_full_database_refuses_writes_and_goes_on_reading(store):
    _, secret = await store.keys.ensure_admin()
    await store._database.write(lambda c: c.pragma("max_page_count", c.pragma("page_count") + 2))
    with pytest.raises(StorageFull) as caught:
        await fill(store)
    assert caught.value.status == 507
    assert (await store.keys.by_digest(secret.digest)).is_admin
    made = len(await store.keys.list())
    # The connection was opened anew, and the limit was the old one's.
    await store.keys.create(NewKey(name="n"), within=ALL)
    assert len(await store.keys.list()) == made + 1


FULL_DISK = """
import asyncio, pathlib, resource, sys
from narthex.core.errors import StorageFull
from narthex.core.keys import Grants, NewKey, Secret
from narthex.storage.adminkey import read_admin_key, write_admin_key
from narthex.storage.sqlite.control import open_control

def limit(size):
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))

async def main(folder):
    limit(0)
    try:
        await open_control(folder / "other.db", clock=lambda: 1)
    except StorageFull:
        print("not opened")
    limit(150_000)
    store = await open_control(folder / "control.db", clock=lambda: 1)
    _, secret = await store.keys.ensure_admin()
    made = 1
    try:
        while True:
            await store.keys.create(NewKey(name="n"), within=Grants.everything())
            made += 1
    except StorageFull:
        print("full")
    limit(10)
    try:
        write_admin_key(folder, secret)
    except StorageFull:
        print("not written", read_admin_key(folder), len(list(folder.glob(".admin*"))))
    assert (await store.keys.by_digest(secret.digest)).is_admin
    assert len(await store.keys.list()) == made
    limit(resource.RLIM_INFINITY)
    await store.keys.create(NewKey(name="n"), within=Grants.everything())
    assert len(await store.keys.list()) == made + 1
    await store.aclose()
    print("recovered")

asyncio.run(main(pathlib.Path(sys.argv[1])))
"""


def test_a_full_disk_refuses_writes_goes_on_reading_and_recovers(tmp_path):
    child = subprocess.run(  # the limit on the size of files is the process's own
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, check=False, timeout=60
    )
    said = [line for line in child.stdout.splitlines() if "[" not in line]
    assert said == ["not opened", "full", "not written None 0", "recovered"], child.stdout + child.stderr


MAKE_KEYS = """
import asyncio, pathlib, sys
from narthex.core.keys import Grants, NewKey
from narthex.storage.sqlite.control import open_control

async def main():
    store = await open_control(pathlib.Path(sys.argv[1]), clock=lambda: 1, create=False)
    while True:
        _, secret = await store.keys.create(NewKey(name="n"), within=Grants.everything())
        print("made", secret.digest.hex(), flush=True)

asyncio.run(main())
"""


async def test_what_was_acknowledged_survives_a_kill(store, path):
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", MAKE_KEYS, str(path), stdout=asyncio.subprocess.PIPE
    )
    assert child.stdout is not None
    made = [await child.stdout.readline() for _ in range(50)]
    child.kill()
    made += (await child.stdout.read()).splitlines(keepends=True)
    await child.wait()
    digests = [line.split()[1].decode() for line in made if line.startswith(b"made") and line.endswith(b"\n")]
    assert len(digests) >= 50
    for digest in digests:
        assert await store.keys.by_digest(bytes.fromhex(digest)) is not None
    assert await store._database.read(lambda c: c.pragma("integrity_check")) == "ok"
    await store.keys.ensure_admin()


def test_the_admin_key_file_is_private_and_replaced_whole(tmp_path):
    assert read_admin_key(tmp_path) is None
    (tmp_path / "admin.key").write_text("old")
    (tmp_path / "admin.key").chmod(0o644)
    written = write_admin_key(tmp_path, Secret("nx-new"))
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert read_admin_key(tmp_path) == Secret("nx-new")
    assert [path.name for path in tmp_path.iterdir()] == ["admin.key"]
    written.write_text("\n")
    assert read_admin_key(tmp_path) is None
    written.write_bytes(b"\xff")
    with pytest.raises(StorageError):
        read_admin_key(tmp_path)
    with pytest.raises(StorageError):
        write_admin_key(tmp_path / "missing", Secret("nx-new"))
