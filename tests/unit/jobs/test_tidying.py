import asyncio
import os
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from narthex.core.documents import Collection, EmbeddingModel
from narthex.core.errors import StorageError
from narthex.core.jobs import NewJob
from narthex.core.keys import Grants, NewKey
from narthex.core.stored import ChatQuery, Reach, StoredChat
from narthex.jobs import tidying
from narthex.jobs.tidying import KEPT_MS, Aging, Tidying
from narthex.retrieval.opened import OpenCollections
from narthex.storage.sqlite.control import open_control
from narthex.storage.sqlite.stored import SqliteStoredChats
from narthex.storage.uploads import Uploads

pytestmark = pytest.mark.anyio

MODEL = EmbeddingModel(name="m", dim=2)
OLD_S = 3600.0
KEPT_S = 1000


class World:
    """A data folder, and what tidies it. `now_ms` is moved by the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.now_ms = time.time_ns() // 1_000_000
        self.uploads = Uploads(folder / "uploads")
        self.looked_at: list[str] = []

    async def open(self) -> None:
        self.control = await open_control(self.folder / "control.db", clock=lambda: self.now_ms)
        self.stores = OpenCollections(self.folder / "collections", clock=lambda: self.now_ms)
        self.key, _ = await self.control.keys.create(NewKey(name="k"), within=Grants.everything())
        self.stored = SqliteStoredChats(self.folder / "completions.db", clock=lambda: self.now_ms)
        self.tidying = Tidying(
            self.control.jobs,
            self.control.collections,
            self.stores,
            self.uploads,
            look_at=lambda collection: self.looked_at.append(collection.id),
            aging=Aging(self.stored, kept_s=KEPT_S),
            clock=lambda: self.now_ms,
        )

    async def aclose(self) -> None:
        await self.stores.aclose()
        await self.stored.aclose()
        await self.control.aclose()

    def upload(self, *, old: bool) -> str:
        job_id = str(uuid.uuid4())
        with self.uploads.create(job_id) as file:
            file.write(b"x")
            self.uploads.keep(file)
        if old:
            age(self.uploads.path(job_id))
        return job_id

    async def collection(self, name: str, *, generation: int = 1) -> Collection:
        made = Collection(
            id=name, account_id=self.key.account_id, key=name, model=MODEL, generation=generation, created_ms=1
        )
        async with self.stores.open(made):
            pass
        self.stores.forget(name)
        return made


def age(path: Path) -> None:
    before = time.time() - OLD_S
    for each in (path, *path.glob("*")) if path.is_dir() else (path,):
        os.utime(each, (before, before))


@pytest.fixture
async def world(tmp_path: Path, anyio_backend: str) -> AsyncIterator[World]:
    made = World(tmp_path)
    await made.open()
    yield made
    await made.aclose()


async def test_uploads_without_an_open_job_go_in_time(world):
    old, fresh, waiting = world.upload(old=True), world.upload(old=False), world.upload(old=True)
    (world.folder / "uploads" / "not-ours").touch()
    new = NewJob(
        kind="ingest", account_id=world.key.account_id, key_id=world.key.id, collection_id="c", collection_key="k"
    )
    await world.control.jobs.add(new, job_id=waiting)
    await world.tidying.tidy()
    left = {path.name for path in (world.folder / "uploads").iterdir()}
    assert left == {fresh, waiting, "not-ours"}
    assert old not in left


async def test_a_folder_of_uploads_that_was_never_made_is_no_fault(world):
    await world.tidying.tidy()
    assert not (world.folder / "uploads").exists()


async def test_files_of_collections_that_are_gone_and_of_former_generations_go_in_time(world):
    """Complaint C24: disks that fill up."""
    living = await world.collection("living")
    await world.control.collections.create(living)
    await world.control.collections.replace(msgspec.structs.replace(living, generation=2))
    for name, generation in (("living", 2), ("living", 3), ("gone", 1), ("gone", 2), ("new", 1)):
        await world.collection(name, generation=generation)
    await asyncio.sleep(0)
    folders = world.folder / "collections"
    for folder in folders.iterdir():
        if folder.name != "new":
            age(folder)
    await world.tidying.tidy()
    assert {folder.name for folder in folders.iterdir()} == {"living_2", "living_3", "new"}
    assert world.looked_at == ["living"]


async def test_old_jobs_are_forgotten(world):
    new = NewJob(
        kind="ingest", account_id=world.key.account_id, key_id=world.key.id, collection_id="c", collection_key="k"
    )
    job = await world.control.jobs.add(new)
    await world.control.jobs.cancel(job.id)
    world.now_ms += KEPT_MS
    await world.tidying.tidy()
    assert await world.control.jobs.get(job.id) is not None
    world.now_ms += 1
    await world.tidying.tidy()
    assert await world.control.jobs.get(job.id) is None


async def test_a_fault_does_not_end_it(world, monkeypatch):
    monkeypatch.setattr(tidying, "EVERY_S", 0.0)
    stop = asyncio.Event()
    faults = 2

    async def every() -> tuple[Collection, ...]:
        nonlocal faults
        if faults:
            faults -= 1
            raise StorageError
        stop.set()
        return ()

    monkeypatch.setattr(world.control.collections, "every", every)
    async with asyncio.timeout(60):
        await world.tidying.run(stop)
    assert faults == 0


async def test_stored_completions_that_are_too_old_are_deleted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tidying, "_PRUNED_AT_ONCE", 2)
    monkeypatch.setattr(tidying, "_PAUSE_S", 0.0)
    now_s = world.now_ms // 1000
    for number in range(7):
        chat = StoredChat(id=f"c{number}", created_s=now_s - number * 200, model="m", metadata={}, answer=b"{}")
        await world.stored.add(chat, account_id="a", messages=b"[]")
    await world.tidying.tidy()
    everything = Reach(account_id="a", since_s=0)
    found = await world.stored.list(everything, ChatQuery())
    assert [each.id for each in found.chats] == ["c5", "c4", "c3", "c2", "c1", "c0"]
    world.now_ms += 500_000
    await world.tidying.tidy()
    assert len((await world.stored.list(everything, ChatQuery())).chats) == 3
