"""Numbered SQL files, run once each, in order: `migrations/<schema>/0001_init.sql` and so on. Files are only added.

Rules: one transaction a file; a file that was changed after it ran, or a database from a newer program, is refused.
"""

import hashlib
from importlib import resources
from pathlib import Path
from typing import Any

import apsw
import msgspec
import structlog

from narthex.core.errors import ConfigError
from narthex.core.keys import Clock
from narthex.storage.sqlite.connection import immediate, open_connection
from narthex.storage.sqlite.errors import translate

log = structlog.get_logger(__name__)


class Migration(msgspec.Struct, frozen=True, kw_only=True):
    """One file. `n` counts from 1."""

    n: int
    name: str
    sql: str

    @property
    def sha256(self) -> str:
        """Digest of the text, hex."""
        return hashlib.sha256(self.sql.encode()).hexdigest()


def load(schema: str) -> tuple[Migration, ...]:
    """The files of one schema, in order."""
    folder = resources.files("narthex.storage.sqlite") / "migrations" / schema
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
    return tuple(Migration(n=int(file.name[:4]), name=file.name[5:-4], sql=file.read_text("utf-8")) for file in files)


def prepare(path: Path, *, schema: str, clock: Clock, create: bool = True) -> None:
    """Bring the schema of a file up to date, which several processes may do at once; blocks.

    Args:
        path: the file; its folder exists.
        schema: whose files to run.
        clock: stamps what was run.
        create: whether a missing file is made.

    Raises:
        ConfigError: the file is missing and shall not be made; it comes from a newer program; SQLite is too old.
        StorageError: the file can't be read or written; StorageFull where the disk is full.
    """
    if not create and not path.exists():
        raise ConfigError(f"There is no database at {path}.")
    connection = open_connection(path, synchronous="FULL", create=create)
    try:
        migrate(connection, load(schema), clock=clock)
    except apsw.Error as error:
        raise translate(error, connection) from error
    finally:
        connection.close()


def migrate(connection: apsw.Connection, migrations: tuple[Migration, ...], *, clock: Clock) -> None:
    """Bring the schema up to date; blocks. Doesn't write where nothing is to be done, so a full disk can still be read.

    Raises:
        ConfigError: the database is newer than the program or not ours, or a file was changed after it ran.
        apsw.Error: as the library says.
    """
    while pending(connection, migrations) is not None:
        with immediate(connection):
            # Another process may have been faster: look again under the lock.
            if (migration := pending(connection, migrations)) is None:
                continue
            _run(connection, migration, at_ms=clock())
            log.info("migrated", file=connection.filename.rpartition("/")[2], n=migration.n, name=migration.name)


def pending(connection: apsw.Connection, migrations: tuple[Migration, ...]) -> Migration | None:
    """The next file to run; None if there is none.

    Raises:
        ConfigError: as `migrate`.
    """
    done = _done(connection)
    if len(done) > len(migrations):
        raise ConfigError("The database was made by a newer version of this program. Run that version or a later one.")
    for (n, sha256), migration in zip(done, migrations, strict=False):
        if (n, sha256) != (migration.n, migration.sha256):
            raise ConfigError(
                f"Migration {migration.n:04d}_{migration.name} is not the one that this database was made with."
            )
    return migrations[len(done)] if len(done) < len(migrations) else None


def _done(connection: apsw.Connection) -> list[tuple[int, str]]:
    # Asked in SQL: `table_exists` answers from a cache that doesn't see what another process made.
    tables = [name for (name,) in connection.execute("select name from sqlite_master where type = 'table'").fetchall()]
    if not tables:
        return []
    if "schema_version" not in tables:
        raise ConfigError(f"{connection.filename} is a database of another program.")
    rows: list[Any] = connection.execute("select n, sha256 from schema_version order by n").fetchall()
    return rows


def _run(connection: apsw.Connection, migration: Migration, *, at_ms: int) -> None:
    connection.execute(
        "create table if not exists schema_version("
        "n integer primary key, name text not null, sha256 text not null, at integer not null) strict"
    )
    # Statements run one after the other, each only once the rows of the one before are fetched.
    connection.execute(migration.sql).fetchall()
    connection.execute(
        "insert into schema_version(n, name, sha256, at) values(?, ?, ?, ?)",
        (migration.n, migration.name, migration.sha256, at_ms),
    )
