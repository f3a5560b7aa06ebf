"""The end of a supervisor: drained in order, cut short, or killed. Nothing of it is left."""

import os
import signal
import socket
from pathlib import Path

import pytest

from narthex.core.errors import Draining
from narthex.testing.children import Habit
from narthex.testing.supervised import Supervised, gone, until

pytestmark = [pytest.mark.anyio, pytest.mark.patient]


async def pids(it: Supervised, *names: str) -> list[int]:
    found = [(await it.reached(name, "ready")).pid for name in names]
    return [pid for pid in found if pid is not None]


async def test_workers_end_before_what_they_use(tmp_path: Path) -> None:
    it = Supervised(tmp_path).worker("worker-0", Habit(stopping_s=0.3)).worker("worker-1")
    async with it.add("engine/a").add("background", Habit(stopping_s=0.2), start="always"):
        await it.serving()
        await pids(it, "worker-0", "worker-1", "background")
        await it.call("ensure", "engine/a")
        assert await it.ended(signal.SIGINT) == 0
        noted = it.noted()
        last_worker = max(noted.index(f"worker-{n} end") for n in (0, 1))
        assert last_worker < min(noted.index("engine/a term"), noted.index("background term"))
        assert noted.index("worker-1 term") < noted.index("worker-0 end")
        assert noted.count("worker-0 start") == 1


async def test_engines_still_start_for_workers_that_drain(tmp_path: Path) -> None:
    answered = tmp_path / "answered"
    it = Supervised(tmp_path).worker("worker-0", Habit(stopping_until=str(answered))).add("engine/a")
    async with it:
        await it.serving()
        await pids(it, "worker-0")
        assert await it.call("drain") == {"draining": True}
        await until(lambda: "worker-0 term" in it.noted())
        assert await it.call("ensure", "engine/a") == {"ready": True}
        with pytest.raises(Draining):
            await it.call("ensure", "worker-0")
        answered.touch()
        assert await it.ended() == 0
        assert it.noted()[-1] == "engine/a end"


async def test_a_worker_that_does_not_end_is_killed_at_the_limit(tmp_path: Path) -> None:
    it = Supervised(tmp_path, drain_timeout_s=-3).worker("worker-0", Habit(ignore_sigterm=True)).worker("worker-1")
    async with it:
        await it.serving()
        running = await pids(it, "worker-0", "worker-1")
        assert await it.ended(signal.SIGTERM) == 0
        assert all(gone(pid) for pid in running)
        assert "worker-0 term" in it.noted()
        assert "worker-1 end" in it.noted()


async def test_a_second_signal_kills_at_once(tmp_path: Path) -> None:
    it = Supervised(tmp_path).worker("worker-0", Habit(ignore_sigterm=True))
    async with it.add("background", start="always"):
        await it.serving()
        running = await pids(it, "worker-0", "background")
        it.process.send_signal(signal.SIGTERM)
        await until(lambda: "worker-0 term" in it.noted())
        assert await it.ended(signal.SIGINT, deadline_s=30) == 0
        assert all(gone(pid) for pid in running)


async def test_drain_while_a_worker_starts_and_another_backs_off(tmp_path: Path) -> None:
    it = Supervised(tmp_path).worker("worker-0", Habit(ready_after_s=None)).worker("worker-1", Habit(crashes=3))
    async with it:
        await it.serving()
        await until(lambda: {"worker-0 start", "worker-1 start"} <= set(it.noted()))
        await it.reached("worker-1", "backoff")
        assert await it.ended(signal.SIGTERM) == 0


async def test_the_terminals_ctrl_c_reaches_the_supervisor_alone(tmp_path: Path) -> None:
    async with Supervised(tmp_path).worker("worker-0") as it:
        await it.serving()
        (pid,) = await pids(it, "worker-0")
        assert os.getpgid(pid) == pid != os.getpgid(it.process.pid)
        assert os.getsid(pid) == pid


@pytest.mark.parametrize("habit", [Habit(), Habit(ignore_sigterm=True), Habit(ready_after_s=None)])
async def test_kill_of_the_supervisor_leaves_nothing(tmp_path: Path, habit: Habit) -> None:
    it = Supervised(tmp_path).worker("worker-0", habit).worker("worker-1").add("background", habit, start="always")
    async with it:
        await it.serving()
        await until(lambda: {"worker-0 start", "background start"} <= set(it.noted()))
        await pids(it, "worker-1")
        running = [status.pid for status in (await it.status()).values()]
        await it.ended(signal.SIGKILL)
        await until(lambda: all(pid is None or gone(pid) for pid in running), deadline_s=30)


async def test_kill_of_the_supervisor_and_serve_again_at_once(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    async with Supervised(tmp_path, port=port).worker("worker-0").worker("worker-1") as it:
        for _ in range(3):
            await it.serving()
            await pids(it, "worker-0", "worker-1")
            assert await it.ended(signal.SIGKILL) == -signal.SIGKILL
        await it.serving()
        await pids(it, "worker-0", "worker-1")
        with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
            assert connection.recv(100)
        assert await it.ended(signal.SIGTERM) == 0


async def test_kill_of_the_supervisor_while_children_start(tmp_path: Path) -> None:
    it = Supervised(tmp_path)
    for number in range(4):
        it.worker(f"worker-{number}")
    async with it:
        await it.serving()
        running = [status.pid for status in (await it.status()).values()]
        await it.ended(signal.SIGKILL)
        await until(lambda: all(pid is None or gone(pid) for pid in running), deadline_s=30)
