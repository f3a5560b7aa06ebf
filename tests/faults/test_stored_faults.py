"""Whoever got an answer to its end finds it stored, whatever happens next; whoever did not was told, or had left."""

import contextlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest
from tests.callers import CHAT, Answer, ask, calling
from tests.raw_asgi import Caller
from tests.scripted_gateway import Gateway, chunk, gateway, refused, whole
from tests.server_inside import pid, until
from tests.server_process import Server, StartServer
from tests.stored_gateway import HANGING, SAID, serving_kept

from narthex.testing.scripted import CUT, Reply, ScriptedUpstream, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

HELLO = [{"role": "user", "content": "Hello"}]


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with serving_kept(start_server) as kept:
        yield kept.server


def asking(model: str = "plain", **fields: Any) -> dict[str, Any]:
    return {"model": model, "messages": HELLO, "store": True, **fields}


async def listed(server: Server) -> list[str]:
    answer = await ask(server, f"{CHAT}?limit=100&order=desc")
    return [each["id"] for each in answer.json["data"]]


def named(answer: Answer) -> str:
    """The id of an answer, however it came."""
    if answer.headers["content-type"].startswith("application/json"):
        return str(answer.json["id"])
    return str(json.loads(answer.data[0])["id"])


@pytest.mark.parametrize("fields", [{"model": "plain"}, {"model": "flow", "stream": True}], ids=["whole", "stream"])
async def test_what_was_answered_is_there_after_the_worker_is_killed(server: Server, fields: dict[str, Any]) -> None:
    answer = await ask(server, CHAT, asking(**fields))
    os.kill(await pid(server, "worker-0"), 9)
    assert answer.whole, answer

    async def is_there() -> bool:
        with contextlib.suppress(OSError, EOFError):
            return (await ask(server, f"{CHAT}/{named(answer)}")).status == 200
        return False

    await until(is_there, within_s=60)


async def test_a_stream_whose_caller_leaves_is_not_stored(server: Server) -> None:
    before = await listed(server)
    async with calling(server, CHAT, asking(HANGING, stream=True)) as caller:
        answer = await caller.until(SAID.encode())
        assert named(answer) not in before
        caller.leave()

    async def told() -> bool:
        return any(line.get("outcome") == "caller left" for line in server.log_lines())

    await until(told)
    assert await listed(server) == before


async def test_a_file_that_is_locked_is_waited_for(server: Server) -> None:
    await ask(server, CHAT, asking())
    with contextlib.closing(apsw.Connection(str(server.data / "completions.db"))) as other:
        other.execute("begin immediate")
        async with calling(server, CHAT, asking("flow", stream=True)) as caller:
            answer = await caller.until(b'"finish_reason": "stop"')
            assert not answer.complete
            assert b"[DONE]" not in answer.body
            assert (await ask(server, CHAT, asking(store=False))).status == 200
            assert named(answer) not in await listed(server)
            other.execute("rollback")
            answer = await caller.end()
    assert answer.whole
    assert named(answer) in await listed(server)


# --- with the worker in this process ---------------------------------------------------------------------------------


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[Gateway]:
    async with ScriptedUpstream(whole("Hi")) as upstream, gateway(tmp_path, {"one": upstream.url}) as it:
        yield it


def garbled(folder: Path) -> None:
    (folder / "completions.db").write_bytes(b"garbage " * 4096)


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_where_nothing_can_be_stored_only_those_who_want_that_are_refused(
    tmp_path: Path, worker: Gateway, stream: bool
) -> None:
    garbled(tmp_path)
    assert (await worker.ask(stream=stream)).status == 200
    answer = await worker.ask(stream=stream, store=True)
    assert (answer.status, answer.json()["error"]["type"]) == (503, "server_error")
    assert (await worker.ask(stream=stream, store=False)).status == 200


async def failing(worker: Gateway, monkeypatch: pytest.MonkeyPatch, **fields: Any) -> Caller:
    """The disk is full just as the answer is to be written."""

    def full(*_: object, **__: object) -> None:
        raise apsw.FullError("database or disk is full")

    monkeypatch.setattr("narthex.storage.sqlite.stored_rows.insert", full)
    return await worker.ask(store=True, **fields)


async def test_an_answer_that_can_not_be_stored_is_an_error(worker: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = await failing(worker, monkeypatch)
    assert (answer.status, answer.json()["error"]["code"]) == (507, "storage_full")


async def test_a_stream_that_can_not_be_stored_ends_with_the_error(
    worker: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = await failing(worker, monkeypatch, stream=True)
    assert answer.status == 200
    assert json.loads(answer.events()[-1])["error"]["code"] == "storage_full"
    assert "[DONE]" not in answer.events()


async def test_whoever_has_stored_too_much_is_told_before_anything_is_made(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(whole("Hi")) as upstream,
        gateway(tmp_path, {"one": upstream.url}, more={"stored_max_bytes": 1}) as worker,
    ):
        assert (await worker.ask(store=True)).status == 200
        for fields in ({}, {"stream": True}):
            answer = await worker.ask(store=True, **fields)
            assert (answer.status, answer.json()["error"]["code"]) == (507, "storage_full")
        assert len(upstream.requests) == 1
        assert (await worker.ask()).status == 200


async def test_what_is_too_old_does_not_exist(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(whole("Hi")) as upstream,
        gateway(tmp_path, {"one": upstream.url}, more={"stored_kept_s": 100}) as worker,
    ):
        names = [(await worker.ask(store=True)).json()["id"] for _ in range(2)]
        with contextlib.closing(apsw.Connection(str(tmp_path / "completions.db"))) as other:
            other.execute("update chat set created_s = created_s - 101 where id = ?", (names[0],))
        assert [(await worker.get(f"{CHAT}/{name}")).status for name in names] == [404, 200]
        assert [each["id"] for each in (await worker.get(CHAT)).json()["data"]] == names[1:]


BROKEN = Reply(stream_head(), sse(chunk("Hi")), CUT)


@pytest.mark.parametrize(("reply", "stream"), [(BROKEN, True), (BROKEN, False), (refused(400), False)])
async def test_what_never_was_complete_is_not_stored(tmp_path: Path, reply: Reply, stream: bool) -> None:
    async with ScriptedUpstream(reply) as upstream, gateway(tmp_path, {"one": upstream.url}) as worker:
        answer = await worker.ask(store=True, stream=stream)
        assert answer.status != 200 or "[DONE]" not in answer.events()
        assert (await worker.get(CHAT)).json()["data"] == []
