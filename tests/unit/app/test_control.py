"""A worker's own socket: prepare, commit, abandon, settled, as the supervisor asks them."""

import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from narthex.app import tls
from narthex.app.control import control_server
from narthex.app.worker import Worker, open_worker
from narthex.core.errors import ConfigError, NarthexError
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.ipc.client import Client
from narthex.routing.route import Named

pytestmark = pytest.mark.anyio

LOOPBACK = Path(__file__).parents[1] / "upstream" / "loopback.pem"


class World:
    """A worker, what its control socket answers, and which settings it said it changed over to."""

    def __init__(self, settings: WorkerSettings, worker: Worker, client: Client) -> None:
        self.settings = settings
        self.worker = worker
        self.committed: list[WorkerSettings] = []
        self._client = client

    async def ask(self, operation: str, settings: WorkerSettings | None = None) -> Any:
        payload = None if settings is None else msgspec.json.encode(settings).decode()
        return await self._client.call(operation, payload, dict)

    def changed(self, **fields: Any) -> WorkerSettings:
        return msgspec.structs.replace(self.settings, **fields)


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    settings = WorkerSettings(name="worker-0", data_dir=str(tmp_path), run_dir=str(tmp_path), models=())
    path = tmp_path / "w.sock"
    client = Client(path, name="worker")
    async with open_worker(settings) as worker:
        it = World(settings, worker, client)
        server = control_server(path, worker, committed=it.committed.append)
        await server.start()
        yield it
        await client.aclose()
        await server.aclose()


async def test_nothing_changes_before_the_commit(world: World) -> None:
    after = world.changed(lenient=True)
    assert await world.ask("prepare", after) == {}
    assert world.worker.settings == world.settings
    assert await world.ask("commit") == {}
    assert world.worker.settings == after
    assert world.committed == [after]
    assert await world.ask("settled") == {}


async def test_what_was_abandoned_can_t_be_committed(world: World) -> None:
    await world.ask("prepare", world.changed(lenient=True))
    await world.ask("abandon")
    with pytest.raises(ConfigError, match="Nothing was prepared"):
        await world.ask("commit")
    assert not world.committed


async def test_what_can_t_be_built_is_told(world: World) -> None:
    provider = RemoteProvider(type="openai", base_url="ftp://user:sk-canary@h")
    broken = world.changed(providers={"there": provider}, names={"a": Named(deployments=("there/a",))})
    with pytest.raises(ConfigError) as caught:
        await world.ask("prepare", broken)
    assert "sk-canary" not in caught.value.message
    with pytest.raises(NarthexError):
        await world.ask("prepare", world.changed(names={"a": Named(deployments=("nowhere/a",))}))
    assert world.worker.settings == world.settings


async def test_a_certificate_is_tried_before_it_is_used(world: World, tmp_path: Path) -> None:
    bad = tmp_path / "bad.pem"
    bad.write_text("no certificate")
    for path in (bad, tmp_path / "none.pem"):
        with pytest.raises(ConfigError, match=r"http\.tls"):
            await world.ask("prepare", world.changed(tls_cert=str(path), tls_key=str(path)))
    good = world.changed(tls_cert=str(LOOPBACK), tls_key=str(LOOPBACK))
    await world.ask("prepare", good)
    tls.renew(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), good)
