"""A million stored completions: lists stay quick, and deleting what is too old holds nobody up for long."""

import asyncio
import statistics
import time
from pathlib import Path

import pytest

from narthex.core.stored import ChatQuery, Reach, StoredChat
from narthex.jobs.tidying import Aging
from narthex.storage.sqlite.stored import SqliteStoredChats
from narthex.testing.stored_chats import ACCOUNTS, EACH_S, QUERIES, REACH, fill

pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(1800)]

ROWS = 1_000_000
LIST_S, WAIT_S = 0.005, 2.0
AGED = 20_000


async def test_a_million(tmp_path: Path) -> None:
    path = tmp_path / "completions.db"
    fill(path, ROWS)
    store = SqliteStoredChats(path, clock=lambda: 0)
    try:
        for name, query in QUERIES.items():
            waits = []
            for _ in range(100):
                began = time.monotonic()
                await store.list(REACH, query)
                waits.append(time.monotonic() - began)
            print(name, f"p50 {1000 * statistics.median(waits):.2f} ms")
            assert statistics.median(waits) < LIST_S, name
        waits = await _stored_while_pruning(store)
        print("stored while others are deleted", len(waits), f"most {1000 * max(waits):.0f} ms")
        assert max(waits) < WAIT_S
        first = (await store.list(Reach(account_id="account-0", since_s=0), ChatQuery(limit=1))).chats[0]
        assert first.created_s >= AGED // EACH_S
        assert await _walked(store) == (ROWS - AGED) // ACCOUNTS
    finally:
        await store.aclose()


async def _stored_while_pruning(store: SqliteStoredChats) -> list[float]:
    """How long it takes to store one meanwhile, each time."""
    aging = Aging(store, kept_s=0)
    pruning = asyncio.ensure_future(aging.prune(AGED // EACH_S * 1000))
    waits: list[float] = []
    while not pruning.done():
        chat = StoredChat(id=f"new-{len(waits)}", created_s=ROWS, model="m", metadata={}, answer=b"{}")
        began = time.monotonic()
        await store.add(chat, account_id="somebody", messages=b"[]")
        waits.append(time.monotonic() - began)
        await asyncio.sleep(0.01)
    await pruning
    return waits


async def _walked(store: SqliteStoredChats) -> int:
    """How many there are of an account, page by page."""
    count, after = 0, None
    while True:
        page = await store.list(REACH, ChatQuery(limit=100, after=after, metadata=()))
        count += len(page.chats)
        if not page.more:
            return count
        after = page.chats[-1].id
