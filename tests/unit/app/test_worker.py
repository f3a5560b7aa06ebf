"""A worker and its snapshots: each request has one, whole, from its beginning to its end."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.raw_asgi import Caller

from narthex.app.worker import Worker, open_worker
from narthex.core.errors import ConfigError, Draining
from narthex.engine.served import ServedModel
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.routing.route import Named
from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import END, Reply, ScriptedUpstream, sse, stream_head

pytestmark = pytest.mark.anyio

HELLO = {"messages": [{"role": "user", "content": "Hello"}]}


def reply(*steps: Any) -> Reply:
    end = json.dumps({"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": "stop"}]}).encode()
    return Reply(*steps, stream_head(), sse(end, b"[DONE]"), END)


class World:
    """A worker, an upstream whose first answer waits for `go`, and how to ask."""

    def __init__(self, folder: Path, key: str, upstream: ScriptedUpstream) -> None:
        self.folder = folder
        self.key = key
        self.upstream = upstream
        self.go = asyncio.Event()
        self.worker: Worker

    def settings(self, *names: str, **more: Any) -> WorkerSettings:
        provider = RemoteProvider(type="openai", base_url=self.upstream.url, api_key="k", idle_s=more.pop("idle_s", 9))
        return WorkerSettings(
            name="worker-0",
            data_dir=str(self.folder),
            run_dir=str(self.folder),
            models=(),
            names={name: Named(deployments=(f"there/{name}",)) for name in names},
            providers={"there": provider},
            **more,
        )

    def ask(self, model: str) -> "asyncio.Task[Caller]":
        body = json.dumps(HELLO | {"model": model}).encode()
        caller = Caller(body, path="/v1/chat/completions", headers={"x-api-key": self.key})
        return asyncio.ensure_future(caller.call(self.worker))  # type: ignore[return-value]

    async def follow(self, settings: WorkerSettings) -> None:
        await self.worker.prepare(settings)
        self.worker.commit()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    control = await open_control(tmp_path / "control.db", clock=lambda: 0)
    made = await control.keys.ensure_admin()
    await control.aclose()
    assert made is not None
    async with ScriptedUpstream() as upstream:
        it = World(tmp_path, made[1].reveal(), upstream)
        upstream.then(reply(it.go), reply())
        async with open_worker(it.settings("first")) as it.worker:
            yield it


async def until(it: World, requests: int) -> None:
    async with asyncio.timeout(60):
        while len(it.upstream.requests) < requests:
            await asyncio.sleep(0.001)


async def test_a_request_ends_with_the_snapshot_that_it_began_with(world: World) -> None:
    running = world.ask("first")
    await until(world, 1)
    await world.follow(world.settings("second", idle_s=5))
    assert (await world.ask("first")).status == 404
    assert (await world.ask("second")).status == 200
    assert world.worker.running == 1
    settled = asyncio.ensure_future(world.worker.settled())
    await asyncio.sleep(0)
    assert not settled.done()
    world.go.set()
    assert (await running).status == 200
    async with asyncio.timeout(60):
        await settled
        await world.upstream.peers[0].closed.wait()
    assert not world.upstream.peers[1].closed.is_set()


async def test_an_unchanged_provider_keeps_its_connection(world: World) -> None:
    world.go.set()
    assert (await world.ask("first")).status == 200
    await world.follow(world.settings("first", "second", lenient=True))
    await world.worker.settled()
    assert (await world.ask("second")).status == 200
    assert [request.peer for request in world.upstream.requests] == [0, 0]


async def test_what_was_prepared_and_dropped_leaves_nothing(world: World) -> None:
    world.go.set()
    shelf = world.worker._common.shelf
    before = len(shelf)
    await world.worker.prepare(world.settings("second", idle_s=5))
    assert len(shelf) > before
    await world.worker.abandon()
    await world.worker.abandon()
    with pytest.raises(ConfigError, match="Nothing was prepared"):
        world.worker.commit()
    bad = WorkerSettings(
        name="worker-0",
        data_dir=str(world.folder),
        run_dir=str(world.folder),
        models=(),
        names={"a": Named(deployments=("there/a", "broken/b"))},
        providers={
            "there": RemoteProvider(type="openai", base_url=world.upstream.url),
            "broken": RemoteProvider(type="openai", base_url=world.upstream.url, api_key="sk-canary\n"),
        },
    )
    with pytest.raises(ConfigError) as caught:
        await world.worker.prepare(bad)
    assert "sk-canary" not in caught.value.message
    assert len(shelf) == before
    assert (await world.ask("first")).status == 200


async def test_a_drain_waits_for_requests_of_all_snapshots(world: World) -> None:
    running = world.ask("first")
    await until(world, 1)
    await world.follow(world.settings("second"))
    drained = asyncio.ensure_future(world.worker.drained())
    await asyncio.sleep(0)
    assert (await world.ask("second")).status == 503
    with pytest.raises(Draining):
        await world.worker.prepare(world.settings("third"))
    assert not drained.done()
    world.go.set()
    assert (await running).status == 200
    async with asyncio.timeout(60):
        await drained


async def test_at_the_limit_requests_of_all_snapshots_are_cut(world: World) -> None:
    running = world.ask("first")
    await until(world, 1)
    await world.follow(world.settings("second", drain_s=0.05))
    await world.worker.drained()
    assert (await running).status == 503


async def test_proxies_are_trusted_by_snapshot(world: World) -> None:
    async def scheme() -> str:
        caller = Caller(b"", method="GET", path="/healthz", headers={"x-forwarded-proto": "https", "host": "h"})
        caller.scope |= {"client": ("127.0.0.1", 1), "scheme": "http"}
        await caller.call(world.worker)
        return str(caller.scope["scheme"])

    assert await scheme() == "http"
    await world.follow(world.settings(trusted_proxies=("127.0.0.1",)))
    assert await scheme() == "https"


async def test_a_model_on_somebody_elses_server_is_as_old_as_the_worker(world: World) -> None:
    elsewhere = ServedModel(name="writer", kind="chat", runs="url", url="http://127.0.0.1:9")
    dated = ServedModel(name="dated", kind="chat", runs="url", url="http://127.0.0.1:9", created=7)
    await world.follow(msgspec.structs.replace(world.settings(), models=(elsewhere, dated)))
    asked = Caller(method="GET", path="/v1/models", headers={"x-api-key": world.key})
    listed = json.loads((await asked.call(world.worker.application)).body)["data"]
    created = {model["id"]: model["created"] for model in listed}
    assert created["dated"] == 7
    assert created["writer"] > 1_700_000_000
