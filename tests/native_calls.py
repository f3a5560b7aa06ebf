"""What a caller of the native API sends, and what it expects of answers, whichever they are."""

import asyncio
import json
import re
import threading
import time
import uuid
from typing import Any
from urllib.parse import quote

import httpx2
from tests.server_process import EMBEDDING_MODEL, Server

from narthex.core.keys import Grants, NewKey
from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import ScriptedUpstream

WRITER, TELLER = "writer", "teller"
"""Chat models at scripted upstreams: one answers as a whole, the other in a stream."""
FAR_VECTORS = "far-vectors"
"""An embedding model whose upstream answers with what no embedding looks like."""

SAID = "Under the old bridge."
CITED_TOKENS, SAID_TOKENS = 41, 5
"""What the upstreams say that they used."""

Json = dict[str, Any]


def escaped(key: str) -> str:
    """A key as it stands in a path."""
    return quote(key, safe="", errors="surrogatepass")


def collection_path(key: str) -> str:
    return f"/api/collections/{escaped(key)}"


def document_path(collection: str, key: str) -> str:
    return f"{collection_path(collection)}/documents/{escaped(key)}"


def fresh(prefix: str = "c") -> str:
    """A key that nobody has."""
    return f"{prefix}-{uuid.uuid4().hex[:12]}"


def made(api: httpx2.Client, documents: dict[str, str] | None = None, **fields: Any) -> str:
    """The key of a new collection with these documents."""
    key = fresh()
    answer = api.post(collection_path(key), json={"model": EMBEDDING_MODEL, **fields})
    assert answer.status_code == 201, answer.text
    for name, content in (documents or {}).items():
        stored = api.post(document_path(key, name), json={"content": content})
        assert stored.status_code == 201, stored.text
    return key


def said_no(answer: httpx2.Response, status: int, *names: str) -> str:
    """The text of an error, once its form is right; it holds `names`."""
    assert answer.status_code == status, (answer.status_code, answer.text)
    assert answer.headers["content-type"].startswith("application/json")
    assert answer.headers["x-request-id"]
    body = answer.json()
    assert list(body) == ["error"], body
    text = body["error"]
    assert isinstance(text, str)
    assert text.strip()
    assert "Traceback" not in text
    for name in names:
        assert name in text, (name, text)
    return text


def said_nothing(answer: httpx2.Response) -> None:
    """A 204 without a body."""
    assert answer.status_code == 204, answer.text
    assert answer.content == b""
    assert answer.headers.get("content-length", "0") == "0"
    assert answer.headers["x-request-id"]


def is_uuid(text: str) -> bool:
    return str(uuid.UUID(text)) == text


def is_time(text: str) -> bool:
    """RFC 3339 in UTC, with a `Z`."""
    return re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", text) is not None


def all_at_once(*calls: Any) -> list[httpx2.Response]:
    """The answers to calls that start together, in their order."""
    answers: list[Any] = [None] * len(calls)
    gate = threading.Barrier(len(calls))

    def run(place: int) -> None:
        gate.wait(60)
        answers[place] = calls[place]()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert None not in answers
    return answers


def key_of(server: Server, grants: Grants, *, account: str = "default") -> str:
    """The secret of a new key with exactly these grants."""

    async def create() -> str:
        store = await open_control(server.data / "control.db", clock=lambda: time.time_ns() // 1_000_000, create=False)
        try:
            new = NewKey(name=fresh("key"), grants=grants, account=account)
            _, secret = await store.keys.create(new, within=Grants.everything())
            return secret.reveal()
        finally:
            await store.aclose()

    return asyncio.run(create())


class Heard:
    """What scripted upstreams were asked since a test began."""

    def __init__(self, *upstreams: ScriptedUpstream) -> None:
        self._upstreams = upstreams
        self._before = [len(each.requests) for each in upstreams]

    @property
    def bodies(self) -> list[Json]:
        found = []
        for upstream, before in zip(self._upstreams, self._before, strict=True):
            found += [json.loads(request.body) for request in upstream.requests[before:]]
        return found

    @property
    def last(self) -> Json:
        """The last request's body."""
        return self.bodies[-1]

    @property
    def messages(self) -> list[Json]:
        """The last request's messages."""
        return list(self.last["messages"])

    @property
    def prompt(self) -> str:
        """What the last request's last message says."""
        return str(self.messages[-1]["content"])
