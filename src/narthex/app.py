"""The composition root of a worker: everything is built here, from one frozen value, and nowhere else.

Run as `python -m narthex.app --notify FD --listen FD` with `WorkerSettings` on standard input.
"""

import asyncio
import contextlib
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import msgspec
import structlog
import uvicorn
import uvloop
from typing_extensions import override

from narthex import __version__
from narthex.core.errors import NarthexError
from narthex.core.models import ModelCard
from narthex.core.ports import Deployment
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.engine.local.build import LocalEngines
from narthex.engine.models.store import ModelStore
from narthex.engine.served import ServedModel
from narthex.http.application import Application
from narthex.http.health import Health
from narthex.http.metrics import Metrics
from narthex.http.models import Models
from narthex.http.openapi import OpenApi
from narthex.http.routes import Route, Routes
from narthex.http.surface import ModelSurface
from narthex.http.worker import WorkerSettings
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, listening_fds, run_until_stopped
from narthex.ipc.client import Client
from narthex.policy.auth import Authenticator
from narthex.retrieval.deployment import EmbedderDeployment
from narthex.retrieval.embed import Embedder
from narthex.routing.router import Route as ModelRoute
from narthex.routing.router import Router
from narthex.sandbox.client import SandboxTemplates
from narthex.storage.sqlite.control import open_control
from narthex.upstream.address import Address
from narthex.upstream.client import UpstreamClient

log = structlog.get_logger(__name__)


class Worker:
    """What one worker serves. Make it with `open_worker`."""

    def __init__(self, application: Application, *, drain_s: float) -> None:
        self.application = application
        self._drain_s = drain_s

    async def drained(self) -> None:
        """Refuse new requests and wait for the running ones, up to the limit."""
        self.application.draining = True
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._drain_s):
                await self.application.wait_idle()


class Supervisor:
    """The supervisor, as a worker knows it."""

    def __init__(self, run_dir: Path) -> None:
        self._client = Client(run_dir / "supervisor.sock", name="supervisor")

    async def ensure(self, child: str) -> None:
        """See `Ensure`."""
        await self._client.call("ensure", {"child": child}, dict)

    async def stop(self, child: str) -> None:
        """Stop a child; nothing happens to one that does not run."""
        await self._client.call("stop", {"child": child}, dict)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._client.aclose()


@asynccontextmanager
async def open_worker(settings: WorkerSettings) -> AsyncIterator[Worker]:
    """Build everything; leaving the block closes it."""
    data_dir, run_dir = Path(settings.data_dir), Path(settings.run_dir)
    async with AsyncExitStack() as stack:
        control = await open_control(data_dir / "control.db", clock=_now_ms)
        stack.push_async_callback(control.aclose)
        supervisor = Supervisor(run_dir)
        stack.push_async_callback(supervisor.aclose)
        templates = SandboxTemplates(run_dir / "sandbox.sock", ensure=supervisor.ensure)
        stack.push_async_callback(templates.aclose)
        engines = LocalEngines(
            templates,
            connect=lambda address: UpstreamClient(Address.parse(address)),
            ensure=supervisor.ensure,
            share_prefix_cache=settings.share_prefix_cache,
        )
        stack.push_async_callback(engines.aclose)

        deployments: dict[str, Deployment] = {}
        for model in settings.models:
            if model.runs == "embedder":
                embedder = Embedder(Path(model.socket), model.name)
                stack.push_async_callback(embedder.aclose)
                deployments[model.name] = EmbedderDeployment(
                    model.name, embedder, child=model.child, ensure=supervisor.ensure
                )
            else:
                deployments[model.name] = engines.add(model)
        catalogue = _Catalogue(settings, deployments, ModelStore(data_dir / "models"), supervisor)
        router = Router(catalogue.routes(), total_s=settings.total_s)
        catalogue.router = router
        metrics = Metrics(worker=settings.name, version=__version__)
        surfaces = {
            dialect.surface: ModelSurface(
                dialect,
                router.open,
                clock=time.time,  # noqa: TID251 - the clock is handed out here
                body_limit_bytes=settings.body_limit_bytes,
                lenient=settings.lenient,
            )
            for dialect in (ChatDialect(), CompletionsDialect(), EmbeddingsDialect())
        }
        models = Models(catalogue.cards, remove=catalogue.remove)
        openapi = OpenApi(__version__)
        health = Health({"keys": control.keys.ping}, draining=lambda: application.draining)
        table = [
            Route(path="/v1/chat/completions", endpoints={"POST": surfaces["chat"]}, surface="chat"),
            Route(path="/v1/completions", endpoints={"POST": surfaces["completions"]}, surface="completions"),
            Route(path="/v1/embeddings", endpoints={"POST": surfaces["embeddings"]}, surface="embeddings"),
            Route(path="/v1/models", endpoints={"GET": models.list}, surface="models"),
            Route(
                path="/v1/models/{model}",
                endpoints={"GET": models.retrieve, "DELETE": models.delete},
                surface="models",
            ),
            Route(path="/healthz", endpoints={"GET": health.alive}, access="open"),
            Route(path="/readyz", endpoints={"GET": health.ready}, access="open"),
            Route(path="/metrics", endpoints={"GET": metrics.endpoint}, access="admin"),
            Route(path="/openapi.json", endpoints={"GET": openapi.endpoint}),
            Route(path="/docs", endpoints={"GET": openapi.page}),
        ]
        openapi.describe(table)
        application = Application(
            Routes(table),
            Authenticator(control.keys, clock=_now_ms),
            metrics=metrics,
            allowed_hosts=settings.allowed_hosts,
            profile=settings.profile,
        )
        yield Worker(application, drain_s=settings.drain_s)


class _Catalogue:
    """The public models: those of this server, and the names that were given to them."""

    def __init__(
        self, settings: WorkerSettings, deployments: Mapping[str, Deployment], store: ModelStore, supervisor: Supervisor
    ) -> None:
        self._settings = settings
        self._deployments = deployments
        self._store = store
        self._supervisor = supervisor
        self._models = {model.name: model for model in settings.models}
        self.router: Router | None = None

    def routes(self) -> dict[str, ModelRoute]:
        """One for each public name."""
        found = {
            name: ModelRoute(card=_card(model), deployments=(self._deployments[name],))
            for name, model in self._models.items()
        }
        for name, wanted in self._settings.names.items():
            targets = [each.removeprefix("local/") for each in wanted]
            card = msgspec.structs.replace(_card(self._models[targets[0]]), id=name, removable=False)
            found[name] = ModelRoute(card=card, deployments=tuple(self._deployments[each] for each in targets))
        return found

    def cards(self) -> dict[str, ModelCard]:
        """By public name; a model that was deleted meanwhile, by whichever worker, is not among them."""
        routes = self.router.routes if self.router is not None else {}
        return {
            name: route.card
            for name, route in routes.items()
            if name != "*" and not (route.card.removable and not Path(self._models[name].path).exists())
        }

    async def remove(self, name: str) -> None:
        """Delete a local model's files and end its engine."""
        await asyncio.to_thread(self._store.remove, name)
        await self._supervisor.stop(self._models[name].child)


def _card(model: ServedModel) -> ModelCard:
    return ModelCard(
        id=model.name, created=model.created, owned_by=model.owned_by, kind=model.kind, removable=model.removable
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


# --- the process -----------------------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """uvicorn without its own signal handling: the worker drains first."""

    @contextlib.contextmanager
    @override
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield


def _config(settings: WorkerSettings, application: Application) -> uvicorn.Config:
    return uvicorn.Config(
        application,
        http="httptools",
        loop="none",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=bool(settings.trusted_proxies),
        forwarded_allow_ips=list(settings.trusted_proxies),
        ssl_certfile=settings.tls_cert,
        ssl_keyfile=settings.tls_key,
        timeout_keep_alive=75,
        timeout_graceful_shutdown=5,
        backlog=2048,
        h11_max_incomplete_event_size=None,
    )


async def _serve(settings: WorkerSettings, lifeline: Lifeline, stop: asyncio.Event) -> None:
    sockets = [socket.socket(fileno=fd) for fd in listening_fds()]
    async with open_worker(settings) as worker:
        server = _Server(_config(settings, worker.application))
        serving = asyncio.ensure_future(server.serve(sockets=sockets))
        lifeline.ready()
        await stop.wait()
        log.info("draining", running=worker.application.running)
        await worker.drained()
        server.should_exit = True
        await serving


def main() -> int:
    """Run as a child of the supervisor."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(WorkerSettings)
    logs.configure(settings.log_format, process=settings.name)
    lifeline.watch()
    try:
        run_until_stopped(lambda stop: _serve(settings, lifeline, stop), loop_factory=uvloop.new_event_loop)
    except NarthexError as error:
        lifeline.failed(error.message)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
