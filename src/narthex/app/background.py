"""The process that does durable jobs: `python -m narthex.app.background --notify FD`, a worker's settings on its input.

It is started when a job is queued and ends when there has been nothing to do for a minute.

wake     Wake → Woken      there is something to do; or its settings are not those in force any more, and it ends
"""

import asyncio
import os
import secrets
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import structlog

from narthex.app.deployments import Deployments
from narthex.app.native import embedding_of
from narthex.app.shelf import Shelf
from narthex.app.supervisor import Supervisor
from narthex.core.errors import NarthexError
from narthex.core.jobs import Jobs
from narthex.http.worker import WorkerSettings
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Peer, Server
from narthex.ipc.tasks import TaskSet
from narthex.jobs.importing import Importing
from narthex.jobs.indexing import Indexing
from narthex.jobs.ingesting import Ingesting, Site
from narthex.jobs.rebuilding import Rebuilding
from narthex.jobs.runner import Runner, Work
from narthex.jobs.tidying import Aging, Tidying
from narthex.jobs.waking import NAME, Wake, Woken, socket_of
from narthex.retrieval.extract.client import Extractor
from narthex.retrieval.opened import FOLDER as COLLECTIONS
from narthex.retrieval.opened import OpenCollections
from narthex.retrieval.rebuild import when_due
from narthex.routing.catalogue import local_routes, named_routes
from narthex.routing.health import Health
from narthex.routing.router import Router
from narthex.sandbox.client import SandboxGrammars, SandboxTemplates
from narthex.storage.sqlite.control import open_control
from narthex.storage.sqlite.stored import FILE as COMPLETIONS
from narthex.storage.sqlite.stored import SqliteStoredChats
from narthex.storage.uploads import FOLDER as UPLOADS
from narthex.storage.uploads import Uploads

log = structlog.get_logger(__name__)

IDLE_S = 60.0


class Background:
    """What the process does. Make it with `open_background`."""

    def __init__(
        self, settings: WorkerSettings, *, jobs: Jobs, site: Site, runner: Runner, tidying: Tidying, indexing: Indexing
    ) -> None:
        self._digest = settings.digest
        self._socket = socket_of(Path(settings.run_dir))
        self._jobs = jobs
        self._site = site
        self._indexing = indexing
        self._runner = runner
        self._tidying = tidying
        self._stop = asyncio.Event()

    async def run(self, stop: asyncio.Event, lifeline: Lifeline) -> None:
        """Work until told to stop, or until nothing is left to do."""
        self._stop = stop
        beside = TaskSet()
        beside.start(self._indexing.run())
        beside.start(self._tidying.run(stop))
        try:
            while not stop.is_set():
                server = Server(self._socket, {"wake": self._wake})
                await server.start()
                lifeline.ready()
                await self._runner.run(stop, idle_s=IDLE_S)
                # From here on nobody is heard any more: what was queued before is seen now, or by a successor.
                await server.aclose()
                if not (self._indexing.busy or self._tidying.busy) and not await self._jobs.open_ids():
                    break
        finally:
            await beside.aclose()

    async def _wake(self, _: Peer, payload: msgspec.Raw) -> Woken:
        wake = msgspec.msgpack.decode(payload, type=Wake)
        if wake.settings and wake.settings != self._digest:
            log.info("ending, for the settings have changed")
            self._stop.set()
            return Woken(outdated=True)
        if wake.collection_id and (found := await self._site.collections.by_id(wake.collection_id)) is not None:
            self._indexing.look_at(found)
        self._runner.wake()
        return Woken()


@asynccontextmanager
async def open_background(settings: WorkerSettings) -> AsyncIterator[Background]:
    """Build everything; leaving the block closes it.

    Raises:
        ConfigError: the settings hold what can't be used.
        StorageError: the data folder can't be used.
    """
    data_dir, run_dir = Path(settings.data_dir), Path(settings.run_dir)
    async with AsyncExitStack() as stack:
        control = await open_control(data_dir / "control.db", clock=_now_ms)
        stack.push_async_callback(control.aclose)
        stores = OpenCollections(data_dir / COLLECTIONS, clock=_now_ms)
        stack.push_async_callback(stores.aclose)
        supervisor = Supervisor(run_dir)
        stack.push_async_callback(supervisor.aclose)
        router = await _router(settings, supervisor, stack)
        extractor = Extractor(run_dir / "extractor.sock", ensure=supervisor.ensure)
        stack.push_async_callback(extractor.aclose)
        indexing = Indexing(stores.path, due=when_due, hurried=lambda: runner.running > 0)
        site = Site(
            keys=control.keys,
            collections=control.collections,
            stores=stores,
            embedding=embedding_of(router),
            extractor=extractor,
            uploads=Uploads(data_dir / UPLOADS),
            open_jobs=control.jobs.open_ids,
            look_at=indexing.look_at,
            clock=_now_ms,
        )
        owner = f"{NAME}-{os.getpid()}-{secrets.token_hex(4)}"
        works: dict[str, Work] = {
            "ingest": Ingesting(site),
            "rebuild": Rebuilding(site),
            "import": Importing(site),
        }
        runner = Runner(control.jobs, works, owner=owner)
        stored = SqliteStoredChats(data_dir / COMPLETIONS, clock=_now_ms)
        stack.push_async_callback(stored.aclose)
        tidying = Tidying(
            control.jobs,
            control.collections,
            stores,
            site.uploads,
            look_at=indexing.look_at,
            aging=Aging(stored, kept_s=settings.stored_kept_s),
            clock=_now_ms,
        )
        yield Background(settings, jobs=control.jobs, site=site, runner=runner, tidying=tidying, indexing=indexing)


async def _router(settings: WorkerSettings, supervisor: Supervisor, stack: AsyncExitStack) -> Router:
    """As a worker has it: any model that answers there makes vectors here."""
    run_dir = Path(settings.run_dir)
    templates = SandboxTemplates(run_dir / "sandbox.sock", ensure=supervisor.ensure)
    stack.push_async_callback(templates.aclose)
    grammars = SandboxGrammars(run_dir / "compiler.sock", ensure=supervisor.ensure)
    stack.push_async_callback(grammars.aclose)
    holdings = Shelf().holdings()
    stack.push_async_callback(holdings.release)
    deployments = Deployments(settings, holdings, templates=templates, grammars=grammars, ensure=supervisor.ensure)
    routes = local_routes(settings.models, deployments.find)
    routes |= named_routes(settings.names, deployments.find, local=routes, created=0)
    health = Health(clock=asyncio.get_running_loop().time)
    return Router(routes, total_s=settings.total_s, health=health)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


async def _serve(settings: WorkerSettings, lifeline: Lifeline, stop: asyncio.Event) -> None:
    async with open_background(settings) as background:
        await background.run(stop, lifeline)


def main() -> int:
    """Run as a child of the supervisor."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(WorkerSettings)
    logs.configure(settings.log_format, process=NAME)
    lifeline.watch()
    try:
        run_until_stopped(lambda stop: _serve(settings, lifeline, stop))
    except NarthexError as error:
        lifeline.failed(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
