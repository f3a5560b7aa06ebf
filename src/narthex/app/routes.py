"""Which paths there are, and who may come in."""

from collections.abc import Mapping

from narthex.core.ports import Surface
from narthex.http.admin import Admin
from narthex.http.capabilities import ModelCapabilities
from narthex.http.health import Health
from narthex.http.images import ImageFiles
from narthex.http.metrics import Metrics
from narthex.http.models import Models
from narthex.http.openapi import OpenApi
from narthex.http.routes import Endpoint, Route

_PATHS: Mapping[Surface, str] = {
    "completions": "/v1/completions",
    "embeddings": "/v1/embeddings",
    "images": "/v1/images/generations",
    "speech": "/v1/audio/speech",
}


def table(
    surfaces: Mapping[Surface, Endpoint],
    *,
    models: Models,
    capabilities: ModelCapabilities,
    images: ImageFiles,
    health: Health,
    metrics: Metrics,
    openapi: OpenApi,
    admin: Admin,
) -> list[Route]:
    """Every route of this server."""
    return [
        *(Route(path=path, endpoints={"POST": surfaces[name]}, surface=name) for name, path in _PATHS.items()),
        Route(path="/v1/images/files/{name}", endpoints={"GET": images.endpoint}, access="open"),
        Route(path="/v1/models", endpoints={"GET": models.list}, surface="models"),
        Route(path="/v1/models/{model}", endpoints={"GET": models.retrieve, "DELETE": models.delete}, surface="models"),
        Route(path="/v1/capabilities", endpoints={"GET": capabilities.list}, surface="models"),
        Route(path="/healthz", endpoints={"GET": health.alive}, access="open"),
        Route(path="/readyz", endpoints={"GET": health.ready}, access="open"),
        Route(path="/metrics", endpoints={"GET": metrics.endpoint}, access="admin"),
        Route(path="/admin/reload", endpoints={"POST": admin.reload}, access="admin"),
        Route(path="/openapi.json", endpoints={"GET": openapi.endpoint}),
        Route(path="/docs", endpoints={"GET": openapi.page}),
    ]
