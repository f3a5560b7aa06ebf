"""The running supervisor: starts what the plan names, answers on its control socket, ends all in the right order."""

import asyncio
import contextlib
import random
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from narthex.core.errors import Draining
from narthex.ipc.server import Server
from narthex.ipc.tasks import TaskSet
from narthex.supervisor import control
from narthex.supervisor.child import Child, Surroundings
from narthex.supervisor.memory import MemoryBudget
from narthex.supervisor.plan import ChildSpec, Plan, supervisor_socket
from narthex.supervisor.process import Process, Report
from narthex.supervisor.reload import Reloads

log = structlog.get_logger(__name__)

DRAIN_GRACE_S = 5.0
"""Beyond the drain limit that workers keep themselves, until they are killed."""

_HOPELESS_CRASHES = 5


class Supervisor:
    """One plan, run once. Everything happens on the loop of the main thread."""

    def __init__(self, plan: Plan, sockets: Sequence[socket.socket]) -> None:
        """`sockets`: the listening ones, which stay the caller's to close."""
        self._plan = plan
        self._listen_fds = [one.fileno() for one in sockets]
        self._tasks = TaskSet()
        self._stop = asyncio.Event()
        self._stops = 0
        self._served = False
        self.start_failure: str | None = None
        run_dir = Path(plan.run_dir)
        self._children: dict[str, Child] = {}
        self._budget = MemoryBudget(plan.memory_budget_bytes, children=self._children.values, run_dir=run_dir)
        surroundings = Surroundings(
            spawn=self._spawn,
            room=self._budget.room,
            changed=self._changed,
            tasks=self._tasks,
            clock=time.monotonic,
            jitter=random.random,
        )
        self._children |= {spec.name: Child(spec, surroundings) for spec in plan.children}
        self._reloads = Reloads(
            plan,
            self._children,
            make=lambda spec: Child(spec, surroundings),
            adopted=self._adopt,
            tasks=self._tasks,
        )
        operations = control.operations(self._children, reload=self._reloads.reload, drain=self.drain)
        self._server = Server(supervisor_socket(run_dir), operations)

    async def run(self) -> None:
        """Serve until told to stop, then drain; `start_failure` says why where it never served."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop_asked)
        # The terminal that we run in was closed; without one it is the way to ask for a reload.
        hung_up = self._stop_asked if sys.stderr.isatty() else self._reload
        loop.add_signal_handler(signal.SIGHUP, hung_up)
        await self._server.start()
        log.info("serving", children=len(self._children))
        for child in self._children.values():
            if child.spec.start == "always":
                child.start()
        await self._stop.wait()
        await self._drain()
        await self._server.aclose()
        await self._tasks.aclose()

    def drain(self) -> None:
        """Begin to end; returns at once."""
        self._stop.set()

    async def _drain(self) -> None:
        self._reloads.close()
        workers = [child for child in self._children.values() if child.spec.listener]
        others = [child for child in self._children.values() if not child.spec.listener]
        log.info("draining", workers=len(workers), limit_s=self._plan.drain_timeout_s)
        limit_s = self._plan.drain_timeout_s + DRAIN_GRACE_S
        await asyncio.gather(*(child.close(within_s=limit_s) for child in workers))
        await asyncio.gather(*(child.close() for child in others))
        log.info("ended")

    def _stop_asked(self) -> None:
        self._stops += 1
        self.drain()
        if self._stops > 1:
            log.warning("killing every child")
            for child in self._children.values():
                child.kill()

    def _reload(self) -> None:
        with contextlib.suppress(Draining):
            self._reloads.ask()

    def _adopt(self, plan: Plan) -> None:
        self._plan = plan
        self._budget.limit_bytes = plan.memory_budget_bytes

    def _spawn(
        self,
        spec: ChildSpec,
        on_report: Callable[[Process, Report], None],
        on_exit: Callable[[Process, int], None],
    ) -> Process:
        return Process(spec, listen_fds=self._listen_fds, on_report=on_report, on_exit=on_exit)

    def _changed(self, child: Child) -> None:
        """Where no worker ever becomes ready there is nothing to serve: give up instead of trying for ever."""
        if self._served or not child.spec.listener:
            return
        if child.state == "ready":
            self._served = True
        elif child.state == "backoff" and (child.reported_failure or child.crashes >= _HOPELESS_CRASHES):
            self.start_failure = child.message
            self.drain()
