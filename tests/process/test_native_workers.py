"""Collections with several workers: what one has answered, all know (C31)."""

import asyncio
from collections.abc import Iterator

import httpx2
import pytest
from tests.server_process import EMBEDDING_MODEL, Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

WORKERS, CALLERS = 2, 6


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server({"engine": {"default": None}}, workers=WORKERS, models=(EMBEDDING_MODEL,)) as server:
        yield server


def test_what_one_worker_has_answered_all_know(server: Server) -> None:
    async def run() -> None:
        headers = {"x-api-key": server.admin_key}
        clients = [httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) for _ in range(CALLERS)]
        try:
            made = await clients[0].post("/api/collections/k", json={"model": EMBEDDING_MODEL})
            assert made.status_code == 201
            for number in range(8):
                at = f"/api/collections/k/documents/d{number % 3}"
                stored = await clients[number % CALLERS].put(
                    at, json={"content": f"The number is called zorb{number}."}
                )
                assert stored.status_code in {200, 201}
                query = {"query": f"zorb{number}", "n": 1}
                answers = await asyncio.gather(
                    *(client.post("/api/collections/k/search", json=query) for client in clients)
                )
                quotes = {answer.json()["citations"][0]["quote"] for answer in answers}
                assert quotes == {f"The number is called zorb{number}."}
            assert (await clients[1].delete("/api/collections/k")).status_code == 204
            gone = await asyncio.gather(*(client.get("/api/collections/k/documents") for client in clients))
            assert {answer.status_code for answer in gone} == {404}
            again = await clients[2].post("/api/collections/k", json={"model": EMBEDDING_MODEL})
            assert again.status_code == 201
            empty = await asyncio.gather(*(client.get("/api/collections/k/documents") for client in clients))
            assert all(answer.json() == {"documents": []} for answer in empty)
        finally:
            for client in clients:
                await client.aclose()

    asyncio.run(run())


def test_writers_at_once_meet_no_lock(server: Server) -> None:
    async def run() -> list[int]:
        headers = {"x-api-key": server.admin_key}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
            await client.post("/api/collections/w", json={"model": EMBEDDING_MODEL})
            puts = [
                client.put(f"/api/collections/w/documents/d{number % 10}", json={"content": f"text {number}"})
                for number in range(40)
            ]
            searches = [client.post("/api/collections/w/search", json={"query": "text"}) for _ in range(20)]
            answers = await asyncio.gather(*puts, *searches)
            listed = (await client.get("/api/collections/w/documents")).json()["documents"]
            assert [each["key"] for each in listed] == [f"d{number}" for number in range(10)]
            return [answer.status_code for answer in answers]

    assert set(asyncio.run(run())) <= {200, 201}
