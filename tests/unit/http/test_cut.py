"""Exchanges that are cut at the end of a drain, or by a caller who leaves."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.errors import Draining
from narthex.http.asgi import ON_LOST, CallerLeft
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


# --- a caller who leaves ---------------------------------------------------------------------------------------------


class Line:
    """A connection that may be lost."""

    def __init__(self, *, lost: bool = False) -> None:
        self.callback: Callable[[], None] | None = None
        self._lost = lost

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        self.callback = callback
        if self._lost and callback is not None:
            callback()

    def lose(self) -> None:
        assert self.callback is not None
        self.callback()

    def exchange(self) -> Exchange:
        scope = {"method": "GET", "headers": [], "extensions": {ON_LOST: self.on_lost}}
        return Exchange(scope, nothing, nothing, request_id="req_1")


def cancellations() -> int:
    task = asyncio.current_task()
    assert task is not None
    return task.cancelling()


async def test_a_caller_who_leaves_ends_what_runs() -> None:
    line = Line()
    asyncio.get_running_loop().call_soon(line.lose)
    with pytest.raises(CallerLeft):
        async with line.exchange().until_cut(or_left=True):
            await asyncio.Event().wait()
    assert (line.callback, cancellations()) == (None, 0)


async def test_one_who_left_before_does_too() -> None:
    with pytest.raises(CallerLeft):
        async with Line(lost=True).exchange().until_cut(or_left=True):
            await asyncio.Event().wait()
    assert cancellations() == 0


async def test_nobody_listens_where_leaving_is_no_reason() -> None:
    line = Line()
    async with line.exchange().until_cut():
        assert line.callback is None


async def test_a_server_that_cannot_tell_is_not_asked() -> None:
    async with exchange().until_cut(or_left=True):
        await asyncio.sleep(0)


async def test_whoever_left_first_and_was_cut_then_has_left() -> None:
    line = Line()
    one = line.exchange()

    def both() -> None:
        line.lose()
        one.cut()
        line.lose()

    asyncio.get_running_loop().call_soon(both)
    with pytest.raises(CallerLeft):
        async with one.until_cut(or_left=True):
            await asyncio.Event().wait()
    assert cancellations() == 0


async def test_who_leaves_just_as_the_block_ends_harms_nobody() -> None:
    line = Line()
    async with line.exchange().until_cut(or_left=True):
        line.lose()
    assert cancellations() == 0
    await asyncio.sleep(0)


async def test_an_error_of_the_block_stays_one_though_the_caller_leaves() -> None:
    line = Line()

    async def fails() -> None:
        async with line.exchange().until_cut(or_left=True):
            line.lose()
            raise ValueError("own")

    with pytest.raises(ValueError, match="own"):
        await fails()
    assert cancellations() == 0


@pytest.mark.parametrize("waits", [True, False])
async def test_a_cancellation_by_others_stays_one_though_the_caller_leaves(waits: bool) -> None:
    line = Line()

    async def work() -> None:
        async with line.exchange().until_cut(or_left=True):
            if waits:
                await asyncio.Event().wait()
            line.lose()
            task.cancel()

    task = asyncio.ensure_future(work())
    if waits:
        await asyncio.sleep(0)
        line.lose()
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
