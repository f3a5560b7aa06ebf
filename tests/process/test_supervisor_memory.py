"""Engines that share a memory budget: the longest idle one makes room, a busy one never."""

import asyncio
from pathlib import Path

import pytest

from narthex.core.errors import EngineUnavailable
from narthex.testing.children import Habit
from narthex.testing.supervised import Supervised

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

MIB = 1024 * 1024


def sharing(folder: Path, *engines: tuple[str, Habit], budget_mib: int = 250) -> Supervised:
    it = Supervised(folder, memory_budget_bytes=budget_mib * MIB)
    for name, habit in engines:
        it.add(name, habit, group="engines", memory_bytes=100 * MIB)
    return it


async def states(it: Supervised) -> str:
    return " ".join(status.state for status in (await it.status()).values())


async def test_the_least_recently_ensured_makes_room(tmp_path: Path) -> None:
    async with sharing(tmp_path, ("e/a", Habit()), ("e/b", Habit()), ("e/c", Habit())) as it:
        await it.serving()
        for name in ("e/a", "e/b", "e/a", "e/c"):
            await it.call("ensure", name)
        assert await states(it) == "ready stopped ready"
        assert it.noted()[-3:] == ["e/b end", "e/c start", "e/c ready"]


async def test_a_busy_engine_is_passed_over(tmp_path: Path) -> None:
    async with sharing(tmp_path, ("e/a", Habit(busy=True)), ("e/b", Habit()), ("e/c", Habit())) as it:
        await it.serving()
        for name in ("e/a", "e/b", "e/c"):
            await it.call("ensure", name)
        assert await states(it) == "ready stopped ready"


async def test_no_room_beside_busy_engines(tmp_path: Path) -> None:
    busy = Habit(busy=True)
    async with sharing(tmp_path, ("e/a", busy), ("e/b", busy), ("e/c", Habit())) as it:
        await it.serving()
        for name in ("e/a", "e/b"):
            await it.call("ensure", name)
        with pytest.raises(EngineUnavailable, match="not enough memory for e/c") as caught:
            await it.call("ensure", "e/c")
        assert caught.value.retry_after_s == 5
        assert await states(it) == "ready ready stopped"


async def test_an_engine_larger_than_the_budget_asks_nobody_to_retire(tmp_path: Path) -> None:
    async with sharing(tmp_path, ("e/a", Habit())) as it:
        it.add("e/huge", group="engines", memory_bytes=300 * MIB)
        await it.serving()
        await it.call("ensure", "e/a")
        with pytest.raises(EngineUnavailable, match="it needs 300 MiB, all engines together may use 250 MiB"):
            await it.call("ensure", "e/huge")
        assert await states(it) == "ready stopped"


async def test_ensure_of_two_while_one_fits(tmp_path: Path) -> None:
    async with sharing(tmp_path, ("e/a", Habit(ready_after_s=0.2)), ("e/b", Habit()), budget_mib=150) as it:
        await it.serving()
        found = await asyncio.gather(it.call("ensure", "e/a"), it.call("ensure", "e/b"), return_exceptions=True)
        assert sorted(type(one).__name__ for one in found) == ["EngineUnavailable", "dict"]
        await it.call("ensure", "e/b")
        assert await states(it) == "stopped ready"


async def test_ensure_while_the_room_is_being_left(tmp_path: Path) -> None:
    async with sharing(tmp_path, ("e/a", Habit(stopping_s=0.3)), ("e/b", Habit()), budget_mib=150) as it:
        await it.serving()
        await it.call("ensure", "e/a")
        stopping = asyncio.ensure_future(it.call("stop", "e/a"))
        await it.reached("e/a", "stopping")
        await it.call("ensure", "e/b")
        await stopping
        assert it.noted()[2:5] == ["e/a term", "e/a end", "e/b start"]


async def test_without_a_budget_all_run(tmp_path: Path) -> None:
    async with sharing(tmp_path, ("e/a", Habit()), ("e/b", Habit()), budget_mib=0) as it:
        await it.serving()
        for name in ("e/a", "e/b"):
            await it.call("ensure", name)
        assert await states(it) == "ready ready"


async def test_an_engine_that_does_not_answer_counts_as_busy(tmp_path: Path) -> None:
    async with sharing(tmp_path, ("e/a", Habit()), ("e/b", Habit()), budget_mib=150) as it:
        await it.serving()
        await it.call("ensure", "e/a")
        (it.run_dir / "e-a.ctl.sock").unlink()
        with pytest.raises(EngineUnavailable, match="not enough memory"):
            await it.call("ensure", "e/b")
