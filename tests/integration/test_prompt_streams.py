"""Streams that are begun, passed on and ended without a task, beside the same streams with one: nobody can tell them
apart, whatever happens to them and wherever their bytes are cut.
"""

import asyncio
import gc
import json
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import structlog
from tests.integration.test_prompt_answers import ERROR, Side, body, keys_stay, side, told
from tests.relayed_chunks import ENDS, STARTS, USAGE, alike, unlike
from tests.unit.http.test_protocol import until

from narthex.core.ports import Call
from narthex.http.passing import StreamErrand
from narthex.http.surface import ModelSurface
from narthex.routing.passage import Passage
from narthex.routing.route import Rules
from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, Step, head, response, sse, stream_head
from narthex.upstream import remote
from narthex.upstream.connection import Connection
from narthex.upstream.relay import Relay
from narthex.wire.sse import encode

__all__ = ["keys_stay"]
pytestmark = pytest.mark.anyio

Script = Sequence[bytes | Step]
"""What the server sends, each piece in a read of its own."""
HEAD = stream_head()
ROLE, FIRST, NEXT, FINISH = alike(STARTS), alike({"content": "Hi"}), alike({"content": " there"}), alike({}, ENDS)
COUNTED = alike(usage=USAGE)
LAST = sse(FINISH, COUNTED, b"[DONE]") + END
BEGINS = (HEAD + sse(ROLE), sse(FIRST))
RETRIES = Rules(attempts=2, backoff_s=0.01)


class Gates:
    """Lets a server send its next piece once the last was read."""

    def __init__(self) -> None:
        self.shut: list[asyncio.Event] = []

    def passed(self) -> None:
        if self.shut:
            self.shut.pop(0).set()

    def open(self) -> None:
        while self.shut:
            self.passed()

    def reply(self, script: Script) -> Reply:
        steps: list[bytes | asyncio.Event | Step] = []
        for step in script:
            steps.append(step)
            if isinstance(step, bytes):
                self.shut.append(asyncio.Event())
                steps.append(self.shut[-1])
        return Reply(*steps)


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """All that were asked for."""
    made: list[Call] = []
    read = ModelSurface._call

    def noted(self: ModelSurface, *args: Any) -> Call:
        made.append(read(self, *args))
        return made[-1]

    monkeypatch.setattr(ModelSurface, "_call", noted)
    return made


class Pair:
    """Two servers of the same scripts, without a task and with one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, calls: list[Call], folder: Path) -> None:
        self._gates = Gates()
        self._calls = calls
        self._folder = folder
        receive = Connection.data_received

        def received(connection: Connection, data: bytes) -> None:
            receive(connection, data)
            self._gates.passed()

        monkeypatch.setattr(Connection, "data_received", received)

    async def compare(
        self, *scripts: Script, asked: bytes | None = None, path: str = "chat/completions", times: int = 1
    ) -> Side:
        """The one without a task, after both have answered alike, so many times."""
        found: list[Any] = []
        async with AsyncExitStack() as stack:
            for prompt in (True, False):
                folder = self._folder / str(prompt)
                replies = [self._gates.reply(script) for script in scripts]
                shut, self._gates.shut = self._gates.shut, []
                one = await stack.enter_async_context(side(folder, *replies, prompt=prompt, rules=RETRIES))
                self._gates.shut = shut
                self._calls.clear()
                with structlog.testing.capture_logs() as logged:
                    for _ in range(times):
                        await one.asked(one.request(asked or body(stream=True), path=path))
                        await until(lambda one=one: one.worker.running == 0)
                self._gates.open()
                await one.asked(one.request(body()))
                sent = [each.body for each in one.upstream.requests]
                attempts = [_attempts(call) for call in self._calls]
                found.append((one.answers, one.accounts(), one.counted(), _lines(logged), attempts, sent))
                if prompt:
                    first = one
                else:
                    assert one.tasks == len(one.made)
            for ours, theirs in zip(found[0], found[1], strict=True):
                assert ours == theirs
        return first


def _lines(logged: Sequence[Any]) -> list[Any]:
    """Log lines without what differs each time."""
    times = {"request_id", "exc_info", "seconds", "timestamp"}
    return [{name: value for name, value in line.items() if name not in times} for line in logged]


def _attempts(call: Call) -> list[Any]:
    return [(each.deployment, each.outcome, each.usage, each.pieces) for each in call.attempts]


@pytest.fixture
def pair(monkeypatch: pytest.MonkeyPatch, calls: list[Call], tmp_path: Path) -> Pair:
    return Pair(monkeypatch, calls, tmp_path)


CALLED = {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}
MORE = {"tool_calls": [{"index": 0, "function": {"arguments": "{}"}}]}
WITHOUT_A_TASK: dict[str, Script] = {
    "piece by piece": (*BEGINS, *map(sse, [NEXT] * 5), LAST),
    "its head first": (HEAD, sse(ROLE), sse(FIRST), LAST),
    "role and text at once": (HEAD + sse(ROLE, FIRST), LAST),
    "text with the role": (HEAD + sse(alike({"role": "assistant", "content": "Hi"})), sse(NEXT), LAST),
    "no role": (HEAD + sse(FIRST), sse(NEXT), LAST),
    "several at once": (*BEGINS, sse(NEXT) * 7, sse(NEXT, NEXT), sse(NEXT) + LAST),
    "cut within events": (*BEGINS, *(sse(NEXT)[at : at + 30] for at in range(0, len(sse(NEXT)), 30)), LAST),
    "comments": (HEAD + b"4\r\n: a\n\r\n", *BEGINS[1:], b"5\r\n: b\n\n\r\n", sse(NEXT), LAST),
    "nothing that is alike": (HEAD + sse(unlike(STARTS)), *(sse(unlike({"content": word})) for word in "abc"), LAST),
    "thoughts": (*BEGINS, sse(alike({"reasoning_content": "hm"})), sse(alike({"reasoning": "so"})), LAST),
    "calls": (HEAD + sse(ROLE), sse(alike(CALLED)), sse(alike(MORE)), LAST),
    "no usage": (*BEGINS, sse(NEXT), sse(FINISH, b"[DONE]") + END),
    "no end mark": (*BEGINS, sse(NEXT), sse(FINISH) + END),
    "another reason": (*BEGINS, sse(alike({}, {"finish_reason": "eos"}), b"[DONE]") + END),
    "its end alone": (*BEGINS, sse(alike({"content": "."}, ENDS), b"[DONE]") + END),
    "interim": (b"HTTP/1.1 100 Continue\r\n\r\n" + BEGINS[0], sse(FIRST), LAST),
    "text after its finish": (*BEGINS, sse(FINISH, NEXT, COUNTED) + END),
}
OTHERWISE: dict[str, tuple[Script, ...]] = {
    "all at once": ((HEAD + sse(ROLE, FIRST) + LAST,),),
    "finished at once": ((HEAD + sse(ROLE, FINISH, b"[DONE]") + END,),),
    "its end in pieces": ((*BEGINS, sse(NEXT), sse(FINISH), sse(COUNTED), sse(b"[DONE]"), END),),
    "goes after its finish": ((*BEGINS, sse(FINISH), CUT),),
    "says nothing after its finish": ((*BEGINS, sse(FINISH), HANG),),
    "refused": ((told(ERROR, status=400),),),
    "our key": ((told(ERROR, status=401),),),
    "broken, then well": ((told(ERROR, status=500),), (*BEGINS, sse(NEXT), LAST)),
    "broken": ((told(ERROR, status=500),), (told(ERROR, status=503),)),
    "gone before it answers": ((CUT,), (*BEGINS, LAST)),
    "gone after its head": ((HEAD, CUT), (*BEGINS, LAST)),
    "gone before its first output": ((BEGINS[0], RESET), (*BEGINS, LAST)),
    "gone within": ((*BEGINS, sse(NEXT), CUT),),
    "reset within": ((*BEGINS, sse(NEXT), RESET),),
    "ended too early": ((*BEGINS, sse(NEXT), END),),
    "ended before its first output": ((BEGINS[0], END), (*BEGINS, LAST)),
    "nothing": ((HEAD + END,), (HEAD, END)),
    "an error before its first output": ((BEGINS[0], sse(json.dumps(ERROR).encode()) + END), (*BEGINS, LAST)),
    "an error within": ((*BEGINS, sse(NEXT), sse(json.dumps(ERROR).encode()) + END),),
    "an error with its finish": ((*BEGINS, sse(NEXT), sse(FINISH, json.dumps(ERROR).encode()) + END),),
    "no JSON at first": ((HEAD + sse(b"<html>"),), (*BEGINS, LAST)),
    "no JSON": ((*BEGINS, sse(b"<html>"), LAST),),
    "no JSON at its end": ((*BEGINS, sse(NEXT), sse(FINISH, b"<html>") + END),),
    "no text at first": ((HEAD + sse(ROLE), sse(alike({"content": 7}))), (*BEGINS, LAST)),
    "no UTF-8": ((*BEGINS, sse(alike({"content": "@"}).replace(b"@", b"\xff")), LAST),),
    "an unknown finish": ((*BEGINS, sse(alike({}, {"finish_reason": "x"})) + END),),
    "no chunk": ((*BEGINS, b"zz\r\n"),),
    "no HTTP": ((b"SSH-2.0\r\n\r\n",), (*BEGINS, LAST)),
    "a whole answer": ((told({"choices": []}),), (told({"choices": []}),)),
    "204": ((b"HTTP/1.1 204 No Content\r\n\r\n",), (*BEGINS, LAST)),
    "until the end": ((head("content-type: text/event-stream") + encode(ROLE), encode(FIRST), encode(FINISH), CUT),),
    "more than was asked": ((*BEGINS, LAST + b"HTTP/1.1 200 OK\r\n\r\n"),),
    "empty": ((response(),), (response(),)),
}


async def test_streams_that_need_no_task(pair: Pair) -> None:
    one = await pair.compare(*WITHOUT_A_TASK.values(), times=len(WITHOUT_A_TASK))
    assert [name for name, made in zip(WITHOUT_A_TASK, one.made, strict=False) if made._task is not None] == []
    for name, (_, text) in zip(WITHOUT_A_TASK, one.answers[1:], strict=False):
        assert text.endswith(b"[DONE]\n\n\r\n0\r\n\r\n"), name


@pytest.mark.parametrize("scripts", OTHERWISE.values(), ids=OTHERWISE)
async def test_whatever_else_may_come(scripts: tuple[Script, ...], pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "LAST_S", 0.05)
    await pair.compare(*scripts)


TEXTS = [
    json.dumps({"id": "x", "choices": [{"index": 0, "text": text, "finish_reason": reason}]}).encode()
    for text, reason in (("Hi", None), (" there", None), ("", "stop"))
]
REQUESTS: dict[str, bytes] = {
    "usage": body(stream=True, stream_options={"include_usage": True}),
    "two choices": body(stream=True, n=2),
    "tools": body(stream=True, tools=[{"type": "function", "function": {"name": "f"}}]),
    "a form": body(stream=True, response_format={"type": "json_object"}),
    "a tier": body(stream=True, service_tier="default"),
    "an unknown field": body(stream=True, nothing=1),
    "no such model": body(stream=True, model="other"),
    "a time": body(stream=True, timeout=10_000),
}


@pytest.mark.parametrize("asked", REQUESTS.values(), ids=REQUESTS)
async def test_whatever_is_asked(asked: bytes, pair: Pair) -> None:
    await pair.compare((*BEGINS, *map(sse, [NEXT] * 3), LAST), asked=asked)


async def test_other_surfaces(pair: Pair) -> None:
    asked = json.dumps({"model": "m", "prompt": "Hello", "stream": True}).encode()
    first, second, last = TEXTS
    one = await pair.compare(
        (HEAD + sse(first), sse(second), sse(last, b"[DONE]") + END), asked=asked, path="completions"
    )
    assert one.tasks == 0


# --- clocks, ends, and callers --------------------------------------------------------------------------------------

BOTH = pytest.mark.parametrize("prompt", [True, False], ids=["without a task", "with one"])
UNTIL = pytest.mark.parametrize("begins", [(), (BEGINS[0],), BEGINS], ids=["its head", "its first output", "its end"])


def hanging(begins: tuple[bytes, ...]) -> Reply:
    return Reply(b"".join(begins), HANG)


async def hears(one: Side, begins: tuple[bytes, ...]) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A caller of a stream that has come so far."""
    reader, writer = await asyncio.open_connection("127.0.0.1", one.port)
    writer.write(one.request(body(stream=True)))
    await until(lambda: len(one.upstream.requests) == 2 and one.upstream.requests[1].complete)
    if len(begins) > 1:
        await asyncio.wait_for(reader.readuntil(b"Hi"), 60)
    return reader, writer


@UNTIL
@BOTH
async def test_a_caller_who_leaves(prompt: bool, begins: tuple[bytes, ...], tmp_path: Path) -> None:
    async with side(tmp_path / "one", hanging(begins), prompt=prompt) as one:
        _, writer = await hears(one, begins)
        assert one.worker.running == 1
        assert bool(one.tasks) is not prompt
        writer.close()
        await until(one.upstream.peers[0].closed.is_set)
        await until(lambda: one.worker.running == 0)
        line = one.accounts()[1]
        assert (line["status"], line["outcome"]) == (200 if len(begins) > 1 else 499, "caller left")
        assert one.counted()["health"]["one/model"][1:] == (0, 2, 0)


@UNTIL
@BOTH
async def test_the_end_of_a_drain(prompt: bool, begins: tuple[bytes, ...], tmp_path: Path) -> None:
    async with side(tmp_path / "one", hanging(begins), prompt=prompt) as one:
        reader, writer = await hears(one, begins)
        one.worker.application.cut()
        rest = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert (b'"code":"overloaded"' in rest) if len(begins) > 1 else rest.startswith(b"HTTP/1.1 503 ")
        await until(one.upstream.peers[0].closed.is_set)
        assert one.accounts()[1]["error"] == "Draining"


@pytest.mark.parametrize("clock", ["whole", "idle"])
@UNTIL
@BOTH
async def test_clocks(prompt: bool, begins: tuple[bytes, ...], clock: str, tmp_path: Path) -> None:
    rules = Rules(attempts=1, total_s=0.3 if clock == "whole" or not begins else None)  # heads have no idle clock
    idle_s = 0.2 if clock == "idle" else 5.0
    async with side(tmp_path / "one", hanging(begins), prompt=prompt, rules=rules, idle_s=idle_s) as one:
        reader, writer = await hears(one, begins)
        rest = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert (b'"code":"timeout"' in rest) if len(begins) > 1 else rest.startswith(b"HTTP/1.1 504 ")
        await until(lambda: one.worker.running == 0)
        line = one.accounts()[1]
        assert (line["status"], line["error"]) == (200 if len(begins) > 1 else 504, "UpstreamTimeout")
        failures = 0 if clock == "whole" and len(begins) > 1 else 1  # for the first output only the server is to blame
        assert one.counted()["health"]["one/model"][1:] == (0, 2, failures)


@BOTH
async def test_a_server_that_only_keeps_its_connection_alive(prompt: bool, tmp_path: Path) -> None:
    alive = [b"5\r\n: b\n\n\r\n", asyncio.Event()]
    async with side(tmp_path / "one", Reply(*BEGINS, *alive, HANG), prompt=prompt, idle_s=0.3) as one:
        reader, writer = await hears(one, BEGINS)
        rest = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert b'"code":"timeout"' in rest


@BOTH
async def test_a_caller_who_reads_slowly_gets_all_of_it(prompt: bool, tmp_path: Path) -> None:
    flood = [sse(alike({"content": "x" * 1000})) * 100] * 150
    async with side(tmp_path / "one", Reply(*BEGINS, *flood, LAST), prompt=prompt) as one:
        reader, writer = await hears(one, BEGINS)
        await until(one.upstream.peers[0].paused.is_set)
        rest = await asyncio.wait_for(reader.read(), 60)
        writer.close()
        assert rest.count(b"x" * 1000) == 15_000
        assert rest.endswith(b"0\r\n\r\n")
        assert one.tasks == 1
        assert one.accounts()[1]["completion_tokens"] == USAGE["completion_tokens"]


@BOTH
async def test_silence_is_filled(prompt: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with side(tmp_path / "one", hanging(BEGINS), prompt=prompt) as one:
        for route in one.worker.application._routes.all:
            for endpoint in route.endpoints.values():
                if isinstance(endpoint, ModelSurface):
                    monkeypatch.setattr(endpoint, "_ping_after_s", 0.1)
        reader, writer = await hears(one, BEGINS)
        await asyncio.wait_for(reader.readuntil(b": ping\n\n"), 60)
        assert bool(one.tasks) is not prompt
        writer.close()
        await until(lambda: one.worker.running == 0)


async def test_what_is_over_is_freed_at_once(tmp_path: Path) -> None:
    replies = [Reply(*BEGINS, sse(NEXT), LAST) for _ in range(20)]
    async with side(tmp_path / "one", *replies, prompt=True) as one:
        await one.asked(one.request(body(stream=True)))
        gc.collect()
        gc.disable()
        try:
            before = under_way()
            for _ in range(10):
                await one.asked(one.request(body(stream=True)))
            assert [each for each in under_way() if not any(each is other for other in before)] == []
        finally:
            gc.enable()


def under_way() -> list[object]:
    """What there is for each stream."""
    kinds = (Call, Passage, Relay, StreamErrand)
    return [each for each in gc.get_objects() if isinstance(each, kinds)]
