"""The routes of files, of jobs, and of the life of a collection, of one snapshot."""

from functools import partial

from narthex.app.native import COLLECTION, embedding_of, native_route
from narthex.http.files import FilesEndpoint
from narthex.http.jobs import JobsEndpoints
from narthex.http.life import LifeEndpoints
from narthex.http.routes import Route
from narthex.http.worker import WorkerSettings
from narthex.jobs.queue import JobQueue
from narthex.retrieval.library import Library
from narthex.retrieval.opened import OpenCollections
from narthex.routing.router import Router
from narthex.storage.uploads import Uploads


def file_routes(
    library: Library,
    router: Router,
    *,
    queue: JobQueue,
    stores: OpenCollections,
    uploads: Uploads,
    settings: WorkerSettings,
) -> list[Route]:
    """Everything that is done by jobs, and the jobs."""
    files = FilesEndpoint(
        library,
        stores,
        queue,
        uploads,
        limit_bytes=settings.upload_limit_bytes,
        lenient=settings.lenient,
    )
    jobs = JobsEndpoints(library, queue)
    life = LifeEndpoints(
        library,
        embedding_of(router),
        queue,
        uploads,
        path=stores.path,
        body_limit_bytes=settings.body_limit_bytes,
        upload_limit_bytes=settings.upload_limit_bytes,
        lenient=settings.lenient,
    )
    route = partial(native_route, lenient=settings.lenient)
    wait = {"POST": ("wait",)}
    return [
        route(f"{COLLECTION}/files", query=wait, POST=files.create),
        route(f"{COLLECTION}/jobs", query={"GET": ("open",)}, GET=jobs.list),
        route(f"{COLLECTION}/jobs/{{job}}", GET=jobs.retrieve, DELETE=jobs.cancel),
        route(f"{COLLECTION}/jobs/{{job}}/events", GET=jobs.events),
        route(f"{COLLECTION}/rebuild", query=wait, POST=life.rebuild),
        route(f"{COLLECTION}/export", GET=life.export),
        route(f"{COLLECTION}/import", query=wait, POST=life.take_in),
    ]
