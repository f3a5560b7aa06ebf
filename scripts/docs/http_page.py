"""`http-api.md`: the routes as the program itself describes them, and what becomes of each request field."""

import asyncio
import contextlib
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import markdown
import msgspec

from narthex.app import open_worker
from narthex.core.capabilities import EMBEDDINGS, NEUTRAL, Capabilities, Limited, State
from narthex.core.errors import InvalidRequest
from narthex.core.keys import Secret
from narthex.dialects import openai_chat, openai_completions, openai_embeddings
from narthex.dialects.fields import Field
from narthex.dialects.sampling import NOT_BUILT
from narthex.engine.local import capabilities as local
from narthex.http.worker import WorkerSettings
from narthex.providers.openai_codec import HONOURED
from narthex.storage.sqlite.control import open_control

INTRO = """\
The running server has the same as a document for programs, with every schema, at `GET /openapi.json`, and as a page at
`GET /docs`. Both need a key.

* Keys are sent as `Authorization: Bearer <key>` or `x-api-key: <key>`. Two different ones in one request are a 401.
* Bodies are JSON in UTF-8, at most `http.body_limit_bytes` long. Unknown and duplicate names are a 400.
* `null` in a field that is not required means that the field was not sent.
* Every answer bears `x-request-id`. Answers of models also bear `x-narthex-deployment` (who answered), and
  `x-narthex-ignored` where fields of the request had no effect.
* Streams are server-sent events. They end with `data: [DONE]`, or with an error object and nothing after it.
  After 15 seconds of silence a stream carries a comment line.
* Errors are listed on [their own page](errors.md)."""

FIELDS_INTRO = """\
Every field that a caller may send, and what becomes of it:

* **native**: honoured.
* **no effect**: accepted, changes nothing, and is named in `x-narthex-ignored`.
* **refused**: 400 `unsupported_parameter` with the field's name in `param`.
* **refused, except …**: as refused, but these values ask for nothing and pass.

The column "elsewhere" is for models of a configured provider, which serve chat only."""

SOME_VALUES = {
    "messages": "native for text; images, audio and files are refused",
    "modalities": "`text` only",
    "response_format": '`{"type": "text"}` only',
    "tool_choice": "`none` only",
}
"""What is honoured of the fields whose values decide."""


def page() -> str:
    """The whole page."""
    routes = markdown.table(("route", "what", "needs", "statuses"), _routes(document()))
    chat = openai_chat.FIELDS | {name: field for name, field in NOT_BUILT.items() if name not in openai_chat.FIELDS}
    texts = openai_completions.FIELDS | {
        name: field for name, field in NOT_BUILT.items() if name not in openai_completions.FIELDS
    }
    return markdown.page(
        "HTTP API",
        INTRO,
        f"## Routes\n\n{routes}",
        f"## Request fields\n\n{FIELDS_INTRO}",
        _fields("`POST /v1/chat/completions`", chat, openai_chat.REQUIRED, ours=local.CHAT, theirs=HONOURED),
        _fields("`POST /v1/completions`", texts, openai_completions.REQUIRED, ours=local.COMPLETIONS),
        _fields("`POST /v1/embeddings`", openai_embeddings.FIELDS, openai_embeddings.REQUIRED, ours=EMBEDDINGS),
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


def _fields(
    title: str,
    fields: Mapping[str, Field],
    required: tuple[str, ...],
    *,
    ours: Capabilities,
    theirs: Capabilities | None = None,
) -> str:
    head = ["field", "type", "embedded models", *(["elsewhere"] if theirs is not None else [])]
    rows = []
    for name, field in fields.items():
        kinds = " or ".join(dict.fromkeys(_kinds(field.schema))) or "any"
        shown = markdown.code(name) + (" (required)" if name in required else "")
        columns = [ours, *([theirs] if theirs is not None else [])]
        rows.append([shown, kinds, *(_fate(name, field, honoured) for honoured in columns)])
    return f"### {title}\n\n{markdown.table(head, rows)}"


def _fate(name: str, field: Field, honoured: Capabilities) -> str:
    rule = honoured.get(name, State.REFUSED)
    if isinstance(rule, Limited):
        return SOME_VALUES[name]
    if rule is State.REFUSED and (passing := list(_neutral(name, field))):
        return f"refused, except {', '.join(passing)}"
    return rule.value


def _neutral(name: str, field: Field) -> Iterator[str]:
    """The values that ask for nothing, as a caller writes them, where the field takes them at all."""
    for value in NEUTRAL.get(name, ()):
        written = msgspec.json.encode(value)
        with contextlib.suppress(InvalidRequest):
            field.parse(msgspec.json.decode(written), name)
            yield markdown.code(written.decode())


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
