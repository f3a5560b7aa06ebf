"""What every store of jobs promises."""

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from narthex.core.errors import NotFound, QueueFull
from narthex.core.jobs import LEASE_MS, MOST_ATTEMPTS, Job, NewJob
from narthex.core.keys import Grants, NewKey
from narthex.storage.sqlite import jobs as sqlite_jobs
from narthex.storage.sqlite.control import ControlStore, open_control

pytestmark = pytest.mark.anyio


class Clock:
    now_ms = 1_000

    def __call__(self) -> int:
        return self.now_ms


class Store:
    """One store of jobs with two accounts in it."""

    def __init__(self, control: ControlStore, clock: Clock, keys: dict[str, tuple[str, str]]) -> None:
        self.control = control
        self.jobs = control.jobs
        self.clock = clock
        self.keys = keys

    async def add(self, account: str = "acme", subject: str = "a", collection: str = "c1", **options) -> Job:
        account_id, key_id = self.keys[account]
        new = NewJob(
            kind="ingest",
            account_id=account_id,
            key_id=key_id,
            collection_id=collection,
            collection_key="house",
            subject=subject,
            **options,
        )
        return await self.jobs.add(new)


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Store]:
    clock = Clock()
    control = await open_control(folder / "control.db", clock=clock)
    try:
        keys = {}
        for account in ("acme", "brick"):
            key, _ = await control.keys.create(NewKey(name=account, account=account), within=Grants.everything())
            keys[account] = (key.account_id, key.id)
        yield Store(control, clock, keys)
    finally:
        await control.aclose()


@pytest.fixture
async def store(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Store]:
    async with opened(tmp_path) as it:
        yield it


async def test_a_job_is_what_was_added(store):
    job = await store.add(payload={"file": "x", "size": 7})
    assert await store.jobs.get(job.id) == job
    assert (job.state, job.done, job.total, job.percent, job.is_open) == ("queued", 0, 0, 0, True)
    assert job.payload == {"file": "x", "size": 7}
    assert await store.jobs.get("nobody") is None
    assert await store.jobs.open_ids() == {job.id}


async def test_an_id_may_be_known_before(store):
    name = str(uuid.uuid4())
    account_id, key_id = store.keys["acme"]
    new = NewJob(kind="import", account_id=account_id, key_id=key_id, collection_id="c", collection_key="k")
    assert (await store.jobs.add(new, job_id=name)).id == name


async def test_a_job_is_taken_once_and_worked_on(store):
    job = await store.add()
    taken = await store.jobs.claim("me")
    assert taken is not None
    assert (taken.id, taken.state, taken.attempts) == (job.id, "running", 1)
    assert await store.jobs.claim("you") is None
    assert await store.jobs.beat(job.id, "me", done=3, total=10, message="embedding")
    assert not await store.jobs.beat(job.id, "you", done=9, total=10, message="")
    found = await store.jobs.get(job.id)
    assert (found.done, found.total, found.percent, found.message) == (3, 10, 30, "embedding")
    assert await store.jobs.finish(job.id, "me", state="done", warnings=("w",), result={"documentId": "d"})
    found = await store.jobs.get(job.id)
    assert (found.state, found.percent, found.warnings, found.result) == ("done", 100, ("w",), {"documentId": "d"})
    assert not found.is_open
    assert not await store.jobs.finish(job.id, "me", state="failed", error="late")


async def test_what_the_next_owner_has_to_know_is_kept(store):
    job = await store.add()
    await store.jobs.claim("dead")
    await store.jobs.beat(job.id, "dead", done=1, total=2, message="", result={"tokens": 7})
    await store.jobs.beat(job.id, "dead", done=2, total=2, message="")
    store.clock.now_ms += LEASE_MS + 1
    assert (await store.jobs.claim("me")).result == {"tokens": 7}


async def test_a_failed_job_says_why(store):
    job = await store.add()
    await store.jobs.claim("me")
    await store.jobs.finish(job.id, "me", state="failed", error="There is no text in it.")
    assert (await store.jobs.get(job.id)).error == "There is no text in it."


async def test_a_dead_owners_job_is_taken_by_another_once_its_lease_ran_out(store):
    job = await store.add()
    await store.jobs.claim("dead")
    store.clock.now_ms += LEASE_MS - 1
    await store.jobs.beat(job.id, "dead", done=1, total=2, message="")
    store.clock.now_ms += LEASE_MS
    assert await store.jobs.claim("me") is None
    store.clock.now_ms += 1
    taken = await store.jobs.claim("me")
    assert (taken.id, taken.attempts, taken.done) == (job.id, 2, 1)
    assert not await store.jobs.beat(job.id, "dead", done=2, total=2, message="")


async def test_a_job_that_ends_its_process_again_and_again_is_failed_with_a_reason(store):
    """Nothing is tried for ever: complaints of jobs that are stuck at 80 % or wait for 64 hours."""
    job, other = await store.add(), await store.add(subject="b")
    for attempt in range(MOST_ATTEMPTS):
        taken = await store.jobs.claim(f"owner-{attempt}")
        assert taken.id == job.id
        store.clock.now_ms += LEASE_MS + 1
    assert (await store.jobs.claim("last")).id == other.id
    found = await store.jobs.get(job.id)
    assert (found.state, found.error) == (
        "failed",
        "Its process ended 3 times while it worked on this: it is not tried again.",
    )


async def test_a_job_that_is_given_back_has_not_been_tried(store):
    job = await store.add()
    for _ in range(MOST_ATTEMPTS + 2):
        assert (await store.jobs.claim("me")).attempts == 1
        await store.jobs.release(job.id, "me")
    assert (await store.jobs.get(job.id)).state == "queued"


async def test_one_account_with_many_jobs_does_not_starve_another(store):
    """A thousand files of one block nobody: complaints of wedged queues."""
    for number in range(50):
        await store.add(subject=f"a{number}")
    await store.add("brick", subject="b0")
    await store.add("brick", subject="b1")
    taken = [await store.jobs.claim("me") for _ in range(6)]
    assert sorted(job.subject for job in taken[:4]) == ["a0", "a1", "b0", "b1"]
    assert [job.subject for job in taken[4:]] == ["a2", "a3"]


async def test_jobs_on_one_document_run_in_their_order_and_never_at_once(store):
    first, second = await store.add(), await store.add()
    assert (await store.jobs.claim("me")).id == first.id
    assert await store.jobs.claim("you") is None
    await store.jobs.finish(first.id, "me", state="failed", error="x")
    assert (await store.jobs.claim("you")).id == second.id


async def test_a_job_on_the_whole_waits_for_those_before_it_and_holds_up_those_after_it(store):
    before, whole, after = await store.add(), await store.add(subject=""), await store.add(subject="z")
    elsewhere = await store.add(collection="c2", subject="z")
    assert [(await store.jobs.claim("me")).id for _ in range(2)] == [before.id, elsewhere.id]
    assert await store.jobs.claim("me") is None
    await store.jobs.finish(before.id, "me", state="done")
    assert (await store.jobs.claim("me")).id == whole.id
    assert await store.jobs.claim("me") is None
    await store.jobs.finish(whole.id, "me", state="done")
    assert (await store.jobs.claim("me")).id == after.id


async def test_a_cancelled_job_is_over_at_once_and_its_owner_learns_it(store):
    waiting, running = await store.add(subject="b"), await store.add(subject="c")
    assert (await store.jobs.cancel(waiting.id)).state == "cancelled"
    assert (await store.jobs.claim("me")).id == running.id
    assert (await store.jobs.cancel(running.id)).state == "cancelled"
    assert not await store.jobs.beat(running.id, "me", done=1, total=1, message="")
    assert not await store.jobs.finish(running.id, "me", state="done")
    assert await store.jobs.claim("me") is None
    with pytest.raises(NotFound):
        await store.jobs.cancel("nobody")


async def test_cancelling_what_has_ended_changes_nothing(store):
    job = await store.add()
    await store.jobs.claim("me")
    await store.jobs.finish(job.id, "me", state="done")
    assert (await store.jobs.cancel(job.id)).state == "done"


async def test_a_collections_jobs_are_listed_newest_first(store):
    first, second = await store.add(), await store.add(subject="b")
    await store.add(collection="c2")
    assert [job.id for job in await store.jobs.list("c1")] == [second.id, first.id]
    assert [job.id for job in await store.jobs.list("c1", limit=1)] == [second.id]
    await store.jobs.cancel(second.id)
    assert [job.id for job in await store.jobs.list("c1", only_open=True)] == [first.id]


async def test_the_newest_open_job_on_a_document_is_found(store):
    first, second = await store.add(), await store.add()
    await store.add(subject="b")
    assert (await store.jobs.open_on("c1", "a")).id == second.id
    await store.jobs.cancel(second.id)
    assert (await store.jobs.open_on("c1", "a")).id == first.id
    assert await store.jobs.open_on("c2", "a") is None


async def test_ended_jobs_are_forgotten_in_time_and_open_ones_never(store):
    ended, still_open = await store.add(), await store.add(subject="b")
    await store.jobs.cancel(ended.id)
    assert await store.jobs.prune(before_ms=1_000) == 0
    assert await store.jobs.prune(before_ms=1_001) == 1
    assert await store.jobs.get(ended.id) is None
    assert await store.jobs.get(still_open.id) is not None


async def test_an_account_may_not_queue_without_end(store, monkeypatch):
    monkeypatch.setattr(sqlite_jobs, "MOST_OPEN", 1)
    await store.add()
    with pytest.raises(QueueFull):
        await store.add(subject="b")
    await store.add("brick")


async def test_many_processes_never_take_one_job_twice(store, tmp_path):
    for number in range(40):
        await store.add(subject=str(number))
    others = [await open_control(tmp_path / "control.db", clock=store.clock) for _ in range(4)]

    async def all_of(control: ControlStore, owner: str) -> list[str]:
        found = []
        while (job := await control.jobs.claim(owner)) is not None:
            found.append(job.id)
        return found

    try:
        taken = await asyncio.gather(*(all_of(each, f"o{index}") for index, each in enumerate(others)))
    finally:
        for each in others:
            await each.aclose()
    ids = [job_id for some in taken for job_id in some]
    assert len(ids) == len(set(ids)) == 40
