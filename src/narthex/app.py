"""The composition root of a worker: everything is built here, from one frozen value, and nowhere else.

Run as `python -m narthex.app --notify FD --listen FD` with `WorkerSettings` on standard input.
"""

import asyncio
import contextlib
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import structlog
import uvicorn
import uvloop
from typing_extensions import override

from narthex import __version__
from narthex.core.errors import NarthexError
from narthex.core.ports import Deployment, Dialect, Ensure, Grammars, Handler, Send, Surface, Templates
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.dialects.openai_images import ImagesDialect
from narthex.engine.local.build import LocalEngines
from narthex.engine.models.store import ModelStore
from narthex.http.application import Application
from narthex.http.capabilities import ModelCapabilities
from narthex.http.health import Health
from narthex.http.images import ImageFiles, KeptImages
from narthex.http.metrics import Metrics
from narthex.http.models import Models
from narthex.http.openapi import OpenApi
from narthex.http.routes import Endpoint, Route, Routes
from narthex.http.surface import ModelSurface
from narthex.http.worker import WorkerSettings
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, listening_fds, run_until_stopped
from narthex.ipc.client import Client
from narthex.policy.auth import Authenticator
from narthex.providers.presets import PRESETS, codecs, request_headers
from narthex.retrieval.deployment import EmbedderDeployment
from narthex.retrieval.embed import Embedder
from narthex.routing.catalogue import cards, local_routes, named_routes
from narthex.routing.fanout import FanOut
from narthex.routing.router import Router
from narthex.sandbox.client import SandboxGrammars, SandboxTemplates
from narthex.storage.sqlite.control import open_control
from narthex.upstream.address import Address
from narthex.upstream.client import Clocks as HttpClocks
from narthex.upstream.client import UpstreamClient
from narthex.upstream.remote import Clocks, RemoteDeployment

log = structlog.get_logger(__name__)

_LAST_WORDS_S = 1.0
"""How long requests that are cut at the end of a drain may take to say so. Together with uvicorn's own limit it stays
within the supervisor's grace."""


class Worker:
    """What one worker serves. Make it with `open_worker`."""

    def __init__(self, application: Application, *, drain_s: float) -> None:
        self.application = application
        self._drain_s = drain_s

    async def drained(self) -> None:
        """Refuse new requests and wait for the running ones, up to the limit; then end those with an error."""
        self.application.draining = True
        if not await self._idle_within(self._drain_s):
            log.warning("cutting requests", running=self.application.running, limit_s=self._drain_s)
            self.application.cut()
            await self._idle_within(_LAST_WORDS_S)

    async def _idle_within(self, limit_s: float) -> bool:
        try:
            async with asyncio.timeout(limit_s):
                await self.application.wait_idle()
        except TimeoutError:
            return False
        return True


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
        grammars = SandboxGrammars(run_dir / "compiler.sock", ensure=supervisor.ensure)
        stack.push_async_callback(grammars.aclose)
        deployments = _Deployments(settings, stack, templates=templates, grammars=grammars, ensure=supervisor.ensure)
        routes = local_routes(settings.models, deployments.find)
        routes |= named_routes(settings.names, deployments.find, local=routes, created=int(_now_s()))
        router = Router(routes, total_s=settings.total_s)
        children = {model.name: model.child for model in settings.models}

        async def remove(name: str) -> None:
            await asyncio.to_thread(ModelStore(data_dir / "models").remove, name)
            await supervisor.stop(children[name])

        metrics = Metrics(worker=settings.name, version=__version__)
        metrics.watch(router.health.snapshot)

        def surface(dialect: Dialect, handler: Handler = router.open) -> ModelSurface:
            return ModelSurface(
                dialect,
                handler,
                clock=_now_s,
                body_limit_bytes=settings.body_limit_bytes,
                lenient=settings.lenient,
            )

        dialects: tuple[Dialect, ...] = (ChatDialect(), CompletionsDialect(), EmbeddingsDialect())
        surfaces: dict[Surface, Endpoint] = {each.surface: surface(each) for each in dialects}
        image_files = ImageFiles(data_dir / "images", clock=_now_s)
        await asyncio.to_thread(image_files.sweep)
        surfaces["images"] = KeptImages(image_files, handler=router.open, surface=partial(surface, ImagesDialect()))
        models = Models(lambda: cards(routes), remove=remove)
        openapi = OpenApi(__version__)
        health = Health({"keys": control.keys.ping}, draining=lambda: application.draining)
        table = [
            *_model_routes(surfaces, models=models, capabilities=ModelCapabilities(router)),
            Route(path="/v1/images/files/{name}", endpoints={"GET": image_files.endpoint}, access="open"),
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


def _model_routes(
    surfaces: Mapping[Surface, Endpoint], *, models: Models, capabilities: ModelCapabilities
) -> list[Route]:
    """Where models are asked, and what is told of them."""
    paths: dict[Surface, str] = {
        "chat": "/v1/chat/completions",
        "completions": "/v1/completions",
        "embeddings": "/v1/embeddings",
        "images": "/v1/images/generations",
    }
    return [
        *(Route(path=path, endpoints={"POST": surfaces[name]}, surface=name) for name, path in paths.items()),
        Route(path="/v1/models", endpoints={"GET": models.list}, surface="models"),
        Route(path="/v1/models/{model}", endpoints={"GET": models.retrieve, "DELETE": models.delete}, surface="models"),
        Route(path="/v1/capabilities", endpoints={"GET": capabilities.list}, surface="models"),
    ]


class _Deployments:
    """Every deployment of this worker by its `provider/model` name; those elsewhere are made when first named."""

    def __init__(
        self,
        settings: WorkerSettings,
        stack: AsyncExitStack,
        *,
        templates: Templates,
        grammars: Grammars,
        ensure: Ensure,
    ) -> None:
        self._settings = settings
        self._stack = stack
        self._clients: dict[str, UpstreamClient] = {}
        engines = LocalEngines(
            templates,
            grammars=grammars,
            connect=lambda address: self._connect(address).send,
            ensure=ensure,
            share_prefix_cache=settings.share_prefix_cache,
        )
        stack.push_async_callback(engines.aclose)
        self._made: dict[tuple[str, float | None], Deployment] = {}
        for model in settings.models:
            if model.runs == "embedder":
                embedder = Embedder(Path(model.socket), model.name)
                stack.push_async_callback(embedder.aclose)
                made: Deployment = EmbedderDeployment(model.name, embedder, child=model.child, ensure=ensure)
            else:
                made = engines.add(model)
            self._made[made.name, None] = made

    def find(self, name: str, connect_s: float | None = None) -> Deployment:
        """The deployment of a name that the plan has checked. `connect_s`: see `Rules`; means nothing to those here."""
        if (here := self._made.get((name, None))) is not None and name.startswith("local/"):
            return here
        if (name, connect_s) not in self._made:
            provider, _, model = name.partition("/")
            self._made[name, connect_s] = self._remote(provider, model, connect_s)
        return self._made[name, connect_s]

    def _remote(self, provider: str, model: str, connect_s: float | None) -> Deployment:
        row = self._settings.providers[provider]
        preset = PRESETS[row.type]
        if provider not in self._clients:
            self._clients[provider] = self._connect(row.base_url, headers=request_headers(preset, row.api_key))
        remote = RemoteDeployment(
            provider,
            model,
            codecs={**codecs(preset, row.models.get(model, preset.traits))},
            send=self._sends(provider, connect_s),
            clocks=Clocks(first_token_s=row.first_token_s, idle_s=row.idle_s),
        )
        return FanOut(remote)

    def _sends(self, provider: str, connect_s: float | None) -> Send:
        send = self._clients[provider].send
        return send if connect_s is None else partial(send, clocks=HttpClocks(connect_s=connect_s))

    def _connect(self, address: str, *, headers: Mapping[str, str] | None = None) -> UpstreamClient:
        client = UpstreamClient(Address.parse(address), headers=headers)
        self._stack.push_async_callback(client.aclose)
        return client


def _now_s() -> float:
    return time.time()  # noqa: TID251 - the clock is handed out here


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
        timeout_graceful_shutdown=2,
        backlog=2048,
        h11_max_incomplete_event_size=None,
    )


async def _serve(settings: WorkerSettings, lifeline: Lifeline, stop: asyncio.Event) -> None:
    sockets = [socket.socket(fileno=fd) for fd in listening_fds()]
    async with open_worker(settings) as worker:
        server = _Server(_config(settings, worker.application))
        serving = asyncio.ensure_future(server.serve(sockets=sockets))
        reload = "the settings are read at start only: restart to change them"
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: log.warning(reload))
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
