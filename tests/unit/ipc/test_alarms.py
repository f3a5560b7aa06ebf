"""Many times to come on one timer, in virtual time."""

import asyncio
from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from tests.virtual_time import VirtualLoop

from narthex.ipc.alarms import Alarms
from narthex.ipc.deadline import Deadline

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """In virtual time."""
    return "asyncio", {"loop_factory": VirtualLoop}


def now() -> float:
    return asyncio.get_running_loop().time()


@pytest.fixture
async def alarms() -> Alarms:
    return Alarms(asyncio.get_running_loop())


async def test_each_rings_at_its_time_whatever_the_order_in_which_they_were_set(alarms: Alarms) -> None:
    began_s = now()
    rung: list[tuple[float, float]] = []

    def ring(after_s: float) -> Callable[[], None]:
        return lambda: rung.append((after_s, now() - began_s))

    times = [float(number % 50) for number in range(200)]
    Random(1).shuffle(times)
    for after_s in times:
        alarms.call_at(began_s + after_s, ring(after_s))
    await asyncio.sleep(100)
    assert [after_s for after_s, _ in rung] == sorted(times)
    assert all(after_s == at_s for after_s, at_s in rung)


async def test_one_that_was_cancelled_does_not_ring(alarms: Alarms) -> None:
    rung: list[str] = []
    first = alarms.call_at(now() + 1, lambda: rung.append("first"))
    alarms.call_at(now() + 2, lambda: rung.append("second"))
    first.cancel()
    first.cancel()
    await asyncio.sleep(5)
    assert rung == ["second"]


async def test_one_may_cancel_another_that_is_due_with_it(alarms: Alarms) -> None:
    rung: list[str] = []
    at_s = now() + 1

    def ring() -> None:
        rung.append("one")
        one.cancel()
        other.cancel()

    one = alarms.call_at(at_s, ring)
    other = alarms.call_at(at_s, ring)
    await asyncio.sleep(5)
    assert rung == ["one"]


async def test_thousands_that_are_cancelled_set_one_timer(alarms: Alarms, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at
    monkeypatch.setattr(loop, "call_at", lambda when_s, *rest: timers.append(when_s) or call_at(when_s, *rest))
    for _ in range(1000):
        alarms.call_at(now() + 590, pytest.fail).cancel()
    assert len(timers) == 1


async def until_moved(deadline: Deadline, to_s: float) -> None:
    async with deadline:
        deadline.set(to_s)
        await asyncio.Event().wait()


async def test_a_deadline_rings_by_them_as_by_a_timer_of_its_own(alarms: Alarms) -> None:
    loop, began_s = asyncio.get_running_loop(), now()
    outer = Deadline(began_s + 50, loop=loop, alarms=alarms)
    async with outer:
        with pytest.raises(TimeoutError):
            async with Deadline(began_s + 5, loop=loop, alarms=alarms):
                await asyncio.Event().wait()
        assert now() - began_s == 5
        with pytest.raises(TimeoutError):
            await until_moved(Deadline(began_s + 7, loop=loop, alarms=alarms), began_s + 20)
        assert now() - began_s == 20
    await asyncio.sleep(100)
    assert not outer.expired
