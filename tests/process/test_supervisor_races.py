"""One child's owner under races: a real process, asked from this loop. Each test is named after what happens when."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest

from narthex.core.errors import Draining, EngineUnavailable, ModelLoadFailed
from narthex.ipc.tasks import TaskSet
from narthex.supervisor.child import Child, Surroundings
from narthex.supervisor.plan import ChildSpec
from narthex.supervisor.process import Process, Report
from narthex.testing.children import Habit
from narthex.testing.supervised import DEADLINE_S, child, gone, until

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

Room = Callable[[Child], contextlib.AbstractAsyncContextManager[None]]


@contextlib.asynccontextmanager
async def room_for_all(_: Child) -> AsyncIterator[None]:
    yield


class Bench:
    """A child, the trace of its processes, the states it went through, and a clock that can be put forward."""

    def __init__(self, folder: Path, habit: Habit, *, room: Room = room_for_all, **spec: Any) -> None:
        self.trace = folder / "trace"
        self.trace.touch()
        self.states: list[str] = []
        self.forward_s = 0.0
        self.tasks = TaskSet()
        self.refuse_to_spawn: Callable[[], None] = lambda: None
        around = Surroundings(
            spawn=self._spawn,
            room=room,
            changed=lambda changed: self.states.append(changed.state),
            tasks=self.tasks,
            clock=lambda: time.monotonic() + self.forward_s,
            jitter=lambda: 0.5,
        )
        self.child = Child(child("a", msgspec.structs.replace(habit, trace=str(self.trace)), **spec), around)

    def _spawn(
        self,
        spec: ChildSpec,
        on_report: Callable[[Process, Report], None],
        on_exit: Callable[[Process, int], None],
    ) -> Process:
        self.refuse_to_spawn()
        return Process(spec, listen_fds=(), on_report=on_report, on_exit=on_exit)

    def count(self, event: str) -> int:
        return self.trace.read_text().splitlines().count(f"a {event}")

    async def started(self) -> None:
        await until(lambda: self.count("start") == 1)

    @property
    def pid(self) -> int:
        assert self.child.process is not None
        return self.child.process.pid

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        process = self.child.process
        self.child.kill()
        if process is not None:
            async with asyncio.timeout(DEADLINE_S):
                await process.exited.wait()
        await self.child.close()
        await self.tasks.aclose()


async def outcomes(bench: Bench, waiters: int) -> list[BaseException | None]:
    return await asyncio.gather(*(bench.child.ensure() for _ in range(waiters)), return_exceptions=True)


async def test_many_ensure_during_one_start(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(ready_after_s=0.2)) as bench:
        assert await outcomes(bench, 50) == [None] * 50
        assert bench.count("start") == 1
        assert bench.states == ["starting", "ready"]


async def test_ensure_during_stop(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(stopping_s=0.3)) as bench:
        await bench.child.ensure()
        first = bench.pid
        stopping = asyncio.ensure_future(bench.child.stop())
        await until(lambda: bench.count("term") == 1)
        await bench.child.ensure()
        assert stopping.done()
        assert gone(first)
        assert bench.trace.read_text().split("\n")[:5] == ["a start", "a ready", "a term", "a end", "a start"]
        assert bench.states == ["starting", "ready", "stopping", "stopped", "starting", "ready"]


async def test_stop_during_start_wakes_the_waiters(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(ready_after_s=None)) as bench:
        waiting = asyncio.ensure_future(outcomes(bench, 3))
        await bench.started()
        pid = bench.pid
        await bench.child.stop()
        assert gone(pid)
        assert [str(error) for error in await waiting] == ["a was stopped."] * 3
        assert bench.child.state == "stopped"


async def test_two_stops_at_once(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(stopping_s=0.2)) as bench:
        await bench.child.ensure()
        await asyncio.gather(bench.child.stop(), bench.child.stop())
        assert bench.count("end") == 1


async def test_stop_before_the_process_exists(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit()) as bench:
        waiting = asyncio.ensure_future(bench.child.ensure())
        await asyncio.sleep(0)
        assert bench.child.state == "starting"
        await bench.child.stop()
        with pytest.raises(EngineUnavailable, match="was stopped"):
            await waiting
        await bench.child.ensure()
        assert bench.count("start") == 1


async def test_stop_and_ensure_while_waiting_for_room(tmp_path: Path) -> None:
    rooms = asyncio.Semaphore(0)

    @contextlib.asynccontextmanager
    async def room(_: Child) -> AsyncIterator[None]:
        async with rooms:
            yield

    async with Bench(tmp_path, Habit(), room=room) as bench:
        first = asyncio.ensure_future(bench.child.ensure())
        await until(lambda: bench.child.state == "starting")
        await bench.child.stop()
        second = asyncio.ensure_future(bench.child.ensure())
        await until(lambda: bench.child.state == "starting")
        rooms.release()
        rooms.release()
        await second
        with pytest.raises(EngineUnavailable, match="was stopped"):
            await first
        assert bench.count("start") == 1


async def test_crash_during_start_wakes_every_waiter(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(ready_after_s=None, crash_after_s=0.1)) as bench:
        found = await outcomes(bench, 10)
        assert {str(error) for error in found} == {"a ended with exit code 3."}
        assert all(isinstance(error, EngineUnavailable) and error.retry_after_s for error in found)
        assert bench.child.state == "backoff"


async def test_ensure_during_a_short_backoff_waits_it_out(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(crashes=1)) as bench:
        with pytest.raises(EngineUnavailable, match="exit code 3"):
            await bench.child.ensure()
        assert bench.child.state == "backoff"
        await bench.child.ensure()
        assert bench.child.status().restarts == 1


async def test_ensure_during_a_long_backoff_is_told_when_to_come_back(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(crashes=1)) as bench:
        with pytest.raises(EngineUnavailable):
            await bench.child.ensure()
        bench.forward_s = -10.0
        with pytest.raises(EngineUnavailable, match="exit code 3") as caught:
            await bench.child.ensure()
        assert caught.value.retry_after_s is not None
        assert caught.value.retry_after_s > 9


async def test_stop_during_backoff(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(crashes=1)) as bench:
        with pytest.raises(EngineUnavailable):
            await bench.child.ensure()
        await bench.child.stop()
        assert bench.child.state == "stopped"
        await bench.child.ensure()
        assert bench.child.status().restarts == 0


async def test_kill_of_a_ready_child_restarts_it(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit()) as bench:
        await bench.child.ensure()
        os.kill(bench.pid, signal.SIGKILL)
        await until(lambda: bench.states[2:] == ["backoff", "starting", "ready"])


async def test_exit_with_0_during_start_is_a_crash(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(ready_after_s=None, idle_after_s=0.1)) as bench:
        with pytest.raises(EngineUnavailable, match="exit code 0"):
            await bench.child.ensure()


async def test_failed_is_tried_again_only_after_a_while(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(failed="No such tensor.")) as bench:
        assert {str(error) for error in await outcomes(bench, 5)} == {"No such tensor."}
        await until(lambda: bench.child.process is None)
        with pytest.raises(ModelLoadFailed, match="No such tensor"):
            await bench.child.ensure()
        assert bench.count("start") == 1
        bench.forward_s = 5.1
        with pytest.raises(ModelLoadFailed, match="No such tensor"):
            await bench.child.ensure()
        assert bench.count("start") == 2
        assert bench.states == ["starting", "failed"] * 2


async def test_ensure_while_a_failed_process_still_ends(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(stopping_s=0.3)) as bench:
        await bench.child.ensure()
        assert bench.child.process is not None
        bench.child._reported(bench.child.process, Report(event="failed"))
        with pytest.raises(ModelLoadFailed, match="a can't work"):
            await bench.child.ensure()
        bench.forward_s = 5.1
        await bench.child.ensure()
        assert bench.trace.read_text().split("\n")[2:5] == ["a term", "a end", "a start"]


async def test_a_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(ignore_sigterm=True), stop_timeout_s=0.3) as bench:
        await bench.child.ensure()
        pid = bench.pid
        await bench.child.stop()
        assert gone(pid)
        assert (bench.count("term"), bench.count("end")) == (1, 0)
        assert bench.child.state == "stopped"


async def test_retire_agreed_and_ensured_meanwhile(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit()) as bench:
        await bench.child.ensure()
        asked, answered = asyncio.Event(), asyncio.Event()

        async def agree() -> bool:
            asked.set()
            await answered.wait()
            os.kill(bench.pid, signal.SIGTERM)
            return True

        retiring = asyncio.ensure_future(bench.child.retire(agree))
        await asked.wait()
        ensuring = asyncio.ensure_future(bench.child.ensure())
        await asyncio.sleep(0)
        assert not ensuring.done()
        answered.set()
        assert await retiring
        await ensuring
        assert bench.count("start") == 2


async def test_retire_refused_and_ensured_meanwhile(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit()) as bench:

        async def refuse() -> bool:
            ensuring.append(asyncio.ensure_future(bench.child.ensure()))
            await asyncio.sleep(0)
            return False

        ensuring: list[asyncio.Future[None]] = []
        assert not await bench.child.retire(refuse)
        assert not ensuring
        await bench.child.ensure()
        assert not await bench.child.retire(refuse)
        await ensuring[0]
        assert bench.states == ["starting", "ready"]


async def test_crash_while_asked_to_retire(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit()) as bench:
        await bench.child.ensure()

        async def crash() -> bool:
            os.kill(bench.pid, signal.SIGKILL)
            await until(lambda: bench.child.state == "backoff")
            return False

        assert not await bench.child.retire(crash)
        await until(lambda: bench.child.state == "ready")


async def test_retired_but_does_not_end(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(), stop_timeout_s=0.2) as bench:
        await bench.child.ensure()
        pid = bench.pid

        async def lie() -> bool:
            await asyncio.sleep(0)
            return True

        assert await bench.child.retire(lie)
        assert gone(pid)
        assert bench.child.state == "stopped"


async def test_ensure_after_close(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(crashes=1)) as bench:
        with pytest.raises(EngineUnavailable):
            await bench.child.ensure()
        await bench.child.close()
        with pytest.raises(Draining):
            await bench.child.ensure()
        bench.child.start()
        assert bench.child.state == "stopped"


async def test_crash_of_a_closed_child_ends_it(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit(), start="always") as bench:

        def refuse() -> None:
            bench.child._closed = True
            raise FileNotFoundError(2, "No such file or directory")

        bench.refuse_to_spawn = refuse
        with pytest.raises(EngineUnavailable, match="could not be started: No such file"):
            await bench.child.ensure()
        assert bench.child.state == "stopped"


async def test_no_room_for_a_child_that_always_runs_is_tried_again(tmp_path: Path) -> None:
    refusals = 1

    @contextlib.asynccontextmanager
    async def room(_: Child) -> AsyncIterator[None]:
        nonlocal refusals
        refusals -= 1
        if refusals >= 0:
            raise EngineUnavailable("full")
        yield

    async with Bench(tmp_path, Habit(), room=room, start="always") as bench:
        with pytest.raises(EngineUnavailable, match="full"):
            await bench.child.ensure()
        await bench.child.ensure()
        assert bench.states == ["starting", "backoff", "starting", "ready"]


async def test_reports_of_a_past_process_change_nothing(tmp_path: Path) -> None:
    async with Bench(tmp_path, Habit()) as bench:
        await bench.child.ensure()
        past = bench.child.process
        assert past is not None
        await bench.child.stop()
        bench.child._reported(past, Report(event="failed", message="late"))
        bench.child._exited(past, 1)
        assert bench.child.state == "stopped"
