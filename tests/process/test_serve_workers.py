"""Two workers behind one address: what they share, and what one does not notice of the other's end."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from tests.callers import CHAT, COMPLETIONS, Answer, Caller, ask, calling, chat, endless
from tests.server_inside import free, kill, pid, queue, ready, until
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server, install_models, serving

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

COPY = "a-copy"
WORKERS = ("worker-0", "worker-1")


@pytest.fixture(scope="module")
def server(models_dir: Path) -> Iterator[Server]:
    engine = {"slots": 2, "context": 2048, "max_waiting": 6, "max_waiting_per_key": 4}
    with tempfile.TemporaryDirectory(prefix="nx-") as folder:
        data = Path(folder) / "data"
        data.mkdir(mode=0o700)
        install_models(models_dir, data, (CHAT_MODEL, EMBEDDING_MODEL))
        copy = data / "models" / COPY
        shutil.copytree(models_dir / CHAT_MODEL, copy)
        manifest = copy / "manifest.json"
        manifest.write_text(manifest.read_text().replace(f'"name": "{CHAT_MODEL}"', f'"name": "{COPY}"'))
        with serving(data, config={"engine": engine}, workers=2) as running:
            yield running


@asynccontextmanager
async def caller_of(server: Server, worker: str) -> AsyncIterator[Caller]:
    """A connection to one of the workers: each serves its own connections, and its counters bear its name."""
    async with AsyncExitStack() as stack:
        for _ in range(100):
            caller = await stack.enter_async_context(calling(server, "/metrics"))
            if f'worker="{worker}"'.encode() in (await caller.end()).body:
                yield caller.again()
                return
    raise AssertionError(f"{worker} took none of 100 connections")


async def seen_by_both(server: Server, path: str, *, key: str) -> list[int]:
    """The status that each of the workers gives."""
    found = []
    for worker in WORKERS:
        async with caller_of(server, worker) as caller:
            await caller.ask(path, key=key)
            found.append((await caller.end()).status)
    return found


async def is_free(server: Server) -> bool:
    return await free(server)


async def test_a_revoked_key_is_refused_by_both_at_once(server: Server) -> None:
    key = await asyncio.to_thread(server.key, name="short-lived")
    async with caller_of(server, "worker-0") as first, caller_of(server, "worker-1") as second:
        for status in (200, 401):
            for caller in (first.again(), second.again()):
                await caller.ask("/v1/models", key=key)
                assert (await caller.end()).status == status
            await asyncio.to_thread(server.revoke, "short-lived")


async def test_a_deleted_model_is_gone_for_both(server: Server) -> None:
    path = f"/v1/models/{COPY}"
    assert await seen_by_both(server, path, key=server.admin_key) == [200, 200]
    assert (await ask(server, CHAT, chat("Hello", model=COPY, max_tokens=2))).status == 200  # its engine runs
    async with caller_of(server, "worker-1") as caller:
        await caller.ask(path, key=server.admin_key, method="DELETE")
        assert (await caller.end()).json == {"id": COPY, "object": "model", "deleted": True}
    assert await seen_by_both(server, path, key=server.admin_key) == [404, 404]
    for worker in WORKERS:
        async with caller_of(server, worker) as caller:
            await caller.ask(CHAT, chat("Hello", model=COPY, max_tokens=2), key=server.admin_key)
            answer = await caller.end()
            assert answer.status == 404, answer
            assert answer.error
            assert answer.error["code"] == "model_not_found"


async def refusals(server: Server, keys: list[str], *, of: int) -> list[Answer]:
    """What those get whom the queue has no room for, of so many endless requests; the others leave then."""
    await until(lambda: is_free(server))
    body = endless()
    tasks = [
        asyncio.ensure_future(ask(server, COMPLETIONS, body, key=keys[number % len(keys)])) for number in range(of)
    ]
    try:

        async def settled() -> bool:
            state = await queue(server)
            return state.running + state.waiting + sum(task.done() for task in tasks) == of

        await until(settled)
        return [task.result() for task in tasks if task.done()]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def test_the_queue_is_one_for_both(server: Server) -> None:
    keys = [await asyncio.to_thread(server.key, name=f"queue {number}") for number in range(3)]
    refused = await refusals(server, keys, of=24)
    assert 24 - (2 + 6) - 1 <= len(refused) <= 24 - (2 + 6) + 1  # of two slots, one may be kept for others
    for answer in refused:
        assert answer.status == 503, answer
        assert answer.error
        assert answer.error["code"] == "overloaded"
        assert int(answer.headers["retry-after"]) >= 1


async def test_a_key_that_waits_too_often_is_told_so(server: Server) -> None:
    refused = await refusals(server, [await asyncio.to_thread(server.key, name="eager")], of=12)
    assert 12 - (2 + 4) <= len(refused) <= 12 - (2 + 4) + 1  # of two slots, one may be kept for others
    for answer in refused:
        assert answer.status == 429
        assert int(answer.headers["retry-after"]) >= 1


async def test_the_other_serves_on_while_one_is_killed_and_its_leases_end(server: Server) -> None:
    await until(lambda: is_free(server))
    victim, survivor = WORKERS
    before = await pid(server, survivor)
    async with caller_of(server, victim) as caller:
        await caller.ask(COMPLETIONS, endless(stream=True), key=server.admin_key)
        await caller.until(b"data: {")
        assert (await queue(server)).running == 1
        killed = await kill(server, victim)
        assert not (await caller.end()).complete
    assert await until(lambda: is_free(server)) < 5
    for number in range(6):
        assert (await ask(server, CHAT, chat(f"{number}", max_tokens=2))).status == 200
    await ready(server, victim, other_than=killed)
    assert await pid(server, survivor) == before
    async with caller_of(server, victim) as caller:
        await caller.ask("/v1/models", key=server.admin_key)
        assert (await caller.end()).status == 200
