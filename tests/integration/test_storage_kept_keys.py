"""Keys that were found are kept just as long as nobody commits anything."""

import subprocess
import sys
from collections.abc import Callable

import apsw
import pytest

from narthex.core.errors import StorageError
from narthex.core.keys import Grants, NewKey
from narthex.storage.sqlite import connection as connections
from narthex.storage.sqlite import keys as kept_keys
from narthex.storage.sqlite.control import open_control
from narthex.storage.sqlite.walindex import WalIndex

pytestmark = pytest.mark.anyio

ALL = Grants.everything()
REVOKE = "update api_key set revoked_ms = 7"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "control.db"


@pytest.fixture
async def store(path):
    store = await open_control(path, clock=lambda: 1)
    yield store
    await store.aclose()


@pytest.fixture
async def digest(store) -> bytes:
    _, secret = await store.keys.create(NewKey(name="n"), within=ALL)
    return secret.digest


@pytest.fixture
def reads(store, monkeypatch) -> list[None]:
    """One entry for each time that the database was asked."""
    found: list[None] = []
    read = store._database.read

    async def counted(query):
        found.append(None)
        return await read(query)

    monkeypatch.setattr(store._database, "read", counted)
    return found


@pytest.fixture
def later(monkeypatch) -> Callable[[float], None]:
    """Moves the clock on."""
    now_s = [1_000.0]
    monkeypatch.setattr(kept_keys.time, "monotonic", lambda: now_s[0])
    return lambda by_s: now_s.__setitem__(0, now_s[0] + by_s)


async def test_a_key_that_was_found_is_not_looked_up_again(store, digest, reads, later):
    first = await store.keys.by_digest(digest)
    asked = len(reads)
    assert await store.keys.by_digest(digest) is first
    assert len(reads) == asked


@pytest.mark.parametrize("way", ["here", "another connection", "another process"])
async def test_a_change_by_anybody_is_seen_by_the_next_look_up(store, path, digest, later, way):
    assert (await store.keys.by_digest(digest)).key.revoked_ms is None
    if way == "here":
        await store.keys.revoke("n")
    elif way == "another connection":
        other = apsw.Connection(str(path))
        other.execute(REVOKE)
        other.close()
    else:
        script = f"import apsw; apsw.Connection({str(path)!r}).execute({REVOKE!r})"
        subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
    assert (await store.keys.by_digest(digest)).key.revoked_ms is not None


async def test_what_is_not_committed_changes_nothing(store, path, digest, reads, later):
    await store.keys.by_digest(digest)
    asked = len(reads)
    other = apsw.Connection(str(path))
    other.execute(f"begin immediate; {REVOKE}")
    assert (await store.keys.by_digest(digest)).key.revoked_ms is None
    other.execute("rollback")
    other.close()
    assert (await store.keys.by_digest(digest)).key.revoked_ms is None
    assert len(reads) == asked


async def test_a_change_is_seen_after_each_of_many_commits_and_checkpoints(store, path, digest, later):
    other = apsw.Connection(str(path))
    for number in range(1, 200):
        other.execute("update api_key set revoked_ms = ?", (number,))
        assert (await store.keys.by_digest(digest)).key.revoked_ms == number
        if number % 20 == 0:
            other.pragma("wal_checkpoint", "truncate" if number % 40 else "restart")
            assert (await store.keys.by_digest(digest)).key.revoked_ms == number
    other.close()


async def test_a_key_is_looked_up_once_a_second_in_any_case(store, digest, reads, later):
    await store.keys.by_digest(digest)
    asked = len(reads)
    later(0.9)
    await store.keys.by_digest(digest)
    assert len(reads) == asked
    later(0.2)
    await store.keys.by_digest(digest)
    assert len(reads) == asked + 1


async def test_a_key_that_is_not_known_is_not_kept(store, reads):
    for _ in range(3):
        assert await store.keys.by_digest(b"\0" * 32) is None
    assert len(reads) == 3


async def test_a_change_while_a_key_is_looked_up_is_seen_by_the_next_look_up(store, path, digest, monkeypatch, later):
    read = store._database.read

    async def slow(query):
        rows = await read(query)
        monkeypatch.undo()
        other = apsw.Connection(str(path))
        other.execute(REVOKE)
        other.close()
        return rows

    monkeypatch.setattr(store._database, "read", slow)
    assert (await store.keys.by_digest(digest)).key.revoked_ms is None
    assert (await store.keys.by_digest(digest)).key.revoked_ms == 7


async def test_no_more_than_so_many_are_kept(store, digest, reads, monkeypatch, later):
    monkeypatch.setattr(kept_keys, "_MOST_KEPT", 1)
    _, other = await store.keys.create(NewKey(name="m"), within=ALL)
    await store.keys.by_digest(digest)
    asked = len(reads)
    await store.keys.by_digest(other.digest)
    await store.keys.by_digest(other.digest)
    await store.keys.by_digest(digest)
    assert len(reads) == asked + 2


@pytest.mark.parametrize("fault", [OSError, ValueError])
async def test_where_nobody_can_say_each_key_is_looked_up(path, monkeypatch, fault):
    def unmapped(_):
        raise fault

    monkeypatch.setattr(connections, "WalIndex", unmapped)
    store = await open_control(path, clock=lambda: 1)
    key, secret = await store.keys.create(NewKey(name="n"), within=ALL)
    assert store._database.state() is None
    assert (await store.keys.by_digest(secret.digest)).key == key
    assert not store.keys._kept
    await store.aclose()


async def test_a_closed_database_keeps_nothing(store, digest):
    await store.keys.by_digest(digest)
    await store.aclose()
    with pytest.raises(StorageError, match="closed"):
        await store.keys.by_digest(digest)


async def test_an_index_is_mapped_once_for_all_who_read_it(store, path):
    assert WalIndex(path)._bytes is WalIndex(path)._bytes
    assert WalIndex(path).headers() == store._database.state()
