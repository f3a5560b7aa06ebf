"""Turns: one at a time, owners in turn."""

import asyncio

import pytest

from narthex.ipc.fairness import FairTurns

pytestmark = pytest.mark.anyio


async def settled() -> None:
    """Until all that can go on has."""
    for _ in range(5):
        await asyncio.sleep(0)


class Work:
    """Turns that are held until told otherwise."""

    def __init__(self) -> None:
        self.turns = FairTurns()
        self.done: list[str] = []
        self.going_on = asyncio.Event()

    async def job(self, owner: str) -> None:
        async with self.turns.turn(owner):
            await self.going_on.wait()
            self.done.append(owner)

    def start(self, *owners: str) -> list[asyncio.Task[None]]:
        return [asyncio.ensure_future(self.job(owner)) for owner in owners]


async def test_owners_take_turns() -> None:
    work = Work()
    jobs = work.start("a", "a", "a", "b", "b", "c")
    await settled()
    work.going_on.set()
    await asyncio.gather(*jobs)
    assert work.done == ["a", "a", "b", "c", "a", "b"]
    await work.job("a")  # nobody holds one any more


async def test_whoever_leaves_leaves_no_gap() -> None:
    work = Work()
    jobs = work.start("a", "b", "b", "c")
    await settled()
    jobs[0].cancel()  # has it
    jobs[1].cancel()  # waits
    jobs[3].cancel()
    await settled()
    work.going_on.set()
    await asyncio.gather(*jobs, return_exceptions=True)
    assert work.done == ["b"]


async def test_whoever_leaves_as_the_turn_comes_passes_it_on() -> None:
    work = Work()
    work.going_on.set()
    first, second, third = work.start("a", "b", "c")
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([first, second, third])
    assert work.done[-1] == "c"
