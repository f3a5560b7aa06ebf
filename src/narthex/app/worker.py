"""A worker: the snapshot that serves, the one that is being made ready, and those whose last requests still run."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import structlog

from narthex import __version__
from narthex.app.aging import aged
from narthex.app.shelf import Shelf
from narthex.app.snapshot import Common, Snapshot
from narthex.app.supervisor import Supervisor
from narthex.core.errors import ConfigError, Draining
from narthex.http.application import Application
from narthex.http.asgi import Direct, Receive, Scope, Send
from narthex.http.images import ImageFiles
from narthex.http.metrics import Metrics
from narthex.http.worker import WorkerSettings
from narthex.ipc.tasks import TaskSet
from narthex.jobs.waking import Waker
from narthex.retrieval.opened import FOLDER as COLLECTIONS
from narthex.retrieval.opened import OpenCollections
from narthex.routing.health import Health
from narthex.sandbox.client import SandboxGrammars, SandboxTemplates
from narthex.storage.sqlite.control import open_control
from narthex.storage.sqlite.stored import FILE as COMPLETIONS
from narthex.storage.sqlite.stored import SqliteStoredChats
from narthex.storage.uploads import FOLDER as UPLOADS
from narthex.storage.uploads import Uploads

log = structlog.get_logger(__name__)

_LAST_WORDS_S = 1.0
"""How long requests that are cut at the end of a drain may take to say so. Together with uvicorn's own limit it stays
within the supervisor's grace."""


class Worker:
    """What one worker serves. Make it with `open_worker`."""

    def __init__(self, settings: WorkerSettings, common: Common) -> None:
        self._common = common
        self._current = Snapshot(settings, common, common.shelf.holdings())
        self._prepared: Snapshot | None = None
        self._former: dict[Snapshot, asyncio.Task[None]] = {}
        self._tasks = TaskSet()
        self._draining = False

    @property
    def settings(self) -> WorkerSettings:
        """Those in force."""
        return self._current.settings

    @property
    def application(self) -> Application:
        """What the next request gets."""
        return self._current.application

    @property
    def running(self) -> int:
        """Requests under way, of all snapshots."""
        return sum(each.running for each in self._applications())

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serve one request with the snapshot that is current as it begins. See the ASGI specification."""
        return self._current(scope, receive, send)

    def begin(self, scope: Scope, direct: Direct) -> bool:
        """See `Application.begin`."""
        return self._current.application.begin(scope, direct)

    # --- reloads

    async def prepare(self, settings: WorkerSettings) -> None:
        """Build a snapshot beside the running one; nothing changes yet. One that was prepared before is dropped.

        Raises:
            ConfigError: it can't be built.
            Draining: this worker ends.
        """
        if self._draining:
            raise Draining
        await self.abandon()
        holdings = self._common.shelf.holdings()
        try:
            self._prepared = Snapshot(settings, self._common, holdings)
        except ValueError as error:
            raise ConfigError(f"The settings can't be used: {error}.") from None
        finally:
            if self._prepared is None:
                await holdings.release()

    def commit(self) -> None:
        """Serve with what was prepared, from the next request on; those that run end as they began.

        Raises:
            ConfigError: nothing was prepared.
        """
        if self._prepared is None:
            raise ConfigError("Nothing was prepared.")
        former, self._current, self._prepared = self._current, self._prepared, None
        self._current.application.draining = self._draining
        self._former[former] = self._tasks.start(self._ended(former))

    async def abandon(self) -> None:
        """Drop what was prepared, if anything was."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            await prepared.aclose()

    async def settled(self) -> None:
        """Until no request runs that began under former settings."""
        while self._former:
            await asyncio.wait(self._former.values())

    async def _ended(self, former: Snapshot) -> None:
        try:
            await former.application.wait_idle()
            await former.aclose()
        finally:
            del self._former[former]

    # --- the end

    async def drained(self) -> None:
        """Refuse new requests and wait for the running ones, up to the limit; then end those with an error."""
        self._draining = True
        for application in self._applications():
            application.draining = True
        limit_s = self.settings.drain_s
        if not await self._idle_within(limit_s):
            log.warning("cutting requests", running=self.running, limit_s=limit_s)
            for application in self._applications():
                application.cut()
            await self._idle_within(_LAST_WORDS_S)

    async def aclose(self) -> None:
        """Close every connection."""
        await self._tasks.aclose()
        await self.abandon()
        for former in tuple(self._former):
            await former.aclose()
        await self._current.aclose()

    def _applications(self) -> list[Application]:
        return [self._current.application, *(former.application for former in self._former)]

    async def _idle_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                while self.running:
                    await asyncio.gather(*(each.wait_idle() for each in self._applications()))
        except TimeoutError:
            return False
        return True


@asynccontextmanager
async def open_worker(settings: WorkerSettings) -> AsyncIterator[Worker]:
    """Build everything; leaving the block closes it.

    Raises:
        ConfigError: the settings hold what can't be used.
        StorageError: the data folder can't be used.
    """
    data_dir, run_dir = Path(settings.data_dir), Path(settings.run_dir)
    async with AsyncExitStack() as stack:
        control = await open_control(data_dir / "control.db", clock=_now_ms)
        stack.push_async_callback(control.aclose)
        stored = SqliteStoredChats(data_dir / COMPLETIONS, clock=_now_ms)
        stack.push_async_callback(stored.aclose)
        collections = OpenCollections(data_dir / COLLECTIONS, clock=_now_ms)
        stack.push_async_callback(collections.aclose)
        supervisor = Supervisor(run_dir)
        stack.push_async_callback(supervisor.aclose)
        waker = Waker(run_dir, ensure=supervisor.ensure)
        stack.push_async_callback(waker.aclose)
        if await control.jobs.open_ids() or await control.collections.every():
            waker.wake(settings.digest)  # for jobs that a server which ended has left, and for indexes
        templates = SandboxTemplates(run_dir / "sandbox.sock", ensure=supervisor.ensure)
        stack.push_async_callback(templates.aclose)
        grammars = SandboxGrammars(run_dir / "compiler.sock", ensure=supervisor.ensure)
        stack.push_async_callback(grammars.aclose)
        images = ImageFiles(data_dir / "images", clock=_now_s)
        await asyncio.to_thread(images.sweep)
        if settings.speech is None and any(model.runs == "speech" for model in settings.models):
            log.info("no speech engine is installed", hint="install espeak-ng, or the extra narthex[speech]")
        metrics = Metrics(worker=settings.name, version=__version__)
        health = Health(clock=asyncio.get_running_loop().time)
        metrics.watch(health.snapshot)
        common = Common(
            control=control,
            stored=stored,
            collections=collections,
            uploads=Uploads(data_dir / UPLOADS),
            waker=waker,
            supervisor=supervisor,
            templates=templates,
            grammars=grammars,
            images=images,
            metrics=metrics,
            health=health,
            shelf=Shelf(),
            started_s=int(_now_s()),
            now_s=_now_s,
            now_ms=_now_ms,
        )
        worker = Worker(settings, common)
        stack.push_async_callback(worker.aclose)
        tasks = TaskSet()
        stack.push_async_callback(tasks.aclose)
        tasks.start(aged(stored, waker, settings=lambda: worker.settings, clock=_now_s))
        yield worker


def _now_s() -> float:
    return time.time()  # noqa: TID251 - the clock is handed out here


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
