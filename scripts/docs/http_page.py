"""`http-api.md`: the routes as the program itself describes them, and the request fields with their types."""

import asyncio
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import markdown
import msgspec

from narthex.app.worker import open_worker
from narthex.core.keys import Secret
from narthex.dialects import (
    openai_chat,
    openai_completions,
    openai_embeddings,
    openai_images,
    openai_speech,
    openai_stored,
    scale_chat,
    scale_completions,
    thyris,
    thyris_documents,
)
from narthex.dialects.fields import Field
from narthex.http.capabilities import KNOWN
from narthex.http.worker import WorkerSettings
from narthex.storage.sqlite.control import open_control

INTRO = """\
The running server has the same as a document for programs, with every schema, at `GET /openapi.json`, and as a page at
`GET /docs`. Both need a key.

* Keys are sent as `Authorization: Bearer <key>` or `x-api-key: <key>`. Two different ones in one request are a 401.
* Bodies are JSON in UTF-8, at most `http.body_limit_bytes` long. Unknown and duplicate names are a 400.
* `null` in a field that is not required means that the field was not sent.
* Every answer bears `x-request-id`. Answers of models also bear `x-narthex-deployment` (who answered, or was asked
  last), `x-narthex-attempts` (how many attempts that took), and `x-narthex-ignored` where fields of the request had no
  effect.
* Streams are server-sent events. They end with `data: [DONE]`, or with an error object and nothing after it.
  After 15 seconds of silence a stream carries a comment line. Streams of images have named events and no `[DONE]`;
  those of speech have no `[DONE]` either.
* Images that are answered as `url` are kept on this server for 60 minutes, under an address that nobody can guess and
  that needs no key. Streams, and `gpt-image` models that were asked for neither, answer with `b64_json`.
* Errors are listed on [their own page](errors.md). Below `/api/` they are `{"error": "text"}`, and streams end with an
  event that has `"done": true`. Below `/v4/` they have the text as `detail` besides, and streams just end: see
  [Scale's API](../scale.md)."""

FIELDS_INTRO = """\
Every field that a caller may send. What becomes of each, by the model that is to answer, is in the table of
[capabilities](capabilities.md) and in `GET /v1/capabilities`; a field that can't be honoured is a 400 with its name."""


def page() -> str:
    """The whole page."""
    routes = markdown.table(("route", "what", "needs", "statuses"), _routes(document()))
    return markdown.page(
        "HTTP API",
        INTRO,
        f"## Routes\n\n{routes}",
        f"## Request fields\n\n{FIELDS_INTRO}",
        _fields("`POST /v1/chat/completions`", KNOWN["chat"], openai_chat.REQUIRED),
        _fields("`POST /v1/chat/completions/{completion_id}`", openai_stored.UPDATE, openai_stored.UPDATE_REQUIRED),
        _fields("`POST /v1/completions`", KNOWN["completions"], openai_completions.REQUIRED),
        _fields("`POST /v1/embeddings`", KNOWN["embeddings"], openai_embeddings.REQUIRED),
        _fields("`POST /v1/images/generations`", KNOWN["images"], openai_images.REQUIRED),
        _fields("`POST /v1/audio/speech`", KNOWN["speech"], openai_speech.REQUIRED),
        _fields("`POST /v4/beta/chat/completions`", scale_chat.FORM.known, scale_chat.REQUIRED),
        _fields("`POST /v4/beta/completions`", scale_completions.FORM.known, scale_completions.REQUIRED),
        _fields("`POST /api/chat`", thyris.FIELDS, thyris.REQUIRED),
        _fields(
            "`POST` and `PUT /api/collections/{key}`", thyris_documents.COLLECTION, thyris_documents.COLLECTION_REQUIRED
        ),
        _fields(
            "`POST` and `PUT /api/collections/{key}/documents/{document}`",
            thyris_documents.DOCUMENT,
            thyris_documents.DOCUMENT_REQUIRED,
        ),
        _fields("`POST /api/collections/{key}/search`", thyris_documents.SEARCH, ()),
    )


# --- routes ----------------------------------------------------------------------------------------------------------


def document() -> dict[str, Any]:
    """`/openapi.json` of a worker that is built for this and serves nobody else."""
    return asyncio.run(_document())


async def _document() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        secret = await _admin(Path(folder))
        settings = WorkerSettings(name="docs", data_dir=folder, run_dir=folder, models=())
        async with open_worker(settings) as worker:
            body = await _get(worker.application, "/openapi.json", key=secret.reveal())
    found: dict[str, Any] = msgspec.json.decode(body)
    return found


async def _admin(data: Path) -> Secret:
    control = await open_control(data / "control.db", clock=lambda: 0)
    try:
        made = await control.keys.ensure_admin()
    finally:
        await control.aclose()
    if made is None:
        raise RuntimeError("a fresh folder has an admin key already")
    return made[1]


async def _get(application: Any, path: str, *, key: str) -> bytes:
    """The body of an answer, without a server in between."""
    sent: list[bytes] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message.get("body", b""))

    headers = [(b"x-api-key", key.encode())]
    await application({"type": "http", "method": "GET", "path": path, "headers": headers}, receive, send)
    return b"".join(sent)


def _routes(described: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            needs = operation.get("description") or ("a key" if operation["security"] else "nothing")
            statuses = ", ".join(operation["responses"])
            needs = needs.removeprefix("Needs ").rstrip(".")
            yield (markdown.code(f"{method.upper()} {path}"), operation["summary"], needs, statuses)


# --- fields ----------------------------------------------------------------------------------------------------------


def _fields(title: str, fields: Mapping[str, Field], required: tuple[str, ...]) -> str:
    rows = [
        (
            markdown.code(name) + (" (required)" if name in required else ""),
            " or ".join(dict.fromkeys(_kinds(field.schema))) or "any",
        )
        for name, field in fields.items()
    ]
    return f"### {title}\n\n{markdown.table(('field', 'type'), rows)}"


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    """The types that a field takes, in words."""
    for variant in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _kinds(variant)
    if "enum" in schema:
        yield ", ".join(markdown.code(value) for value in schema["enum"])
    elif "const" in schema:
        yield markdown.code(schema["const"])
    elif "type" in schema:
        wide = 2**63 - 1
        low, high = schema.get("minimum", -wide), schema.get("maximum", wide)
        bounds = [f"≥ {low}"] if low > -wide else []
        bounds += [f"≤ {high}"] if high < wide else []
        yield " ".join([str(schema["type"]), *bounds])
