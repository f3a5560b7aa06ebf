import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from narthex.core.errors import InvalidRequest, StorageError
from narthex.core.jobs import Job, NewJob
from narthex.core.keys import Grants, NewKey
from narthex.jobs import runner as module
from narthex.jobs.runner import Outcome, Progress, PutOff, Runner
from narthex.storage.sqlite.control import ControlStore, open_control

pytestmark = pytest.mark.anyio


class Working:
    """Jobs that do what the test says, and remember."""

    def __init__(self, do: Callable[[Job, Progress], Awaitable[Outcome]]) -> None:
        self._do = do
        self.begun: list[str] = []
        self.over: list[str] = []

    async def run(self, job: Job, progress: Progress) -> Outcome:
        self.begun.append(job.subject)
        return await self._do(job, progress)

    async def ended(self, job: Job) -> None:
        self.over.append(job.subject)


async def until(what: Callable[[], Awaitable[bool]], *, within_s: float = 60.0) -> None:
    deadline = time.monotonic() + within_s
    while not await what():
        assert time.monotonic() < deadline, "it did not happen"
        await asyncio.sleep(0.01)


@pytest.fixture
async def control(tmp_path: Path, anyio_backend: str) -> AsyncIterator[ControlStore]:
    store = await open_control(tmp_path / "control.db", clock=lambda: time.time_ns() // 1_000_000)
    try:
        yield store
    finally:
        await store.aclose()


async def added(control: ControlStore, subject: str) -> Job:
    keys = await control.keys.list()
    key = keys[0] if keys else (await control.keys.create(NewKey(name="k"), within=Grants.everything()))[0]
    return await control.jobs.add(
        NewJob(
            kind="ingest",
            account_id=key.account_id,
            key_id=key.id,
            collection_id="c",
            collection_key="house",
            subject=subject,
        )
    )


async def state(control: ControlStore, job: Job) -> str:
    found = await control.jobs.get(job.id)
    return "" if found is None else found.state


async def run_idle(control: ControlStore, working: Working, **options) -> None:
    await Runner(control.jobs, {"ingest": working}, owner="me", **options).run(asyncio.Event(), idle_s=0)


async def test_jobs_are_done_and_the_runner_ends_when_nothing_is_left(control):
    async def do(job: Job, progress: Progress) -> Outcome:
        progress.tell(1, 1, "done")
        return Outcome(result={"key": job.subject}, warnings=("careful",))

    jobs = [await added(control, subject) for subject in "abcde"]
    working = Working(do)
    await run_idle(control, working)
    assert sorted(working.begun) == sorted(working.over) == list("abcde")
    for job in jobs:
        found = await control.jobs.get(job.id)
        assert (found.state, found.result, found.warnings) == ("done", {"key": job.subject}, ("careful",))


async def test_a_job_that_fails_says_why_and_the_others_go_on(control):
    """Nothing stays queued for ever: complaints C27 and C28."""

    async def do(job: Job, progress: Progress) -> Outcome:
        if job.subject == "bad":
            raise InvalidRequest("There is no text in this file.")
        if job.subject == "fault":
            raise ZeroDivisionError("secret detail")
        return Outcome()

    bad, fault, good = [await added(control, subject) for subject in ("bad", "fault", "good")]
    working = Working(do)
    await run_idle(control, working)
    assert [await state(control, job) for job in (bad, fault, good)] == ["failed", "failed", "done"]
    assert (await control.jobs.get(bad.id)).error == "There is no text in this file."
    assert (await control.jobs.get(fault.id)).error == "Internal error."
    assert sorted(working.over) == ["bad", "fault", "good"]


async def test_a_job_that_is_put_off_begins_anew(control):
    async def do(job: Job, progress: Progress) -> Outcome:
        if len(working.begun) == 1:
            raise PutOff
        return Outcome()

    job = await added(control, "a")
    working = Working(do)
    await run_idle(control, working)
    assert (working.begun, working.over) == (["a", "a"], ["a"])
    assert (await control.jobs.get(job.id)).attempts == 1


async def test_a_job_that_can_t_be_stopped_any_more_is_done(control):
    stop = asyncio.Event()

    async def do(job: Job, progress: Progress) -> Outcome:
        stop.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return Outcome(result={"key": job.subject})
        raise AssertionError

    job = await added(control, "a")
    working = Working(do)
    await Runner(control.jobs, {"ingest": working}, owner="me").run(stop, idle_s=60)
    found = await control.jobs.get(job.id)
    assert (found.state, found.result, working.over) == ("done", {"key": "a"}, ["a"])


async def test_only_so_many_run_at_once(control):
    most = 0
    running = 0
    both = asyncio.Barrier(2)

    async def do(job: Job, progress: Progress) -> Outcome:
        nonlocal most, running
        running += 1
        most = max(most, running)
        await both.wait()
        running -= 1
        return Outcome()

    for number in range(8):
        await added(control, str(number))
    await run_idle(control, Working(do), at_once=2)
    assert most == 2


async def test_progress_is_told_while_it_works(control):
    go_on = asyncio.Event()

    async def do(job: Job, progress: Progress) -> Outcome:
        progress.tell(3, 9, "embedding")
        await go_on.wait()
        return Outcome()

    job = await added(control, "a")
    running = asyncio.ensure_future(run_idle(control, Working(do)))

    async def told() -> bool:
        found = await control.jobs.get(job.id)
        return (found.done, found.total, found.message) == (3, 9, "embedding")

    await until(told)
    go_on.set()
    await running


async def test_a_cancelled_job_stops_with_the_next_beat_and_is_cleaned_up(control, monkeypatch):
    monkeypatch.setattr(module, "_TELL_S", 0.01)
    monkeypatch.setattr(module, "BEAT_S", 0.02)
    stopped = asyncio.Event()

    async def do(job: Job, progress: Progress) -> Outcome:
        try:
            await asyncio.Event().wait()
        finally:
            stopped.set()
        return Outcome()

    job = await added(control, "a")
    working = Working(do)
    running = asyncio.ensure_future(run_idle(control, working))

    async def begun() -> bool:
        return bool(working.begun)

    await until(begun)
    await control.jobs.cancel(job.id)
    await running
    assert stopped.is_set()
    assert (await state(control, job), working.over) == ("cancelled", ["a"])


async def test_a_job_that_was_cancelled_just_as_it_ended_stays_cancelled(control):
    async def do(job: Job, progress: Progress) -> Outcome:
        await control.jobs.cancel(job.id)
        return Outcome()

    job = await added(control, "a")
    working = Working(do)
    await run_idle(control, working)
    assert (await state(control, job), working.over) == ("cancelled", ["a"])


async def test_a_runner_that_is_stopped_gives_its_jobs_back(control):
    async def do(job: Job, progress: Progress) -> Outcome:
        await asyncio.Event().wait()
        return Outcome()

    job = await added(control, "a")
    working = Working(do)
    stop = asyncio.Event()
    runner = Runner(control.jobs, {"ingest": working}, owner="me")
    running = asyncio.ensure_future(runner.run(stop, idle_s=0))

    async def begun() -> bool:
        return runner.running == 1 and bool(working.begun)

    await until(begun)
    stop.set()
    await running
    found = await control.jobs.get(job.id)
    assert (found.state, found.attempts, working.over) == ("queued", 0, [])


async def test_a_runner_that_waits_is_woken(control):
    async def do(job: Job, progress: Progress) -> Outcome:
        return Outcome()

    working = Working(do)
    stop = asyncio.Event()
    runner = Runner(control.jobs, {"ingest": working}, owner="me")
    running = asyncio.ensure_future(runner.run(stop, idle_s=60))
    await asyncio.sleep(0)
    await added(control, "a")
    runner.wake()

    async def over() -> bool:
        return working.over == ["a"]

    await until(over, within_s=module.LOOK_S * 0.9)
    stop.set()
    await running


async def test_a_store_that_does_not_answer_ends_nothing(control, monkeypatch):
    """The runner waits and looks again; a beat that can't be written costs nothing but itself."""
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(module, "_TELL_S", 0.01)
    faults = {"claim": 1, "beat": 1, "open_ids": 1}

    def faulty(name: str):
        real = getattr(control.jobs, name)

        async def call(*values, **options):
            if faults[name]:
                faults[name] -= 1
                raise StorageError
            return await real(*values, **options)

        return call

    for name in faults:
        monkeypatch.setattr(control.jobs, name, faulty(name))

    async def do(job: Job, progress: Progress) -> Outcome:
        progress.tell(1, 2)

        async def told() -> bool:
            return (await control.jobs.get(job.id)).done == 1

        await until(told)
        return Outcome()

    job = await added(control, "a")
    await run_idle(control, Working(do))
    assert await state(control, job) == "done"
    assert faults == {"claim": 0, "beat": 0, "open_ids": 0}
