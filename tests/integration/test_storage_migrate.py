import asyncio
import sys

import apsw
import msgspec
import pytest

from narthex.core.errors import ConfigError
from narthex.storage.sqlite.connection import open_connection
from narthex.storage.sqlite.control import open_control
from narthex.storage.sqlite.migrate import Migration, load, migrate, pending

SCHEMAS = ["control"]
ONE = Migration(n=1, name="one", sql="create table a(x); insert into a values(1); create table b(x)")
TWO = Migration(n=2, name="two", sql="insert into a values(2)")


def clock() -> int:
    return 5


@pytest.fixture
def connection(tmp_path):
    connection = open_connection(tmp_path / "x.db", synchronous="NORMAL", create=True)
    yield connection
    connection.close()


def schema(connection: apsw.Connection) -> list[object]:
    return connection.execute("select type, name, tbl_name, sql from sqlite_master order by type, name").fetchall()


@pytest.mark.parametrize("name", SCHEMAS)
def test_files_are_numbered_without_gaps(name):
    assert [migration.n for migration in load(name)] == list(range(1, len(load(name)) + 1))
    assert load(name)


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_migrated_schema_equals_a_fresh_one(name, tmp_path):
    files = load(name)
    fresh = open_connection(tmp_path / "fresh.db", synchronous="NORMAL", create=True)
    migrate(fresh, files, clock=clock)
    for count in range(1, len(files) + 1):
        step = open_connection(tmp_path / "steps.db", synchronous="NORMAL", create=True)
        migrate(step, files[:count], clock=clock)
        last = schema(step)
        step.close()
    assert last == schema(fresh)
    fresh.close()


def test_files_run_once_in_order_and_are_noted(connection):
    migrate(connection, (ONE,), clock=clock)
    migrate(connection, (ONE, TWO), clock=clock)
    migrate(connection, (ONE, TWO), clock=clock)
    assert connection.execute("select x from a order by x").fetchall() == [(1,), (2,)]
    noted = connection.execute("select n, name, sha256, at from schema_version order by n").fetchall()
    assert noted == [(1, "one", ONE.sha256, 5), (2, "two", TWO.sha256, 5)]


def test_a_file_that_fails_leaves_nothing(connection):
    broken = Migration(n=2, name="broken", sql="create table c(x); insert into nowhere values(1)")
    with pytest.raises(apsw.SQLError):
        migrate(connection, (ONE, broken), clock=clock)
    assert not connection.table_exists("main", "c")
    assert pending(connection, (ONE, TWO)) == TWO


def test_a_file_that_was_changed_after_it_ran_is_refused(connection):
    migrate(connection, (ONE,), clock=clock)
    with pytest.raises(ConfigError, match="0001_one"):
        migrate(connection, (msgspec.structs.replace(ONE, sql=ONE.sql + ";"),), clock=clock)


def test_a_newer_database_is_refused(connection):
    migrate(connection, (ONE, TWO), clock=clock)
    with pytest.raises(ConfigError, match="newer"):
        migrate(connection, (ONE,), clock=clock)


def test_a_database_of_another_program_is_left_alone(connection):
    connection.execute("create table account(x)")
    with pytest.raises(ConfigError, match="another program"):
        migrate(connection, (ONE,), clock=clock)
    assert [name for _, name, *_ in schema(connection)] == ["account"]


def test_another_process_may_be_faster(connection, tmp_path):
    other = open_connection(tmp_path / "x.db", synchronous="NORMAL")

    class Racing(tuple[Migration, ...]):
        """Lets the other process in between the look and the lock."""

        looked = False

        def __getitem__(self, index):  # type: ignore[no-untyped-def]
            if not self.looked:
                self.looked = True
                migrate(other, (ONE,), clock=clock)
            return super().__getitem__(index)

    migrate(connection, Racing((ONE,)), clock=clock)
    other.close()
    assert connection.execute("select count(*) from a").fetchall() == [(1,)]


OPEN = """
import asyncio, pathlib, sys
from narthex.storage.sqlite.control import open_control

async def main():
    store = await open_control(pathlib.Path(sys.argv[1]), clock=lambda: 1)
    made = await store.keys.ensure_admin()
    print("made" if made else "there")
    await store.aclose()

asyncio.run(main())
"""


@pytest.mark.anyio
async def test_several_processes_open_a_new_database_at_once(tmp_path):
    path = tmp_path / "control.db"
    children = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", OPEN, str(path), stdout=asyncio.subprocess.PIPE)
        for _ in range(3)
    ]
    said = [(await child.communicate())[0].split()[-1] for child in children]
    assert sorted(said) == [b"made", b"there", b"there"]
    store = await open_control(path, clock=clock)
    assert len(await store.keys.list()) == 1
    await store.aclose()
