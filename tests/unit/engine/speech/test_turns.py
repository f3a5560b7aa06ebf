"""Turns of the speech engine: few at once, fair between keys, none lost."""

import asyncio

import pytest

from narthex.core.errors import QueueFull
from narthex.engine.speech.turns import Turns

pytestmark = pytest.mark.anyio


def turns(*, at_once: int = 1, most: int = 100, per_key: int = 100) -> Turns:
    return Turns(at_once=at_once, max_waiting=most, max_waiting_per_key=per_key)


async def settled() -> None:
    for _ in range(10):
        await asyncio.sleep(0)


async def order(queue: Turns, *keys: str) -> list[str]:
    """Who is served when all of these came while another was."""
    served: list[str] = []

    async def one(key: str) -> None:
        async with queue.turn(key):
            served.append(key)
            await asyncio.sleep(0)

    async with asyncio.TaskGroup() as group, queue.turn("other"):
        for key in keys:
            group.create_task(one(key))
        await settled()
    return served


async def test_keys_take_turns() -> None:
    assert await order(turns(), *"aaaabc") == list("abcaaa")


async def test_who_holds_none_goes_before_who_holds_some() -> None:
    queue = turns(at_once=2)
    async with queue.turn("a"):
        assert await order(queue, *"aab") == list("baa")


async def test_several_at_once() -> None:
    queue = turns(at_once=2)
    async with queue.turn("a"), queue.turn("a"):
        waiting = asyncio.ensure_future(order(queue))
        await settled()
        assert len(queue) == 1
    assert await waiting == []


async def test_too_many_are_refused() -> None:
    queue = turns(most=3, per_key=2)
    async with queue.turn("a"):
        waiting = [asyncio.ensure_future(order(queue)) for _ in range(2)]
        await settled()
        queue.check("a")
        with pytest.raises(QueueFull, match="of this key"):
            queue.check("other")
        more = asyncio.ensure_future(order(queue))
        await settled()
        with pytest.raises(QueueFull, match="Too many texts wait") as raised:
            queue.check("a")
        assert raised.value.retry_after_s
    await asyncio.gather(more, *waiting)
    assert not len(queue)
    queue.check("other")


async def test_who_leaves_gives_their_turn_up() -> None:
    queue = turns()

    async def one() -> None:
        async with queue.turn("a"):
            await asyncio.sleep(100)

    tasks = [asyncio.ensure_future(one()) for _ in range(4)]
    await settled()
    tasks[1].cancel()  # while it waits
    await settled()
    tasks[0].cancel()  # while it has it
    await asyncio.sleep(0)
    tasks[2].cancel()  # when it has just been given it
    await settled()
    assert len(queue) == 0
    assert await order_after(queue, tasks[3])


async def order_after(queue: Turns, last: asyncio.Future[None]) -> bool:
    last.cancel()
    await settled()
    async with asyncio.timeout(5), queue.turn("b"):
        return not queue._waiting and dict(queue._held) == {"b": 1}


async def test_who_leaves_at_once_with_who_has_the_turn_takes_none_along() -> None:
    queue = turns()

    async def one(key: str) -> None:
        async with queue.turn(key):
            await asyncio.sleep(100)

    tasks = [asyncio.ensure_future(one(key)) for key in ("a", "b", "b")]
    await settled()
    for task in tasks:
        task.cancel()
    await settled()
    async with asyncio.timeout(5), queue.turn("c"):
        assert dict(queue._held) == {"c": 1}
    assert not queue._waiting
