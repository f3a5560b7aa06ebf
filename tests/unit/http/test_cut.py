"""Exchanges that are cut at the end of a drain."""

import asyncio
from typing import Any

import pytest

from narthex.core.errors import Draining
from narthex.http.exchange import Exchange

pytestmark = pytest.mark.anyio


async def nothing(*_: Any) -> Any:
    raise AssertionError


def exchange() -> Exchange:
    return Exchange({"method": "GET", "headers": []}, nothing, nothing, request_id="req_1")


async def test_a_cut_ends_what_runs_and_says_when_to_come_back() -> None:
    one = exchange()
    asyncio.get_running_loop().call_soon(one.cut)
    with pytest.raises(Draining) as raised:
        async with one.until_cut():
            await asyncio.Event().wait()
    assert raised.value.retry_after_s == 5


async def test_what_begins_after_the_cut_is_cut_too() -> None:
    one = exchange()
    one.cut()
    with pytest.raises(Draining):
        async with one.until_cut():
            await asyncio.Event().wait()


async def test_what_ends_before_is_left_alone() -> None:
    one = exchange()
    async with one.until_cut():
        await asyncio.sleep(0)
    one.cut()
    await asyncio.sleep(0)


async def test_a_timeout_of_the_block_itself_stays_one() -> None:
    with pytest.raises(TimeoutError):
        async with exchange().until_cut():
            raise TimeoutError


async def test_a_cancellation_stays_one() -> None:
    one = exchange()

    async def work() -> None:
        async with one.until_cut():
            await asyncio.Event().wait()

    task = asyncio.ensure_future(work())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
