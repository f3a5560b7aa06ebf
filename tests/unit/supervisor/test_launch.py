"""The command line becomes the supervisor."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from narthex.core.errors import ConfigError
from narthex.supervisor import datafolder, launch
from narthex.supervisor.plan import ChildSpec, Plan, Stamp

BECOME = """
import sys, pathlib, msgspec
from narthex.supervisor import datafolder, launch
from narthex.supervisor.plan import Plan
plan = msgspec.json.decode(sys.argv[1], type=Plan)
launch.become(plan, datafolder.lock(pathlib.Path(plan.data_dir)))
"""


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    settings = msgspec.Raw(b'{\n  "api_key": "sk-secret"\n}')
    child = ChildSpec(name="worker-0", module="no.such.module", settings=settings, listener=True)
    return Plan(
        data_dir=str(tmp_path / "data"),
        run_dir=str(tmp_path),
        version=Stamp(schema=1, program="0.1.0"),
        children=[child],
        port=0,
    )


def test_the_plan_is_one_line_that_the_command_does_not_show(plan: Plan) -> None:
    with datafolder.lock(Path(plan.data_dir)) as held:
        command = launch.argv(plan, held)
        assert os.get_inheritable(held.fd)
        fd = int(command[command.index("--plan") + 1])
        assert os.get_inheritable(fd)
        with os.fdopen(fd, "rb") as file:
            (line,) = file.readlines()
    assert b"sk-secret" in line
    assert "sk-secret" not in " ".join(command) + repr(plan)


def test_the_process_keeps_its_id_and_the_lock(plan: Plan) -> None:
    argv = [sys.executable, "-c", BECOME, msgspec.json.encode(plan).decode()]
    with subprocess.Popen(argv, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        while "serving" not in process.stderr.readline():
            assert process.poll() is None
        with pytest.raises(ConfigError, match=f"in use by process {process.pid}"):
            datafolder.lock(Path(plan.data_dir))
        process.terminate()
        said = process.stderr.read()
    assert process.returncode == 0
    assert "sk-secret" not in said


def test_a_plan_that_cannot_be_read(tmp_path: Path) -> None:
    with (tmp_path / "plan").open("w+") as file:
        file.write("{}\n")
        file.seek(0)
        argv = [sys.executable, "-m", "narthex.supervisor", "--plan", str(file.fileno())]
        done = subprocess.run(argv, pass_fds=(file.fileno(),), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("narthex: The plan can't be read: ")


def test_the_command_line_imports_it_cheaply() -> None:
    code = "import sys, narthex.supervisor.launch; print(*{'asyncio', 'structlog', 'rich'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout == b"\n"


def test_one_host_or_several(plan: Plan) -> None:
    assert plan.hosts == ["127.0.0.1"]
    assert msgspec.structs.replace(plan, host=["a", "b"]).hosts == ["a", "b"]
