"""Leases over a real broker socket and within a process."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from narthex.core.errors import EngineUnavailable, NarthexError, QueueFull
from narthex.core.slots import Want
from narthex.engine.broker import Broker
from narthex.engine.leases import Acquire, LocalSlots, Slots
from narthex.engine.queue import QueueLimits
from narthex.ipc.client import Client

pytestmark = pytest.mark.anyio


def ask(**changes: Any) -> Want:
    return Want(**({"key": "a", "account": "a", "prompt_tokens": 10, "max_new": 10} | changes))


async def until(what: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not what():
            await asyncio.sleep(0.001)


class Desk:
    """A broker with its slots, and workers that come to it."""

    def __init__(self, path: Path, limits: QueueLimits) -> None:
        self.path = path
        self.slots = LocalSlots(limits)
        self.retired = 0
        self.broker = Broker(self.slots, path, on_retired=self.count)
        self.workers: list[Slots] = []

    def count(self) -> None:
        self.retired += 1

    def worker(self) -> Slots:
        self.workers.append(Slots(self.path, name="engine"))
        return self.workers[-1]

    @property
    def running(self) -> int:
        return self.slots.state().running

    @property
    def waiting(self) -> int:
        return self.slots.state().waiting


@asynccontextmanager
async def desk(path: Path, **limits: Any) -> AsyncIterator[Desk]:
    opened = Desk(path, QueueLimits(**{"slots": 4, "cells": 1000, "window": 500, "spare_slots": 0, **limits}))
    await opened.broker.start()
    try:
        yield opened
    finally:
        for worker in opened.workers:
            await worker.aclose()
        await opened.broker.aclose()


async def hold(slots: LocalSlots | Slots, entered: asyncio.Event, leave: asyncio.Event, **changes: Any) -> None:
    async with slots.lease(ask(**changes)):
        entered.set()
        await leave.wait()


async def test_a_lease_is_held_for_the_block(tmp_path: Path) -> None:
    async with desk(tmp_path / "s") as at:
        worker = at.worker()
        async with worker.lease(ask(prefix=[1, 2])) as lease:
            assert (lease.choices, lease.left, lease.slot is not None, lease.cache) == (1, 0, True, False)
            assert (await worker.queue()).cells_used == 20
            assert lease.slots_used is None
            lease.used(lease.slot or 0)
            lease.used(lease.slot or 0)
            assert lease.slots_used == (lease.slot,)
        await until(lambda: at.running == 0)
        async with worker.lease(ask(prefix=[1, 2])) as again:
            assert (again.slot, again.cache) == (lease.slot, True)


async def test_the_rest_of_a_request_is_asked_for_beside_its_first_group(tmp_path: Path) -> None:
    async with desk(tmp_path / "s") as at, at.worker().lease(ask(n=5)) as first:
        assert (first.choices, first.left, first.slot) == (2, 3, None)
        second = asyncio.ensure_future(first.rest().__aenter__())
        await until(lambda: at.waiting == 1)
        async with at.worker().lease(ask()):  # another request of the key is not held up
            assert at.waiting == 1
        second.cancel()
        await until(lambda: at.waiting == 0)


async def test_a_caller_who_leaves_the_queue_leaves_nothing(tmp_path: Path) -> None:
    async with desk(tmp_path / "s", slots=1) as at:
        worker = at.worker()
        entered, leave = asyncio.Event(), asyncio.Event()
        async with worker.lease(ask()):
            waiting = asyncio.ensure_future(hold(worker, entered, leave))
            await until(lambda: at.waiting == 1)
            waiting.cancel()
            await until(lambda: at.waiting == 0)
        await until(lambda: at.running == 0)
        assert not entered.is_set()


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_at_any_moment_nothing_leaks(tmp_path: Path, turns: int) -> None:
    async with desk(tmp_path / "s", slots=1) as at:
        worker = at.worker()
        await worker.queue()
        entered, leave = asyncio.Event(), asyncio.Event()
        work = asyncio.ensure_future(hold(worker, entered, leave))
        for _ in range(turns):
            await asyncio.sleep(0)
        work.cancel()
        with pytest.raises(asyncio.CancelledError):
            await work
        await worker.queue()  # answered after what was sent before
        await until(lambda: at.running == at.waiting == 0)
        async with asyncio.timeout(60), worker.lease(ask()):
            assert at.running == 1


@pytest.mark.parametrize("turns", range(4))
async def test_within_a_process_too(turns: int) -> None:
    slots = LocalSlots(QueueLimits(slots=1, cells=100, window=100))
    entered, leave = asyncio.Event(), asyncio.Event()
    first = asyncio.ensure_future(hold(slots, entered, leave))
    await entered.wait()
    second = asyncio.ensure_future(hold(slots, entered, asyncio.Event()))
    third = asyncio.ensure_future(hold(slots, entered, leave))
    await until(lambda: slots.state().waiting == 2)
    leave.set()
    for _ in range(turns):
        await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, second, third, return_exceptions=True)
    assert slots.state().running == slots.state().waiting == 0


async def test_a_worker_s_end_gives_back_all_it_held(tmp_path: Path) -> None:
    async with desk(tmp_path / "s", slots=1) as at:
        gone, other = at.worker(), at.worker()
        entered, leave = asyncio.Event(), asyncio.Event()
        async with gone.lease(ask()):
            waits = asyncio.ensure_future(hold(gone, asyncio.Event(), leave))
            await until(lambda: at.waiting == 1)
            others = asyncio.ensure_future(hold(other, entered, leave, key="b"))
            await until(lambda: at.waiting == 2)
            await gone.aclose()
            await asyncio.wait_for(entered.wait(), 60)
        with pytest.raises(NarthexError):
            await waits
        leave.set()
        await others


async def test_two_workers_may_number_their_leases_alike(tmp_path: Path) -> None:
    async with desk(tmp_path / "s") as at:
        first, second = Client(at.path, name="engine"), Client(at.path, name="engine")
        want = Acquire(lease=1, request="", **msgspec.structs.asdict(ask()))
        for client in (first, second):
            assert (await client.call("acquire", want, dict[str, Any]))["lease"] == 1
        assert at.running == 2
        await first.call("release", {"lease": 1, "slots": None}, None)
        await first.call("release", {"lease": 1, "slots": None}, None)
        assert at.running == 1
        await first.aclose()
        await second.aclose()
        await until(lambda: at.running == 0)


async def test_a_full_queue_and_a_missing_engine_are_said_so(tmp_path: Path) -> None:
    async with desk(tmp_path / "s", slots=1, max_waiting_per_key=0) as at:
        with pytest.raises(QueueFull) as full:
            async with at.worker().lease(ask()):
                pass
        assert full.value.retry_after_s == 2
    with pytest.raises(EngineUnavailable):
        async with Slots(tmp_path / "none", name="engine").lease(ask()):
            pass


async def test_retire_only_when_idle_and_then_for_good(tmp_path: Path) -> None:
    async with desk(tmp_path / "s") as at:
        client, worker = Client(at.path, name="engine"), at.worker()
        async with worker.lease(ask()):
            assert await client.call("retire", None, dict[str, bool]) == {"retired": False}
        await until(lambda: at.running == 0)
        assert await client.call("retire", None, dict[str, bool]) == {"retired": True}
        assert at.retired == 1
        with pytest.raises(EngineUnavailable, match="unloaded"):
            async with worker.lease(ask()):
                pass
        await client.aclose()


async def test_idle_time_counts_from_the_last_release() -> None:
    now, heard = [100.0], []
    slots = LocalSlots(
        QueueLimits(slots=1, cells=100, window=100), clock=lambda: now[0], on_release=lambda: heard.append(1)
    )
    now[0] = 105.0
    assert slots.idle_s == 5
    async with slots.lease(ask()):
        now[0] = 120.0
        assert slots.idle_s == 0
    now[0] = 121.0
    assert (slots.idle_s, heard) == (1, [1])


async def test_what_others_left_is_erased_before_a_request_that_runs_alone() -> None:
    emptied: list[list[int]] = []

    async def empty(slots: Sequence[int]) -> None:
        emptied.append(list(slots))

    slots = LocalSlots(QueueLimits(slots=2, cells=100, window=50, deterministic=True), empty=empty)
    async with slots.lease(ask()):
        assert not emptied
    async with slots.lease(ask(seeded=True, fresh=True)) as lease:
        assert emptied == [[1 - lease.slot]]
    unbound = LocalSlots(QueueLimits(slots=2, cells=100, window=50), empty=empty)
    async with unbound.lease(ask(seeded=True)):
        assert len(emptied) == 1


async def test_idle_slots_of_its_account_and_of_nobody_are_emptied_where_figures_are_told() -> None:
    emptied: list[list[int]] = []

    async def empty(slots: Sequence[int]) -> None:
        emptied.append(sorted(slots))

    slots = LocalSlots(QueueLimits(slots=4, cells=400, window=50), empty=empty)
    async with slots.lease(ask(account="a")) as ours, slots.lease(ask(account="b")) as theirs:
        ours.used(ours.slot)
        theirs.used(theirs.slot)
    async with slots.lease(ask(account="a", fresh=True, steady=True)) as lease:
        assert emptied == [sorted({0, 1, 2, 3} - {theirs.slot, lease.slot})]
        async with slots.lease(ask(account="a", fresh=True, steady=True)):  # beside another it would not help
            assert len(emptied) == 1


async def test_a_fault_before_a_lone_request_leaks_nothing() -> None:
    async def fail(_slots: Sequence[int]) -> None:
        raise EngineUnavailable

    slots = LocalSlots(QueueLimits(slots=2, cells=100, window=50, deterministic=True), empty=fail)
    with pytest.raises(EngineUnavailable):
        async with slots.lease(ask(seeded=True)):
            pass
    assert slots.state().running == 0
