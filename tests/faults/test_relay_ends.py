"""Ends under load, of servers and of providers: whoever was accepted is answered whole, whoever comes later is sent
away."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from tests.callers import CHAT, Answer, ask, chat, connected
from tests.served_gateway import chunk, config, saying, serving, started
from tests.server_inside import until
from tests.server_process import Server, StartServer

from narthex.testing.scripted import END, response, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio

CALLERS, PIECES, PIECE_S = 40, 10, 0.03
WORDS = "word " * PIECES
DOCUMENT = msgspec.json.encode(
    {"choices": [{"index": 0, "message": {"role": "assistant", "content": WORDS}, "finish_reason": "stop"}]}
)


async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """An upstream that takes 0.3 s for each answer, piece by piece or whole."""
    try:
        while True:
            lines = (await reader.readuntil(b"\r\n\r\n")).lower()
            length = int(lines.partition(b"content-length:")[2].split(b"\r\n")[0])
            if b'"stream":true' in await reader.readexactly(length):
                writer.write(stream_head())
                for _ in range(PIECES):
                    writer.write(sse(chunk({"content": "word "})))
                    await asyncio.sleep(PIECE_S)
                writer.write(sse(chunk(finish="stop"), b"[DONE]") + END)
            else:
                await asyncio.sleep(PIECES * PIECE_S)
                writer.write(response(DOCUMENT, headers=("content-type: application/json",)))
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


@asynccontextmanager
async def serving_slowly(folder: Path) -> AsyncIterator[None]:
    listening = await asyncio.start_unix_server(slow, folder / "there.sock")
    try:
        yield
    finally:
        listening.close()


class Asked(msgspec.Struct, kw_only=True):
    """One request: when it was sent, and what came of it. An answer with the status 0 is a connection that ended."""

    at_s: float
    fresh: bool
    answer: Answer


async def asks(server: Server, number: int, key: str) -> list[Asked]:
    """Ask again and again, over connections that are kept or not, until nobody takes a connection any more."""
    body = chat("Hello", model="slow", stream=bool(number & 1))
    found: list[Asked] = []
    while True:
        try:
            async with connected(server) as first:
                for turn in range(1 + 3 * (number & 2)):
                    caller, at_s = first.again(), time.monotonic()
                    await caller.ask(CHAT, body, key=key)
                    found.append(Asked(at_s=at_s, fresh=turn == 0, answer=await caller.end()))
                    if not caller.answer.complete or caller.answer.headers.get("connection") == "close":
                        break
        except (ConnectionError, FileNotFoundError):
            return found


@pytest.mark.parametrize("workers", [1, 2])
async def test_at_sigterm_all_who_were_accepted_are_answered_whole(
    start_server: StartServer, tmp_path: Path, workers: int
) -> None:
    settings = config(tmp_path, {"there": "openai-compatible"}, [{"name": "slow", "deployments": ["there/m"]}])
    async with serving_slowly(tmp_path):
        stack = start_server(settings, models=(), workers=workers)
        server = await asyncio.to_thread(stack.__enter__)
        try:
            key = server.admin_key
            load = [asyncio.ensure_future(asks(server, number, key)) for number in range(CALLERS)]

            async def well_under_way() -> bool:
                return len([line for line in server.log_lines() if line.get("path") == CHAT]) > 3 * CALLERS

            await until(well_under_way, within_s=60)
            term_s = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):  # far from the drain's limit of 30 s
                found = [each for one in await asyncio.gather(*load) for each in one]
                assert await asyncio.to_thread(server.process.wait, 20) == 0
            assert not [line for line in server.log_lines() if line["event"] == "cutting requests"]
        finally:
            await asyncio.to_thread(stack.__exit__, None, None, None)
    judge(found, term_s=term_s)


def judge(found: list[Asked], *, term_s: float) -> None:
    before = [each for each in found if each.at_s < term_s]
    after = [each.answer for each in found if each.at_s >= term_s]
    assert len(before) > 3 * CALLERS
    assert all(each.answer.whole for each in before), [each for each in before if not each.answer.whole][:3]
    refused = [answer for answer in after if answer.status == 503]
    unanswered = [answer for answer in after if answer.status == 0]
    print(f"{len(before)} before, {len(after)} after: {len(refused)} refused, {len(unanswered)} not answered")
    assert all(answer.whole for answer in after if answer.status not in {0, 503})
    # taken by the kernel, for workers that have ended: as good as refused
    assert all(each.fresh and not each.answer.body for each in found if each.answer.status == 0)
    assert refused
    for answer in refused:
        assert answer.complete
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.headers["connection"] == "close"
        assert answer.error
        assert answer.error["code"] == "overloaded"


# --- the end of a provider -------------------------------------------------------------------------------------------


def renamed(folder: Path, number: int) -> dict[str, Any]:
    """The same server under another name: other connections, for which those of before make room."""
    made = config(folder, {"there": "openai-compatible"}, [])
    made["providers"] = {f"there-{number}": made["providers"]["there"]}
    return made | {"models": [{"name": "slow", "deployments": [f"there-{number}/m"], "retry": {"attempts": 1}}]}


async def test_connections_of_providers_that_go_are_closed_and_cost_no_request(
    start_server: StartServer, tmp_path: Path
) -> None:
    stop = asyncio.Event()

    async def calls(server: Server, number: int) -> list[Answer]:
        """What did not end well."""
        found = []
        while not stop.is_set():
            found.append(await ask(server, CHAT, chat("Hello", model="slow", stream=bool(number & 1))))
        return [answer for answer in found if not answer.whole]

    async with serving(tmp_path, "there", saying("Hi")) as there, started(start_server, renamed(tmp_path, 0)) as server:
        load = [asyncio.ensure_future(calls(server, number)) for number in range(8)]
        try:
            for number in range(1, 9):
                already = len(there.requests)

                async def goes_on(already: int = already) -> bool:
                    return len(there.requests) > already + 50

                await until(goes_on, within_s=60)
                file = server.data.parent / "narthex-test.yaml"
                file.write_text(yaml.safe_dump(renamed(tmp_path, number)))
                assert (await ask(server, "/admin/reload", method="POST")).status == 200
        finally:
            stop.set()
        assert [bad for one in await asyncio.gather(*load) for bad in one] == []

        async def only_the_last_are_open() -> bool:
            return len([peer for peer in there.peers if not peer.closed.is_set()]) <= 8

        await until(only_the_last_are_open)
        assert len(there.peers) > 8
