"""`/openapi.json`: what this server serves, made from the same tables that check requests. Source: OpenAPI 3.1.0.

Rule: a route that is served and not described here fails a test, and so does an answer that differs from its schema.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from narthex.core.capabilities import EMBEDDINGS
from narthex.dialects import openai_chat, openai_completions, openai_embeddings, openai_images, openai_speech
from narthex.dialects.sampling import NOT_BUILT
from narthex.engine.local import capabilities as local
from narthex.engine.speech.deployment import honoured as spoken
from narthex.http import openapi_files, openapi_native, openapi_scale, openapi_stored
from narthex.http.docs import CONTENT_SECURITY, page
from narthex.http.exchange import NATIVE, SCALE, Exchange
from narthex.http.openapi_answers import INTEGER, SCHEMAS, STRING, Schema, reference
from narthex.http.openapi_operation import MODEL_CALL, Operation, body_schema
from narthex.http.routes import Route
from narthex.providers.openai_images import HONOURED as IMAGES
from narthex.wire.json import encode

DESCRIPTION = (
    "Every model and a team's documents behind one address. Unknown paths are answered with 404, other methods than "
    "those listed with 405 and an `Allow` header; both with an `Error`. Every answer bears `x-request-id`. Where a key "
    "or the server is lenient, fields that are not listed here are ignored and named in `x-narthex-ignored`. What each "
    "model makes of each field tells `GET /v1/capabilities`."
)

_CAUSES = {
    400: "The request is invalid, or the model can't honour one of its fields.",
    401: "No key was sent, or it is wrong, revoked or expired.",
    403: "The key may not do this.",
    404: "There is no such model or object, or the key may not use it.",
    409: "It exists already, or does not go together with what there is.",
    413: "The body is too large.",
    415: "The body is not JSON in UTF-8, or it is compressed.",
    429: "Too many requests.",
    500: "A fault of this server.",
    502: "The model's server failed.",
    503: "This server, its database or the model can't take the request now.",
    504: "The model's server took too long.",
    507: "The disk, or the part of it that is meant for this, is full.",
}
_WITH_RETRY = {429, 503}
_ALWAYS = (400, 500)
NO_CONTENT = 204
_KEYED = (401, 503)


CHAT_BODY = body_schema(
    openai_chat.FIELDS | openai_chat.EXTENSIONS,
    openai_chat.REQUIRED,
    honoured=local.CHAT,
    dependent=NOT_BUILT,
    by_some=local.OF_THE_MODEL["chat"],
)
COMPLETIONS_BODY = body_schema(
    openai_completions.FIELDS | openai_completions.EXTENSIONS,
    openai_completions.REQUIRED,
    honoured=local.COMPLETIONS,
    dependent=NOT_BUILT,
    by_some=local.OF_THE_MODEL["completions"],
)
EMBEDDINGS_BODY = body_schema(openai_embeddings.FIELDS, openai_embeddings.REQUIRED, honoured=EMBEDDINGS)
SPEECH_BODY = body_schema(openai_speech.FIELDS, openai_speech.REQUIRED, honoured=spoken(encodes=True))
IMAGES_BODY = body_schema(openai_images.FORM.known, openai_images.REQUIRED, honoured=IMAGES)

OPERATIONS: dict[tuple[str, str], Operation] = (
    {
        ("POST", "/v1/chat/completions"): Operation(
            id="createChatCompletion",
            summary="Answer a conversation.",
            answer="ChatCompletion",
            events="ChatCompletionChunk",
            body=CHAT_BODY,
            asks_model=True,
            errors=(*MODEL_CALL, 507),
        ),
        ("POST", "/v1/completions"): Operation(
            id="createCompletion",
            summary="Continue a text.",
            answer="Completion",
            events="CompletionChunk",
            body=COMPLETIONS_BODY,
            asks_model=True,
            errors=MODEL_CALL,
        ),
        ("POST", "/v1/embeddings"): Operation(
            id="createEmbedding",
            summary="Turn texts into vectors.",
            answer="EmbeddingList",
            body=EMBEDDINGS_BODY,
            asks_model=True,
            errors=MODEL_CALL,
        ),
        ("POST", "/v1/images/generations"): Operation(
            id="createImage",
            summary="Make images.",
            answer="ImageList",
            events="ImageEvent",
            named_events=(openai_images.STEP, openai_images.DONE),
            body=IMAGES_BODY,
            asks_model=True,
            errors=(*MODEL_CALL, 507),
        ),
        ("POST", "/v1/audio/speech"): Operation(
            id="createSpeech",
            summary="Read a text aloud.",
            media="audio/*",
            events="SpeechEvent",
            marked=False,
            body=SPEECH_BODY,
            asks_model=True,
            errors=MODEL_CALL,
        ),
        ("GET", "/v1/images/files/{name}"): Operation(
            id="getImageFile",
            summary="An image that was answered as an address; for an hour, and for whoever knows its name.",
            media="image/*",
            errors=(404,),
        ),
        ("GET", "/v1/models"): Operation(
            id="listModels", summary="The models that this key may use.", answer="ModelList", errors=(403,)
        ),
        ("GET", "/v1/models/{model}"): Operation(
            id="retrieveModel", summary="One model.", answer="Model", errors=(403, 404)
        ),
        ("DELETE", "/v1/models/{model}"): Operation(
            id="deleteModel",
            summary="Delete a model that was added to this server. For admin keys.",
            answer="ModelDeleted",
            errors=(403, 404),
        ),
        ("GET", "/v1/capabilities"): Operation(
            id="listCapabilities",
            summary="What becomes of each request field, for every model that this key may use.",
            answer="CapabilityList",
            query={"model": "Only this model."},
            errors=(403, 404),
        ),
        ("GET", "/healthz"): Operation(id="alive", summary="Whether this process lives.", answer="Alive"),
        ("GET", "/readyz"): Operation(
            id="ready", summary="Whether this server can serve.", answer="Readiness", unready="Readiness"
        ),
        ("POST", "/admin/reload"): Operation(
            id="reload",
            summary="Read the settings again and serve by them; where they are invalid, nothing changes.",
            answer="Reload",
            errors=(403,),
        ),
        ("GET", "/metrics"): Operation(
            id="metrics", summary="Counters in Prometheus' text format.", media="text/plain", errors=(403,)
        ),
        ("GET", "/openapi.json"): Operation(id="openapi", summary="This document.", answer="Document"),
        ("GET", "/docs"): Operation(id="docs", summary="This document as a page.", media="text/html"),
    }
    | openapi_native.OPERATIONS
    | openapi_files.OPERATIONS
    | openapi_stored.OPERATIONS
    | openapi_scale.OPERATIONS
)


class OpenApi:
    """The document and its page, each made when it is first asked for: most servers never are."""

    def __init__(self, version: str) -> None:
        self._version = version
        self.describe(())

    def describe(self, routes: Iterable[Route]) -> None:
        """Describe these routes from now on."""
        self._routes = tuple(routes)
        self._body = self._page = b""

    async def endpoint(self, exchange: Exchange) -> None:
        """`GET /openapi.json`."""
        self._body = self._body or encode(document(self._version, self._routes))
        await exchange.reply(200, self._body)

    async def page(self, exchange: Exchange) -> None:
        """`GET /docs`."""
        self._page = self._page or page(document(self._version, self._routes))
        await exchange.reply(200, self._page, [(b"content-type", b"text/html; charset=utf-8"), CONTENT_SECURITY])


def document(version: str, routes: Iterable[Route]) -> dict[str, Any]:
    """The document of these routes; one that OPERATIONS doesn't know is left out."""
    paths: dict[str, Any] = {}
    for route in routes:
        for method in route.endpoints:
            if (operation := OPERATIONS.get((method, route.path))) is not None:
                paths.setdefault(route.path, {})[method.lower()] = _operation(route, operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Narthex", "version": version, "description": DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": SCHEMAS
            | openapi_native.SCHEMAS
            | openapi_files.SCHEMAS
            | openapi_stored.SCHEMAS
            | openapi_scale.SCHEMAS
            | {"Document": {"type": "object", "required": ["openapi", "info", "paths"]}},
            "headers": _HEADERS,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    }


_DOCUMENT: Schema = {"type": "object", "required": ["openapi", "info", "paths"]}
_HEADERS: dict[str, Any] = {
    "x-request-id": {"schema": STRING, "required": True, "description": "Names this request in our logs."},
    "openai-processing-ms": {"schema": INTEGER, "required": True, "description": "Milliseconds to the answer's head."},
    "openai-version": {"schema": STRING, "required": True, "description": "Version of the API that is followed."},
    "x-narthex-deployment": {"schema": STRING, "required": True, "description": "What answered: provider/model."},
    "x-narthex-attempts": {"schema": INTEGER, "required": True, "description": "How many deployments were asked."},
    "x-narthex-ignored": {"schema": STRING, "description": "Fields that had no effect, separated by commas."},
    "x-narthex-forgotten": {
        "schema": INTEGER,
        "description": "How many messages the model was not given, as `memory_strategy` or `token_budget` asked for.",
    },
    "retry-after": {"schema": INTEGER, "description": "Seconds after which a retry may pass."},
    "www-authenticate": {"schema": STRING, "required": True, "description": "`Bearer`."},
}
_IGNORED = "x-narthex-ignored"
_HEADERS_OF_A_MODEL = ("x-narthex-deployment", "x-narthex-attempts", "x-narthex-forgotten", _IGNORED)
_USUAL_HEADERS = ("x-request-id", "openai-processing-ms", "openai-version")


def _headers(*names: str) -> Schema:
    return {name: {"$ref": f"#/components/headers/{name}"} for name in (*_USUAL_HEADERS, *names)}


def _operation(route: Route, operation: Operation) -> Schema:
    responses = {str(status): _answer(operation, status) for status in operation.succeeds}
    keyed = _KEYED if route.access != "open" else ()
    for status in sorted({*_ALWAYS, *keyed, *operation.errors}):
        responses[str(status)] = _error(route, status)
    if operation.unready:
        responses["503"] = _content(_CAUSES[503], {"application/json": operation.unready}) | {"headers": _headers()}
    described: Schema = {
        "operationId": operation.id,
        "summary": operation.summary,
        "security": [] if route.access == "open" else [{"bearer": []}, {"x-api-key": []}],
        "responses": responses,
    }
    if (needs := _needs(route, operation)) is not None:
        described["description"] = needs
    if parameters := [*_path_parameters(route), *_query_parameters(operation)]:
        described["parameters"] = parameters
    if operation.body is not None:
        described["requestBody"] = {"required": True, "content": {operation.body_media: {"schema": operation.body}}}
    return described


def _path_parameters(route: Route) -> Iterator[Schema]:
    for name in route.parameters:
        described: Schema = {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        if not route.segments:
            described["description"] = "Slashes in it may be sent as they are or percent-encoded."
        yield described


def _query_parameters(operation: Operation) -> Iterator[Schema]:
    for name, description in operation.query.items():
        schema = operation.query_schemas.get(name, STRING)
        yield {"name": name, "in": "query", "description": description, "schema": schema}


def _needs(route: Route, operation: Operation) -> str | None:
    if route.access == "admin":
        return "Needs an admin key."
    grant = operation.grant or route.surface
    return f"Needs a key with the grant `{grant}`." if grant else None


def _answer(operation: Operation, status: int) -> Schema:
    headers = _HEADERS_OF_A_MODEL if operation.asks_model else (_IGNORED,) if operation.body is not None else ()
    if status == NO_CONTENT:
        return {"description": "Done.", "headers": _headers(*headers)}
    answer = _content("The answer.", {operation.media: operation.answer}) | {"headers": _headers(*headers)}
    if operation.events:
        answer["content"]["text/event-stream"] = {"schema": _event(operation)}
    return answer


def _event(operation: Operation) -> Schema:
    """One event: before OpenAPI 3.2 that is what the schema of a stream is taken to describe."""
    chunk, names, error = operation.events, operation.named_events, operation.error
    marked = operation.marked and not names
    data = {"type": "string", "description": f"A `{chunk}` or an `{error}` as JSON{', or `[DONE]`' if marked else ''}."}
    named = " named `error`" if operation.names_errors else ""
    mark, after = ("`data: [DONE]`", "no `[DONE]`") if marked else ("no mark", "nothing")
    description = (
        f"With `stream: true`: events `data: <{chunk}>`, at the end {mark}. "
        f"After the first event a failure is an event{named} with an `{error}`, and {after} follows."
    )
    properties: Schema = {"data": data}
    required = ["data"]
    if names:
        properties["event"] = {"enum": [*names, "error"]}
        required.append("event")
    elif operation.names_errors:
        properties["event"] = {"enum": ["message", "error"]}  # an event without a name is a `message`
    return {"type": "object", "description": description, "properties": properties, "required": required}


def _error(route: Route, status: int) -> Schema:
    own = ("retry-after",) if status in _WITH_RETRY else ("www-authenticate",) if status == 401 else ()
    schema = "Unauthorized" if status == 401 else "Error"
    if route.path.startswith(NATIVE):
        schema = openapi_native.ERROR
    elif route.path.startswith(SCALE):
        schema = openapi_scale.ERROR
    return _content(_CAUSES[status], {"application/json": schema}) | {"headers": _headers(*own)}


def _content(description: str, kinds: Mapping[str, str]) -> Schema:
    content = {media: {"schema": reference(name) if name else STRING} for media, name in kinds.items()}
    return {"description": description, "content": content}
