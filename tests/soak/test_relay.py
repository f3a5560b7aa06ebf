"""Five minutes of answers passed on, by servers at fault, to callers of whom some leave, while settings change:
every request is answered, and a worker's memory stays."""

import asyncio
import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.callers import CHAT, COMPLETIONS, EMBEDDINGS, Answer, ask, calling
from tests.served_gateway import DONE, ROLE, STOP, chunk, config, refusing, saying, started, whole
from tests.server_inside import memory_bytes, pid
from tests.server_process import Server, StartServer
from typing_extensions import override

from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, ScriptedUpstream, head, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(900)]

SECONDS, CALLERS, RELOAD_S = 300.0, 8, 10.0
MIB = 1024 * 1024
SIZES = (100, 2_000, 20_000, 150_000)
MESSAGE = {"role": "assistant", "content": "word " * 2000}
DOCUMENT = {
    "data": [{"index": 0, "embedding": [0.5, 0.5]}],
    "choices": [{"index": 0, "message": MESSAGE, "text": "word " * 2000, "finish_reason": "stop"}],
}
PIECE = chunk({"content": "word"}, text="word")
DOCUMENTS = [whole(DOCUMENT)]
STREAMS = [saying(*["word "] * 50)]
BAD = [
    refusing(500),
    refusing(429, "retry-after-ms: 100"),
    Reply(RESET),
    Reply(head("content-length: 9999") + b'{"choices":[', CUT),
    Reply(stream_head(), sse(ROLE, PIECE), CUT),
    Reply(stream_head(), sse(ROLE, PIECE, b"<html>"), END),
    Reply(stream_head(), sse(ROLE, PIECE, STOP, DONE), RESET),
    Reply(stream_head(), sse(ROLE, PIECE), HANG),
    Reply(HANG),
]
KNOWN = {200, 429, 502, 503, 504}


class Moody(ScriptedUpstream):
    """Answers well, mostly."""

    def __init__(self, *good: Reply, unix: Path, rng: random.Random) -> None:
        super().__init__(*good, unix=unix)
        self._good, self._rng = good, rng

    @override
    def reply(self) -> Reply:
        return self._rng.choice(BAD if self._rng.random() < 0.1 else self._good)


class Soak:
    """The load, and what came of it."""

    def __init__(self, server: Server, folder: Path, *, seed: int) -> None:
        self._server = server
        self._folder = folder
        self._key = server.admin_key
        self._rng = random.Random(seed)
        self._until_s = time.monotonic() + SECONDS
        self.answers: Counter[str] = Counter()
        self.bad: list[Answer] = []
        self.memory: list[int] = []
        self.reloads = 0

    @property
    def runs(self) -> bool:
        return time.monotonic() < self._until_s

    async def call(self) -> None:
        """One caller: request after request; one of ten leaves early."""
        while self.runs:
            path, body = self._request()
            if self._rng.random() < 0.1:
                async with calling(self._server, path, body, key=self._key) as caller:
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._rng.random() * 0.02):
                            await caller.end()
                    caller.leave(reset=self._rng.random() < 0.5)
                self.answers["left"] += 1
            else:
                self._judge(await ask(self._server, path, body, key=self._key))

    def _request(self) -> tuple[str, dict[str, Any]]:
        text = "x" * self._rng.choice(SIZES)
        streams = {"stream": self._rng.random() < 0.8, "model": self._rng.choice(("steady", "rescued"))}
        messages = [{"role": "user", "content": text}]
        kinds: list[tuple[str, dict[str, Any]]] = [
            (CHAT, {**streams, "messages": messages}),
            (COMPLETIONS, {**streams, "prompt": text}),
            (CHAT, {"model": "documents", "messages": messages}),
            (COMPLETIONS, {"model": "documents", "prompt": text}),
            (EMBEDDINGS, {"model": "documents", "input": text}),
        ]
        return self._rng.choice(kinds)

    def _judge(self, answer: Answer) -> None:
        error = answer.error if answer.complete and not answer.whole else None
        self.answers[f"{answer.status} {error['code'] if error else ''}".strip()] += 1
        if not answer.whole and (error is None or not error["message"] or answer.status not in KNOWN):
            self.bad.append(answer)

    async def reload(self) -> None:
        """Providers change their settings and their names, so that pools come and go."""
        while self.runs:
            await asyncio.sleep(RELOAD_S)
            self.reloads += 1
            file = self._server.data.parent / "narthex-test.yaml"
            file.write_text(yaml.safe_dump(settings(self._folder, self.reloads)))
            answer = await ask(self._server, "/admin/reload", key=self._key, method="POST")
            assert answer.status == 200, answer

    async def watch(self) -> None:
        """Look at the worker's memory."""
        worker = await pid(self._server, "worker-0")
        while self.runs:
            self.memory.append(memory_bytes(worker))
            await asyncio.sleep(0.5)
        assert await pid(self._server, "worker-0") == worker


def settings(folder: Path, number: int) -> dict[str, Any]:
    """Three servers, of which one has another name each time."""
    made = config(folder, {"one": "vllm", "two": "vllm", "three": "vllm"}, [])
    second = f"two-{number}"
    made["providers"][second] = made["providers"].pop("two")
    retry = {"attempts": 3, "backoff": 0.01, "cooldown": 0.5}
    rules = {"retry": retry, "timeouts": {"first_token": 1, "idle": 1 + number / 1000, "total": 10}}
    texts = [f"one/m-{number}", f"{second}/m"]
    made["models"] = [
        {"name": "steady", "deployments": texts, "strategy": "least_busy", "rescue": False, **rules},
        {"name": "rescued", "deployments": texts, "strategy": "least_busy", "rescue": True, **rules},
        {"name": "documents", "deployments": ["three/m"], "retry": retry, "timeouts": {"attempt": 1}},
    ]
    return made


@contextlib.asynccontextmanager
async def upstreams(folder: Path) -> AsyncIterator[None]:
    rng = random.Random(2)
    async with (
        Moody(*STREAMS, unix=folder / "one.sock", rng=rng) as one,
        Moody(*STREAMS, unix=folder / "two.sock", rng=rng) as two,
        Moody(*DOCUMENTS, unix=folder / "three.sock", rng=rng) as three,
    ):
        forgetting = asyncio.ensure_future(forget(one, two, three))
        yield
        forgetting.cancel()


async def forget(*servers: Moody) -> None:
    """What they were asked; this process is not what is watched."""
    while True:
        await asyncio.sleep(1)
        for each in servers:
            each.requests.clear()


async def test_memory_stays_whatever_is_passed_on(start_server: StartServer, tmp_path: Path) -> None:
    async with upstreams(tmp_path), started(start_server, settings(tmp_path, 0)) as server:
        soak = Soak(server, tmp_path, seed=1)
        await asyncio.gather(soak.watch(), soak.reload(), *(soak.call() for _ in range(CALLERS)))
    print(f"answers: {dict(soak.answers)}, reloads: {soak.reloads}")
    assert not soak.bad, soak.bad[:3]
    assert soak.answers["200"] > 0.8 * soak.answers.total()
    third = len(soak.memory) // 3
    early, late = statistics.median(soak.memory[third:-third]), statistics.median(soak.memory[-third:])
    print(f"memory: {min(soak.memory) // MIB}-{max(soak.memory) // MIB} MiB, grew by {(late - early) / 1024:.0f} KiB")
    assert late - early < 3 * MIB
