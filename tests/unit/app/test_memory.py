import asyncio
import mmap

import pytest

from narthex.app.memory import PATIENCE, WORTH_BYTES, Keeper, resident_bytes, trim_of_libc

pytestmark = pytest.mark.anyio


class Held:
    """A process that can give back all but `live` bytes."""

    def __init__(self, live: int) -> None:
        self.live = self.now = live
        self.running = 0
        self.trims = 0
        self.keeper = Keeper(running=lambda: self.running, resident=lambda: self.now, trim=self.trim)
        self.keeper.look()

    def trim(self, _: int) -> None:
        self.trims += 1
        self.now = self.live

    def look(self, now: int) -> int:
        """How often memory was given back, after a look at `now` bytes."""
        self.now = now
        self.keeper.look()
        return self.trims


def test_much_is_given_back_and_little_is_kept() -> None:
    held = Held(100)
    assert held.look(99 + WORTH_BYTES) == 0
    assert held.look(100 + WORTH_BYTES) == 1
    assert held.look(99 + WORTH_BYTES) == 1


def test_the_least_that_was_held_counts() -> None:
    held = Held(100)
    assert held.look(50) == 0
    assert held.look(50 + WORTH_BYTES) == 1


def test_what_is_in_use_is_not_asked_for_again_and_again() -> None:
    held = Held(100)
    held.live = 100 + 3 * WORTH_BYTES
    assert [held.look(held.live) for _ in range(5)] == [1] * 5
    assert held.look(held.live + WORTH_BYTES) == 2


def test_a_busy_worker_is_left_alone_for_a_while() -> None:
    held = Held(100)
    held.running = 1
    assert [held.look(100 + WORTH_BYTES) for _ in range(PATIENCE)] == [0] * PATIENCE
    assert held.look(100 + WORTH_BYTES) == 1
    assert held.look(100 + WORTH_BYTES) == 1
    held.running = 0
    assert held.look(100 + WORTH_BYTES) == 2


async def test_it_looks_until_it_is_cancelled() -> None:
    held = Held(100)
    watching = asyncio.ensure_future(held.keeper.watch(every_s=0))
    held.now = 100 + WORTH_BYTES
    async with asyncio.timeout(60):
        while not held.trims:
            await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching


async def test_without_a_way_to_give_back_there_is_nothing_to_do() -> None:
    keeper = Keeper(running=lambda: 0, trim=None)
    await keeper.watch()
    keeper.look()


def test_this_process() -> None:
    before = resident_bytes()
    with mmap.mmap(-1, 64 * WORTH_BYTES) as block:
        block.write(b"x" * len(block))
        assert resident_bytes() - before > 32 * WORTH_BYTES
    trim = trim_of_libc()
    assert trim is None or trim(0) in {0, 1}
