import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs
from tests.raw_asgi import until

from narthex.app import aging
from narthex.core.stored import StoredChat
from narthex.http.worker import WorkerSettings
from narthex.storage.sqlite.stored import SqliteStoredChats

pytestmark = pytest.mark.anyio

KEPT_S = 100.0


class Waker:
    """Notes what it is to wake, and for which settings."""

    def __init__(self) -> None:
        self.woken: list[str] = []

    def wake(self, settings: str = "") -> None:
        self.woken.append(settings)


@asynccontextmanager
async def looking(folder: Path, now_s: list[float]) -> AsyncIterator[tuple[SqliteStoredChats, Waker, WorkerSettings]]:
    settings = WorkerSettings(name="w", data_dir="", run_dir="", models=(), stored_kept_s=KEPT_S)
    store, waker = SqliteStoredChats(folder / "completions.db", clock=lambda: 0), Waker()
    looks = aging.aged(store, waker, settings=lambda: settings, clock=lambda: now_s[0])  # type: ignore[arg-type]
    task = asyncio.ensure_future(looks)
    try:
        yield store, waker, settings
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await store.aclose()


async def test_it_wakes_once_something_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aging, "EVERY_S", 0.001)
    now_s = [0.0]
    async with looking(tmp_path, now_s) as (store, waker, settings):
        chat = StoredChat(id="c", created_s=1, model="m", metadata={}, answer=b"{}")
        await store.add(chat, account_id="a", messages=b"[]")
        now_s[0] = KEPT_S + 1
        for _ in range(50):
            await asyncio.sleep(0)
        assert waker.woken == []
        now_s[0] = KEPT_S + 2
        await until(lambda: bool(waker.woken))
        assert set(waker.woken) == {settings.digest}


async def test_a_store_that_can_not_be_read_is_looked_at_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aging, "EVERY_S", 0.001)
    file = tmp_path / "completions.db"
    file.write_bytes(b"garbage " * 4096)
    with capture_logs() as logs:
        async with looking(tmp_path, [1000.0]) as (store, waker, _):
            await until(lambda: any("can't be looked at" in line["event"] for line in logs))
            file.unlink()
            chat = StoredChat(id="c", created_s=1, model="m", metadata={}, answer=b"{}")
            await store.add(chat, account_id="a", messages=b"[]")
            await until(lambda: bool(waker.woken))
