"""`/v1/images/generations` of a whole worker, with a scripted server behind it: each rule, and each field's fate."""

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from tests.images import PNG, TRAITS, USED, event, streamed, whole
from tests.raw_asgi import Caller, until
from tests.validation_rows import Row
from tests.validation_rows_images import CHATTING, IMAGES, NEWER, OLD, PICTURES, rows

from narthex.app.worker import open_worker
from narthex.core.keys import Grants, NewKey
from narthex.dialects import openai_images
from narthex.engine.served import ServedModel
from narthex.http.openapi_answers import SCHEMAS
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.routing.route import Named
from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import HANG, Reply, ScriptedUpstream, response, stream_head
from narthex.wire.sse import SseDecoder

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

ROWS = list(rows())
PROFILES = ("openai", "thyris", "ionos", "oxy")
PATH = IMAGES.path


class World:
    """A worker whose models are made elsewhere, but for one that chats; and keys by the names of their profiles."""

    def __init__(self, application: Any, upstream: ScriptedUpstream, *, secrets: dict[str, str]) -> None:
        self.application = application
        self._secrets = secrets
        self.upstream = upstream

    def caller(self, body: bytes, reply: Reply, *, key: str = "openai") -> Caller:
        self.upstream._replies[:] = [reply]
        headers = {"x-api-key": self._secrets[key], "host": "localhost:8080"}
        return Caller(body, path=PATH, headers=headers)

    async def post(self, body: bytes, reply: Reply, *, key: str = "openai") -> Caller:
        return await self.caller(body, reply, key=key).call(self.application)

    async def get(self, path: str, *, query: str = "") -> Caller:
        caller = Caller(method="GET", path=path, headers={"x-api-key": self._secrets["openai"]})
        caller.scope["query_string"] = query.encode()
        return await caller.call(self.application)


async def _keys(data: Path) -> dict[str, str]:
    control = await open_control(data / "control.db", clock=lambda: 0)
    secrets = {}
    async with contextlib.aclosing(control):
        for name in (*PROFILES, "lenient"):
            new = NewKey(
                name=name,
                grants=Grants.everything(),
                profile=name if name in PROFILES else "openai",  # type: ignore[arg-type]
                strict=name != "lenient",
            )
            secrets[name] = (await control.keys.create(new, within=Grants.everything()))[1].reveal()
    return secrets


@contextlib.asynccontextmanager
async def _world(data: Path) -> AsyncIterator[World]:
    secrets = await _keys(data)
    sockets = {"socket": str(data / "x.sock"), "control_socket": str(data / "c.sock")}
    chatting = ServedModel(name=CHATTING, child="child", path=str(data), kind="chat", runs="engine", **sockets)
    async with ScriptedUpstream(whole(PNG)) as upstream:
        settings = WorkerSettings(
            name="worker-0",
            data_dir=str(data),
            run_dir=str(data),
            models=(chatting,),
            names=dict.fromkeys((PICTURES, OLD, NEWER), Named(deployments=("there/pictures",))),
            providers={"there": RemoteProvider(type="openai", base_url=f"{upstream.url}/v1")},
        )
        async with open_worker(settings) as worker:
            yield World(worker.application, upstream, secrets=secrets)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with _world(tmp_path) as made:
        yield made


def answering(body: dict[str, Any]) -> Reply:
    """What a server would answer."""
    n = int(body.get("n") or 1)
    if body.get("stream"):
        steps = [
            event("partial_image", b"half", partial_image_index=index)
            for index in range(body.get("partial_images") or 0)
        ]
        return streamed(*[*steps, event("completed", PNG, usage=USED)] * n)
    return whole(*[PNG] * n, usage=USED, **TRAITS)


# --- the rows --------------------------------------------------------------------------------------------------------


async def test_each_row(world: World, subtests: pytest.Subtests) -> None:
    for row in ROWS:
        with subtests.test(str(row)):
            body = json.loads(row.body)
            reply = answering(body) if row.status == 200 else whole(PNG)
            before = len(world.upstream.requests)
            answer = await world.post(row.body, reply, key=row.key)
            assert answer.status == row.status, answer.body[:1000]
            if row.status == 200:
                _check_answer(answer, body)
            else:
                _check_error(answer, row)
                assert len(world.upstream.requests) == before


def _check_error(answer: Caller, row: Row) -> None:
    error = answer.json()["error"]
    assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", row.code, row.param), error


def _check_answer(answer: Caller, body: dict[str, Any]) -> None:
    if body.get("stream"):
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = SseDecoder().feed(answer.body)
        for each in events:
            content = json.loads(each.data)
            assert each.name.decode() == content["type"]
            assert list(jsonschema_rs.validator_for(SCHEMAS["ImageEvent"]).iter_errors(content)) == []
        assert sum(each.name == b"image_generation.completed" for each in events) == int(body.get("n") or 1)
    else:
        content = answer.json()
        assert list(jsonschema_rs.validator_for(SCHEMAS["ImageList"]).iter_errors(content)) == []
        assert len(content["data"]) == int(body.get("n") or 1)


def test_no_field_is_forgotten() -> None:
    for name in openai_images.FORM.known:
        sent = [json.loads(row.body) for row in ROWS if row.field == name]
        assert [body for body in sent if body.get(name, 0) is None], name
        assert [body for body in sent if body.get(name) is not None], name
    assert len({str(row) for row in ROWS}) == len(ROWS) > 250


# --- what is sent on -------------------------------------------------------------------------------------------------

VALUES: dict[str, dict[str, Any]] = {
    "prompt": {"prompt": "A dog"},
    "model": {},
    "n": {"n": 2},
    "quality": {"quality": "high"},
    "response_format": {"response_format": "url"},
    "size": {"size": "1536x1024"},
    "style": {"style": "natural"},
    "background": {"background": "opaque"},
    "output_format": {"output_format": "webp"},
    "output_compression": {"output_compression": 50, "output_format": "webp"},
    "moderation": {"moderation": "low"},
    "stream": {"stream": True},
    "partial_images": {"partial_images": 2, "stream": True},
    "user": {"user": "u-1"},
    "negative_prompt": {"negative_prompt": "dogs"},
    "steps": {"steps": 5},
    "sampler": {"sampler": "DDIM"},
    "seed": {"seed": 7},
}


async def test_fields_are_sent_or_refused_as_their_cells_say(world: World) -> None:
    (row,) = (await world.get("/v1/capabilities", query="model=house%2Fpictures")).json()["data"]
    cells = row["deployments"][0]["surfaces"]["images"]
    assert set(cells) == set(VALUES) == set(openai_images.FORM.known)
    for field, fields in VALUES.items():
        sent = IMAGES.base | fields
        before = len(world.upstream.requests)
        answer = await world.post(json.dumps(sent).encode(), answering(sent), key="openai")
        received = world.upstream.requests[before:]
        if cells[field]["state"] == "refused":
            error = answer.json()["error"]
            assert (answer.status, error["code"], error["param"]) == (400, "unsupported_parameter", field)
            assert received == []
            continue
        assert answer.status == 200, answer.body
        assert "x-narthex-ignored" not in answer.headers
        told = json.loads(received[0].body)
        assert received[0].target == "/v1/images/generations"
        assert told == sent | {"model": "pictures", "response_format": "b64_json"}


async def test_sizes_and_defaults_are_sent_in_one_form(world: World) -> None:
    for key, fields, size in (("openai", {"size": "512*512"}, "512x512"), ("ionos", {}, "1024x1024")):
        await world.post(json.dumps(IMAGES.base | fields).encode(), whole(PNG), key=key)
        assert json.loads(world.upstream.requests[-1].body)["size"] == size


async def test_what_a_lenient_key_sends_in_vain_is_named(world: World) -> None:
    answer = await world.post(IMAGES.body(zzz=1), whole(PNG), key="lenient")
    assert answer.headers["x-narthex-ignored"] == "zzz"
    assert "zzz" not in json.loads(world.upstream.requests[-1].body)


# --- servers that fail -----------------------------------------------------------------------------------------------

REFUSED = {
    "error": {
        "message": "Not that.",
        "type": "image_generation_user_error",
        "param": "prompt",
        "code": "moderation_blocked",
    }
}


async def test_a_refusal_is_passed_on(world: World) -> None:
    answer = await world.post(IMAGES.body(), Reply(response(json.dumps(REFUSED).encode(), status=400)))
    error = answer.json()["error"]
    assert (answer.status, error["code"], error["param"], error["message"]) == (
        400,
        "moderation_blocked",
        "prompt",
        "Not that.",
    )


@pytest.mark.parametrize(
    "reply",
    [
        whole(PNG),
        whole(PNG, PNG, PNG),
        whole(),
        Reply(response(b"nonsense")),
        Reply(response(b'{"data": [{"url": "http://127.0.0.1:1/a.png"}, {"url": "http://127.0.0.1:1/b.png"}]}')),
        Reply(response(b"", status=500)),
        streamed(event("completed", PNG) * 2),
    ],
)
async def test_a_wrong_answer_is_a_502_and_nothing_is_kept(reply: Reply, world: World, tmp_path: Path) -> None:
    answer = await world.post(IMAGES.body(n=2), reply)
    assert (answer.status, answer.json()["error"]["code"]) == (502, "upstream_error")
    assert list((tmp_path / "images").iterdir()) == []


async def test_a_stream_that_breaks_ends_with_an_error(world: World) -> None:
    half = event("partial_image", b"half", partial_image_index=0)
    answer = await world.post(IMAGES.body(stream=True, partial_images=1), streamed(half))
    assert answer.status == 200
    first, last = SseDecoder().feed(answer.body)
    assert first.name == b"image_generation.partial_image"
    assert (last.name, json.loads(last.data)["error"]["code"]) == (b"error", "upstream_error")
    answer = await world.post(IMAGES.body(stream=True), streamed())
    assert answer.status == 502


async def test_images_of_before_are_swept_at_the_start(tmp_path: Path) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / f"{'A' * 32}.png").write_bytes(PNG)
    os.utime(folder / f"{'A' * 32}.png", (0, 0))
    async with _world(tmp_path):
        assert list(folder.iterdir()) == []


# --- callers who leave -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fields", [{}, {"response_format": "b64_json"}, {"stream": True}])
@pytest.mark.parametrize("begun", [(), (stream_head(),)])
async def test_a_caller_who_leaves_ends_the_making(
    fields: dict[str, Any], begun: tuple[bytes, ...], world: World, tmp_path: Path
) -> None:
    caller = world.caller(IMAGES.body(**fields), Reply(*begun, HANG))
    async with asyncio.TaskGroup() as group:
        group.create_task(caller.call(world.application))
        await until(lambda: bool(world.upstream.requests) and world.upstream.requests[-1].complete)
        caller.left.set()
    async with asyncio.timeout(60):
        await world.upstream.peers[-1].closed.wait()
    assert list((tmp_path / "images").iterdir()) == []
