"""The native API of one snapshot: its library, and the routes below `/api`. Source: contract sections 0.4 and 3."""

from collections.abc import Callable, Mapping, Sequence

from narthex.core.capabilities import Limited, State, Verdict
from narthex.core.chat import ImagePart, Message
from narthex.core.documents import Collections
from narthex.core.keys import Clock
from narthex.core.ports import Deployment
from narthex.dialects.thyris import NativeChatDialect
from narthex.http.collections import CollectionsEndpoints
from narthex.http.documents import DocumentsEndpoints, Grown
from narthex.http.native import SURFACE, Asked
from narthex.http.native_models import NativeModels
from narthex.http.routes import Endpoint, Route
from narthex.http.surface import ModelSurface
from narthex.policy.retrieval import Retrieving
from narthex.retrieval.embedding_calls import EmbeddingCalls
from narthex.retrieval.library import Library, Stores
from narthex.routing.catalogue import cards
from narthex.routing.router import Router

COLLECTION = "/api/collections/{key}"
DOCUMENT = f"{COLLECTION}/documents/{{document}}"


def library_of(router: Router, *, collections: Collections, stores: Stores, clock: Clock) -> Library:
    """All collections, with vectors by the models of this router."""
    return Library(collections, stores, embedding_of(router), clock=clock)


def embedding_of(router: Router) -> EmbeddingCalls:
    """Vectors by the models of this router."""
    return EmbeddingCalls(router.open, deployments=lambda name: router.route(name).deployments)


def chat_routes(
    library: Library, router: Router, *, now_s: Callable[[], float], body_limit_bytes: int, lenient: bool
) -> list[Route]:
    """Those of chats and models."""
    retrieving = Retrieving(library, handler=router.open, window=lambda name: router.route(name).card.window)
    max_image_bytes = body_limit_bytes // 2
    chat = ModelSurface(
        NativeChatDialect(max_image_bytes=max_image_bytes),
        retrieving.open,
        clock=now_s,
        body_limit_bytes=body_limit_bytes,
        lenient=lenient,
    )
    models = NativeModels(
        lambda: cards(router.routes),
        sees=lambda name: any(map(_sees, router.route(name).deployments)),
        max_image_bytes=max_image_bytes,
    )
    return [
        *(Route(path=path, endpoints={"POST": chat}, surface="chat") for path in ("/api/chat", "/api/text")),
        Route(path="/api/models", endpoints={"GET": models.list}, surface="models"),
    ]


def native_routes(library: Library, *, grown: Grown, body_limit_bytes: int, lenient: bool) -> list[Route]:
    """Those of collections, documents and searches."""
    collections = CollectionsEndpoints(library, body_limit_bytes=body_limit_bytes, lenient=lenient)
    documents = DocumentsEndpoints(library, grown=grown, body_limit_bytes=body_limit_bytes, lenient=lenient)
    return [
        native_route("/api/collections", lenient=lenient, GET=collections.list),
        native_route(
            COLLECTION,
            lenient=lenient,
            GET=collections.retrieve,
            POST=collections.create,
            PUT=collections.put,
            DELETE=collections.delete,
        ),
        native_route(f"{COLLECTION}/documents", lenient=lenient, GET=documents.list),
        native_route(
            DOCUMENT,
            lenient=lenient,
            query={"GET": ("content",)},
            GET=documents.retrieve,
            POST=documents.create,
            PUT=documents.put,
            DELETE=documents.delete,
        ),
        native_route(f"{COLLECTION}/search", lenient=lenient, POST=documents.search),
    ]


def _sees(deployment: Deployment) -> bool:
    """Whether it takes images, as far as is known before it is asked."""
    rule = (deployment.capabilities("chat") or {}).get("messages", State.REFUSED)
    if not isinstance(rule, Limited):
        return rule is not State.REFUSED
    try:
        rule.check((Message(role="user", content=(ImagePart("data:"),)),))
    except Verdict:
        return False
    return True


def native_route(
    path: str, *, lenient: bool, query: Mapping[str, Sequence[str]] | None = None, **endpoints: Endpoint
) -> Route:
    """One below `/api/collections`. `query`: what may stand there, by method."""
    known = query or {}
    asked: dict[str, Endpoint] = {
        method: Asked(endpoint, known=known.get(method, ()), lenient=lenient) for method, endpoint in endpoints.items()
    }
    return Route(path=path, endpoints=asked, surface=SURFACE, segments=True)
