"""Reloads of a running server: all or nothing, in every worker at once, and no request is lost by them."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.callers import CHAT, Answer, ask, calling, chat
from tests.server_inside import ENGINE, alive, children, kill, memory_bytes, pid, ready, run_dir, until
from tests.server_process import CHAT_MODEL, Server, StartServer, install_models

from narthex.ipc.client import Client
from narthex.testing.scripted import END, Reply, ScriptedUpstream, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

WORKERS = ("worker-0", "worker-1")
CANARY = "sk-canary-0123456789"


def chunk(text: str, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": finish}
    return sse(json.dumps({"id": "x", "object": "chat.completion.chunk", "created": 1, "choices": [choice]}).encode())


def stream(*steps: Any) -> Reply:
    return Reply(stream_head(), chunk("a"), *steps, chunk("z", "stop"), sse(b"[DONE]"), END)


class World(msgspec.Struct, kw_only=True):
    """A server with two workers and the servers behind it: `streams` is the one that a test may hold up."""

    server: Server
    whole: ScriptedUpstream
    streams: ScriptedUpstream
    logged: int = 0
    """How many lines the server had logged before this test."""

    def settings(self, *names: str, **more: Any) -> dict[str, Any]:
        """Settings with the two models that are always there, and `names` besides."""
        steady = [
            {"name": "whole", "deployments": ["near/m"]},
            {"name": "streams", "deployments": ["far/m"]},
        ]
        return {
            "engine": {"default": None},
            "embedder": {"default": None},
            "speech": {"engine": "off"},
            "providers": {"near": {"base_url": self.whole.url}, "far": {"base_url": self.streams.url}},
            "models": [*steady, *({"name": name, "deployments": ["near/m"]} for name in names)],
            **more,
        }

    def log_lines(self) -> list[dict[str, Any]]:
        """What it has logged in this test."""
        return self.server.log_lines()[self.logged :]

    def write(self, settings: dict[str, Any] | str) -> None:
        file = self.server.data.parent / "narthex-test.yaml"
        file.write_text(settings if isinstance(settings, str) else yaml.safe_dump(settings))

    async def reload(self, settings: dict[str, Any] | str) -> Answer:
        self.write(settings)
        return await ask(self.server, "/admin/reload", method="POST")

    async def offers(self, name: str, *, times: int = 30) -> set[int]:
        """What is said of a model on so many new connections."""
        return {(await ask(self.server, f"/v1/models/{name}")).status for _ in range(times)}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """Where the servers behind it listen; a socket's path must be short."""
    with tempfile.TemporaryDirectory(prefix="nx-up-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def running(start_server: StartServer, folder: Path) -> Iterator[Server]:
    """For all tests that end with the settings that they began with, but for what a reload sets right."""
    with start_server(World(server=None, **behind(folder)).settings("first"), workers=2, models=()) as server:  # type: ignore[arg-type]
        yield server


def behind(folder: Path, *replies: Reply) -> dict[str, ScriptedUpstream]:
    return {
        "whole": ScriptedUpstream(stream(), unix=folder / "whole.sock"),
        "streams": ScriptedUpstream(*(replies or (stream(),)), unix=folder / "streams.sock"),
    }


@asynccontextmanager
async def world(running: Server, folder: Path, *replies: Reply) -> AsyncIterator[World]:
    """The server with its first settings, and who is behind it during this test."""
    upstreams = behind(folder, *replies)
    async with upstreams["whole"], upstreams["streams"]:
        made = World(server=running, **upstreams)
        for name in WORKERS:
            await ready(running, name)
        assert (await made.reload(made.settings("first"))).status == 200
        made.logged = len(running.log_lines())
        yield made


async def calls(server: Server, stop: asyncio.Event, *, streams: bool) -> list[Answer]:
    """Ask again and again; returns what did not end well, after at least one answer that did."""
    body = chat("Hello", model="streams" if streams else "whole", stream=streams)
    answers = 0
    bad = []
    while not stop.is_set() or not answers:
        await asyncio.sleep(0.005)  # a load, not all that the machine can do
        answer = await ask(server, CHAT, body)
        answers += 1
        if not answer.whole:
            bad.append(answer)
    return bad


async def test_reloads_under_load_lose_no_request_and_reach_every_worker(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        stop = asyncio.Event()
        load = [asyncio.ensure_future(calls(it.server, stop, streams=bool(number % 2))) for number in range(8)]
        try:
            for number, after in enumerate(("second", "third", "first", "second", "last")):
                providers = {
                    "near": {"base_url": it.whole.url, "idle_s": 30 + number},
                    "far": {"base_url": it.streams.url, "idle_s": 30 + number},
                }
                answer = await it.reload(it.settings(after, providers=providers))
                assert answer.status == 200, answer
                assert answer.json["object"] == "reload"
                assert {f"models.{after}", "providers.near", "providers.far"} <= set(answer.json["changed"])
                assert answer.json["needs_restart"] == []
                assert await it.offers(after) == {200}
            assert await it.offers("first") == {404}
        finally:
            stop.set()
        assert await asyncio.gather(*load) == [[]] * 8


async def test_an_invalid_file_changes_nothing_and_is_told_whole(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        bad = it.settings("second", nonsense=1, providers={"near": {"base_url": it.whole.url, "api_key": [CANARY]}})
        answer = await it.reload(bad)
        assert answer.status == 400
        assert answer.error
        assert answer.error["code"] == "invalid_configuration"
        assert "narthex-test.yaml:" in answer.error["message"]
        for said in ("nonsense: there is no such setting", "providers.near.api_key", "no provider 'far'"):
            assert said in answer.error["message"]
        assert await it.offers("first", times=10) == {200}
        assert await it.offers("second", times=10) == {404}
        refused = [line for line in it.log_lines() if line["event"] == "reload refused"]
        assert [line["level"] for line in refused] == ["error"]
        assert len(refused[0]["faults"]) == 3
        answer = await it.reload(f"providers: {{near: {{api_key: x: {CANARY}}}}}")
        assert answer.status == 400
        assert CANARY not in it.server.log_file.read_text() + answer.body.decode()
        assert (await it.reload(it.settings("second"))).status == 200
        assert await it.offers("second", times=10) == {200}


async def test_secrets_of_a_new_file_stay_there(running: Server, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with world(running, folder) as it:
        keyed = {"base_url": it.whole.url, "api_key": CANARY}
        answer = await it.reload(it.settings("second", providers={"near": keyed, "far": keyed}))
        assert answer.status == 200
        assert (await ask(it.server, CHAT, chat(model="second"))).status == 200
        assert it.whole.requests[-1].headers["authorization"] == f"Bearer {CANARY}"
        assert CANARY not in it.server.log_file.read_text() + answer.body.decode()


async def test_sighup_reloads_too_and_reloads_do_not_overlap(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        it.write(it.settings("second"))
        it.server.process.send_signal(signal.SIGHUP)

        async def reloaded() -> bool:
            return "second" in str([line for line in it.log_lines() if line["event"] == "reloaded"])

        await until(reloaded)
        assert await it.offers("second", times=20) == {200}
        it.write(it.settings("third"))
        answers = await asyncio.gather(*(ask(it.server, "/admin/reload", method="POST") for _ in range(6)))
        assert {answer.status for answer in answers} == {200}
        assert await it.offers("third", times=20) == {200}


async def test_a_wildcard_that_a_reload_brings_is_for_every_name(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        assert await it.offers("first", times=1) == {200}
        assert (await ask(it.server, CHAT, chat(model="whatever"))).status == 404
        settings = it.settings("second")
        settings["models"].append({"name": "*", "deployments": ["near/m"]})
        assert (await it.reload(settings)).json["changed"] == ["models.*", "models.first", "models.second"]
        answers = [await ask(it.server, CHAT, chat(model="whatever")) for _ in range(20)]
        assert {answer.status for answer in answers} == {200}


async def test_the_command_tells_what_came_of_it(running: Server, folder: Path, tmp_path: Path) -> None:
    async def run(*options: str, data: Path) -> tuple[int, str, str]:
        command = [sys.executable, "-m", "narthex", "reload", "--data", str(data), *options]
        done = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout, done.stderr

    async with world(running, folder) as it:
        it.write(it.settings("second", log={"format": "json"}))
        changed = "Changed:\n  models.first\n  models.second\nNeeds a restart:\n  log.format\n"
        assert await run(data=it.server.data) == (0, changed, "")
        assert (await run(data=it.server.data))[1].startswith("Nothing has changed.\n")
        it.write("prot: 1\nhots: 1\n")
        code, said, told = await run(data=it.server.data)
        assert (code, said) == (2, "")
        assert "narthex-test.yaml:1:1: prot: there is no such setting; did you mean 'port'?" in told
        code, said, _ = await run("--json", data=it.server.data)
        assert code == 2
        assert len(json.loads(said)["faults"]) == 2
    code, _, told = await run(data=tmp_path)
    assert code == 1
    assert "not running" in told


async def test_what_can_t_follow_is_named_and_the_rest_is_applied(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        settings = it.settings("second", log={"format": "json"}, http={"body_limit_bytes": 300})
        answer = await it.reload(settings)
        assert answer.json["needs_restart"] == ["log.format"]
        assert answer.json["changed"] == ["http.body_limit_bytes", "models.first", "models.second"]
        assert (await ask(it.server, CHAT, chat("x" * 400, model="second"))).status == 413
        assert (await it.reload(settings)).json["needs_restart"] == ["log.format"]


async def test_a_stream_ends_whole_though_its_provider_is_gone(running: Server, folder: Path) -> None:
    go = asyncio.Event()
    async with world(running, folder, stream(go)) as it:
        async with calling(it.server, CHAT, chat(model="streams", stream=True)) as caller:
            await caller.until(b'"a"')
            gone = it.settings("second", providers={"near": {"base_url": it.whole.url}})
            gone["models"] = [row for row in gone["models"] if row["name"] != "streams"]
            assert (await it.reload(gone)).status == 200
            assert await it.offers("streams", times=10) == {404}
            assert not it.streams.peers[0].closed.is_set()
            go.set()
            answer = await caller.end()
            assert answer.whole
            assert b'"z"' in answer.body
        await asyncio.wait_for(it.streams.peers[0].closed.wait(), 60)


async def test_connections_of_an_unchanged_provider_stay_warm(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        async with calling(it.server, CHAT, chat(model="whole")) as caller:
            assert (await caller.end()).whole
            assert (await it.reload(it.settings("second"))).status == 200
            again = caller.again()
            await again.ask(CHAT, chat(model="second"), key=it.server.admin_key)
            assert (await again.end()).whole
        assert [received.peer for received in it.whole.requests] == [0, 0]


async def test_a_killed_worker_comes_back_with_the_new_plan(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        assert (await it.reload(it.settings("second"))).status == 200
        for name in WORKERS:
            killed = await kill(it.server, name)
            await ready(it.server, name, other_than=killed)
        assert await it.offers("second", times=20) == {200}
        assert await it.offers("first", times=20) == {404}


@pytest.mark.soak  # takes half a minute or more
async def test_a_worker_that_is_killed_in_a_reload_leaves_no_half(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        offered, before = "first", await pid(it.server, "worker-1")
        for number, delay_s in enumerate((0.3, 0.8, 1.2, 1.6)):  # from before the plan is made to after the commit
            it.write(it.settings(f"m{number}"))
            reloading = asyncio.ensure_future(reloaded(it.server))
            await asyncio.sleep(delay_s)
            with contextlib.suppress(ProcessLookupError):
                os.kill(before, signal.SIGKILL)
            offered = f"m{number}" if await reloading else offered
            await ready(it.server, "worker-1", other_than=before)
            before = await pid(it.server, "worker-1")
            assert await it.offers(offered, times=20) == {200}
            assert await it.offers(f"m{number}", times=1) == {200 if offered == f"m{number}" else 404}
        assert (await it.reload(it.settings("last"))).status == 200
        assert await it.offers("last", times=20) == {200}


async def reloaded(server: Server) -> bool:
    """Whether a reload went well, asked of the supervisor itself: no worker's end cuts the answer off."""
    client = Client(run_dir(server) / "supervisor.sock", name="supervisor")
    try:
        return not (await client.call("reload", None, dict))["faults"]
    finally:
        await client.aclose()


@pytest.mark.soak  # takes half a minute or more
async def test_nothing_grows_with_reloads(running: Server, folder: Path) -> None:
    async with world(running, folder) as it:
        workers = [await pid(it.server, name) for name in WORKERS]

        async def once(number: int) -> None:
            near = {"base_url": it.whole.url, "idle_s": 10 + number}
            settings = it.settings("first", providers={"near": near, "far": {"base_url": it.streams.url}})
            assert (await it.reload(settings)).status == 200
            assert (await ask(it.server, CHAT, chat(model="whole"))).whole

        def open_files() -> int:
            return sum(len(list(Path(f"/proc/{one}/fd").iterdir())) for one in (*workers, it.server.pid))

        for number in range(5):
            await once(number)
        files, memory = open_files(), sum(map(memory_bytes, workers))
        for number in range(20):
            await once(number)

        async def settled() -> bool:
            return open_files() <= files + 2

        await until(settled)
        assert sum(map(memory_bytes, workers)) - memory < 2 * 8 * 1024 * 1024
        assert memory_bytes(it.server.pid) < 40 * 1024 * 1024


@pytest.mark.soak  # takes half a minute or more
async def test_an_engine_follows_when_it_is_idle(start_server: StartServer) -> None:
    engine = {"context": 512, "slots": 2, "threads": 1}
    one = {"embedder": {"default": None}, "engine": engine}
    with start_server(one, models=(CHAT_MODEL,)) as server:
        file = server.data.parent / "narthex-test.yaml"
        before = await pid(server, ENGINE)
        file.write_text(yaml.safe_dump(one | {"engine": engine | {"context": 1024}, "models": [alias("a")]}))
        answer = await ask(server, "/admin/reload", method="POST")
        assert answer.json["changed"] == ["engine.context", f"local.{CHAT_MODEL}", "models.a"]
        await ready(server, ENGINE, other_than=before, within_s=60)
        assert (await ask(server, CHAT, chat("Hello", model="a", max_tokens=2))).whole
        file.write_text(yaml.safe_dump(one | {"engine": engine | {"context": 1024, "default": None}}))
        assert (await ask(server, "/admin/reload", method="POST")).status == 200


async def test_a_new_model_is_there_and_a_removed_one_goes(start_server: StartServer, models_dir: Path) -> None:
    nothing = {"embedder": {"default": None}, "engine": {"default": None}}
    with start_server(nothing, models=()) as server:
        install_models(models_dir, server.data, (CHAT_MODEL,))
        answer = await ask(server, "/admin/reload", method="POST")
        assert answer.json["changed"] == [f"local.{CHAT_MODEL}"]
        assert (await ask(server, CHAT, chat("Hello", max_tokens=2))).whole
        running = await pid(server, ENGINE)
        shutil.rmtree(server.data / "models" / CHAT_MODEL)
        assert (await ask(server, "/admin/reload", method="POST")).status == 200
        assert (await ask(server, CHAT, chat("Hello", max_tokens=2))).status == 404

        async def stopped() -> bool:
            return ENGINE not in await children(server) and not alive(running)

        await until(stopped)


@pytest.mark.soak  # takes half a minute or more
async def test_an_engine_that_is_started_anew_under_load_costs_no_request(start_server: StartServer) -> None:
    def settings(context: int) -> dict[str, Any]:
        return {"embedder": {"default": None}, "engine": {"context": context, "slots": 2, "threads": 1}}

    async def calls(number: int) -> list[Answer]:
        bad = []
        while not stop.is_set():
            answer = await ask(server, CHAT, chat("Hello", max_tokens=3, stream=bool(number)))
            if not answer.whole:
                bad.append(answer)
        return bad

    stop = asyncio.Event()
    with start_server(settings(512), models=(CHAT_MODEL,)) as server:
        load = [asyncio.ensure_future(calls(number)) for number in range(2)]
        try:
            for context in (768, 1024):
                before = await pid(server, ENGINE)
                (server.data.parent / "narthex-test.yaml").write_text(yaml.safe_dump(settings(context)))
                assert (await ask(server, "/admin/reload", method="POST")).status == 200
                await ready(server, ENGINE, other_than=before, within_s=60)
        finally:
            stop.set()
        assert await asyncio.gather(*load) == [[], []]


def alias(name: str) -> dict[str, Any]:
    return {"name": name, "deployments": [f"local/{CHAT_MODEL}"]}
