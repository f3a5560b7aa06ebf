"""Rebuilds of one collection, one at a time; the rest is tried with whole servers."""

import asyncio
from typing import Any

import pytest

from narthex.jobs.rebuilding import Rebuilding, _to_its_end

pytestmark = pytest.mark.anyio


async def test_one_at_a_time_however_many_wait() -> None:
    rebuilding: Any = Rebuilding(site=None)  # type: ignore[arg-type]
    at_work: list[int] = []
    most = 0
    free = asyncio.Event()

    async def work(number: int) -> None:
        nonlocal most
        async with rebuilding._alone("c"):
            at_work.append(number)
            most = max(most, len(at_work))
            await free.wait()
            for _ in range(5):
                await asyncio.sleep(0)
            at_work.remove(number)

    first, second = (asyncio.ensure_future(work(number)) for number in range(2))
    await asyncio.sleep(0)
    free.set()
    await first  # the second has been woken by now
    third = asyncio.ensure_future(work(2))
    await asyncio.gather(second, third)
    assert most == 1
    assert not dict(rebuilding._at_work)


async def test_other_collections_need_not_wait() -> None:
    rebuilding: Any = Rebuilding(site=None)  # type: ignore[arg-type]
    async with rebuilding._alone("a"), rebuilding._alone("b"):
        pass


@pytest.mark.parametrize("switched", [True, False])
async def test_a_switch_that_has_begun_is_waited_for(switched: bool) -> None:
    ended = []

    async def switching() -> bool:
        for _ in range(5):
            await asyncio.sleep(0)
        ended.append(True)
        return switched

    task = asyncio.ensure_future(_to_its_end(switching()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait({task})
    assert ended
    assert task.cancelled() is not switched
    assert await _to_its_end(switching()) is switched
