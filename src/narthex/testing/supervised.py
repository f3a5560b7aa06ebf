"""A supervisor as a process of its own, with children of narrow habits, to be asked, signalled and killed."""

import asyncio
import json
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import msgspec

from narthex.ipc.client import Client
from narthex.supervisor import datafolder
from narthex.supervisor.child import Status
from narthex.supervisor.plan import (
    ChildSpec,
    Plan,
    Replan,
    Replanned,
    Stamp,
    control_socket,
    json_line,
    supervisor_socket,
)
from narthex.testing.children import Habit

DEADLINE_S = 60.0
VERSION = Stamp(schema=3, program="0.1.0")


def child(name: str, habit: Habit | None = None, /, **spec: Any) -> ChildSpec:
    """An on-demand child with this habit; the habit gets the child's name."""
    settings = msgspec.structs.replace(habit or Habit(), name=name)
    fields = {"start": "on_demand", "start_timeout_s": DEADLINE_S, "stop_timeout_s": DEADLINE_S, **spec}
    module = "narthex.testing.children"
    return ChildSpec(name=name, module=module, settings=msgspec.Raw(msgspec.json.encode(settings)), **fields)


async def until(true: Callable[[], bool], *, deadline_s: float = DEADLINE_S) -> None:
    """Return once `true()`; fail with the deadline."""
    async with asyncio.timeout(deadline_s):
        while not true():  # noqa: ASYNC110 - the event happens in another process
            await asyncio.sleep(0.01)


def gone(pid: int) -> bool:
    """Whether no such process runs; one that ended and waits to be reaped doesn't run."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


class Supervised:
    """One data folder and the supervisor that serves it. Leaving the block ends what still runs."""

    def __init__(self, folder: Path, **plan: Any) -> None:
        """`folder`: an empty one. `plan`: fields of the plan that differ from a test's usual ones."""
        self.data = folder / "data"
        self.data.mkdir(parents=True, exist_ok=True)
        self.run_dir = datafolder.run_dir(self.data)
        self.log = folder / "log"
        self.trace = folder / "trace"
        fields = {"port": 0, "drain_timeout_s": DEADLINE_S, "version": VERSION, **plan}
        self.plan = Plan(data_dir=str(self.data), run_dir=str(self.run_dir), children=[], **fields)
        self._started: list[subprocess.Popen[bytes]] = []
        self._client = Client(supervisor_socket(self.run_dir), name="supervisor")

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """The supervisor that was started last."""
        return self._started[-1]

    def add(self, name: str, habit: Habit | None = None, /, **spec: Any) -> Self:
        """Have one more child in the plan, traced; engines and workers answer on their control sockets."""
        answers = spec.get("group") == "engines" or spec.get("listener")
        control = str(control_socket(self.run_dir, name)) if answers else None
        habit = msgspec.structs.replace(habit or Habit(), trace=str(self.trace), control=control)
        self.plan.children.append(child(name, habit, **spec))
        return self

    def worker(self, name: str, habit: Habit | None = None, /, **spec: Any) -> Self:
        """Have one more worker in the plan."""
        return self.add(name, habit, start="always", listener=True, **spec)

    def replans(self) -> Self:
        """Let it reload; `next_plan` then says what the settings come to."""
        raw = msgspec.Raw(msgspec.json.encode(str(self.data.parent / "replanned")))
        self.plan = msgspec.structs.replace(self.plan, replan=Replan(module="narthex.testing.replanned", settings=raw))
        return self

    def next_plan(self, *names: str, **told: Any) -> None:
        """What the next reload finds: a plan of the children of these names, as they were added last."""
        children = {spec.name: spec for spec in self.plan.children}
        plan = msgspec.structs.replace(self.plan, children=[children[name] for name in names])
        replanned = Replanned(plan=plan, **told)
        (self.data.parent / "replanned").write_bytes(msgspec.json.encode(replanned))

    def start(self) -> subprocess.Popen[bytes]:
        """Start a supervisor of this plan; its log lines are added to `log`."""
        self.run_dir.mkdir(mode=0o700, exist_ok=True)
        with (self.data.parent / "plan").open("w+b") as plan, self.log.open("ab") as log:
            plan.write(json_line(self.plan))
            plan.seek(0)
            fd = plan.fileno()
            argv = [sys.executable, "-m", "narthex.supervisor", "--plan", str(fd)]
            self._started.append(subprocess.Popen(argv, pass_fds=(fd,), stderr=log))  # noqa: S603 - ours
        return self.process

    async def serving(self) -> Self:
        """Start, and return once the control socket answers."""
        self.start()
        log = len(self.lines())
        await until(lambda: any(line["event"] == "serving" for line in self.lines()[log:]))
        return self

    async def call(self, operation: str, child: str | None = None) -> Any:
        """Ask the supervisor on its control socket."""
        return await self._client.call(operation, {"child": child}, Any)

    async def status(self) -> dict[str, Status]:
        """What it tells of its children, by their names."""
        return {one.name: one for one in await self._client.call("status", None, list[Status])}

    async def reached(self, child: str, state: str) -> Status:
        """The status of a child, once it has this state."""
        async with asyncio.timeout(DEADLINE_S):
            while (found := (await self.status())[child]).state != state:  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.01)
        return found

    def lines(self) -> list[dict[str, Any]]:
        """Its log so far."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]

    def port(self) -> int:
        """Where it listened last."""
        return int([line["address"] for line in self.lines() if line["event"] == "listening"][-1].rpartition(":")[2])

    def noted(self) -> list[str]:
        """What its children noted in their trace."""
        return self.trace.read_text().splitlines() if self.trace.exists() else []

    async def ended(self, number: int | None = None, *, deadline_s: float = DEADLINE_S) -> int:
        """Send a signal, if one is given, and return the exit code."""
        if number is not None:
            self.process.send_signal(number)
        await until(lambda: self.process.poll() is not None, deadline_s=deadline_s)
        return self.process.wait()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.aclose()
        for process in self._started:
            for number in (signal.SIGTERM, signal.SIGINT):  # the second one cuts the drain short
                process.send_signal(number)
            try:
                await until(lambda process=process: process.poll() is not None)  # type: ignore[misc]
            except TimeoutError:
                process.kill()
            process.wait()
        shutil.rmtree(self.run_dir, ignore_errors=True)
