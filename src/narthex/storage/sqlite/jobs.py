"""`core.jobs.Jobs` on SQLite."""

import uuid
from collections.abc import Iterable
from functools import partial
from typing import Any

import apsw
import msgspec

from narthex.core.errors import NotFound, QueueFull
from narthex.core.jobs import LEASE_MS, MOST_ATTEMPTS, MOST_OPEN, Ending, Job, NewJob
from narthex.core.keys import Clock
from narthex.storage.sqlite.connection import Database

_COLUMNS = (
    "id, kind, account_id, key_id, collection_id, collection_key, subject, payload, state, done, total, message, "
    "error, warnings, result, attempts, created_ms, updated_ms"
)
_BY_ID = f"select {_COLUMNS} from job where id = ?"  # noqa: S608 - of our own constants
_IN_COLLECTION = f"select {_COLUMNS} from job where collection_id = ? order by seq desc limit ?"  # noqa: S608 - likewise
_OPEN_IN_COLLECTION = (
    f"select {_COLUMNS} from job "  # noqa: S608 - likewise
    "where collection_id = ? and state in ('queued', 'running') order by seq desc limit ?"
)
_OPEN_ON = (
    f"select {_COLUMNS} from job "  # noqa: S608 - likewise
    "where collection_id = ? and subject = ? and state in ('queued', 'running') order by seq desc limit 1"
)
_NEXT = """
from job j where j.account_id = ?1 and {which} and not exists (
  select 1 from job e where e.collection_id = j.collection_id and e.seq < j.seq and e.state in ('queued', 'running')
  and (e.subject = j.subject or e.subject = '' or j.subject = '')
) order by j.seq limit 1
"""
# One after the other: so each walks an index and stops at its first row.
_ABANDONED = f"select {_COLUMNS}" + _NEXT.format(
    which="j.state in ('queued', 'running') and j.state = 'running' and j.lease_until_ms < ?2"
)
_QUEUED = f"select {_COLUMNS}" + _NEXT.format(which="j.state in ('queued', 'running') and j.state = 'queued' and ?2")
_WAITING = """
select a.id from account a left join job_turn t on t.account_id = a.id
where exists (
  select 1 from job j where j.account_id = a.id and j.state in ('queued', 'running')
  and (j.state = 'queued' or j.lease_until_ms < ?)
) order by coalesce(t.turn, 0), a.id
"""
_TAKE_TURN = """
insert into job_turn(account_id, turn) values(?1, (select coalesce(max(turn), 0) + 1 from job_turn))
on conflict(account_id) do update set turn = (select max(turn) + 1 from job_turn)
"""
_MINE = "where id = ? and owner = ? and state = 'running'"

_BEAT = f"""
update job set done = ?, total = ?, message = ?, result = coalesce(?, result), lease_until_ms = ?, updated_ms = ?
{_MINE}
"""  # noqa: S608 - of our own constants


class SqliteJobs:
    """Jobs in `control.db`."""

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def add(self, new: NewJob, *, job_id: str | None = None) -> Job:
        """See `Jobs`."""
        now_ms = self._clock()
        fields = msgspec.structs.asdict(new)
        job = Job(id=job_id or str(uuid.uuid4()), created_ms=now_ms, updated_ms=now_ms, **fields)
        await self._database.write(partial(_insert, job=job))
        return job

    async def get(self, job_id: str) -> Job | None:
        """See `Jobs`."""
        found = await self._database.read(lambda connection: _jobs(connection, _BY_ID, job_id))
        return found[0] if found else None

    async def list(self, collection_id: str, *, limit: int = 100, only_open: bool = False) -> tuple[Job, ...]:
        """See `Jobs`."""
        query = _OPEN_IN_COLLECTION if only_open else _IN_COLLECTION
        return tuple(await self._database.read(lambda connection: _jobs(connection, query, collection_id, limit)))

    async def open_on(self, collection_id: str, subject: str) -> Job | None:
        """See `Jobs`."""
        found = await self._database.read(lambda connection: _jobs(connection, _OPEN_ON, collection_id, subject))
        return found[0] if found else None

    async def open_ids(self) -> frozenset[str]:
        """See `Jobs`."""
        query = "select id from job where state in ('queued', 'running')"
        rows = await self._database.read(lambda connection: connection.execute(query).fetchall())
        return frozenset(str(job_id) for (job_id,) in rows)

    async def cancel(self, job_id: str) -> Job:
        """See `Jobs`."""
        return await self._database.write(partial(_cancel, job_id=job_id, now_ms=self._clock()))

    async def claim(self, owner: str) -> Job | None:
        """See `Jobs`."""
        now_ms = self._clock()
        return await self._database.write(partial(_claim, owner=owner, now_ms=now_ms))

    async def beat(
        self, job_id: str, owner: str, *, done: int, total: int, message: str, result: dict[str, Any] | None = None
    ) -> bool:
        """See `Jobs`."""
        now_ms = self._clock()
        noted = None if result is None else _text(result)
        values = (done, total, message, noted, now_ms + LEASE_MS, now_ms, job_id, owner)
        return await self._database.write(lambda connection: _changes(connection, _BEAT, values))

    async def release(self, job_id: str, owner: str) -> None:
        """See `Jobs`."""
        change = f"update job set state = 'queued', owner = '', attempts = attempts - 1, updated_ms = ? {_MINE}"  # noqa: S608
        values = (self._clock(), job_id, owner)
        await self._database.write(lambda connection: _changes(connection, change, values))

    async def finish(
        self,
        job_id: str,
        owner: str,
        *,
        state: Ending,
        error: str = "",
        warnings: tuple[str, ...] = (),
        result: dict[str, Any] | None = None,
    ) -> bool:
        """See `Jobs`."""
        change = f"update job set state = ?, error = ?, warnings = ?, result = ?, message = '', updated_ms = ? {_MINE}"  # noqa: S608
        values = (state, error, _text(warnings), _text(result or {}), self._clock(), job_id, owner)
        return await self._database.write(lambda connection: _changes(connection, change, values))

    async def prune(self, *, before_ms: int) -> int:
        """See `Jobs`."""

        def change(connection: apsw.Connection) -> int:
            connection.execute(
                "delete from job where state not in ('queued', 'running') and updated_ms < ?", (before_ms,)
            )
            return connection.changes()

        return await self._database.write(change)


def _insert(connection: apsw.Connection, *, job: Job) -> None:
    rows: list[Any] = connection.execute(
        "select count(*) from job where account_id = ? and state in ('queued', 'running')", (job.account_id,)
    ).fetchall()
    if (waiting := rows[0][0]) >= MOST_OPEN:
        raise QueueFull(f"{waiting} jobs wait already.", retry_after_s=60)
    values = (
        job.id,
        job.kind,
        job.account_id,
        job.key_id,
        job.collection_id,
        job.collection_key,
        job.subject,
        _text(job.payload),
        job.state,
        job.created_ms,
        job.updated_ms,
    )
    connection.execute(
        "insert into job(id, kind, account_id, key_id, collection_id, collection_key, subject, payload, state, "
        "created_ms, updated_ms) values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        values,
    )


def _cancel(connection: apsw.Connection, *, job_id: str, now_ms: int) -> Job:
    connection.execute(
        "update job set state = 'cancelled', message = '', updated_ms = ? "
        "where id = ? and state in ('queued', 'running')",
        (now_ms, job_id),
    )
    found = _jobs(connection, _BY_ID, job_id)
    if not found:
        raise NotFound("There is no such job.")
    return found[0]


def _claim(connection: apsw.Connection, *, owner: str, now_ms: int) -> Job | None:
    waiting: list[Any] = connection.execute(_WAITING, (now_ms,)).fetchall()
    for (account_id,) in waiting:
        while found := _next(connection, account_id, now_ms=now_ms):
            job = found[0]
            if job.attempts < MOST_ATTEMPTS:
                connection.execute(_TAKE_TURN, (account_id,))
                return _taken(connection, job, owner=owner, now_ms=now_ms)
            _give_up(connection, job, now_ms=now_ms)
    return None


def _next(connection: apsw.Connection, account_id: str, *, now_ms: int) -> list[Job]:
    return _jobs(connection, _ABANDONED, account_id, now_ms) or _jobs(connection, _QUEUED, account_id, now_ms)


def _taken(connection: apsw.Connection, job: Job, *, owner: str, now_ms: int) -> Job:
    connection.execute(
        "update job set state = 'running', owner = ?, lease_until_ms = ?, attempts = attempts + 1, updated_ms = ? "
        "where id = ?",
        (owner, now_ms + LEASE_MS, now_ms, job.id),
    )
    return msgspec.structs.replace(job, state="running", attempts=job.attempts + 1, updated_ms=now_ms)


def _give_up(connection: apsw.Connection, job: Job, *, now_ms: int) -> None:
    error = f"Its process ended {job.attempts} times while it worked on this: it is not tried again."
    connection.execute(
        "update job set state = 'failed', error = ?, message = '', updated_ms = ? where id = ?", (error, now_ms, job.id)
    )


def _changes(connection: apsw.Connection, change: str, values: Iterable[Any]) -> bool:
    connection.execute(change, tuple(values))
    return connection.changes() > 0


def _text(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _jobs(connection: apsw.Connection, query: str, *values: object) -> list[Job]:
    return [_job(*row) for row in connection.execute(query, values).fetchall()]


def _job(*columns: Any) -> Job:
    names = [name.strip() for name in _COLUMNS.split(",")]
    row = dict(zip(names, columns, strict=True))
    for name in ("payload", "result"):
        row[name] = msgspec.json.decode(row[name])
    row["warnings"] = tuple(msgspec.json.decode(row["warnings"]))
    return Job(**row)
