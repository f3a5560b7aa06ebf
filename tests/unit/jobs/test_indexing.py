import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from narthex.core.documents import Collection, EmbeddingModel
from narthex.core.errors import StorageError
from narthex.jobs import indexing as module
from narthex.jobs.indexing import Indexing
from narthex.retrieval.opened import OpenCollections
from narthex.retrieval.rebuild import When

pytestmark = pytest.mark.anyio

MODEL = EmbeddingModel(name="m", dim=2)


def collection(name: str) -> Collection:
    return Collection(id=name, account_id="a", key=name, model=MODEL, created_ms=1)


@pytest.fixture
async def stores(tmp_path: Path, anyio_backend: str) -> AsyncIterator[OpenCollections]:
    opened = OpenCollections(tmp_path / "collections", clock=lambda: 7)
    yield opened
    await opened.aclose()


def at_leisure() -> bool:
    return False


async def looked_at(stores: OpenCollections, due: Callable[[Path], When], *names: str) -> None:
    indexing = Indexing(stores.path, due=due, hurried=at_leisure)
    running = asyncio.ensure_future(indexing.run())
    for name in names:
        indexing.look_at(collection(name))
    assert indexing.busy
    async with asyncio.timeout(60):
        while indexing.busy:
            await asyncio.sleep(0.01)
    running.cancel()
    await asyncio.wait({running})


async def test_what_needs_it_is_made_anew_and_a_fault_keeps_nobody_else_from_it(stores):
    asked: list[str] = []
    for name in ("bad", "good", "fine"):
        async with stores.open(collection(name)):
            pass

    def due(folder: Path) -> When:
        asked.append(folder.name)
        if folder.name == "bad":
            raise StorageError
        return "soon" if folder.name == "good" else "never"

    await looked_at(stores, due, "fine", "good", "bad", "missing")
    assert sorted(asked) == ["bad", "fine", "good"]
    locks = {name: (stores.path(collection(name)) / "build.lock").exists() for name in ("bad", "good", "fine")}
    assert locks == {"bad": False, "good": True, "fine": False}


async def test_a_rebuild_under_way_ends_with_its_owner(stores):
    begun = asyncio.Event()
    async with stores.open(collection("good")):
        pass
    loop = asyncio.get_running_loop()

    def due(_: Path) -> When:
        loop.call_soon_threadsafe(begun.set)
        return "now"

    indexing = Indexing(stores.path, due=due, hurried=lambda: True)
    running = asyncio.ensure_future(indexing.run())
    indexing.look_at(collection("good"))
    await begun.wait()
    await asyncio.sleep(0)
    running.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait({running})
    assert running.cancelled()


async def test_what_can_wait_does_while_there_are_jobs(stores, monkeypatch):
    monkeypatch.setattr(module, "_LOOK_S", 0.01)
    hurried, asked = True, []
    for name in ("soon", "now"):
        async with stores.open(collection(name)):
            pass

    def due(folder: Path) -> When:
        asked.append(folder.name)
        return "soon" if folder.name == "soon" else "now"

    def made(name: str) -> bool:
        return (stores.path(collection(name)) / "build.lock").exists()

    indexing = Indexing(stores.path, due=due, hurried=lambda: hurried)
    running = asyncio.ensure_future(indexing.run())
    async with asyncio.timeout(60):
        for name in ("now", "soon"):
            indexing.look_at(collection(name))
        while not made("now"):
            await asyncio.sleep(0.01)
        assert indexing.busy
        assert sorted(asked) == ["now", "soon"]
        assert not made("soon")
        hurried = False
        while indexing.busy:
            await asyncio.sleep(0.01)
    assert made("soon")
    assert sorted(asked) == ["now", "soon", "soon"]
    running.cancel()
    await asyncio.wait({running})
