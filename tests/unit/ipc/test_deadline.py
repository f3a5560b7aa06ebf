"""Clocks over blocks, in virtual time: they ring as asyncio's own do, with fewer timers."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.virtual_time import VirtualLoop
from typing_extensions import override

from narthex.ipc.deadline import Deadline

pytestmark = pytest.mark.anyio


class Counting(Deadline):
    """Counts the timers that are set."""

    timers = 0

    @override
    def _arm(self, when_s: float) -> None:
        self.timers += 1
        super()._arm(when_s)


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    """In virtual time."""
    return "asyncio", {"loop_factory": VirtualLoop}


def now() -> float:
    return asyncio.get_running_loop().time()


async def for_ever() -> None:
    await asyncio.Event().wait()


async def test_a_block_ends_when_its_time_has_come() -> None:
    began_s = now()
    deadline = Deadline(began_s + 5)
    with pytest.raises(TimeoutError) as raised:
        async with deadline:
            await asyncio.sleep(100)
    assert (now() - began_s, deadline.expired) == (5, True)
    assert isinstance(raised.value.__cause__, asyncio.CancelledError)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing of it is left over


async def test_a_time_that_has_passed_ends_it_at_once() -> None:
    began_s = now()
    with pytest.raises(TimeoutError):
        async with Deadline(began_s - 5):
            await for_ever()
    assert now() == began_s


async def test_what_ends_before_leaves_no_timer() -> None:
    async with Deadline(now() + 5) as deadline:
        await asyncio.sleep(1)
    await asyncio.sleep(100)
    assert not deadline.expired


async def test_without_a_time_it_never_ends_a_block() -> None:
    async with Counting() as deadline:
        deadline.set(None)
        await asyncio.sleep(1000)
    assert (deadline.expired, deadline.timers) == (False, 0)


async def test_moving_the_time_on_costs_no_timer() -> None:
    deadline = Counting(now() + 5)

    async def moved() -> None:
        async with deadline:
            for _ in range(100):
                deadline.set(now() + 5)
                deadline.set(None)
                deadline.set(now() + 5)
                await asyncio.sleep(0.01)
            assert deadline.timers == 1
            await for_ever()

    began_s = now()
    with pytest.raises(TimeoutError):
        await moved()
    assert now() - began_s == pytest.approx(5.99)
    assert deadline.timers == 2


async def test_it_may_be_moved_to_before() -> None:
    began_s = now()

    async def moved() -> None:
        async with Deadline(began_s + 500) as deadline:
            deadline.set(began_s + 5)
            await for_ever()

    with pytest.raises(TimeoutError):
        await moved()
    assert now() - began_s == 5


async def test_it_may_be_stopped_and_set_again_after_its_timer_rang() -> None:
    began_s = now()

    async def stopped() -> None:
        async with Deadline(began_s + 5) as deadline:
            deadline.set(None)
            await asyncio.sleep(50)
            deadline.set(began_s + 60)
            await for_ever()

    with pytest.raises(TimeoutError):
        await stopped()
    assert now() - began_s == 60


async def test_an_error_of_the_block_stays_what_it_is() -> None:
    deadline = Deadline(now() + 5)

    async def turned() -> None:
        async with deadline:
            try:
                await for_ever()
            except asyncio.CancelledError:
                raise ValueError("instead") from None

    with pytest.raises(ValueError, match="own"):
        async with Deadline(now() + 5):
            raise ValueError("own")
    with pytest.raises(ValueError, match="instead"):
        await turned()
    assert deadline.expired
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_a_timeout_within_is_not_taken_for_its_own() -> None:
    async with Deadline(now() + 50) as outer:
        with pytest.raises(TimeoutError):
            async with Deadline(now() + 5):
                await for_ever()
        await asyncio.sleep(1)
    assert not outer.expired


@pytest.mark.parametrize(("inner_s", "rang"), [(50, [True, False]), (5, [True, True])])
async def test_the_outer_of_two_ends_both(inner_s: float, rang: list[bool]) -> None:
    """Also where both ring at once."""
    began_s = now()
    outer, inner = Deadline(began_s + 5), Deadline(began_s + inner_s)
    with pytest.raises(TimeoutError):
        async with outer, inner:
            await for_ever()
    assert (now() - began_s, [outer.expired, inner.expired]) == (5, rang)
    await asyncio.sleep(0)


@pytest.mark.parametrize("cancelled_at_s", [1, 5])
async def test_a_cancellation_by_others_stays_one(cancelled_at_s: float) -> None:
    """Also where both come at once."""

    async def work() -> None:
        async with Deadline(now() + 5):
            await for_ever()

    task = asyncio.ensure_future(work())
    asyncio.get_running_loop().call_later(cancelled_at_s, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


# --- beside asyncio's own --------------------------------------------------------------------------------------------

Step = tuple[str, float | None]
_STEPS = st.lists(
    st.tuples(st.just("set"), st.none() | st.integers(1, 20).map(float))
    | st.tuples(st.just("sleep"), st.integers(0, 9).map(float)),
    max_size=12,
)


def outcome(make: Callable[[float | None], AbstractAsyncContextManager[Any]], first: float | None, steps: list[Step],
            move: Callable[[Any, float | None], None]) -> tuple[float, int, bool]:  # fmt: skip
    """When the block ended, how many steps it took, and whether by its clock."""

    async def run() -> tuple[float, int, bool]:
        began_s, taken = now(), 0
        try:
            async with make(None if first is None else began_s + first) as clock:
                for kind, value in steps:
                    if kind == "set":
                        move(clock, None if value is None else now() + value)
                    else:
                        await asyncio.sleep(value or 0.0)
                    taken += 1
        except TimeoutError:
            return now() - began_s, taken, True
        await asyncio.sleep(100)
        return now() - began_s - 100, taken, False

    def ran(made: Coroutine[Any, Any, tuple[float, int, bool]]) -> tuple[float, int, bool]:
        with asyncio.Runner(loop_factory=VirtualLoop) as runner:
            return runner.run(made)

    return ran(run())


@given(st.none() | st.integers(1, 20).map(float), _STEPS)
@example(5.0, [("set", None), ("sleep", 9.0), ("set", 1.0), ("sleep", 9.0)])
@example(5.0, [("set", 20.0), ("sleep", 9.0), ("set", 1.0), ("sleep", 9.0)])
def test_it_rings_when_asyncio_s_own_rings(first: float | None, steps: list[Step]) -> None:
    # A sleep that ends just when the clock rings may win or lose: no sum of these sleeps does.
    steps = [(kind, value + 0.37 if kind == "sleep" and value else value) for kind, value in steps]
    ours = outcome(Deadline, first, steps, lambda clock, when_s: clock.set(when_s))
    theirs = outcome(asyncio.timeout_at, first, steps, lambda clock, when_s: clock.reschedule(when_s))
    assert ours == theirs


async def test_it_follows_a_time_that_moves_by_itself() -> None:
    began_s = last_s = now()
    deadline = Counting()

    async def steps() -> None:
        nonlocal last_s
        deadline.follow(lambda: last_s + 5)
        for _ in range(4):
            await asyncio.sleep(3)
            last_s = now()
        await for_ever()

    with pytest.raises(TimeoutError):
        async with deadline:
            await steps()
    assert now() - began_s == 4 * 3 + 5
    assert deadline.timers < 6


async def test_it_follows_no_more_once_it_is_set() -> None:
    async with Deadline() as deadline:
        began_s = now()
        deadline.follow(lambda: began_s + 5)
        deadline.set(None)
        await asyncio.sleep(20)
    assert not deadline.expired
