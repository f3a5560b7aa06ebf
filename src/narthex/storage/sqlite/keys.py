"""`core.keys.Keys` on SQLite."""

import hmac
import time
import uuid
from functools import lru_cache, partial
from typing import Any

import apsw
import msgspec

from narthex.core.errors import Conflict, NotFound, PermissionDenied, StorageError
from narthex.core.keys import ADMIN, Account, Clock, Grants, Key, NewKey, Principal, Project, Secret
from narthex.storage.sqlite.connection import Database

# Without a join, which would take four times as long.
_BY_DIGEST = """
select digest, project_id, id, name, prefix, grants, created_ms, profile, strict, expires_ms, revoked_ms
from api_key where digest = ?
"""
_PROJECT = "select a.id, a.name, p.name from project p join account a on a.id = p.account_id where p.id = ?"
_KEYS = """
select p.account_id, k.project_id,
  k.id, k.name, k.prefix, k.grants, k.created_ms, k.profile, k.strict, k.expires_ms, k.revoked_ms
from api_key k join project p on p.id = k.project_id
"""
_ALL = _KEYS + "order by k.created_ms, k.rowid"
_OF_ID = _KEYS + "where k.id = ?"
_REFERRED = _KEYS + "where ?1 in (k.id, k.prefix, k.name) order by k.created_ms, k.rowid"

_grants = msgspec.json.Decoder(Grants)


_LOOK_AGAIN_AFTER_S = 1.0
"""However still the database is: one that is gone must be noticed."""
_MOST_KEPT = 10_000


class SqliteKeys:
    """Keys in `control.db`. One that was found is kept until anything is committed, by whomever, and a second at most:
    see docs/design/keys.md.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._owners: dict[str, tuple[Account, Project]] = {}  # by project; they never change
        self._kept: dict[bytes, Principal] = {}
        self._kept_as_of: bytes | None = None
        self._kept_until_s = 0.0

    def kept(self, digest: bytes) -> Principal | None:
        """See `Keys`."""
        return self._fresh().get(digest)

    def _fresh(self) -> dict[bytes, Principal]:
        """What was read since anything was committed."""
        state = self._database.state()
        if state != self._kept_as_of or time.monotonic() >= self._kept_until_s:
            self._kept, self._kept_as_of = {}, state
            self._kept_until_s = time.monotonic() + _LOOK_AGAIN_AFTER_S
        return self._kept

    async def by_digest(self, digest: bytes) -> Principal | None:
        """See `Keys`."""
        kept = self._fresh()
        if (known := kept.get(digest)) is not None:
            return known
        found = await self._found(digest)
        # What was read is at least as new as the state that was looked at before.
        if found is not None and self._kept_as_of is not None and len(kept) < _MOST_KEPT:
            kept[digest] = found
        return found

    async def _found(self, digest: bytes) -> Principal | None:
        found = await self._database.read(lambda connection: _rows(connection, _BY_DIGEST, digest))
        # The index compares byte by byte; this makes the answer depend on a comparison in constant time.
        if not found or not hmac.compare_digest(found[0][0], digest):
            return None
        _, project_id, *columns = found[0]
        account, project = self._owners.get(project_id) or await self._owner(project_id)
        return Principal(key=_key(account.id, project_id, *columns), account=account, project=project)

    async def by_id(self, key_id: str) -> Principal | None:
        """See `Keys`."""
        found = await self._database.read(lambda connection: _rows(connection, _OF_ID, key_id))
        if not found:
            return None
        key = _key(*found[0])
        account, project = self._owners.get(key.project_id) or await self._owner(key.project_id)
        return Principal(key=key, account=account, project=project)

    async def create(self, new: NewKey, *, within: Grants) -> tuple[Key, Secret]:
        """See `Keys`."""
        if not within.covers(new.grants):
            raise PermissionDenied("A key can't grant more than the key that makes it.")
        secret = Secret.generate()
        return await self._database.write(partial(_insert, new=new, secret=secret, now_ms=self._clock())), secret

    async def list(self) -> tuple[Key, ...]:
        """See `Keys`."""
        rows = await self._database.read(lambda connection: _rows(connection, _ALL))
        return tuple(_key(*row) for row in rows)

    async def revoke(self, reference: str) -> Key:
        """See `Keys`."""
        return await self._database.write(partial(_revoke, reference=reference, now_ms=self._clock()))

    async def ensure_admin(self) -> tuple[Key, Secret] | None:
        """See `Keys`."""

        def make(connection: apsw.Connection) -> tuple[Key, Secret] | None:
            there = connection.execute(
                "select 1 from api_key where revoked_ms is null and json_extract(grants, '$.admin') limit 1"
            ).fetchall()
            return None if there else _make_admin(connection, now_ms=self._clock())

        return await self._database.write(make)

    async def reset_admin(self) -> tuple[Key, Secret]:
        """See `Keys`."""

        def make(connection: apsw.Connection) -> tuple[Key, Secret]:
            now_ms = self._clock()
            connection.execute(
                "update api_key set revoked_ms = ? where name = ? and revoked_ms is null", (now_ms, ADMIN)
            )
            return _make_admin(connection, now_ms=now_ms)

        return await self._database.write(make)

    async def _owner(self, project_id: str) -> tuple[Account, Project]:
        [[account_id, account, project]] = await self._database.read(
            lambda connection: _rows(connection, _PROJECT, project_id)
        )
        owner = (
            Account(id=account_id, name=account),
            Project(id=project_id, account_id=account_id, name=project),
        )
        self._owners[project_id] = owner
        return owner

    async def ping(self) -> None:
        """See `Keys`."""
        await self._database.read(lambda connection: connection.execute("select 1 from api_key limit 1").fetchall())


def _make_admin(connection: apsw.Connection, *, now_ms: int) -> tuple[Key, Secret]:
    secret = Secret.generate()
    new = NewKey(name=ADMIN, grants=Grants.everything(), profile="openai")  # nothing of ours is to be narrowed
    return _insert(connection, new=new, secret=secret, now_ms=now_ms), secret


def _insert(connection: apsw.Connection, *, new: NewKey, secret: Secret, now_ms: int) -> Key:
    account_id = _id_of(
        connection,
        "insert into account(id, name, created_ms) values(?, ?, ?) on conflict(name) do nothing",
        (_new_id(), new.account, now_ms),
        select=("select id from account where name = ?", (new.account,)),
    )
    project_id = _id_of(
        connection,
        "insert into project(id, account_id, name, created_ms) values(?, ?, ?, ?) "
        "on conflict(account_id, name) do nothing",
        (_new_id(), account_id, new.project, now_ms),
        select=("select id from project where account_id = ? and name = ?", (account_id, new.project)),
    )
    key = Key(
        id=_new_id(),
        account_id=account_id,
        project_id=project_id,
        name=new.name,
        prefix=secret.prefix,
        grants=new.grants,
        created_ms=now_ms,
        profile=new.profile,
        strict=new.strict,
        expires_ms=new.expires_ms,
    )
    connection.execute(
        "insert into api_key(id, project_id, digest, prefix, name, grants, profile, strict, expires_ms, created_ms) "
        "values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            key.id,
            project_id,
            secret.digest,
            key.prefix,
            key.name,
            msgspec.json.encode(key.grants, order="deterministic").decode(),
            key.profile,
            int(key.strict),
            key.expires_ms,
            now_ms,
        ),
    )
    return key


def _id_of(
    connection: apsw.Connection, insert: str, row: tuple[Any, ...], *, select: tuple[str, tuple[Any, ...]]
) -> str:
    connection.execute(insert, row)
    [[found]] = connection.execute(*select).fetchall()
    return str(found)


def _revoke(connection: apsw.Connection, *, reference: str, now_ms: int) -> Key:
    found = [_key(*row) for row in _rows(connection, _REFERRED, reference)]
    by_id = [key for key in found if key.id == reference]
    live = by_id or [key for key in found if key.revoked_ms is None]
    if len(live) > 1:
        ids = ", ".join(key.id for key in live)
        raise Conflict(f"Several keys are called `{reference}`: name one by its id ({ids}).")
    if not found:
        raise NotFound(f"There is no key with the id, prefix or name `{reference}`.")
    key = live[0] if live else found[-1]
    if key.revoked_ms is not None:
        return key
    connection.execute("update api_key set revoked_ms = ? where id = ?", (now_ms, key.id))
    return msgspec.structs.replace(key, revoked_ms=now_ms)


def _new_id() -> str:
    return str(uuid.uuid4())


def _rows(connection: apsw.Connection, query: str, *values: object) -> list[Any]:
    return connection.execute(query, values).fetchall()


@lru_cache(1000)  # nothing can change what a text means
def _allowed(grants: str) -> Grants:
    try:
        return _grants.decode(grants)
    except msgspec.MsgspecError as error:
        raise StorageError("A key's record can't be read.") from error


def _key(account_id: str, project_id: str, *columns: Any) -> Key:
    key_id, name, prefix, grants, created_ms, profile, strict, expires_ms, revoked_ms = columns
    allowed = _allowed(grants)
    return Key(
        id=key_id,
        account_id=account_id,
        project_id=project_id,
        name=name,
        prefix=prefix,
        grants=allowed,
        created_ms=created_ms,
        profile=profile,
        strict=bool(strict),
        expires_ms=expires_ms,
        revoked_ms=revoked_ms,
    )
