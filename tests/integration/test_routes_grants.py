"""Every route of the real application with every kind of key: what is not granted is denied.

The processes and servers behind the worker are not there, so whoever is let in to a model gets a 503 or a 502; what
matters is who is.
"""

import itertools
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.images import PNG
from tests.raw_asgi import Caller

from narthex.app.worker import Worker, open_worker
from narthex.core.documents import Chunk, Chunking, Collection, EmbeddingModel, NewDocument
from narthex.core.jobs import NewJob
from narthex.core.keys import EVERYTHING, SURFACES, Grants, NewKey
from narthex.core.stored import StoredChat
from narthex.engine.models import manifest
from narthex.engine.served import ServedModel
from narthex.http.images import ImageFiles
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.retrieval.opened import OpenCollections
from narthex.retrieval.portable import export
from narthex.routing.route import Named
from narthex.storage.sqlite.control import ControlStore, open_control
from narthex.storage.sqlite.stored import SqliteStoredChats

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

CHAT, EMBED, ADDED, PICTURES, SPEECH = "house/chat", "house/embed", "house-added", "house/pictures", "house/speech"
NOWHERE = "http://127.0.0.1:1"
NOW_MS = 1_000_000
LET_IN = {200, 201, 202, 204, 409, 502, 503}
COLLECTIONS, COLLECTION = "/api/collections", "/api/collections/{key}"
DOCUMENTS, DOCUMENT, SEARCH = f"{COLLECTION}/documents", f"{COLLECTION}/documents/{{document}}", f"{COLLECTION}/search"
IMPORT = f"{COLLECTION}/import"
FILES, JOBS, JOB = f"{COLLECTION}/files", f"{COLLECTION}/jobs", f"{COLLECTION}/jobs/{{job}}"
FORM = b'--xx\r\nContent-Disposition: form-data; name="file"; filename="a.txt"\r\n\r\n%b\r\n--xx--'
CHATS, STORED = "/v1/chat/completions", "/v1/chat/completions/{completion_id}"
NATIVE, SCALE = "/api/", "/v4/"
SHELF = "shelf"
"""A collection that is there, made with `EMBED`."""
PAGE = "page"
"""A document in it."""
KEPT = "chatcmpl-kept"
"""A completion that is stored."""


class Needs(msgspec.Struct, frozen=True, kw_only=True):
    """What a route asks of a key. `key` False: nothing at all."""

    key: bool = True
    surface: str = ""
    model: str = ""
    collection: bool = False
    admin: bool = False


ROUTES = {
    ("POST", CHATS): Needs(surface="chat", model=CHAT),
    ("GET", CHATS): Needs(surface="stored"),
    ("GET", STORED): Needs(surface="stored"),
    ("POST", STORED): Needs(surface="stored"),
    ("GET", f"{STORED}/messages"): Needs(surface="stored"),
    ("DELETE", STORED): Needs(surface="stored"),
    ("POST", "/v1/completions"): Needs(surface="completions", model=CHAT),
    ("POST", "/v1/embeddings"): Needs(surface="embeddings", model=EMBED),
    ("POST", "/v1/images/generations"): Needs(surface="images", model=PICTURES),
    ("POST", "/v1/audio/speech"): Needs(surface="speech", model=SPEECH),
    ("GET", "/v1/images/files/{name}"): Needs(key=False),
    ("GET", "/v1/models"): Needs(surface="models"),
    ("GET", "/v1/models/{model}"): Needs(surface="models", model=ADDED),
    ("DELETE", "/v1/models/{model}"): Needs(surface="models", model=ADDED, admin=True),
    ("GET", "/v1/capabilities"): Needs(surface="models"),
    ("POST", "/api/chat"): Needs(surface="chat", model=CHAT),
    ("POST", "/api/text"): Needs(surface="chat", model=CHAT),
    ("POST", "/v4/beta/chat/completions"): Needs(surface="chat", model=CHAT),
    ("POST", "/v4/beta/completions"): Needs(surface="completions", model=CHAT),
    ("GET", "/api/models"): Needs(surface="models"),
    ("GET", COLLECTIONS): Needs(surface="documents"),
    ("GET", COLLECTION): Needs(surface="documents", collection=True),
    ("POST", COLLECTION): Needs(surface="documents", collection=True),
    ("PUT", COLLECTION): Needs(surface="documents", collection=True),
    ("GET", DOCUMENTS): Needs(surface="documents", collection=True),
    ("GET", DOCUMENT): Needs(surface="documents", collection=True),
    ("POST", DOCUMENT): Needs(surface="documents", collection=True, model=EMBED),
    ("PUT", DOCUMENT): Needs(surface="documents", collection=True, model=EMBED),
    ("POST", SEARCH): Needs(surface="documents", collection=True, model=EMBED),
    ("POST", FILES): Needs(surface="documents", collection=True),
    ("GET", JOBS): Needs(surface="documents", collection=True),
    ("GET", JOB): Needs(surface="documents", collection=True),
    ("GET", f"{JOB}/events"): Needs(surface="documents", collection=True),
    ("POST", f"{COLLECTION}/rebuild"): Needs(surface="documents", collection=True, model=EMBED),
    ("GET", f"{COLLECTION}/export"): Needs(surface="documents", collection=True),
    ("POST", IMPORT): Needs(surface="documents", collection=True),
    ("DELETE", JOB): Needs(surface="documents", collection=True),
    ("DELETE", DOCUMENT): Needs(surface="documents", collection=True),
    ("DELETE", COLLECTION): Needs(surface="documents", collection=True),
    ("GET", "/healthz"): Needs(key=False),
    ("GET", "/readyz"): Needs(key=False),
    ("GET", "/metrics"): Needs(admin=True),
    ("POST", "/admin/reload"): Needs(admin=True),
    ("GET", "/openapi.json"): Needs(),
    ("GET", "/docs"): Needs(),
}
"""A new route is written down here, with what it needs, or the first test fails."""

BODIES = {
    STORED: {"metadata": {}},
    CHATS: {"model": CHAT, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    "/v1/completions": {"model": CHAT, "prompt": "Hi", "max_tokens": 1},
    "/v1/embeddings": {"model": EMBED, "input": "Hi"},
    "/v1/images/generations": {"model": PICTURES, "prompt": "Hi"},
    "/v1/audio/speech": {"model": SPEECH, "input": "Hi", "voice": "alloy"},
    "/api/chat": {"model": CHAT, "input": "Hi"},
    "/api/text": {"model": CHAT, "input": "Hi"},
    "/v4/beta/chat/completions": {"model": CHAT, "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1},
    "/v4/beta/completions": {"model": CHAT, "prompt": "Hi", "max_new_tokens": 1},
    COLLECTION: {"model": EMBED},
    DOCUMENT: {"content": "What is not there yet."},
    SEARCH: {"query": "Hi"},
}

KEYS: dict[str, Grants] = {
    "nothing": Grants(),
    "no surface": Grants(models=(EVERYTHING,), collections=(EVERYTHING,), templates=True, extras=True),
    "admin only": Grants(admin=True),
    "admin without models": Grants(surfaces=frozenset({EVERYTHING}), admin=True),
    "no models": Grants(surfaces=frozenset({EVERYTHING})),
    "other models": Grants(surfaces=frozenset({EVERYTHING}), models=("house", "HOUSE*", "other*", "hous?[!-/]*")),
    "these models": Grants(surfaces=frozenset({EVERYTHING}), models=("house*",)),
    "one model": Grants(surfaces=frozenset({EVERYTHING}), models=(CHAT,), admin=True),
    "everything but admin": Grants(
        surfaces=frozenset({EVERYTHING}),
        models=(EVERYTHING,),
        collections=(EVERYTHING,),
        templates=True,
        extras=True,
    ),
    "these collections": Grants(surfaces=frozenset({"documents"}), models=("house*",), collections=("sh*",)),
    "other collections": Grants(surfaces=frozenset({"documents"}), models=("house*",), collections=("SHELF", "shel")),
    "collections without models": Grants(surfaces=frozenset({"documents"}), collections=("sh*",)),
    "everything": Grants.everything(),
    **{f"only {surface}": Grants(surfaces=frozenset({surface}), models=(EVERYTHING,)) for surface in SURFACES},
}
DEAD = {"revoked": None, "expired": NOW_MS - 1, "expiring now": NOW_MS}


class World:
    """The application, the secrets of all keys by their names, and the name of an image that is kept."""

    def __init__(self, worker: Worker, secrets: dict[str, str], *, image: str, job: str, export: bytes) -> None:
        self.application = worker.application
        self._export = export
        self._job = job
        self.secrets = secrets
        self._image = image

    async def ask(self, method: str, path: str, *, key: str | None) -> Caller:
        headers = {"host": "localhost"} | ({} if key is None else {"authorization": f"Bearer {key}"})
        body = json.dumps(BODIES.get(path, {})).encode()
        if path in {FILES, IMPORT}:
            body, headers["content-type"] = FORM % self._export, "multipart/form-data; boundary=xx"
        path = path.replace("{job}", self._job).replace("{completion_id}", KEPT)
        path = path.replace("{model}", ADDED).replace("{name}", self._image).replace("{key}", SHELF)
        path = path.replace("{document}", "new" if method == "POST" else PAGE)
        caller = Caller(body, method=method, path=path, headers=headers)
        return await caller.call(self.application)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    control = await open_control(tmp_path / "control.db", clock=lambda: NOW_MS)
    secrets = {}
    for name, grants in KEYS.items():
        _, secret = await control.keys.create(NewKey(name=name, grants=grants), within=Grants.everything())
        secrets[name] = secret.reveal()
    for name, expires_ms in DEAD.items():
        new = NewKey(name=name, grants=Grants.everything(), expires_ms=expires_ms)
        _, secret = await control.keys.create(new, within=Grants.everything())
        secrets[name] = secret.reveal()
    await control.keys.revoke("revoked")
    job = await _shelved(control, tmp_path)
    await _kept(control, tmp_path)
    await control.aclose()
    file = tmp_path / "models" / ADDED / manifest.FILE_NAME
    file.parent.mkdir(parents=True)
    file.touch()

    def model(name: str, **fields: Any) -> ServedModel:
        sockets = {"socket": str(tmp_path / "x.sock"), "control_socket": str(tmp_path / "c.sock")}
        return ServedModel(name=name, child="child", path=str(file), **sockets, **fields)

    settings = WorkerSettings(
        name="worker-0",
        data_dir=str(tmp_path),
        run_dir=str(tmp_path),
        models=(
            model(CHAT, kind="chat", runs="engine"),
            model(EMBED, kind="embedding", runs="embedder"),
            model(ADDED, kind="chat", runs="engine", removable=True),
        ),
        names={
            PICTURES: Named(deployments=("there/pictures",)),
            SPEECH: Named(deployments=("there/speech",)),
        },
        providers={"there": RemoteProvider(type="openai", base_url=NOWHERE)},
        allowed_hosts=("localhost",),
    )
    async with open_worker(settings) as worker:
        image = ImageFiles(tmp_path / "images", clock=time.time).write(PNG)
        yield World(worker, secrets, image=image, job=job, export=(tmp_path / "exported").read_bytes())


async def _shelved(control: ControlStore, data: Path) -> str:
    """A collection with a document and a job that is over; the job's id."""
    key, *_ = await control.keys.list()
    account_id = key.account_id
    model = EmbeddingModel(name=EMBED, dim=2)
    made = Collection(id="shelf-1", account_id=account_id, key=SHELF, model=model, created_ms=NOW_MS)
    collection = await control.collections.create(made)
    stores = OpenCollections(data / "collections", clock=lambda: NOW_MS)
    async with stores.open(collection) as documents:
        new = NewDocument(key=PAGE, text="Here.", sha256=b"x" * 32, chunking=Chunking(size=10))
        await documents.put(new, [Chunk(start=0, stop=5, text="Here.")], [bytes(8)], tokens=1)
    await stores.aclose()
    export(data / "collections" / made.id, data / "exported", collection)
    job = await control.jobs.add(
        NewJob(kind="ingest", account_id=account_id, key_id=key.id, collection_id=made.id, collection_key=SHELF)
    )
    await control.jobs.cancel(job.id)
    return job.id


async def _kept(control: ControlStore, data: Path) -> None:
    key, *_ = await control.keys.list()
    stored = SqliteStoredChats(data / "completions.db", clock=lambda: NOW_MS)
    chat = StoredChat(id=KEPT, created_s=int(time.time()), model="gone", metadata={}, answer=b"{}")
    await stored.add(chat, account_id=key.account_id, messages=b"[]")
    await stored.aclose()


def _allowed(needs: Needs, grants: Grants) -> bool:
    """By the contract, not by the code: all that the route needs is granted."""
    return (
        (not needs.surface or bool(grants.surfaces & {needs.surface, EVERYTHING}))
        and (not needs.model or bool({needs.model, "house*", EVERYTHING} & set(grants.models)))
        and (not needs.collection or bool({"sh*", EVERYTHING} & set(grants.collections)))
        and (not needs.admin or grants.admin)
    )


async def test_every_route_stands_in_the_table(world: World) -> None:
    served = {(method, route.path) for route in world.application._routes.all for method in route.endpoints}
    assert served == set(ROUTES)


async def test_without_a_live_key_only_open_routes_answer(world: World) -> None:
    dead = [None, "", "nx-" + "a" * 43, *(world.secrets[name] for name in DEAD)]
    for ((method, path), needs), key in itertools.product(ROUTES.items(), dead):
        caller = await world.ask(method, path, key=key)
        assert caller.status == (401 if needs.key else 200), (method, path, key)


@pytest.mark.parametrize("name", KEYS)
async def test_a_key_opens_what_it_was_granted_and_nothing_else(name: str, world: World) -> None:
    for (method, path), needs in ROUTES.items():
        caller = await world.ask(method, path, key=world.secrets[name])
        if not needs.key or _allowed(needs, KEYS[name]):
            assert caller.status in LET_IN, (method, path, caller.body)
        else:
            assert caller.status in {403, 404}, (method, path)
            error = caller.json()["error"]
            if path.startswith(NATIVE):
                assert isinstance(error, str)
            else:
                assert error["code"] in {"insufficient_permissions", "model_not_found"}
                assert caller.json().get("detail") == (error["message"] if path.startswith(SCALE) else None)


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize("path", ["/v1/models", "/v1/capabilities", "/api/models"])
async def test_lists_of_models_show_only_what_is_granted(path: str, name: str, world: World) -> None:
    caller = await world.ask("GET", path, key=world.secrets[name])
    if caller.status == 200:
        listed = {row["id"] for row in caller.json()["data"]}
        assert listed == {m for m in (CHAT, EMBED, ADDED, PICTURES, SPEECH) if _allowed(Needs(model=m), KEYS[name])}


async def test_a_key_that_is_revoked_while_we_run_ends_with_its_next_request(world: World, tmp_path: Path) -> None:
    key = world.secrets["everything"]
    assert (await world.ask("GET", "/v1/models", key=key)).status == 200
    control = await open_control(tmp_path / "control.db", clock=lambda: NOW_MS)
    await control.keys.revoke("everything")
    await control.aclose()
    assert (await world.ask("GET", "/v1/models", key=key)).status == 401


async def test_other_methods_and_paths_lead_nowhere_with_any_key(world: World) -> None:
    key = world.secrets["everything"]
    methods = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT")
    for method, path in itertools.product(methods, {path for _, path in ROUTES}):
        if (method, path) not in ROUTES:
            caller = await world.ask(method, path, key=key)
            assert caller.status == 405, (method, path)
            assert method not in caller.headers["allow"].split(", ")
    for path in (
        "/",
        "/v1",
        "/v1/",
        "/v1/chat/completions/",
        "//v1/models",
        "/v1/../metrics",
        "/metrics/",
        "/ui",
        "/admin",
    ):
        assert (await world.ask("GET", path, key=key)).status == 404, path
