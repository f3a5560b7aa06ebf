"""`core.documents.Collections` on SQLite: a row each in `control.db`. What is in one has a file of its own."""

from functools import partial
from typing import Any

import apsw

from narthex.core.documents import Collection, EmbeddingModel, no_collection
from narthex.core.errors import Conflict
from narthex.storage.sqlite.connection import Database

_COLUMNS = """
id, account_id, key, model, dim, digest, max_tokens, description, retrieval, weight, generation, created_ms
"""
_ONE = f"select {_COLUMNS} from collection where account_id = ? and key = ?"  # noqa: S608 - names of ours
_BY_ID = f"select {_COLUMNS} from collection where id = ?"  # noqa: S608
_EVERY = f"select {_COLUMNS} from collection order by id"  # noqa: S608
_ALL = f"select {_COLUMNS} from collection where account_id = ? order by key"  # noqa: S608
_INSERT = f"insert into collection({_COLUMNS}) values(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_UPDATE = """
update collection set model = ?1, dim = ?2, digest = ?3, max_tokens = ?4, description = ?5, retrieval = ?6, weight = ?7,
  generation = ?8 where id = ?9 and generation <= ?8
"""


class SqliteCollections:
    """Collections in `control.db`. None is cached: a look-up takes some µs on the loop's thread."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, new: Collection) -> Collection:
        """See `Collections`."""
        try:
            await self._database.write(lambda connection: connection.execute(_INSERT, _row(new)).fetchall())
        except Conflict:
            raise Conflict(f"The collection '{new.key}' exists already.", param="collectionKey") from None
        return new

    async def get(self, account_id: str, key: str) -> Collection | None:
        """See `Collections`."""
        return await self._database.read(partial(_found, query=_ONE, values=(account_id, key)))

    async def by_id(self, collection_id: str) -> Collection | None:
        """See `Collections`."""
        return await self._database.read(partial(_found, query=_BY_ID, values=(collection_id,)))

    async def list(self, account_id: str) -> tuple[Collection, ...]:
        """See `Collections`."""
        rows = await self._database.read(lambda connection: connection.execute(_ALL, (account_id,)).fetchall())
        return tuple(_collection(*row) for row in rows)

    async def every(self) -> "tuple[Collection, ...]":
        """See `Collections`."""
        rows = await self._database.read(lambda connection: connection.execute(_EVERY).fetchall())
        return tuple(_collection(*row) for row in rows)

    async def replace(self, collection: Collection) -> Collection:
        """See `Collections`."""
        await self._database.write(partial(_replace, collection=collection))
        return collection

    async def delete(self, account_id: str, key: str) -> Collection:
        """See `Collections`."""
        return await self._database.write(partial(_delete, account_id=account_id, key=key))


def _replace(connection: apsw.Connection, *, collection: Collection) -> None:
    model = collection.model
    connection.execute(
        _UPDATE,
        (
            model.name,
            model.dim,
            model.digest,
            model.max_tokens,
            collection.description,
            collection.retrieval,
            collection.weight,
            collection.generation,
            collection.id,
        ),
    ).fetchall()
    if not connection.changes():
        if _found(connection, query=_BY_ID, values=(collection.id,)) is None:
            raise no_collection(collection.key)
        raise Conflict(f"The collection '{collection.key}' was rebuilt meanwhile: try again.", param="collectionKey")


def _delete(connection: apsw.Connection, *, account_id: str, key: str) -> Collection:
    found = _found(connection, query=_ONE, values=(account_id, key))
    if found is None:
        raise no_collection(key)
    connection.execute("delete from collection where id = ?", (found.id,)).fetchall()
    return found


def _found(connection: apsw.Connection, *, query: str, values: tuple[str, ...]) -> Collection | None:
    rows = connection.execute(query, values).fetchall()
    return _collection(*rows[0]) if rows else None


def _row(collection: Collection) -> tuple[Any, ...]:
    model = collection.model
    return (
        collection.id,
        collection.account_id,
        collection.key,
        model.name,
        model.dim,
        model.digest,
        model.max_tokens,
        collection.description,
        collection.retrieval,
        collection.weight,
        collection.generation,
        collection.created_ms,
    )


def _collection(*columns: Any) -> Collection:
    id_, account_id, key, name, dim, digest, max_tokens, description, retrieval, weight, generation, created_ms = (
        columns
    )
    return Collection(
        id=id_,
        account_id=account_id,
        key=key,
        model=EmbeddingModel(name=name, dim=dim, digest=digest, max_tokens=max_tokens),
        description=description,
        retrieval=retrieval,
        weight=weight,
        generation=generation,
        created_ms=created_ms,
    )
