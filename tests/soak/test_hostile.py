"""Hostile constraints, one after the other, on every surface: each is a 400 within 2 s, and nobody else is harmed.

Meanwhile a second client streams plain chats, and its pace is held against its pace without them.
"""

import asyncio
import contextlib
import itertools
import json
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from tests.hostile_constraints import HELD, hostile
from tests.pace import slowness
from tests.server_process import CHAT_MODEL, Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(1800)]

SOON_S = 2.0
GAP_S = 1.0
"""What a stream may pause beyond its own pace."""
GROWTH = 96 * 1024 * 1024
"""What a process may hold more of when all is over: rules and refusals that are kept for those who ask again."""
NAMES = {"narthex.app": "worker", "narthex.sandbox.compiler": "compiler", "narthex.engine.child": "engine"}

PATHS = ("/v1/chat/completions", "/v4/beta/chat/completions", "/v1/completions", "/v4/beta/completions")


def bodies(kind: str, value: Any) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Path, request and field, without end: one way after the other to ask for a constraint."""
    said = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Go on."}], "max_tokens": 40}
    text = {"model": CHAT_MODEL, "prompt": "Go on: ", "max_tokens": 40}
    ways = [
        (path, (text if at > 1 else said) | extra, field)
        for at, path in enumerate(PATHS)
        for field, extra in (
            (f"guided_{kind}", {f"guided_{kind}": value}),
            (f"structured_outputs.{kind}", {"structured_outputs": {kind: value}}),
        )
    ]
    if kind == "json" and isinstance(value, dict):
        form = {"type": "json_schema", "json_schema": {"name": "it", "schema": value}}
        ways.append((PATHS[0], said | {"response_format": form}, "response_format.json_schema.schema"))
        tools = [{"type": "function", "function": {"name": "it", "parameters": value}}]
        ways.append((PATHS[0], said | {"tools": tools}, "tools[0].function.parameters"))
    return itertools.cycle(ways)


class Others:
    """Streams of plain chats, one after the other: how they fare."""

    def __init__(self, client: httpx2.AsyncClient) -> None:
        self._client = client
        self.gaps: list[float] = []
        self.faults: list[str] = []
        self.whole = 0

    async def stream(self) -> None:
        """Until cancelled."""
        body = {"model": CHAT_MODEL, "messages": [{"role": "user", "content": "Tell me a story."}], "stream": True}
        body |= {"max_tokens": 60, "ignore_eos": True}
        while True:
            last, tail = time.monotonic(), ""
            async with self._client.stream("POST", "/v1/chat/completions", json=body) as answer:
                async for piece in answer.aiter_text():
                    self.gaps.append(time.monotonic() - last)
                    last, tail = time.monotonic(), tail[-2000:] + piece
            if answer.status_code != 200 or "error" in tail or '"finish_reason":"length"' not in tail:
                self.faults.append(tail[-500:])
            self.whole += 1

    @contextlib.asynccontextmanager
    async def beside(self) -> AsyncIterator[None]:
        """Streams in the meantime."""
        self.gaps.clear()
        task = asyncio.ensure_future(self.stream())
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def held_bytes(server: Server) -> dict[str, int]:
    """Resident memory of its processes."""
    found: dict[str, int] = {}
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if not folder.name.isdigit() or (folder / "cwd").resolve() != server.data.parent.resolve():
                continue
            command = (folder / "cmdline").read_bytes().decode().split("\0")
            if (name := NAMES.get(command[command.index("-m") + 1])) is not None:
                pages = int((folder / "statm").read_text().split()[1])
                found[name] = found.get(name, 0) + pages * 4096
    return found


@contextlib.asynccontextmanager
async def clients(server: Server) -> AsyncIterator[tuple[httpx2.AsyncClient, Others]]:
    headers = {"authorization": f"Bearer {server.admin_key}"}
    async with (
        httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client,
        httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as other,
    ):
        others = Others(other)
        # The first constraint of an engine's life costs it some time, whatever it is.
        (await client.post(PATHS[0], json=next(bodies("choice", ["yes"]))[1])).raise_for_status()
        yield client, others


async def pace_of(others: Others) -> float:
    """The longest pause of a few streams without anybody else."""
    async with others.beside():
        before = others.whole
        while others.whole < before + 3:
            await asyncio.sleep(0.05)
    return max(others.gaps)


async def refused(client: httpx2.AsyncClient, path: str, body: dict[str, Any], field: str) -> str:
    """Why a request was not refused as it has to be; nothing if it was."""
    content = json.dumps(body).encode()
    took: list[float] = []
    while not took or (took[-1] >= SOON_S and len(took) < 3):  # whoever works beside us may hold one up
        before, began = slowness(), time.monotonic()
        answer = await client.post(path, content=content, headers={"content-type": "application/json"})
        took.append((time.monotonic() - began) / max(before, slowness()))
    told = answer.json()
    error = told.get("error", {})
    if answer.status_code != 400 or not (error.get("param") or "").startswith(field):
        return f"{answer.status_code} {str(told)[:300]}"
    if error["type"] != "invalid_request_error" or ("/v4/" in path) != ("detail" in told):
        return f"of another shape: {str(told)[:300]}"
    return f"{took} s" if took[-1] >= SOON_S else ""


async def test_each_is_refused_soon_and_harms_nobody(start_server: StartServer) -> None:
    faults: list[str] = []
    slowest: list[tuple[float, str]] = []
    with start_server(models=(CHAT_MODEL,)) as server:
        async with clients(server) as (client, others):
            pace = await pace_of(others)
            await client.post(PATHS[0], json=next(bodies("regex", "(a"))[1])
            before = held_bytes(server)
            async with others.beside():
                for number, (kind, name, value) in enumerate(hostile()):
                    ways = bodies(kind, value)
                    for path, body, field in [next(ways), *itertools.islice(ways, number % 9, number % 9 + 1)]:
                        began = time.monotonic()
                        if fault := await refused(client, path, body, field):
                            faults.append(f"{name}: {path} {field}: {fault}")
                        slowest.append((time.monotonic() - began, f"{kind} {name} {field}"))
            after = held_bytes(server)
        status = server.process.poll()
    print(f"{number + 1} constraints, {len(slowest)} requests; {others.whole} streams, longest pause", end=" ")
    print(f"{max(others.gaps):.3f} s (alone {pace:.3f}); memory {before} -> {after}")
    print("slowest", *sorted(slowest)[-5:], sep="\n  ")
    assert status is None
    assert not faults, "\n".join(faults)
    assert not others.faults, others.faults
    assert max(others.gaps) < pace + GAP_S
    assert all(after[name] < before.get(name, 0) + GROWTH for name in after)


async def test_all_at_once_hold_up_nobody_elses_schema(start_server: StartServer) -> None:
    """Those of one key take turns with those of another."""
    with start_server(models=(CHAT_MODEL,)) as server:
        key = await asyncio.to_thread(server.key, name="villain")
        async with clients(server) as (client, others):
            headers = {"authorization": f"Bearer {key}"}
            slow = [{"allOf": [{"pattern": f"{n}.{{{at}}}b"} for at in range(20, 40)]} for n in range(12)]

            async def harm(schema: dict[str, Any]) -> int:
                schema = {"type": "string", **schema}
                answer = await client.post(PATHS[0], json=next(bodies("json", schema))[1], headers=headers)
                return answer.status_code

            async with others.beside():
                harming = [asyncio.ensure_future(harm(schema)) for schema in slow]
                await asyncio.sleep(0.2)
                waits = []
                for number in range(3):
                    began, before = time.monotonic(), slowness()
                    body = next(bodies("regex", f"[a-{chr(100 + number)}]"))[1] | {"max_tokens": 3}
                    answer = await client.post(PATHS[0], json=body)
                    assert answer.status_code == 200, answer.text
                    waits.append((time.monotonic() - began) / max(before, slowness()))
                assert not all(job.done() for job in harming)
                statuses = await asyncio.gather(*harming)
    print("waited", [f"{each:.2f}" for each in waits])
    assert set(statuses) == {400}
    assert not others.faults
    assert max(waits) < 2 * SOON_S


async def test_what_can_be_held_slows_nobody_down(start_server: StartServer) -> None:
    with start_server(models=(CHAT_MODEL,)) as server:
        async with clients(server) as (client, others):
            pace = await pace_of(others)
            worst: list[tuple[float, str]] = []
            for kind, value in HELD:
                _, body, _ = next(bodies(kind, value))
                async with others.beside():
                    answer = await client.post(PATHS[0], json=body)
                    await asyncio.sleep(0.1)
                told = "" if answer.status_code == 200 else answer.text[:200]
                assert answer.status_code in (200, 400), told
                worst.append((max(others.gaps, default=0.0), f"{kind} {str(value)[:100]} {told}"))
    print(f"alone {pace:.3f}", *sorted(worst)[-8:], sep="\n  ")
    assert not others.faults, others.faults
    assert max(worst)[0] < pace + GAP_S, max(worst)
