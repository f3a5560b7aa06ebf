"""The rows of `completions.db`, and what is asked of them. Everything here blocks; the caller has the transaction.

A list walks the rarest of the labels that it asks for (the model, pairs of metadata), which are kept in the order of
lists, and looks the others up for each row.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any

import apsw
import msgspec

from narthex.core.errors import NotFound
from narthex.core.stored import ChatPage, ChatQuery, Reach, StoredChat

_LEVEL = 1
_PAGE_BYTES = 4 * 1024 * 1024
"""Of compressed answers in one page; the first is always in it."""
_COUNTED = 1000
"""So many rows of a label are counted, at most, to find the rarest."""
_EARLIEST, _LATEST = (-(2**63), 0), (2**63 - 1, 0)

Label = tuple[str, str]
Place = tuple[int, int]
"""Where a row stands in lists: when it was created, and its number."""

_COLUMNS = "c.n, c.owner, c.id, c.created_s, c.model, c.metadata, c.bytes"
_FIND = (
    f"select {_COLUMNS} from chat c join owner o on o.n = c.owner "  # noqa: S608 - of our own constants
    "where c.id = ? and o.account_id = ? and c.created_s >= ?"
)
_LABELLED = (
    " and exists(select 1 from label m where m.owner = {0}.owner and m.name = ? and m.value = ? "
    "and m.created_s = {0}.created_s and m.n = {0}.n)"
)
_PLACE = "select created_s, n from {} where id = ? and owner = ?"
_AGED = f"select {_COLUMNS} from chat c where c.created_s < ? order by c.created_s limit ?"  # noqa: S608 - likewise
_metadata = msgspec.json.Decoder(dict[str, str]).decode


class NewRow(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be stored; `answer` and `messages` are compressed."""

    account_id: str
    chat: StoredChat
    answer: bytes
    messages: bytes

    @property
    def bytes(self) -> int:
        """What the account is charged for."""
        return len(self.answer) + len(self.messages)


class Row(msgspec.Struct, frozen=True):
    """One that is stored, without its texts."""

    n: int
    owner: int
    id: str
    created_s: int
    model: str
    metadata: str
    bytes: int

    def labels(self) -> Iterator[tuple[int, str, str, int, int]]:
        """Its rows of `label`."""
        for name, value in _labels(self.model, _metadata(self.metadata).items()):
            yield self.owner, name, value, self.created_s, self.n


def compressed(chat: StoredChat, *, account_id: str, messages: bytes) -> NewRow:
    """What is to be stored of a completion."""
    return NewRow(
        account_id=account_id,
        chat=chat,
        answer=zlib.compress(chat.answer, _LEVEL),
        messages=zlib.compress(messages, _LEVEL),
    )


# --- changes ---------------------------------------------------------------------------------------------------------


def insert(connection: apsw.Connection, *, batch: Sequence[NewRow]) -> None:
    """Store them all."""
    for new in batch:
        _insert(connection, new)


def _insert(connection: apsw.Connection, new: NewRow) -> None:
    chat = new.chat
    connection.execute("insert into owner(account_id) values(?) on conflict do nothing", (new.account_id,))
    [[owner]] = _all(connection, "select n from owner where account_id = ?", new.account_id)
    metadata = msgspec.json.encode(chat.metadata).decode()
    connection.execute(
        "insert into chat(id, owner, created_s, model, metadata, bytes) values(?, ?, ?, ?, ?, ?)",
        (chat.id, owner, chat.created_s, chat.model, metadata, new.bytes),
    )
    n = connection.last_insert_rowid()
    connection.execute("insert into content(n, answer, messages) values(?, ?, ?)", (n, new.answer, new.messages))
    _label(connection, Row(n, owner, chat.id, chat.created_s, chat.model, metadata, new.bytes))
    _charge(connection, owner, new.bytes)


def relabel(connection: apsw.Connection, reach: Reach, chat_id: str, *, metadata: Mapping[str, str]) -> StoredChat:
    """Replace its metadata. Raises `NotFound`."""
    row = find(connection, reach, chat_id)
    _unlabel(connection, row)
    row = msgspec.structs.replace(row, metadata=msgspec.json.encode(metadata).decode())
    connection.execute("update chat set metadata = ? where n = ?", (row.metadata, row.n))
    _label(connection, row)
    return shown(connection, row)


def delete(connection: apsw.Connection, reach: Reach, chat_id: str) -> None:
    """Delete it, and remember where it stood. Raises `NotFound`."""
    row = find(connection, reach, chat_id)
    _delete(connection, row)
    connection.execute(
        "insert into gone(id, owner, created_s, n) values(?, ?, ?, ?)", (row.id, row.owner, row.created_s, row.n)
    )


def prune(connection: apsw.Connection, *, before_s: int, at_most: int) -> int:
    """Delete what was created before, and forget where such things stood. How many it were."""
    aged = [Row(*columns) for columns in _all(connection, _AGED, before_s, at_most)]
    for row in aged:
        _delete(connection, row)
    connection.execute(
        "delete from gone where id in (select id from gone where created_s < ? limit ?)", (before_s, at_most)
    )
    return len(aged) + connection.changes()


def _delete(connection: apsw.Connection, row: Row) -> None:
    _unlabel(connection, row)
    connection.execute("delete from content where n = ?", (row.n,))
    connection.execute("delete from chat where n = ?", (row.n,))
    _charge(connection, row.owner, -row.bytes)


def _label(connection: apsw.Connection, row: Row) -> None:
    connection.executemany("insert into label(owner, name, value, created_s, n) values(?, ?, ?, ?, ?)", row.labels())


def _unlabel(connection: apsw.Connection, row: Row) -> None:
    connection.executemany(
        "delete from label where owner = ? and name = ? and value = ? and created_s = ? and n = ?", row.labels()
    )


def _charge(connection: apsw.Connection, owner: int, more: int) -> None:
    connection.execute("update owner set bytes = bytes + ? where n = ?", (more, owner))


# --- questions -------------------------------------------------------------------------------------------------------


def kept_bytes(connection: apsw.Connection, account_id: str) -> int:
    """How much an account has stored."""
    found = _all(connection, "select bytes from owner where account_id = ?", account_id)
    return int(found[0][0]) if found else 0


def oldest_s(connection: apsw.Connection) -> int | None:
    """When the oldest of all was created."""
    query = "select min(at) from (select min(created_s) at from chat union all select min(created_s) from gone)"
    [[at]] = _all(connection, query)
    return None if at is None else int(at)


def find(connection: apsw.Connection, reach: Reach, chat_id: str) -> Row:
    """The row of an id. Raises `NotFound`."""
    found = _all(connection, _FIND, chat_id, reach.account_id, reach.since_s)
    if not found:
        raise NotFound(f"There is no stored completion '{chat_id[:100]}'.", param="completion_id")
    return Row(*found[0])


def shown(connection: apsw.Connection, row: Row) -> StoredChat:
    """The same with its answer."""
    [[answer]] = _all(connection, "select answer from content where n = ?", row.n)
    return _shown(row, answer)


def messages(connection: apsw.Connection, row: Row) -> bytes:
    """What was asked."""
    [[text]] = _all(connection, "select messages from content where n = ?", row.n)
    return zlib.decompress(text)


def page(connection: apsw.Connection, reach: Reach, query: ChatQuery) -> ChatPage:
    """A page of a list. Raises `NotFound` for an unknown `after`."""
    owners = _all(connection, "select n from owner where account_id = ?", reach.account_id)
    owner = owners[0][0] if owners else -1
    after = _beginning(query) if query.after is None else _place(connection, query.after, owner=owner)
    labels = _by_rarity(connection, _labels(query.model, query.metadata), owner=owner)
    rows = _listed(connection, query, labels, owner=owner, after=after, since_s=reach.since_s)
    chats: list[StoredChat] = []
    size = 0
    for row in rows[: query.limit]:
        [[answer]] = _all(connection, "select answer from content where n = ?", row.n)
        size += len(answer)
        if chats and size > _PAGE_BYTES:
            break
        chats.append(_shown(row, answer))
    return ChatPage(chats=tuple(chats), more=len(chats) < len(rows))


def _beginning(query: ChatQuery) -> Place:
    return _EARLIEST if query.order == "asc" else _LATEST


def _place(connection: apsw.Connection, chat_id: str, *, owner: int) -> Place:
    for table in ("chat", "gone"):
        if found := _all(connection, _PLACE.format(table), chat_id, owner):
            created_s, n = found[0]
            return created_s, n
    raise NotFound(f"There is no stored completion '{chat_id[:100]}'.", param="after")


def _by_rarity(connection: apsw.Connection, labels: list[Label], *, owner: int) -> list[Label]:
    if len(labels) < 2:
        return labels
    count = "select count(*) from (select 1 from label where owner = ? and name = ? and value = ? limit ?)"
    return sorted(labels, key=lambda label: int(_all(connection, count, owner, *label, _COUNTED)[0][0]))


def _listed(
    connection: apsw.Connection, query: ChatQuery, labels: list[Label], *, owner: int, after: Place, since_s: int
) -> list[Row]:
    """One more than the page holds, if there are so many."""
    if labels:
        at, source = "l", "from label l cross join chat c on c.n = l.n where l.owner = ? and l.name = ? and l.value = ?"
    else:
        at, source = "c", "from chat c where c.owner = ?"
    beyond, direction = (">", "asc") if query.order == "asc" else ("<", "desc")
    statement = (
        f"select {_COLUMNS} {source} and {at}.created_s >= ? and ({at}.created_s, {at}.n) {beyond} (?, ?)"
        f"{_LABELLED.format(at) * (len(labels) - 1)} order by {at}.created_s {direction}, {at}.n {direction} limit ?"
    )
    walked, looked_up = labels[:1], labels[1:]
    values = (owner, *chain(*walked), since_s, *after, *chain(*looked_up), query.limit + 1)
    return [Row(*columns) for columns in _all(connection, statement, *values)]


def _shown(row: Row, answer: bytes) -> StoredChat:
    return StoredChat(
        id=row.id,
        created_s=row.created_s,
        model=row.model,
        metadata=_metadata(row.metadata),
        answer=zlib.decompress(answer),
    )


def _labels(model: str | None, metadata: Iterable[Label]) -> list[Label]:
    of_model = [] if model is None else [("model", model)]
    return [*of_model, *((f"metadata[{name}]", value) for name, value in dict.fromkeys(metadata))]


def _all(connection: apsw.Connection, statement: str, *values: object) -> list[Any]:
    return connection.execute(statement, values).fetchall()
