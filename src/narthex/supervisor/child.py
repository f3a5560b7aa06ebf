"""One child's state and its only owner: everybody else asks it.

    stopped ─▶ starting ─▶ ready ─▶ stopping ─▶ stopped        asked to stop, or retired
                  │          └─────────────────▶ stopped       an on-demand child ended by itself, with 0
                  ├────────────────────────────▶ failed        it said that it can't work; tried again when asked
                  └──────────┴─────────────────▶ backoff ─▶ starting      it crashed

Rule: every change happens in one synchronous step on the loop, so a decision never rests on a state that has passed.
Rule: whoever waits for a child is woken by its readiness, by its failure or by its stop, whichever comes first.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from signal import SIGTERM
from typing import Literal

import msgspec
import structlog

from narthex.core.errors import Draining, EngineStarting, EngineUnavailable, ModelLoadFailed, NarthexError
from narthex.ipc.tasks import TaskSet
from narthex.supervisor.plan import ChildSpec
from narthex.supervisor.process import Process, Report
from narthex.supervisor.restarts import RestartPolicy

log = structlog.get_logger(__name__)

State = Literal["stopped", "starting", "ready", "stopping", "failed", "backoff"]

PATIENCE_S = 1.0
"""How long somebody who asks waits out a backoff; with more left he is told at once when to come back."""

_HUNG = 4
"""A child that isn't ready after so many start timeouts hangs: it is ended, which counts as a crash."""


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """What `status` tells of a child. `restarts` counts starts after a crash, `since_s` is the time in this state."""

    name: str
    state: State
    pid: int | None
    restarts: int
    since_s: float
    memory_bytes: int
    message: str | None = None


class Surroundings(msgspec.Struct, frozen=True, kw_only=True):
    """What a child is given: how it is started, when it has room, whom it tells of its changes, what time it is."""

    spawn: Callable[[ChildSpec, Callable[[Process, Report], None], Callable[[Process, int], None]], Process]
    room: Callable[["Child"], AbstractAsyncContextManager[None]]
    changed: Callable[["Child"], None]
    tasks: TaskSet
    clock: Callable[[], float]
    jitter: Callable[[], float]


class Child:
    """One child over all its lives. Methods are called on the loop."""

    def __init__(self, spec: ChildSpec, surroundings: Surroundings) -> None:
        self.spec = spec
        self.state: State = "stopped"
        self.process: Process | None = None
        self.ensured_at_s = 0.0
        self.message: str | None = None
        self.reported_failure = False
        self._around = surroundings
        self._policy = RestartPolicy(jitter=surroundings.jitter)
        self._since_s = surroundings.clock()
        self._due_s = 0.0
        self._restarts = 0
        self._waiters: set[asyncio.Future[None]] = set()
        self._launching: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._asked_to_retire = False
        self._started_by = spec
        self._closed = False

    @property
    def crashes(self) -> int:
        """Crashes in a row."""
        return self._policy.crashes

    @property
    def is_outdated(self) -> bool:
        """Whether its process works by other settings than those in force."""
        before, now = self._started_by, self.spec
        return self.process is not None and (before.module, before.settings) != (now.module, now.settings)

    def status(self) -> Status:
        """A snapshot, for people; nothing may be decided by it."""
        return Status(
            name=self.spec.name,
            state=self.state,
            pid=self.process.pid if self.process else None,
            restarts=self._restarts,
            since_s=round(self._around.clock() - self._since_s, 3),
            memory_bytes=self.process.memory_bytes() if self.process else 0,
            message=self.message,
        )

    # --- what others ask for ---------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start unless it runs, waits to, or may not any more."""
        if not self._closed and self.state in ("stopped", "failed") and self.process is None:
            self._begin()

    async def ensure(self) -> None:
        """Return once the child is ready; start it where necessary.

        Raises:
            EngineStarting: it is not ready within its start timeout; it goes on starting.
            ModelLoadFailed: it said that it can't work. The message is its own.
            EngineUnavailable: it crashed, was stopped or has no room.
            Draining: the supervisor ends.
        """
        if self._closed:
            raise Draining(retry_after_s=5)
        self.ensured_at_s = self._around.clock()
        if self.state == "ready" and not self._asked_to_retire:
            return
        self._refuse_if_hopeless()
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.add(waiter)
        self.start()
        try:
            async with asyncio.timeout(self.spec.start_timeout_s):
                await waiter
        except TimeoutError:
            raise EngineStarting(f"{self.spec.name} is being started.", retry_after_s=1) from None
        finally:
            self._waiters.discard(waiter)

    async def stop(self) -> None:
        """Return once no process runs; one that doesn't end in time is killed. Only `ensure` starts it again."""
        self._wake(EngineUnavailable(f"{self.spec.name} was stopped.", retry_after_s=1))
        if self._launching is not None:
            self._launching.cancel()
        if self.process is None:
            self._enter("stopped")
            return
        if self.state != "stopping":
            self._end(self.process, within_s=self.spec.stop_timeout_s)
        await self.process.exited.wait()

    async def close(self, *, within_s: float | None = None) -> None:
        """As `stop`, for good: nothing starts it again. `within_s` stands in for its own stop timeout."""
        self._closed = True
        if self.process is not None and within_s is not None:
            self._end(self.process, within_s=within_s)
        await self.stop()

    def kill(self) -> None:
        """End it at once and for good."""
        self._closed = True
        if self._launching is not None:
            self._launching.cancel()
        if self.process is not None:
            self._enter("stopping")
            self.process.kill()

    def replace(self, spec: ChildSpec) -> None:
        """Start by this spec from now on; a process that runs goes on by the one it was started with."""
        self.spec = spec

    def follows(self) -> None:
        """The process works by the spec that is in force now, without a new start."""
        self._started_by = self.spec

    async def restart(self) -> None:
        """Stop it if it runs, then start it."""
        await self.stop()
        self.start()

    async def retire(self, ask: Callable[[], Awaitable[bool]]) -> bool:
        """Whether an idle child has made room: `ask` it, and where it agrees return once its process is gone.

        Who ensures it meanwhile waits for the outcome.
        """
        process = self.process
        if self.state != "ready" or process is None:
            return False
        self._asked_to_retire = True
        agreed = False
        try:
            agreed = await ask()
        finally:
            self._asked_to_retire = False
            if not agreed:
                self._still_ready()
        if agreed and self.process is process:
            self._enter("stopping")
            self._later(self.spec.stop_timeout_s, process.kill)
            await process.exited.wait()
        return agreed

    # --- what happens ----------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        self._enter("starting")
        self.message = None
        self.reported_failure = False
        self._launching = self._around.tasks.start(self._launch())

    async def _launch(self) -> None:
        try:
            async with self._around.room(self):
                self._started_by = self.spec
                self.process = self._around.spawn(self.spec, self._reported, self._exited)
                self._later(self.spec.start_timeout_s * _HUNG, self.process.kill)
        except NarthexError as error:
            self._refused(error)
        except OSError as error:
            self._crashed(f"could not be started: {error.strerror}")
        finally:
            if self._launching is asyncio.current_task():
                self._launching = None

    def _reported(self, process: Process, report: Report) -> None:
        if process is not self.process or self.state not in ("starting", "ready"):
            return
        if report.event == "failed":
            self._failed(process, report.message or f"{self.spec.name} can't work.")
        elif report.event == "ready" and self.state == "starting":
            self._policy.ready(self._around.clock())
            self._enter("ready")
            self._wake(None)

    def _failed(self, process: Process, message: str) -> None:
        log.error("child can't work", child=self.spec.name, reason=message)
        self.message = message
        self.reported_failure = True
        if not self.spec.listener:  # nobody asks for a worker: it is tried again as after a crash
            self._policy.failed(self._around.clock())
            self._wake(ModelLoadFailed(message))
            self._enter("failed")
        self._terminate(process, within_s=self.spec.stop_timeout_s)

    def _exited(self, process: Process, code: int) -> None:
        if process is not self.process:
            return
        self.process = None
        self._cancel_timer()
        by_itself = self.state == "ready" and code == 0 and self.spec.start == "on_demand"
        if self.state == "stopping" or by_itself:
            self._enter("stopped")
        elif self.state != "failed":
            self._crashed(f"was ended by signal {-code}" if code < 0 else f"ended with exit code {code}")
            return
        if self._waiters:
            self.start()

    def _crashed(self, why: str) -> None:
        delay_s = self._policy.crashed(self._around.clock())
        log.warning("child crashed", child=self.spec.name, reason=why, restart_in_s=round(delay_s, 3))
        self.message = self.message or f"{self.spec.name} {why}."
        self._wake(EngineUnavailable(f"{self.spec.name} {why}.", retry_after_s=delay_s))
        self._back_off(delay_s)

    def _refused(self, error: NarthexError) -> None:
        """It has no room now."""
        self._wake(error)
        if self.spec.start == "always":
            self._back_off(self._policy.crashed(self._around.clock()))
        else:
            self._enter("stopped")

    def _back_off(self, delay_s: float) -> None:
        if self._closed:
            self._enter("stopped")
            return
        self._enter("backoff")
        self._due_s = self._around.clock() + delay_s
        self._later(delay_s, self._again)

    def _again(self) -> None:
        self._restarts += 1
        self._begin()

    def _still_ready(self) -> None:
        if self.state == "ready":
            self._wake(None)

    # --- steps -----------------------------------------------------------------------------------------------------

    def _refuse_if_hopeless(self) -> None:
        now_s = self._around.clock()
        if self.state == "failed" and self._policy.failed_for_s(now_s) > 0:
            raise ModelLoadFailed(self.message)
        if self.state == "backoff" and (left_s := self._due_s - now_s) > PATIENCE_S:
            raise EngineUnavailable(self.message, retry_after_s=left_s)

    def _end(self, process: Process, *, within_s: float) -> None:
        self._enter("stopping")
        self._terminate(process, within_s=within_s)

    def _terminate(self, process: Process, *, within_s: float) -> None:
        process.signal(SIGTERM)
        self._later(within_s, process.kill)

    def _enter(self, state: State) -> None:
        self._cancel_timer()
        self._since_s = self._around.clock()
        if state != self.state:
            log.info("child", child=self.spec.name, state=state, before=self.state)
            self.state = state
            self._around.changed(self)

    def _wake(self, error: NarthexError | None) -> None:
        waiters, self._waiters = self._waiters, set()
        for waiter in waiters:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(error)

    def _later(self, delay_s: float, action: Callable[[], None]) -> None:
        self._cancel_timer()
        self._timer = asyncio.get_running_loop().call_later(delay_s, action)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
