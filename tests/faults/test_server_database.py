"""The database is away: 503 for those who need it, never 401, and all is well as soon as it is back."""

import asyncio
import contextlib
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest
from tests.callers import CHAT, Answer, ask, chat, connected
from tests.server_inside import pid, until
from tests.server_process import CHAT_MODEL, Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server({"embedder": {"default": None}}, models=(CHAT_MODEL,)) as running:
        yield running


async def asked(server: Server, *, key: str = "") -> Answer:
    return await ask(server, CHAT, chat("Hello", max_tokens=2), key=key or None)


async def readiness(server: Server) -> int:
    async with connected(server) as caller:
        await caller.send("GET", "/readyz", headers={})
        return (await caller.end()).status


def is_storage_error(answer: Answer) -> bool:
    return answer.status in {503, 507} and bool(answer.error) and str(answer.error["code"]).startswith("storage")


async def healed(server: Server) -> None:
    async def works() -> bool:
        return (await asked(server)).status == 200 and await readiness(server) == 200

    await until(works, within_s=60)
    assert (await asked(server, key="sk-wrong")).status == 401


async def away(server: Server) -> None:
    """While it is away: an error of the storage for whoever needs it, right key or wrong; the process lives."""
    key = server.admin_key
    for sent in (key, "sk-wrong"):
        answer = await asked(server, key=sent)
        assert is_storage_error(answer), answer
        assert int(answer.headers.get("retry-after", "1")) >= 1
        assert server.data.parent.as_posix() not in answer.body.decode()
    assert await readiness(server) == 503
    async with connected(server) as caller:
        await caller.send("GET", "/healthz", headers={})
        assert (await caller.end()).status == 200


@contextlib.contextmanager
def replaced(file: Path, content: bytes | None) -> Iterator[None]:
    """Another file (or none) in a database's place, its WAL gone with it."""
    names = [file, *(file.with_name(file.name + suffix) for suffix in ("-wal", "-shm"))]
    kept = [(name, name.with_name(f".kept-{name.name}")) for name in names if name.exists()]
    for name, other in kept:
        name.rename(other)
    if content is not None:
        file.write_bytes(content)
    try:
        yield
    finally:
        for name in names:
            name.unlink(missing_ok=True)
        for name, other in kept:
            other.rename(name)


async def test_a_locked_database_is_waited_for_or_told(server: Server) -> None:
    worker = await pid(server, "worker-0")
    with contextlib.closing(apsw.Connection(str(server.data / "control.db"))) as other:
        other.execute("begin exclusive")  # in WAL mode others may read on
        assert (await asked(server)).status == 200
        other.execute("rollback")
    await healed(server)
    assert await pid(server, "worker-0") == worker


@pytest.mark.parametrize("content", [None, b"", b"garbage " * 4096], ids=["absent", "empty", "garbage"])
async def test_a_database_that_was_replaced_is_never_a_401(server: Server, content: bytes | None) -> None:
    worker = await pid(server, "worker-0")
    with replaced(server.data / "control.db", content):
        for _ in range(4):
            answer = await asked(server)
            # The worker may still read the file that it has open; what it must not do is refuse the key.
            assert answer.status == 200 or is_storage_error(answer), answer
    await healed(server)
    assert await pid(server, "worker-0") == worker


async def test_a_damaged_database_is_told_and_heals(server: Server) -> None:
    worker = await pid(server, "worker-0")
    file = server.data / "control.db"
    with contextlib.closing(apsw.Connection(str(file))) as other:
        other.pragma("wal_checkpoint", "truncate")
        good = file.read_bytes()
        other.execute("begin immediate; update account set created_ms = created_ms + 1")
        with file.open("r+b") as damaged:
            damaged.write(b"\xde\xad" * (len(good) // 2))
        other.execute("commit")  # from here on whoever has the file open reads it anew
    try:
        await away(server)
    finally:
        with file.open("r+b") as damaged:
            damaged.write(good)
    await healed(server)
    assert await pid(server, "worker-0") == worker


async def test_a_worker_that_starts_without_a_database_serves_once_it_is_back(server: Server) -> None:
    worker = await pid(server, "worker-0")
    with replaced(server.data / "control.db", b"garbage " * 4096):
        os.kill(worker, 9)

        async def gone() -> bool:
            return any(line["event"] == "child" and line.get("state") == "backoff" for line in server.log_lines())

        await until(gone)
        assert server.process.poll() is None
    await until(lambda: works_again(server), within_s=60)


async def works_again(server: Server) -> bool:
    try:
        async with asyncio.timeout(20):
            return (await asked(server)).status == 200
    except (OSError, EOFError, TimeoutError):
        return False


async def test_a_full_disk_is_no_hindrance_for_those_who_only_read(server: Server) -> None:
    worker = await pid(server, "worker-0")
    before = resource.prlimit(worker, resource.RLIMIT_FSIZE)
    resource.prlimit(worker, resource.RLIMIT_FSIZE, (1, before[1]))
    try:
        for _ in range(3):
            assert (await asked(server)).status == 200
    finally:
        resource.prlimit(worker, resource.RLIMIT_FSIZE, before)
    assert await pid(server, "worker-0") == worker
    await healed(server)
