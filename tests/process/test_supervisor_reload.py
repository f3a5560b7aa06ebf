"""How a supervisor's children follow a plan that is made anew: all workers or none, and everything else in its time."""

import asyncio
from pathlib import Path

import pytest

from narthex.core.errors import Draining
from narthex.testing.children import Habit
from narthex.testing.supervised import Supervised, gone, until

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

ANOTHER = Habit(stopping_s=0.01)
"""Not the habit of the others: a plan with it differs."""


async def ready(it: Supervised, *names: str) -> None:
    for name in names:
        await it.reached(name, "ready")


async def test_one_worker_that_can_t_make_ready_keeps_all_as_they_are(tmp_path: Path) -> None:
    refuses = Habit(refuses="prepare")
    async with Supervised(tmp_path).replans().worker("worker-0").worker("worker-1", refuses) as it:
        await it.serving()
        await ready(it, "worker-0", "worker-1")
        it.add("new", start="always")
        it.next_plan("worker-0", "worker-1", "new")
        outcome = await it.call("reload")
        assert outcome["faults"] == ["worker-1: worker-1 refuses to prepare."]
        assert "worker-0 abandon" in it.noted()
        assert not {"worker-0 commit", "worker-1 commit", "new start"} & set(it.noted())
        assert "new" not in await it.status()


async def test_a_worker_that_dies_of_the_new_plan_keeps_all_as_they_are(tmp_path: Path) -> None:
    dies = Habit(refuses="die")
    async with Supervised(tmp_path).replans().worker("worker-0").worker("worker-1", dies) as it:
        await it.serving()
        await ready(it, "worker-0", "worker-1")
        it.next_plan("worker-0", "worker-1")
        assert "worker-1" in (await it.call("reload"))["faults"][0]
        assert "worker-0 commit" not in it.noted()
        await it.reached("worker-1", "ready")


async def test_a_worker_that_does_not_change_over_is_started_anew(tmp_path: Path) -> None:
    async with Supervised(tmp_path).replans().worker("worker-0", Habit(refuses="commit")).worker("worker-1") as it:
        await it.serving()
        await ready(it, "worker-0", "worker-1")
        before = await it.status()
        it.worker("worker-0", ANOTHER).worker("worker-1", ANOTHER)
        it.next_plan("worker-0", "worker-1", needs_restart=["port"])
        outcome = await it.call("reload")
        assert (outcome["faults"], outcome["needs_restart"]) == ([], ["port"])
        await it.reached("worker-0", "ready")
        after = await it.status()
        assert after["worker-0"].pid != before["worker-0"].pid
        assert after["worker-1"].pid == before["worker-1"].pid
        assert "worker-1 commit" in it.noted()


async def test_a_worker_that_is_away_starts_by_the_new_plan(tmp_path: Path) -> None:
    async with Supervised(tmp_path).replans().worker("worker-0").worker("worker-1", Habit(crashes=3)) as it:
        await it.serving()
        await it.reached("worker-1", "backoff")
        it.worker("worker-1", ANOTHER)
        it.next_plan("worker-0", "worker-1")
        assert (await it.call("reload"))["faults"] == []
        await it.reached("worker-1", "ready")


async def test_children_come_and_go_and_come_back(tmp_path: Path) -> None:
    async with Supervised(tmp_path).replans().worker("worker-0").add("old", start="always") as it:
        await it.serving()
        await ready(it, "worker-0", "old")
        pid = (await it.status())["old"].pid
        it.add("new", start="always")
        it.next_plan("worker-0", "new")
        assert (await it.call("reload"))["faults"] == []
        await it.reached("new", "ready")
        assert pid is not None
        await until(lambda: gone(pid))
        it.next_plan("worker-0", "new", "old")
        assert (await it.call("reload"))["faults"] == []
        await it.reached("old", "ready")
        assert it.noted().index("worker-0 settled") < it.noted().index("old term")


async def test_an_idle_engine_starts_anew_and_a_busy_one_goes_on(tmp_path: Path) -> None:
    async with Supervised(tmp_path).replans().worker("worker-0") as it:
        for name, habit in (("engine/idle", Habit()), ("engine/busy", Habit(busy=True)), ("engine/same", Habit())):
            it.add(name, habit, group="engines", start="always")
        await it.serving()
        names = ("engine/idle", "engine/busy", "engine/same")
        await ready(it, "worker-0", *names)
        before = await it.status()
        it.add("engine/idle", ANOTHER, group="engines", start="always")
        it.add("engine/busy", ANOTHER, group="engines", start="always")
        it.next_plan("worker-0", *names)
        assert (await it.call("reload"))["faults"] == []
        await until(lambda: it.noted().count("engine/idle ready") == 2)
        after = await it.status()
        assert [after[name].pid == before[name].pid for name in names] == [False, True, True]


async def test_reloads_that_are_asked_for_together_are_one(tmp_path: Path) -> None:
    async with Supervised(tmp_path).replans().worker("worker-0") as it:
        await it.serving()
        await it.reached("worker-0", "ready")
        it.next_plan("worker-0")
        outcomes = await asyncio.gather(*(it.call("reload") for _ in range(8)))
        assert [outcome["faults"] for outcome in outcomes] == [[]] * 8
        assert it.noted().count("worker-0 commit") <= 2


async def test_a_plan_that_can_t_be_read_changes_nothing(tmp_path: Path) -> None:
    async with Supervised(tmp_path).replans().worker("worker-0") as it:
        await it.serving()
        await it.reached("worker-0", "ready")
        for text, said in ((b"", "exit code 0"), (b"{}", "could not be read"), (b'{"faults": ["bad"]}', "bad")):
            (tmp_path / "replanned").write_bytes(text)
            assert said in (await it.call("reload"))["faults"][0]
        (tmp_path / "replanned").unlink()
        assert "exit code 1" in (await it.call("reload"))["faults"][0]
        it.add("x" * 110)
        it.next_plan("worker-0", "x" * 110)
        assert "is too long" in (await it.call("reload"))["faults"][0]
        assert "worker-0 prepare" not in it.noted()


async def test_no_reload_while_it_ends(tmp_path: Path) -> None:
    go = tmp_path / "go"
    async with Supervised(tmp_path).replans().worker("worker-0", Habit(stopping_until=str(go))) as it:
        await it.serving()
        await it.reached("worker-0", "ready")
        await it.call("drain")
        await it.reached("worker-0", "stopping")
        with pytest.raises(Draining):
            await it.call("reload")
        go.touch()
        assert await it.ended() == 0
