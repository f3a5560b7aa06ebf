"""Calls that are answered without a task, beside the same calls with one: nobody can tell them apart."""

import asyncio
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.scripted_gateway import DONE, ROLE, chunk
from tests.unit.http.test_protocol import until
from uvicorn.server import ServerState

from narthex.app.worker import Worker, open_worker
from narthex.http.protocol import Protocol
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.routing.route import Named, Rules
from narthex.storage.sqlite import keys
from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, ScriptedUpstream, chunked, head, response, sse
from narthex.testing.scripted import stream_head as streamed

pytestmark = pytest.mark.anyio

DEADLINE_S = 60.0
TIMES = frozenset(("seconds", "first_s"))
USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def said(text: str = "Hi", **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    return {"id": "theirs", "object": "chat.completion", "created": 1, "choices": [choice], "usage": USAGE, **more}


def told(document: object, *headers: str, status: int = 200) -> bytes:
    lines = ("content-type: application/json", *headers)
    return response(json.dumps(document).encode(), status=status, headers=lines)


OK = Reply(told(said()))
PIECES = told(said("Some words. " * 20))
ERROR = {"error": {"message": "No.", "type": "server_error", "param": None, "code": None}}


@pytest.fixture(autouse=True)
def keys_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow this machine is, a key that was found is at hand for the next request."""
    monkeypatch.setattr(keys, "_LOOK_AGAIN_AFTER_S", 1000.0)


class Side:
    """One worker and its callers' end. `tasks`: how many connections had one."""

    def __init__(self, worker: Worker, key: str, upstream: ScriptedUpstream, *, prompt: bool) -> None:
        self.worker, self.upstream = worker, upstream
        self._key = key
        self.lines: list[dict[str, Any]] = []
        worker.application._access = self.lines.append
        app = worker if prompt else worker.__call__  # a method has nothing but its call
        self._config = uvicorn.Config(
            app,
            http=Protocol,
            loop="none",
            ws="none",
            lifespan="off",
            interface="asgi3",
            proxy_headers=False,
            log_config=None,
        )
        self._config.load()
        self.state = ServerState()
        self.made: list[Protocol] = []
        self.answers: list[tuple[bytes, bytes]] = []
        self.port = 0

    def connection(self) -> Protocol:
        self.made.append(Protocol(config=self._config, server_state=self.state, app_state={}))
        return self.made[-1]

    @property
    def tasks(self) -> int:
        return sum(each._task is not None for each in self.made)

    def request(self, body: bytes, *headers: str, key: str | None = None, path: str = "chat/completions") -> bytes:
        lines = (
            f"POST /v1/{path} HTTP/1.1",
            "host: localhost",
            "content-type: application/json",
            f"authorization: Bearer {key or self._key}",
            f"content-length: {len(body)}",
            "connection: close",
            *headers,
        )
        return "\r\n".join((*lines, "", "")).encode() + body

    async def asked(self, request: bytes) -> tuple[bytes, bytes]:
        """Head and body of the answer, without what differs each time."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        async with asyncio.timeout(DEADLINE_S):
            writer.write(request)
            found = await reader.read()
        writer.close()
        first, _, body = found.partition(b"\r\n\r\n")
        first = re.sub(rb"(req_[0-9a-f]{32}|processing-ms: \d+|date: [^\r]*)", b"*", first)
        body = re.sub(rb'"id":"(chatcmpl|cmpl)-[0-9a-f]{32}"', b"*", body)
        self.answers.append((first, re.sub(rb'"created":\d+', b"*", body)))
        return self.answers[-1]

    def accounts(self) -> list[dict[str, Any]]:
        """Access lines, without what differs each time."""
        return [
            {name: name in TIMES or value for name, value in line.items() if name not in {"request_id", "key"}}
            for line in self.lines
        ]

    def counted(self) -> dict[str, Any]:
        """Metrics and the health of the upstream, without what differs each time."""
        common = self.worker._common
        health = {
            name: (each.state, each.in_flight, each.attempts, each.failures)
            for name, each in common.health.snapshot().items()
        }
        counts = common.metrics._counts
        return {"health": health, "requests": dict(counts._requests), "tokens": dict(counts.tokens)}


@asynccontextmanager
async def side(
    folder: Path, *replies: Reply, prompt: bool, rules: Rules | None = None, kind: str = "openai", idle_s: float = 5.0
) -> AsyncIterator[Side]:
    folder.mkdir()
    control = await open_control(folder / "control.db", clock=lambda: 0)
    made = await control.keys.ensure_admin()
    await control.aclose()
    assert made is not None
    async with ScriptedUpstream(OK, *replies, OK) as upstream:
        settings = WorkerSettings(
            name="worker-0",
            data_dir=str(folder),
            run_dir=str(folder),
            models=(),
            names={"m": Named(deployments=("one/model",), rules=rules or Rules(attempts=2, backoff_s=0.01))},
            providers={"one": RemoteProvider(type=kind, base_url=upstream.url, idle_s=idle_s)},
            allowed_hosts=("localhost",),
            body_limit_bytes=100_000,
        )
        async with open_worker(settings) as worker:
            found = Side(worker, made[1].reveal(), upstream, prompt=prompt)
            listener = await asyncio.get_running_loop().create_server(found.connection, "127.0.0.1", 0)
            found.port = listener.sockets[0].getsockname()[1]
            try:
                await found.asked(found.request(body()))  # from now on there are a key and a connection at hand
                found.made.clear()
                yield found
            finally:
                listener.close()
                await until(lambda: not found.state.connections and not found.state.tasks)


def body(**fields: Any) -> bytes:
    return json.dumps({"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}).encode()


WITHOUT_A_TASK: dict[str, Reply] = {
    "whole": OK,
    "its head first": Reply(told(said()).partition(b"{")[0], b"{" + told(said()).partition(b"{")[2]),
    "chunked": Reply(head("transfer-encoding: chunked") + chunked(json.dumps(said()).encode())),
    "interim": Reply(b"HTTP/1.1 100 Continue\r\n\r\n" + told(said())),
    "another reason": Reply(told(json.loads(json.dumps(said()).replace('"stop"', '"eos"')))),
    "members of theirs": Reply(told(said(service_tier="flex", system_fingerprint="fp", x_groq={"a": 1}))),
    "without usage": Reply(told({name: value for name, value in said().items() if name != "usage"})),
}
OTHERWISE: dict[str, tuple[Reply, ...]] = {
    "in pieces": (Reply(PIECES[:-100], PIECES[-100:-50], PIECES[-50:]),),
    "large": (Reply(told(said("word " * 400_000))),),
    "until the end": (Reply(head("content-type: application/json") + json.dumps(said()).encode(), CUT),),
    "a stream": (Reply(streamed(), sse(ROLE, chunk("Hi"), chunk(finish="stop", usage=USAGE), DONE), END),),
    "refused": (Reply(told(ERROR, status=400)),),
    "our key": (Reply(told(ERROR, status=401)),),
    "busy": (Reply(told(ERROR, "retry-after: 1", status=429)), Reply(told(ERROR, "retry-after: 0", status=429))),
    "broken, then well": (Reply(told(ERROR, status=500)), OK),
    "broken": (Reply(told(ERROR, status=500)), Reply(told(ERROR, status=503))),
    "an error in place of an answer": (Reply(told(ERROR)), Reply(told(ERROR))),
    "no JSON": (Reply(response(b"{no")), OK),
    "no choice": (Reply(told(said(choices=[]))), Reply(told(said(choices=[])))),
    "a choice too many": (Reply(told(said(choices=said()["choices"] * 2))), OK),
    "no message": (Reply(told(said(choices=[{"index": 0, "finish_reason": "stop"}]))),),
    "gone before it answers": (Reply(CUT), OK),
    "gone within": (Reply(PIECES[:-5], CUT), Reply(PIECES[:-5], RESET)),
    "204": (Reply(b"HTTP/1.1 204 No Content\r\n\r\n"), OK),
    "no HTTP": (Reply(b"SSH-2.0\r\n\r\n"), OK),
}


async def both(
    folder: Path, *replies: Reply, asked: bytes, rules: Rules | None = None, kind: str = "openai", **more: Any
) -> list[Side]:
    """Both sides, after they have answered alike."""
    async with (
        side(folder / "one", *replies, prompt=True, rules=rules, kind=kind) as one,
        side(folder / "two", *replies, prompt=False, rules=rules, kind=kind) as two,
    ):
        answers = [await each.asked(each.request(asked, **more)) for each in (one, two)]
        assert answers[0] == answers[1]
        assert one.accounts() == two.accounts()
        assert one.counted() == two.counted()
        assert [each.body for each in one.upstream.requests] == [each.body for each in two.upstream.requests]
        again = [await each.asked(each.request(body())) for each in (one, two)]
        assert again[0] == again[1]
        await until(lambda: one.worker.running == two.worker.running == 0)
        return [one, two]


@pytest.mark.parametrize("reply", WITHOUT_A_TASK.values(), ids=WITHOUT_A_TASK)
async def test_answers_that_need_no_task(reply: Reply, tmp_path: Path) -> None:
    one, two = await both(tmp_path, reply, asked=body())
    assert one.tasks == 0
    assert two.tasks == 2
    assert one.accounts()[1]["status"] == 200


@pytest.mark.parametrize("replies", OTHERWISE.values(), ids=OTHERWISE)
async def test_whatever_else_may_come(replies: tuple[Reply, ...], tmp_path: Path) -> None:
    await both(tmp_path, *replies, asked=body())


REQUESTS: dict[str, bytes] = {
    "all kinds of fields": body(temperature=0.5, max_tokens=5, user="u", stop=["a"], seed=1, metadata={"a": "b"}),
    "two choices": body(n=2),
    "tools": body(tools=[{"type": "function", "function": {"name": "f"}}], tool_choice="auto"),
    "a form": body(response_format={"type": "json_object"}),
    "an image": body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "data:,"}}]}]),
    "a stream": body(stream=True),
    "no JSON": b"{",
    "nothing": b"",
    "an unknown field": body(nothing=1),
    "a field of others": body(guided_regex="a"),
    "a bad value": body(temperature=9),
    "no such model": body(model="other"),
    "too large": body(user="u" * 100_000),
}


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
async def test_whatever_is_asked(asked: bytes, tmp_path: Path) -> None:
    await both(tmp_path, Reply(told(said())), asked=asked)


TEXT = {"object": "text_completion", "choices": [{"index": 0, "text": "Hi", "finish_reason": "stop"}], "usage": USAGE}
VECTOR = {"data": [{"index": 0, "embedding": [0.6, 0.8]}]}
SURFACES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "a text": ("completions", {"prompt": "Hello"}, TEXT),
    "two texts": ("completions", {"prompt": "Hello", "n": 2}, TEXT | {"choices": TEXT["choices"] * 2}),
    "a vector": ("embeddings", {"input": "Hello"}, VECTOR | {"usage": USAGE}),
    "a vector without usage": ("embeddings", {"input": "Hello"}, VECTOR),
}


@pytest.mark.parametrize(("path", "fields", "answer"), SURFACES.values(), ids=SURFACES)
async def test_other_surfaces(path: str, fields: dict[str, Any], answer: dict[str, Any], tmp_path: Path) -> None:
    asked = json.dumps({"model": "m", **fields}).encode()
    one, _ = await both(tmp_path, Reply(told(answer)), asked=asked, path=path)
    assert (one.tasks == 0) is ("n" not in fields)


async def test_a_field_without_effect_is_named(tmp_path: Path) -> None:
    asked = json.dumps({"model": "m", "input": "Hello", "user": "u"}).encode()
    one, two = await both(tmp_path, Reply(told(VECTOR)), asked=asked, path="embeddings", kind="vllm")
    assert (one.tasks, two.tasks) == (1, 2)
    first, _ = one.answers[1]
    assert b"x-narthex-ignored: user" in first


async def test_a_wrong_key(tmp_path: Path) -> None:
    one, _ = await both(tmp_path, asked=body(), key="nx-wrong")
    assert one.accounts()[1]["status"] == 401


async def test_the_time_of_a_whole_request(tmp_path: Path) -> None:
    one, _ = await both(tmp_path, Reply(HANG), asked=body(), rules=Rules(attempts=1, total_s=0.2))
    assert one.accounts()[1]["status"] == 504


@pytest.mark.parametrize("prompt", [True, False], ids=["without a task", "with one"])
async def test_a_caller_who_leaves(prompt: bool, tmp_path: Path) -> None:
    async with side(tmp_path / "one", Reply(HANG), prompt=prompt) as one:
        _, writer = await asyncio.open_connection("127.0.0.1", one.port)
        writer.write(one.request(body()))
        await until(lambda: len(one.upstream.requests) == 2 and one.upstream.requests[1].complete)
        assert one.worker.running == 1
        assert one.counted()["health"]["one/model"][1] == 1
        assert bool(one.tasks) is not prompt
        writer.close()
        await until(one.upstream.peers[0].closed.is_set)
        await until(lambda: one.worker.running == 0)
        assert one.accounts()[1]["status"] == 499
        assert one.accounts()[1]["outcome"] == "caller left"
        assert one.counted()["health"]["one/model"][1:] == (0, 2, 0)


@pytest.mark.parametrize("prompt", [True, False], ids=["without a task", "with one"])
async def test_the_end_of_a_drain(prompt: bool, tmp_path: Path) -> None:
    async with side(tmp_path / "one", Reply(HANG), prompt=prompt) as one, asyncio.TaskGroup() as tasks:
        answer = tasks.create_task(one.asked(one.request(body())))
        await until(lambda: len(one.upstream.requests) == 2 and one.upstream.requests[1].complete)
        one.worker.application.cut()
        found = await answer
        assert found[0].startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 5" in found[0]
        await until(one.upstream.peers[0].closed.is_set)
        assert one.accounts()[1]["error"] == "Draining"


async def test_a_server_that_drains_begins_nothing(tmp_path: Path) -> None:
    async with side(tmp_path / "one", prompt=True) as one:
        one.worker.application.draining = True
        first, _ = await one.asked(one.request(body()))
        assert first.startswith(b"HTTP/1.1 503 ")


async def test_a_caller_who_reads_too_slowly(tmp_path: Path) -> None:
    """The answer to the second request of a connection waits until the first one's was read."""
    words = "word " * 100_000
    async with side(tmp_path / "one", Reply(told(said(words))), Reply(told(said(words))), prompt=True) as one:
        reader, writer = await asyncio.open_connection("127.0.0.1", one.port, limit=1024)
        request = one.request(body()).replace(b"connection: close\r\n", b"")
        for _ in range(2):
            writer.write(request)
            async with asyncio.timeout(DEADLINE_S):
                first = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", first)
                assert found is not None
                answer = json.loads(await reader.readexactly(int(found[1])))
                assert answer["choices"][0]["message"]["content"] == words
        writer.close()
        await writer.wait_closed()
