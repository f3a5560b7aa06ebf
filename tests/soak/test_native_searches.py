"""Eight searches at a time for a while: all are answered, whoever else asks gets their turn, and no memory is lost."""

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.server_inside import memory_bytes, pid
from tests.server_process import EMBEDDING_MODEL, Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.soak

SECONDS, SEARCHERS = 60.0, 8
GROWTH = 64 * 1024 * 1024
"""Of a worker, after its first searches: caches of what is open."""


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server({"engine": {"default": None}}, models=(EMBEDDING_MODEL,)) as server:
        yield server


def test_searches_beside_others(server: Server) -> None:
    told = asyncio.run(_run(server))
    print(told)
    assert told["failed"] == 0
    assert told["searches"] > SECONDS
    assert told["growth"] < GROWTH


async def _run(server: Server) -> dict[str, Any]:
    headers = {"x-api-key": server.admin_key}
    async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
        await client.put("/api/collections/k", json={"model": EMBEDDING_MODEL})
        for number in range(50):
            text = f"Chapter {number} is about river number {number} and the town at its mouth. " * 5
            await client.put(f"/api/collections/k/documents/d{number}", json={"content": text, "chunkSize": 100})
        await asyncio.gather(*(_search(client, number) for number in range(SEARCHERS)))
        worker = await pid(server, "worker-0")
        before, end = memory_bytes(worker), time.monotonic() + SECONDS
        waits: list[float] = []
        counts = [0, 0]

        async def searching(number: int) -> None:
            while time.monotonic() < end:
                counts[await _search(client, number) != 200] += 1

        async def idling() -> None:
            while time.monotonic() < end:
                began = time.monotonic()
                await client.get("/v1/models")
                waits.append(time.monotonic() - began)

        await asyncio.gather(*map(searching, range(SEARCHERS)), idling())
        waits.sort()
        return {
            "searches": counts[0],
            "failed": counts[1],
            "idle_p50_ms": round(1000 * waits[len(waits) // 2], 1),
            "idle_p99_ms": round(1000 * waits[len(waits) * 99 // 100], 1),
            "growth": memory_bytes(worker) - before,
        }


async def _search(client: httpx2.AsyncClient, number: int) -> int:
    answer = await client.post("/api/collections/k/search", json={"query": f"Which town is at river {number}?"})
    return answer.status_code
