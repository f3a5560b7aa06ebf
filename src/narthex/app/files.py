"""The routes of files, of jobs, and of the life of a collection, of one snapshot."""

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
    return [
        native_route(f"{COLLECTION}/files", POST=files.create),
        native_route(f"{COLLECTION}/jobs", GET=jobs.list),
        native_route(f"{COLLECTION}/jobs/{{job}}", GET=jobs.retrieve, DELETE=jobs.cancel),
        native_route(f"{COLLECTION}/jobs/{{job}}/events", GET=jobs.events),
        native_route(f"{COLLECTION}/rebuild", POST=life.rebuild),
        native_route(f"{COLLECTION}/export", GET=life.export),
        native_route(f"{COLLECTION}/import", POST=life.take_in),
    ]
