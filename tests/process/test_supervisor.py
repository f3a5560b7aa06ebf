"""The supervisor as a process: what it starts, tells, restarts and refuses."""

import os
import signal
import socket
from pathlib import Path

import msgspec
import pytest

from narthex.core.errors import EngineStarting, EngineUnavailable, ModelLoadFailed
from narthex.supervisor.plan import Stamp
from narthex.testing.children import Habit
from narthex.testing.supervised import Supervised, gone, until

pytestmark = [pytest.mark.anyio, pytest.mark.patient]


def who_answers(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        return int(connection.recv(100))


async def test_workers_answer_on_the_inherited_socket(tmp_path: Path) -> None:
    async with Supervised(tmp_path).worker("worker-0").worker("worker-1") as it:
        await it.serving()
        pids = {(await it.reached(name, "ready")).pid for name in ("worker-0", "worker-1")}
        assert who_answers(it.port()) in pids
        assert await it.ended(signal.SIGTERM) == 0
        assert all(gone(pid) for pid in pids if pid)
        assert not (it.run_dir / "supervisor.sock").exists()


async def test_its_own_memory_stays_small(tmp_path: Path) -> None:
    async with Supervised(tmp_path).worker("worker-0") as it:
        await it.serving()
        status = await it.reached("worker-0", "ready")
        assert status.memory_bytes > 1_000_000
        resident = int(Path(f"/proc/{it.process.pid}/statm").read_text().split()[1]) * 4096
        assert resident <= 40 * 1024 * 1024


async def test_an_on_demand_child_starts_when_asked_for(tmp_path: Path) -> None:
    async with Supervised(tmp_path).add("engine/a") as it:
        await it.serving()
        assert (await it.status())["engine/a"].state == "stopped"
        assert await it.call("ensure", "engine/a") == {"ready": True}
        status = (await it.status())["engine/a"]
        assert (status.state, status.restarts) == ("ready", 0)
        assert await it.call("stop", "engine/a") == {"stopped": True}
        assert status.pid is not None
        assert gone(status.pid)
        assert (await it.status())["engine/a"].state == "stopped"


async def test_an_idle_child_just_stops_and_comes_back(tmp_path: Path) -> None:
    async with Supervised(tmp_path).add("engine/a", Habit(idle_after_s=0.3)) as it:
        await it.serving()
        await it.call("ensure", "engine/a")
        await it.reached("engine/a", "stopped")
        await it.call("ensure", "engine/a")
        assert it.noted().count("engine/a start") == 2
        assert (await it.status())["engine/a"].restarts == 0


async def test_a_child_that_always_runs_may_not_end_by_itself(tmp_path: Path) -> None:
    async with Supervised(tmp_path).add("background", Habit(idle_after_s=0.3), start="always") as it:
        await it.serving()
        await until(lambda: it.noted().count("background start") >= 2)
        assert (await it.status())["background"].restarts >= 1


async def test_a_crashed_child_comes_back(tmp_path: Path) -> None:
    async with Supervised(tmp_path).worker("worker-0") as it:
        await it.serving()
        first = await it.reached("worker-0", "ready")
        assert first.pid is not None

        os.kill(first.pid, signal.SIGKILL)
        await until(lambda: it.noted().count("worker-0 ready") == 2)
        second = await it.reached("worker-0", "ready")
        assert (second.restarts, second.pid != first.pid) == (1, True)
        assert who_answers(it.port()) == second.pid


async def test_unknown_children_are_refused(tmp_path: Path) -> None:
    async with Supervised(tmp_path) as it:
        await it.serving()
        for operation in ("ensure", "stop"):
            with pytest.raises(EngineUnavailable, match="no engine/b"):
                await it.call(operation, "engine/b")


async def test_a_failure_is_told_in_the_childs_own_words(tmp_path: Path) -> None:
    async with Supervised(tmp_path).add("engine/a", Habit(failed="The file is cut short.")) as it:
        await it.serving()
        for _ in range(2):
            with pytest.raises(ModelLoadFailed, match="The file is cut short"):
                await it.call("ensure", "engine/a")
        assert it.noted().count("engine/a start") == 1
        assert (await it.status())["engine/a"].message == "The file is cut short."


async def test_a_slow_start_is_told_and_goes_on(tmp_path: Path) -> None:
    async with Supervised(tmp_path).add("engine/a", Habit(ready_after_s=2.5), start_timeout_s=2.0) as it:
        await it.serving()
        with pytest.raises(EngineStarting) as caught:
            await it.call("ensure", "engine/a")
        assert caught.value.retry_after_s == 1
        await it.reached("engine/a", "ready")


async def test_a_start_that_hangs_is_ended(tmp_path: Path) -> None:
    async with Supervised(tmp_path).add("engine/a", Habit(ready_after_s=None), start_timeout_s=0.2) as it:
        await it.serving()
        with pytest.raises(EngineStarting):
            await it.call("ensure", "engine/a")
        await it.reached("engine/a", "backoff")


async def test_sighup_without_a_way_to_plan_anew_changes_nothing(tmp_path: Path) -> None:
    async with Supervised(tmp_path).worker("worker-0") as it:
        await it.serving()
        before = await it.reached("worker-0", "ready")
        it.process.send_signal(signal.SIGHUP)
        await until(lambda: any(line["event"] == "reload refused" for line in it.lines()))
        assert (await it.call("reload"))["faults"]
        assert (await it.reached("worker-0", "ready")).pid == before.pid


async def test_a_second_serve_on_the_folder_is_refused(tmp_path: Path) -> None:
    async with Supervised(tmp_path) as it:
        await it.serving()
        first = it.process
        it.start()
        assert await it.ended() == 2
        assert f"narthex: The data folder {it.data} is in use by process {first.pid}." in it.log.read_text()
        await it.status()


async def test_an_older_program_is_refused(tmp_path: Path) -> None:
    async with Supervised(tmp_path) as it:
        await it.serving()
        assert await it.ended(signal.SIGTERM) == 0
        it.plan = msgspec.structs.replace(it.plan, version=Stamp(schema=2, program="0.0.9"))
        it.start()
        assert await it.ended() == 2
        assert "was written by Narthex 0.1.0 (schema 3); this is Narthex 0.0.9" in it.log.read_text()


async def test_a_port_in_use_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        async with Supervised(tmp_path, port=port) as it:
            it.start()
            assert await it.ended() == 2
            assert f"narthex: Can't listen on 127.0.0.1 port {port}: it is in use already." in it.log.read_text()


async def test_a_unix_socket_instead_of_a_port(tmp_path: Path) -> None:
    async with Supervised(tmp_path, uds=str(tmp_path / "s")).worker("worker-0") as it:
        await it.serving()
        pid = (await it.reached("worker-0", "ready")).pid
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(tmp_path / "s"))
            assert int(connection.recv(100)) == pid
        await it.ended(signal.SIGTERM)
        assert not (tmp_path / "s").exists()


async def test_a_worker_that_can_never_work_ends_the_start(tmp_path: Path) -> None:
    async with Supervised(tmp_path).worker("worker-0", Habit(failed="narthex.yaml: models is empty.")) as it:
        it.start()
        assert await it.ended() == 1
        assert it.log.read_text().splitlines()[-1] == "narthex: narthex.yaml: models is empty."


async def test_a_worker_that_only_crashes_ends_the_start(tmp_path: Path) -> None:
    async with Supervised(tmp_path).worker("worker-0", Habit(crashes=99)) as it:
        it.start()
        assert await it.ended() == 1
        assert it.log.read_text().splitlines()[-1] == "narthex: worker-0 ended with exit code 3."


async def test_a_name_too_long_for_a_socket_is_refused(tmp_path: Path) -> None:
    async with Supervised(tmp_path).add("engine/" + "x" * 100) as it:
        it.start()
        assert await it.ended() == 2
        assert "is too long: its unix socket would need" in it.log.read_text()


async def test_a_folder_in_place_of_a_socket_is_named(tmp_path: Path) -> None:
    async with Supervised(tmp_path).add("engine/a") as it:
        (it.run_dir / "engine-a.sock").mkdir(parents=True)
        it.start()
        assert await it.ended() == 2
        assert "engine-a.sock is a folder where a socket has to be" in it.log.read_text()


async def test_settings_larger_than_a_pipe_arrive(tmp_path: Path) -> None:
    async with Supervised(tmp_path) as it:
        it.add("engine/a")
        settings = msgspec.json.decode(it.plan.children[0].settings) | {"unknown": "x" * 300_000}
        large = msgspec.structs.replace(
            it.plan.children[0], settings=msgspec.Raw(msgspec.json.format(msgspec.json.encode(settings)))
        )
        it.plan.children[:] = [large]
        await it.serving()
        assert await it.call("ensure", "engine/a") == {"ready": True}
