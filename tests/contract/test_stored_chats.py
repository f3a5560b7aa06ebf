"""What every store of completions promises."""

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from narthex.core.errors import NotFound, StorageFull
from narthex.core.stored import ChatQuery, Reach, StoredChat, StoredChats
from narthex.storage.sqlite.stored import SqliteStoredChats

pytestmark = pytest.mark.anyio

MINE = Reach(account_id="mine", since_s=0)
ROOMY = 10**12


@contextlib.asynccontextmanager
async def sqlite(folder: Path) -> AsyncIterator[StoredChats]:
    store = SqliteStoredChats(folder / "completions.db", clock=lambda: 0)
    try:
        yield store
    finally:
        await store.aclose()


STORES: dict[str, Callable[[Path], contextlib.AbstractAsyncContextManager[StoredChats]]] = {"sqlite": sqlite}


@pytest.fixture(params=STORES)
def opened(request, tmp_path):
    """Opens the store; every call is another worker's view of the same data."""
    return lambda: STORES[request.param](tmp_path)


def chat(
    name: str, *, at: int = 100, model: str = "m", metadata: Mapping[str, str] | None = None, answer: bytes = b""
) -> StoredChat:
    return StoredChat(id=name, created_s=at, model=model, metadata=metadata or {}, answer=answer or b'{"a":1}')


async def kept(store: StoredChats, *chats: StoredChat, account: str = "mine") -> None:
    for each in chats:
        await store.add(each, account_id=account, messages=b"[]")


async def listed(store: StoredChats, reach: Reach = MINE, **query: Any) -> list[str]:
    return [each.id for each in (await store.list(reach, ChatQuery(**query))).chats]


async def test_what_was_stored_is_found_by_every_worker_of_its_account_alone(opened):
    async with opened() as one, opened() as other:
        await one.add(chat("a", metadata={"k": "v"}), account_id="mine", messages=b'[{"id":"a-0"}]')
        assert await other.get(MINE, "a") == chat("a", metadata={"k": "v"})
        assert await other.messages(MINE, "a") == b'[{"id":"a-0"}]'
        for reach in (Reach(account_id="theirs", since_s=0), Reach(account_id="mine", since_s=101)):
            for call in (
                other.get(reach, "a"),
                other.messages(reach, "a"),
                other.relabel(reach, "a", {}),
                other.delete(reach, "a"),
            ):
                with pytest.raises(NotFound):
                    await call
            assert await listed(other, reach) == await listed(other, reach, metadata=(("k", "v"),)) == []
        assert await listed(other) == ["a"]


async def test_lists_go_by_time_and_then_by_when_they_were_stored(opened):
    async with opened() as store:
        await kept(store, chat("c", at=3), chat("a", at=1), chat("b1", at=2), chat("b2", at=2))
        await kept(store, chat("other", at=2), account="theirs")
        assert await listed(store) == ["a", "b1", "b2", "c"]
        assert await listed(store, order="desc") == ["c", "b2", "b1", "a"]
        assert await listed(store, after="b1") == ["b2", "c"]
        assert await listed(store, after="b1", order="desc") == ["a"]
        assert await listed(store, Reach(account_id="mine", since_s=2)) == ["b1", "b2", "c"]
        page = await store.list(MINE, ChatQuery(limit=3))
        assert ([each.id for each in page.chats], page.more) == (["a", "b1", "b2"], True)
        page = await store.list(MINE, ChatQuery(limit=3, after="b2"))
        assert ([each.id for each in page.chats], page.more) == (["c"], False)
        with pytest.raises(NotFound) as error:
            await listed(store, after="other")
        assert error.value.param == "after"


async def test_all_that_is_asked_for_must_match(opened):
    async with opened() as store:
        await kept(
            store,
            chat("a", metadata={"k": "1", "l": "x"}),
            chat("b", metadata={"k": "1", "l": "y"}),
            chat("c", model="n", metadata={"k": "1", "l": "x"}),
            chat("d", model="n", metadata={"": "", "model": "m", "metadata[k]": "1"}),
        )
        assert await listed(store, metadata=(("k", "1"),)) == ["a", "b", "c"]
        assert await listed(store, metadata=(("k", "1"), ("l", "x"))) == ["a", "c"]
        assert await listed(store, metadata=(("k", "1"), ("l", "x"), ("k", "1")), model="n") == ["c"]
        assert await listed(store, metadata=(("l", "x"), ("l", "y"))) == []
        assert await listed(store, metadata=(("l", "x"), ("k", "1")), order="desc", after="c") == ["a"]
        assert await listed(store, model="n") == ["c", "d"]
        assert await listed(store, model="m") == ["a", "b"]
        assert await listed(store, metadata=(("", ""),)) == ["d"]
        assert await listed(store, metadata=(("model", "m"),)) == ["d"]


async def test_other_metadata_replace_them_all(opened):
    async with opened() as store:
        await kept(store, chat("a", metadata={"k": "1", "l": "x"}))
        assert (await store.relabel(MINE, "a", {"k": "2"})).metadata == {"k": "2"}
        assert (await store.get(MINE, "a")).metadata == {"k": "2"}
        assert await listed(store, metadata=(("k", "2"),)) == await listed(store, model="m") == ["a"]
        assert await listed(store, metadata=(("k", "1"),)) == await listed(store, metadata=(("l", "x"),)) == []


async def test_paging_goes_on_from_where_a_deleted_one_stood(opened):
    async with opened() as store:
        await kept(store, *(chat(name, metadata={"k": "1"}) for name in "abc"))
        await store.delete(MINE, "b")
        assert await listed(store) == await listed(store, metadata=(("k", "1"),)) == ["a", "c"]
        assert await listed(store, after="b") == ["c"]
        assert await listed(store, after="b", order="desc") == ["a"]
        for call in (store.get(MINE, "b"), store.delete(MINE, "b")):
            with pytest.raises(NotFound):
                await call


async def test_there_is_room_until_an_account_has_stored_so_much(opened):
    async with opened() as store:
        await store.make_room("mine", max_bytes=1)
        await kept(store, chat("a"))
        with pytest.raises(StorageFull):
            await store.make_room("mine", max_bytes=1)
        await store.make_room("mine", max_bytes=ROOMY)
        await store.make_room("theirs", max_bytes=1)
        await store.delete(MINE, "a")
        await store.make_room("mine", max_bytes=1)


async def test_what_is_too_old_is_deleted_bit_by_bit(opened):
    async with opened() as store:
        assert await store.oldest_s() is None
        await kept(store, *(chat(f"a{at}", at=at, metadata={"k": "1"}) for at in range(5)))
        await store.delete(MINE, "a0")
        assert await store.oldest_s() == 0
        counts = [await store.prune(before_s=4, at_most=2) for _ in range(4)]
        assert counts == [3, 1, 0, 0]
        assert await store.oldest_s() == 4
        assert await listed(store) == await listed(store, metadata=(("k", "1"),)) == ["a4"]
        with pytest.raises(NotFound):
            await listed(store, after="a0")
        await store.prune(before_s=5, at_most=2)
        assert await store.oldest_s() is None
        await store.make_room("mine", max_bytes=1)


async def test_many_are_stored_at_once_by_several_workers(opened):
    async with opened() as one, opened() as other:
        names = [f"a{number:03}" for number in range(200)]
        await asyncio.gather(
            *(
                (one, other)[number % 2].add(chat(name), account_id="mine", messages=b"[]")
                for number, name in enumerate(names)
            )
        )
        found = []
        while page := await listed(one, limit=100, **({"after": found[-1]} if found else {})):
            found += page
        assert sorted(found) == names


async def test_a_page_of_long_answers_is_short_and_never_empty(opened):
    long = b'"%b"' % random.Random(1).randbytes(2_200_000).hex().encode()  # about 2 MB when compressed
    async with opened() as store:
        await kept(store, *(chat(name, answer=long) for name in "abc"))
        pages = []
        after = None
        while True:
            page = await store.list(MINE, ChatQuery(after=after))
            pages.append([each.id for each in page.chats])
            after = page.chats[-1].id
            if not page.more:
                break
        assert [name for page_of in pages for name in page_of] == ["a", "b", "c"]
        assert len(pages) > 1
        assert page.chats[0].answer == long
