"""Reloads: the plan is made anew and everything that runs follows it, or nothing changes at all.

Rule: one at a time. Who asks while one runs gets the next one, together with all others who ask meanwhile: the settings
may have changed after the first was read.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from narthex.core.errors import ConfigError, Draining, NarthexError
from narthex.ipc.tasks import TaskSet
from narthex.supervisor.child import Child
from narthex.supervisor.memory import GROUP, agrees_to_retire
from narthex.supervisor.plan import ChildSpec, Plan, check_socket_paths
from narthex.supervisor.replan import changed, replanned
from narthex.supervisor.workers import Workers

log = structlog.get_logger(__name__)

_ASK_AGAIN_S = 0.1


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What `reload` tells: which settings are in force anew, and which need a restart, by name.

    `faults`: why nothing has changed, one text for each; none: it went well.
    """

    changed: list[str] = []
    needs_restart: list[str] = []
    faults: list[str] = []


class Reloads:
    """Makes a supervisor's children follow the settings."""

    def __init__(
        self,
        plan: Plan,
        children: dict[str, Child],
        *,
        make: Callable[[ChildSpec], Child],
        adopted: Callable[[Plan], None],
        tasks: TaskSet,
    ) -> None:
        """`children`: of the supervisor, changed in place. `adopted` hears of each new plan before workers follow."""
        self._plan = plan
        self._children = children
        self._make = make
        self._adopted = adopted
        self._tasks = tasks
        self._run_dir = Path(plan.run_dir)
        self._workers = Workers(children, self._run_dir)
        self._due: asyncio.Future[Outcome] | None = None
        self._reloading = False
        self._tidying: asyncio.Task[None] | None = None
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def reload(self) -> Outcome:
        """Reload, and tell what came of it. Whoever stops waiting does not stop the reload.

        Raises:
            Draining: the server ends.
        """
        return await asyncio.shield(self.ask())

    def ask(self) -> "asyncio.Future[Outcome]":
        """Reload as soon as possible; returns at once.

        Raises:
            Draining: the server ends.
        """
        if self._closed:
            raise Draining(retry_after_s=5)
        if self._due is None:
            self._due = asyncio.get_running_loop().create_future()
        due = self._due
        if not self._reloading:
            self._reloading = True
            self._tasks.start(self._run())
        return due

    def close(self) -> None:
        """The server ends: no plan is taken any more."""
        self._closed = True
        if self._tidying is not None:
            self._tidying.cancel()

    async def _run(self) -> None:
        try:
            while self._due is not None:
                due, self._due = self._due, None
                try:
                    due.set_result(await self._outcome())
                finally:
                    if not due.done():  # nobody may wait for ever, whatever went wrong
                        due.set_result(Outcome(faults=["The reload failed; the log says why."]))
        finally:
            self._reloading = False

    async def _outcome(self) -> Outcome:
        try:
            outcome = await self._reload()
        except NarthexError as error:
            outcome = Outcome(faults=[error.message])
        except OSError as error:
            outcome = Outcome(faults=[f"The settings could not be read: {error.strerror}."])
        if outcome.faults:
            log.error("reload refused", faults=outcome.faults)
        else:
            log.info("reloaded", changed=outcome.changed, needs_restart=outcome.needs_restart)
        return outcome

    async def _reload(self) -> Outcome:
        told = await replanned(self._plan.replan)
        if told.plan is None:
            return Outcome(faults=told.faults or ["The settings could not be read."])
        plan = told.plan
        check_socket_paths(plan)
        outcome = Outcome(changed=changed(self._plan, plan), needs_restart=told.needs_restart)
        ready = await self._workers.prepare(plan.children)
        while self._ending:  # a child of the same name may be about to start
            await asyncio.wait(self._ending)
        if self._closed:
            raise ConfigError("The server ends.")
        self._adopt(plan)
        await self._workers.commit(ready)
        if self._tidying is not None:
            self._tidying.cancel()
        self._tidying = self._tasks.start(self._tidy())
        return outcome

    def _adopt(self, plan: Plan) -> None:
        """From here on whatever starts, starts by the new plan."""
        self._plan = plan
        for spec in plan.children:
            if (child := self._children.get(spec.name)) is not None:
                child.replace(spec)
            else:
                child = self._children[spec.name] = self._make(spec)
            if spec.start == "always":
                child.start()
        self._adopted(plan)

    # --- afterwards

    async def _tidy(self) -> None:
        """Stop what the plan has no more, and start anew what runs by a former spec, both when nobody uses them."""
        await asyncio.gather(self._leave(), self._renew())

    async def _leave(self) -> None:
        await self._workers.settled()
        planned = {spec.name for spec in self._plan.children}
        for name in [name for name in self._children if name not in planned]:
            ending = self._tasks.start(self._children.pop(name).close())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _renew(self) -> None:
        while old := [child for child in self._children.values() if child.is_outdated and child.spec.group == GROUP]:
            for child in old:
                name = child.spec.name
                if await child.retire(lambda name=name: agrees_to_retire(self._run_dir, name)):  # type: ignore[misc]
                    log.info("started anew", child=name)
                    if child.spec.start == "always":
                        child.start()
            await asyncio.sleep(_ASK_AGAIN_S)
