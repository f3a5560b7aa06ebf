"""Everything that requests are served with, built from one frozen value and never changed.

Rule: a request belongs to one snapshot from its first byte to its last; it never sees half of two.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

import msgspec
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from narthex import __version__
from narthex.app.chats import stored_routes
from narthex.app.deployments import Deployments
from narthex.app.files import file_routes
from narthex.app.native import chat_routes, library_of, native_routes
from narthex.app.routes import table
from narthex.app.scale import scale_routes
from narthex.app.shelf import Holdings, Shelf
from narthex.app.supervisor import Supervisor
from narthex.core.ports import Dialect, Grammars, Handler, Surface, Templates
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.dialects.openai_images import ImagesDialect
from narthex.dialects.openai_speech import SpeechDialect
from narthex.engine.models.store import ModelStore
from narthex.engine.served import ServedModel
from narthex.http.admin import Admin
from narthex.http.application import Application
from narthex.http.asgi import Receive, Scope, Send
from narthex.http.capabilities import ModelCapabilities
from narthex.http.health import Health as Probes
from narthex.http.images import ImageFiles, KeptImages
from narthex.http.keeping import Keeping
from narthex.http.metrics import Metrics
from narthex.http.models import Models
from narthex.http.openapi import OpenApi
from narthex.http.routes import Endpoint, Route, Routes
from narthex.http.speech import SpeechSurface
from narthex.http.stored import StoredEndpoints
from narthex.http.surface import ModelSurface
from narthex.http.worker import WorkerSettings
from narthex.ipc import logs
from narthex.jobs.queue import JobQueue
from narthex.jobs.waking import Waker
from narthex.policy.auth import Authenticator
from narthex.retrieval.opened import OpenCollections
from narthex.routing.catalogue import cards, local_routes, named_routes
from narthex.routing.health import Health
from narthex.routing.router import Router
from narthex.storage.sqlite.control import ControlStore
from narthex.storage.sqlite.stored import SqliteStoredChats
from narthex.storage.transcripts import FOLDER, Transcripts
from narthex.storage.uploads import Uploads


class Common(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker has once, whatever its settings come to. `now_s` and `now_ms` give unix time."""

    control: ControlStore
    stored: SqliteStoredChats
    collections: OpenCollections
    uploads: Uploads
    waker: Waker
    supervisor: Supervisor
    templates: Templates
    grammars: Grammars
    images: ImageFiles
    metrics: Metrics
    health: Health
    shelf: Shelf
    started_s: int
    now_s: Callable[[], float]
    now_ms: Callable[[], int]


class Snapshot:
    """One state of the settings, in service. Close it with `aclose` when its last request has ended."""

    def __init__(self, settings: WorkerSettings, common: Common, holdings: Holdings) -> None:
        """Build it all; what it holds open is in `holdings`, also if it can't be built.

        Raises:
            ConfigError: the settings hold what can't be used.
            ValueError: a header can't be sent as it is.
        """
        self.settings = settings
        self._common = common
        self._holdings = holdings
        self.application = self._built()
        self._entrance = (
            ProxyHeadersMiddleware(self.application, list(settings.trusted_proxies))  # type: ignore[arg-type]
            if settings.trusted_proxies
            else self.application
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, to its end."""
        await self._entrance(scope, receive, send)  # type: ignore[arg-type]

    async def aclose(self) -> None:
        """Close the connections that no other snapshot has."""
        await self._holdings.release()

    def _built(self) -> Application:
        settings, common = self.settings, self._common
        deployments = Deployments(
            settings,
            self._holdings,
            templates=common.templates,
            grammars=common.grammars,
            transcripts=Transcripts(
                Path(settings.data_dir) / FOLDER, clock=common.now_s, kept_s=settings.speech_kept_s
            ),
            ensure=common.supervisor.ensure,
        )
        routes = local_routes(_dated(settings.models, common.started_s), deployments.find)
        routes |= named_routes(settings.names, deployments.find, local=routes, created=common.started_s)
        router = Router(routes, total_s=settings.total_s, health=common.health)
        probes = Probes({"keys": common.control.keys.ping}, draining=lambda: application.draining)
        openapi = OpenApi(__version__)
        surfaces = self._surfaces(router)
        served = table(
            surfaces,
            models=Models(lambda: cards(routes), remove=self._remove),
            capabilities=ModelCapabilities(router),
            images=common.images,
            health=probes,
            metrics=common.metrics,
            openapi=openapi,
            admin=Admin(common.supervisor.reload),
        )
        served += stored_routes(surfaces["chat"], self._stored())
        served += scale_routes(partial(self._surface, router))
        served += self._documents(router)
        openapi.describe(served)
        application = Application(
            Routes(served),
            Authenticator(common.control.keys, clock=common.now_ms, profile=settings.profile),
            metrics=common.metrics,
            allowed_hosts=settings.allowed_hosts,
            profile=settings.profile,
            access=logs.AccessLog(settings.log_format, process=settings.name),
        )
        return application

    def _documents(self, router: Router) -> list[Route]:
        """The native API."""
        settings, common = self.settings, self._common
        library = library_of(
            router, collections=common.control.collections, stores=common.collections, clock=common.now_ms
        )
        queue = JobQueue(common.control.jobs, common.waker, settings=settings.digest)
        routes = chat_routes(
            library,
            router,
            now_s=common.now_s,
            body_limit_bytes=settings.body_limit_bytes,
            lenient=settings.lenient,
        )
        routes += native_routes(
            library, grown=queue.grown, body_limit_bytes=settings.body_limit_bytes, lenient=settings.lenient
        )
        routes += file_routes(
            library,
            router,
            queue=queue,
            stores=common.collections,
            uploads=common.uploads,
            settings=settings,
        )
        return routes

    def _stored(self) -> StoredEndpoints:
        return StoredEndpoints(
            self._common.stored,
            clock=self._common.now_s,
            kept_s=self.settings.stored_kept_s,
            body_limit_bytes=self.settings.body_limit_bytes,
            lenient=self.settings.lenient,
        )

    def _surfaces(self, router: Router) -> dict[Surface, Endpoint]:
        surface = partial(self._surface, router)
        keeping = Keeping(self._common.stored, max_bytes=self.settings.stored_max_bytes)
        images = KeptImages(self._common.images, handler=router.open, surface=partial(surface, ImagesDialect()))
        return {
            "chat": surface(ChatDialect(), keeping=keeping),
            "completions": surface(CompletionsDialect()),
            "embeddings": surface(EmbeddingsDialect()),
            "images": images,
            "speech": surface(SpeechDialect(), made=SpeechSurface),
        }

    def _surface(
        self,
        router: Router,
        dialect: Dialect,
        handler: Handler | None = None,
        *,
        keeping: Keeping | None = None,
        made: type[ModelSurface] = ModelSurface,
    ) -> ModelSurface:
        """`handler`: None: the router's."""
        return made(
            dialect,
            handler or router.open,
            clock=self._common.now_s,
            body_limit_bytes=self.settings.body_limit_bytes,
            lenient=self.settings.lenient,
            prompter=router if handler is None else None,
            keeping=keeping,
        )

    async def _remove(self, name: str) -> None:
        await asyncio.to_thread(ModelStore(Path(self.settings.data_dir) / "models").remove, name)
        (child,) = (model.child for model in self.settings.models if model.name == name)
        await self._common.supervisor.stop(child)


def _dated(models: Iterable[ServedModel], started_s: int) -> Iterator[ServedModel]:
    """A model on somebody else's server has no file to tell its age: it is as old as this worker."""
    for model in models:
        yield msgspec.structs.replace(model, created=model.created or started_s)
