"""Work that waits for its turn: in order, a bit in each turn of the loop, and at once where nothing else was done."""

import asyncio
import gc
import weakref

import pytest

from narthex.ipc import turns
from narthex.ipc.turns import turns_of

pytestmark = pytest.mark.anyio


async def test_a_turn_does_its_part_and_others_come_in_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_S", 0.0)
    loop = asyncio.get_running_loop()
    mine = turns_of(loop)
    done: list[str] = []
    for number in range(4):
        mine.take(lambda number=number: done.append(f"work {number}"))
        loop.call_soon(done.append, f"turn {number}")
    assert done == ["work 0"]
    await asyncio.sleep(0)
    assert done[:2] == ["work 0", "work 1"]
    assert set(done[2:]) == {f"turn {number}" for number in range(4)}
    mine.take(lambda: done.append("late"))
    for _ in range(4):
        await asyncio.sleep(0)
    assert done[6:] == ["work 2", "work 3", "late"]


async def test_a_turn_does_as_much_as_it_has_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_S", 60.0)
    mine = turns_of(asyncio.get_running_loop())
    done: list[int] = []
    for number in range(3):
        mine.take(lambda number=number: done.append(number))
    assert done == [0, 1, 2]


async def test_after_a_turn_without_work_the_next_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_S", 0.0)
    mine = turns_of(asyncio.get_running_loop())
    done: list[int] = []
    for number in range(3):
        mine.take(lambda number=number: done.append(number))
        assert done[-1] == number
        await asyncio.sleep(0)
        await asyncio.sleep(0)


async def test_work_that_fails_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns, "MOST_S", 0.0)
    loop = asyncio.get_running_loop()
    told: list[object] = []
    loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
    mine = turns_of(loop)
    done: list[int] = []
    error = RuntimeError("no")

    def fails() -> None:
        raise error

    mine.take(lambda: done.append(0))
    mine.take(fails)
    mine.take(lambda: done.append(1))
    for _ in range(4):
        await asyncio.sleep(0)
    assert done == [0, 1]
    assert told == [error]


async def test_a_loop_has_its_own() -> None:
    loop = asyncio.get_running_loop()
    other = asyncio.new_event_loop()
    try:
        assert turns_of(loop) is turns_of(loop)
        assert turns_of(loop) is not turns_of(other)
    finally:
        other.close()
    gone = weakref.ref(other)
    del other
    gc.collect()
    assert gone() is None
