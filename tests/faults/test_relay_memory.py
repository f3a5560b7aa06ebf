"""What passing on large bodies, large answers and endless streams costs a worker in memory."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Self

import pytest
from tests.callers import CHAT, Answer, Caller, calling, connected
from tests.served_gateway import bodies, chunk, config, gateway, serving, streaming, text, whole
from tests.server_inside import memory_bytes, pid, until
from tests.server_process import Server, StartServer

from narthex.ipc.tasks import TaskSet
from narthex.testing.scripted import Reply, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.timeout(240)]

KIB, MIB = 1024, 1024 * 1024
MODEL = {"name": "far", "deployments": ["there/m"], "retry": {"attempts": 1}}


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    """One for each test: memory remembers what was before."""
    with gateway(start_server, config(folder, {"there": "openai-compatible"}, [MODEL])) as running:
        yield running


def document(words: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": words, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    return {"id": "x", "object": "x", "created": 1, "model": "x", "choices": [choice], "usage": usage}


def asking(words: str, **fields: Any) -> dict[str, Any]:
    return {"model": "far", "messages": [{"role": "user", "content": words}], **fields}


def varied(size: int, seed: int, *, more: str = "") -> str:
    """Text of so many characters, nowhere alike; `more` is in each of its lines."""
    lines = (f'Line {number} of {seed}: "quotes", \\{more}\n' for number in range(size // 24))
    return "".join(lines)[:size]


class Watch:
    """The most that a process held meanwhile."""

    def __init__(self, process: int) -> None:
        self.most = 0
        self._process = process
        self._tasks = TaskSet()

    async def __aenter__(self) -> Self:
        self._tasks.start(self._look())
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._tasks.aclose()

    async def _look(self) -> None:
        while True:
            self.most = max(self.most, memory_bytes(self._process))
            await asyncio.sleep(0.005)


async def load(server: Server, asked: Iterable[dict[str, Any]], *, callers: int) -> list[Answer]:
    """Ask for each over so many connections that stay open; the answers in the order in which they ended."""
    key, answers, left = server.admin_key, [], iter(asked)

    async def asks() -> None:
        async with connected(server) as first:
            for each in left:
                caller = first.again()
                await caller.ask(CHAT, each, key=key)
                answers.append(await caller.end())

    await asyncio.gather(*(asks() for _ in range(callers)))
    return answers


async def warmed(server: Server) -> tuple[int, int]:
    """Its worker after 200 requests of 2 KB, and what that holds: its idle."""
    answers = await load(server, [asking("x" * 2 * KIB)] * 200, callers=8)
    assert all(answer.whole for answer in answers)
    process = await pid(server, "worker-0")
    return process, memory_bytes(process)


async def back_to(process: int, limit: int) -> None:
    """Until it holds no more than that; it may take a moment."""

    async def is_back() -> bool:
        return memory_bytes(process) <= limit

    try:
        await until(is_back, within_s=60)
    except AssertionError:
        pytest.fail(f"it still holds {memory_bytes(process) // KIB} KiB, more than {limit // KIB}")


def tell(name: str, **sizes: int) -> None:
    print(f"{name}:", ", ".join(f"{what} {size / MIB:.1f} MiB" for what, size in sizes.items()))


async def test_1500_bodies_of_150_kb_leave_nothing_behind(server: Server, folder: Path) -> None:
    async with serving(folder, "there", whole(document("Read."))) as upstream:
        process, idle = await warmed(server)
        large = asking("x" * 150_000)
        async with Watch(process) as watch:
            answers = await load(server, [large] * 1500, callers=64)
        assert all(answer.whole for answer in answers)
        assert all(len(request.body) > 150_000 for request in upstream.requests[200:])
        await back_to(process, idle * 6 // 5)
        tell("1 500 x 150 KB", idle=idle, most=watch.most, after=memory_bytes(process))
    assert watch.most - idle < 64 * 150_000 * 10


SIZE = 2_000_000
MOST = 8 * (SIZE + SIZE) * 3
"""Of 8 requests at a time, with a body and an answer of that size each: as they came, were read, and go on."""


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_bodies_and_answers_of_2_mb_pass_unchanged_with_bounded_memory(
    server: Server, folder: Path, stream: bool
) -> None:
    said, asked = varied(SIZE, 0), [varied(SIZE, seed) for seed in range(1, 6)]
    async with serving(folder, "there", whole(document("Read."))) as upstream:
        process, idle = await warmed(server)
        upstream.then(telling(said, stream=stream))
        assert (await load(server, [asking("x")], callers=1))[0].whole  # the last of the small ones
        upstream.requests.clear()
        async with Watch(process) as watch:
            answers = await load(server, [asking(asked[at % 5], stream=stream) for at in range(50)], callers=8)
        assert all(text(answer) == said for answer in answers)
        passed = [body["messages"][0]["content"] for body in bodies(upstream)]
        assert sorted(passed) == sorted(asked * 10)
        await back_to(process, idle * 6 // 5)
        tell(f"50 x 2 MB, stream {stream}", idle=idle, most=watch.most, after=memory_bytes(process))
    assert watch.most - idle < MOST


def telling(said: str, *, stream: bool) -> Reply:
    """An answer of one document, or of pieces of 10 000 characters."""
    pieces = [said[at : at + 10_000] for at in range(0, len(said), 10_000)]
    events = [chunk({"content": piece}) for piece in pieces]
    return streaming(*events, chunk(finish="stop")) if stream else whole(document(said))


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_large_texts_in_many_scripts_pass_unchanged(server: Server, folder: Path, stream: bool) -> None:
    said, asked = (varied(SIZE // 2, seed, more="é, 日本, 😀, \u2028\x00") for seed in (1, 2))
    async with serving(folder, "there", telling(said, stream=stream)) as upstream:
        answers = await load(server, [asking(asked, stream=stream)] * 4, callers=2)
        assert all(text(answer) == said for answer in answers)
        assert {body["messages"][0]["content"] for body in bodies(upstream)} == {asked}


# --- readers who stall -----------------------------------------------------------------------------------------------

EVENT = sse(chunk({"content": "abcdefgh" * 1024}))


class Flood:
    """An upstream that never ends; `sent` tells how much each connection took."""

    def __init__(self) -> None:
        self.sent: dict[int, int] = {}
        self.left: set[int] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        number = len(self.sent)
        self.sent[number] = 0
        with suppress(ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(stream_head())
            while True:
                writer.write(EVENT)
                await writer.drain()
                self.sent[number] += len(EVENT)
        self.left.add(number)
        writer.close()


@asynccontextmanager
async def flooding(folder: Path) -> AsyncIterator[Flood]:
    flood = Flood()
    listening = await asyncio.start_unix_server(flood.serve, folder / "there.sock", limit=64 * KIB)
    try:
        yield flood
    finally:
        listening.close()


@asynccontextmanager
async def stalled(server: Server, count: int) -> AsyncIterator[list[Caller]]:
    """Callers who have read the beginning of their stream and read no more."""
    async with AsyncExitStack() as stack:
        callers = []
        for _ in range(count):
            caller = await stack.enter_async_context(calling(server, CHAT, asking("x", stream=True)))
            await caller.until(b"abcdefgh")
            caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
            callers.append(caller)
        yield callers


@pytest.mark.parametrize("count", [1, 20])
async def test_a_reader_who_stalls_holds_at_most_4_mb_and_the_upstream_waits(
    server: Server, folder: Path, count: int
) -> None:
    async with serving(folder, "there", whole(document("Read."))):
        process, idle = await warmed(server)
    async with flooding(folder) as flood:
        async with stalled(server, count) as callers:
            sent_before = -1

            async def stands_still() -> bool:
                nonlocal sent_before
                before, sent_before = sent_before, sum(flood.sent.values())
                return before == sent_before

            await until(stands_still, within_s=30, every_s=0.3)
            assert len(flood.sent) == count
            held = memory_bytes(process) - idle
            most_sent = max(flood.sent.values())
            tell(f"{count} stalled", idle=idle, held_by_each=held // count, sent_to_each=most_sent)
            assert held <= 4 * MIB * count
            assert most_sent <= 12 * MIB  # the sockets' buffers on the way included
            for caller in callers:
                caller.writer.transport.abort()

        async def all_left() -> bool:
            return len(flood.left) == count

        await until(all_left)
    await back_to(process, idle * 6 // 5)


async def test_a_reader_who_goes_on_gets_all_of_it(server: Server, folder: Path) -> None:
    words = [f"{number:06d} " * 1000 for number in range(2000)]  # 14 MB
    events = [chunk({"content": word}) for word in words]
    async with (
        serving(folder, "there", streaming(*events, chunk(finish="stop"))) as upstream,
        calling(server, CHAT, asking("x", stream=True)) as caller,
    ):
        await caller.until(b"000000")
        caller.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.wait_for(upstream.peers[0].paused.wait(), 60)
        caller.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert text(await caller.end()) == "".join(words)
