"""Whose image is next."""

import asyncio

import pytest

from narthex.core.errors import EngineUnavailable, QueueFull
from narthex.engine.images.draw import DrawCall, Drawn
from narthex.engine.images.jobs import Job, Turns
from narthex.engine.images.pipeline import Picture

pytestmark = pytest.mark.anyio


def job(key: str, n: int = 1) -> Job:
    pictures = [
        Picture(prompt=f"{key}{i}", negative="", width=64, height=64, steps=1, sampler="Euler", seed=i, guidance=1)
        for i in range(n)
    ]
    return Job(DrawCall(job=1, key=key, prompt=key, n=n), pictures)


async def taken(turns: Turns) -> list[str]:
    """The prompts of all that wait, in their order."""
    return [(await turns.take())[1].prompt for _ in iter(lambda: len(turns), 0)]


async def test_keys_take_turns_image_by_image() -> None:
    turns = Turns(most=9, most_per_key=9)
    for each in (job("a", 3), job("b"), job("a"), job("c", 2)):
        turns.add(each)
    assert await taken(turns) == ["a0", "b0", "c0", "a1", "c1", "a2", "a0"]


async def test_whoever_takes_waits_for_the_next() -> None:
    turns = Turns(most=1, most_per_key=1)
    waiting = asyncio.ensure_future(turns.take())
    await asyncio.sleep(0)
    turns.add(job("a"))
    assert (await waiting)[1].prompt == "a0"


async def test_what_left_is_not_made() -> None:
    turns = Turns(most=9, most_per_key=9)
    gone, stays, alone = job("a", 2), job("a"), job("b")
    for each in (gone, stays, alone):
        turns.add(each)
    turns.discard(gone)
    turns.discard(gone)
    turns.discard(alone)
    turns.discard(alone)
    assert await taken(turns) == ["a0"]


async def test_both_bounds_say_when_to_come_again() -> None:
    turns = Turns(most=3, most_per_key=2)
    turns.took(2)
    turns.add(job("a"))
    turns.add(job("a"))
    with pytest.raises(QueueFull) as own:
        turns.add(job("a"))
    turns.add(job("b"))
    with pytest.raises(EngineUnavailable) as all_of_them:
        turns.add(job("c"))
    assert 1 < (own.value.retry_after_s or 0) < (all_of_them.value.retry_after_s or 0) <= 60


async def test_what_is_ready_comes_in_order_and_then_the_error() -> None:
    one = job("a")
    one.give(Drawn(data=b"1", partial=0))
    one.give(EngineUnavailable("gone"))
    assert (await one.next()).data == b"1"
    with pytest.raises(EngineUnavailable):
        await one.next()
