"""The engine as a process: llama.cpp with a real model, its sockets, its ends."""

import asyncio
import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.chat_gguf import rewritten

from narthex.core.errors import ContextLengthExceeded, EngineCrashed, EngineUnavailable
from narthex.core.slots import Want
from narthex.engine.leases import Lease, Slots
from narthex.engine.llama import EngineSettings, LlamaServer
from narthex.engine.slots import fingerprint
from narthex.ipc.client import Client

pytest_plugins = ["tests.models_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]


@pytest.fixture(scope="module")
def whole_model(models_dir: Path) -> Path:
    (path,) = (models_dir / "smollm2-135m-instruct").glob("*.gguf")
    return path


@pytest.fixture(scope="module")
def model(whole_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its first two layers: what it says is nothing to these tests."""
    return rewritten(whole_model, tmp_path_factory.mktemp("model") / whole_model.name, layers=2)


async def until(what: Callable[[], Any], *, timeout_s: float = 60.0) -> float:
    """Wait until `what()` is true; returns how long it took in seconds."""
    began = time.monotonic()
    while not await asyncio.to_thread(what):
        assert time.monotonic() - began < timeout_s, "it did not happen"
        await asyncio.sleep(0.01)
    return time.monotonic() - began


class Engine:
    """A child as the supervisor starts it. `messages` are what it told on its notify pipe."""

    def __init__(self, settings: EngineSettings) -> None:
        self.settings = settings
        self.messages: list[dict[str, Any]] = []
        self.socket, self.control_socket = Path(settings.socket), Path(settings.control_socket)
        self.server = LlamaServer(self.socket)
        self.slots = Slots(self.control_socket, name="engine")

    async def start(self) -> None:
        out, into = os.pipe()
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "narthex.engine.child", "--notify", str(into), stdin=-1, pass_fds=[into]
        )
        os.close(into)
        assert self.process.stdin is not None
        self.process.stdin.write(msgspec.json.encode(self.settings) + b"\n")
        with os.fdopen(out, "rb", buffering=0) as pipe:
            line = await asyncio.wait_for(asyncio.to_thread(pipe.readline), 60)
        if line:
            self.messages.append(json.loads(line))

    @property
    def ready(self) -> bool:
        return self.messages == [{"event": "ready"}]

    async def ended(self) -> int:
        return await asyncio.wait_for(self.process.wait(), 60)

    async def aclose(self) -> None:
        await self.slots.aclose()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.process.stdin.close()  # type: ignore[union-attr]

    def working(self) -> int:
        return sum(slot.is_processing for slot in self.server.slots())

    def kept(self) -> int:
        return sum(slot.n_prompt_tokens for slot in self.server.slots())

    async def complete(
        self, prompt: list[int], *, account: str = "a", new: int = 4, n: int = 1
    ) -> tuple[Lease, list[dict[str, Any]]]:
        """One request as the driver makes it; the last event of each choice."""
        lease_of = self.slots.lease(
            Want(key=account, account=account, n=n, prompt_tokens=len(prompt), max_new=new, prefix=fingerprint(prompt))
        )
        async with lease_of as lease:
            body = {"prompt": prompt, "n_predict": new, "stream": True, "ignore_eos": True}
            body |= {"n_cmpl": lease.choices, "cache_prompt": lease.cache}
            if lease.slot is not None:
                body["id_slot"] = lease.slot
            ends = [event async for event in events(self.socket, body) if event.get("stop")]
            for end in ends:
                lease.used(end["id_slot"])
            return lease, ends


async def post(path: Path, body: dict[str, Any]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_unix_connection(path)
    data = json.dumps(body).encode()
    writer.write(b"POST /completion HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(data))
    writer.write(data)
    await writer.drain()
    return reader, writer


async def events(path: Path, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    reader, writer = await post(path, body)
    try:
        while line := await reader.readline():
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])
    finally:
        writer.close()


@pytest.fixture
async def start(model: Path, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    async with AsyncExitStack() as stack:

        async def started(**changes: Any) -> Engine:
            run = tmp_path / "run"
            run.mkdir(mode=0o700, exist_ok=True)
            settings = EngineSettings(
                **{
                    "name": "smollm2-135m-instruct",
                    "model_path": str(model),
                    "socket": str(run / "engine-m.sock"),
                    "control_socket": str(run / "engine-m.ctl.sock"),
                    "threads": 1,
                    # Cells take their memory at the start, which is most of what a start costs.
                    "cells": 2048,
                    "window": 2048,
                    **changes,
                }
            )
            engine = Engine(settings)
            stack.push_async_callback(engine.aclose)
            await engine.start()
            return engine

        yield started


def worked_s(process: int) -> float:
    """Processor time that a process has had."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


async def test_it_starts_within_five_seconds_and_streams(start: Callable[..., Any], whole_model: Path) -> None:
    engine = await start(cells=16384, window=8192, model_path=str(whole_model))
    assert engine.ready
    assert worked_s(engine.process.pid) < 5  # others may keep it waiting for longer
    assert engine.socket.stat().st_mode & 0o077 == 0
    assert engine.control_socket.stat().st_mode & 0o077 == 0
    pieces = [event async for event in events(engine.socket, {"prompt": [5, 6], "n_predict": 3, "stream": True})]
    assert len(pieces) > 1
    state = await engine.slots.queue()
    assert (state.waiting, state.running, state.slots, state.cells_used, state.cells) == (0, 0, 16, 0, 16384)


async def test_choices_run_as_a_group_with_one_prefill(start: Callable[..., Any]) -> None:
    engine = await start()
    lease, ends = await engine.complete(list(range(100, 164)), n=3)
    assert (lease.choices, lease.left, lease.slot, len(ends)) == (3, 0, None, 3)
    assert lease.slots_used == tuple(end["id_slot"] for end in ends)
    assert len(set(lease.slots_used)) == 3
    assert {end["timings"]["prompt_n"] for end in ends} == {64}


async def test_two_accounts_never_share_cached_tokens(start: Callable[..., Any]) -> None:
    engine = await start(slots=2, spare_slots=0)
    prompt = list(range(100, 164))

    async def cached(account: str, *, n: int = 1) -> int:
        _, ends = await engine.complete(prompt, account=account, n=n)
        return max(end["timings"]["cache_n"] for end in ends)

    assert [await cached(account) for account in "abab"] == [0, 0, 63, 63]
    assert await cached("c") == 0
    assert [await cached(account, n=2) for account in "abc"] == [0, 0, 0]
    assert await cached("d") == 0


async def test_a_shared_cache_is_shared(start: Callable[..., Any]) -> None:
    engine = await start(share_prefix_cache=True)
    prompt = list(range(100, 164))
    for account, cached in (("a", 0), ("b", 63)):
        _, (end,) = await engine.complete(prompt, account=account)
        assert end["timings"]["cache_n"] == cached


async def test_idle_slots_keep_no_more_than_they_may(start: Callable[..., Any]) -> None:
    engine = await start(cache_cells=150)
    for first in (100, 200, 300, 400):
        await engine.complete(list(range(first, first + 64)), account=str(first))
    await until(lambda: engine.kept() <= 150)
    assert engine.kept() >= 64


async def test_a_full_cache_never_fails_a_request_that_runs(start: Callable[..., Any]) -> None:
    engine = await start(slots=4, cells=200, window=100, batch=16, cache_cells=None)
    # Two fit at a time, and what four slots keep is more than the cache holds.
    runs = [engine.complete(list(range(at, at + 70)), account=str(at), new=20) for at in range(100, 700, 100)]
    for _, (end,) in await asyncio.gather(*runs):
        assert end["tokens_predicted"] == 20


async def freed_after_a_hang_up(engine: Engine, prompt: list[int]) -> float:
    """Seconds from a hang-up in the middle of a prompt until the engine works no more."""
    reader, writer = await post(engine.socket, {"prompt": prompt, "stream": True, "return_progress": True})
    batches: list[float] = []
    while len(batches) < 4:
        if b"prompt_progress" in await reader.readline():
            batches.append(time.monotonic())
    writer.transport.abort()
    batch_s = (batches[-1] - batches[0]) / 3
    # So it is on two free cores; where others work beside us, the batches take longer and we wait as much longer.
    return await until(lambda: not engine.working()) / max(1.0, batch_s / 0.3)


async def test_a_hang_up_in_a_long_prompt_frees_the_slot_within_600_ms(
    start: Callable[..., Any], whole_model: Path
) -> None:
    engine = await start(cells=8192, window=8192, threads=2, model_path=str(whole_model))
    for first in range(10):  # whoever works beside us may hold up most of them
        if await freed_after_a_hang_up(engine, [100 + first + i * 7 % 40000 for i in range(4000)]) < 0.6:
            return
    pytest.fail("no hang-up freed the slot in time")


async def test_a_worker_that_is_gone_holds_nothing(start: Callable[..., Any]) -> None:
    engine = await start(slots=1)
    other = Slots(engine.control_socket, name="engine")
    async with engine.slots.lease(Want(key="a", account="a", prompt_tokens=1, max_new=1)) as lease:
        assert (lease.slot, lease.choices) == (0, 1)
        waiting = asyncio.ensure_future(other.queue())
        assert (await waiting).running == 1
        await engine.slots.aclose()
        while (await other.queue()).running:
            await asyncio.sleep(0.01)
    await other.aclose()


async def test_a_prompt_that_can_never_fit_is_refused(start: Callable[..., Any]) -> None:
    engine = await start()
    with pytest.raises(ContextLengthExceeded):
        async with engine.slots.lease(Want(key="a", account="a", prompt_tokens=8000, max_new=200)):
            pass


async def test_retire_while_busy_and_while_idle(start: Callable[..., Any]) -> None:
    engine = await start()
    control = Client(engine.control_socket, name="engine")
    async with engine.slots.lease(Want(key="a", account="a", prompt_tokens=1, max_new=1)):
        assert await control.call("retire", None, dict[str, bool]) == {"retired": False}
    while (await engine.slots.queue()).running:
        await asyncio.sleep(0.01)
    assert await control.call("retire", None, dict[str, bool]) == {"retired": True}
    assert await engine.ended() == 0
    assert not engine.socket.exists()
    await control.aclose()


async def test_it_ends_when_idle_for_long_enough(start: Callable[..., Any]) -> None:
    engine = await start(idle_unload_s=0.4)
    async with engine.slots.lease(Want(key="a", account="a", prompt_tokens=1, max_new=1)):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.shield(engine.process.wait()), 0.8)
    assert await engine.ended() == 0


async def test_sigterm_in_the_middle_of_a_stream_does_not_wait_for_its_end(start: Callable[..., Any]) -> None:
    engine = await start()
    pieces = events(engine.socket, {"prompt": [5], "n_predict": 2000, "ignore_eos": True, "stream": True})
    assert await anext(pieces)
    engine.process.send_signal(signal.SIGTERM)
    assert await engine.ended() == 0
    assert not engine.control_socket.exists()
    with contextlib.suppress(ConnectionError):
        assert not [piece async for piece in pieces if piece["stop"]]
    await pieces.aclose()


async def test_it_ends_with_its_lifeline(start: Callable[..., Any]) -> None:
    engine = await start()
    engine.process.stdin.close()
    assert await engine.ended() == 0


async def test_a_killed_engine_is_seen_and_its_successor_serves(start: Callable[..., Any]) -> None:
    engine = await start(slots=1)
    async with engine.slots.lease(Want(key="a", account="a", prompt_tokens=1, max_new=1)):
        waiting = asyncio.ensure_future(engine.complete([5, 6]))
        while not (await engine.slots.queue()).waiting:
            await asyncio.sleep(0.01)
        engine.process.kill()
        with pytest.raises(EngineCrashed):
            await waiting
    assert await engine.ended() == -signal.SIGKILL
    with pytest.raises(EngineUnavailable):
        await engine.complete([5, 6])
    again = await start(slots=1)  # the stale sockets are replaced
    assert again.ready
    _, (end,) = await engine.complete([5, 6])
    assert end["tokens_predicted"] == 4


@pytest.mark.parametrize("damage", ["missing", "truncated", "corrupt", "header"])
async def test_a_broken_model_is_reported_and_not_served(
    damage: str, start: Callable[..., Any], model: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.gguf"
    if damage != "missing":
        content = bytearray(model.read_bytes())
        if damage == "corrupt":
            content[24:4096] = b"\xff" * (4096 - 24)
        elif damage == "header":
            content[:4] = b"nope"
        else:
            del content[len(content) // 2 :]
        broken.write_bytes(content)
    engine = await start(model_path=str(broken))
    (message,) = engine.messages
    assert message["event"] == "failed"
    assert "broken.gguf" in message["message"]
    assert await engine.ended() == 1
    assert not engine.socket.exists()
