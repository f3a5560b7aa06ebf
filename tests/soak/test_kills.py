"""Three minutes of load while processes are killed at random: every request is answered, and memory stays."""

import asyncio
import contextlib
import random
import statistics
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from tests.callers import CHAT, COMPLETIONS, EMBEDDINGS, Answer, ask, chat, embedding, endless, honest, served
from tests.server_inside import EMBEDDER, ENGINE, SANDBOX, children, free, kill, memory_bytes, pid, until
from tests.server_process import Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.soak, pytest.mark.timeout(600)]

ROUNDS, SECONDS, CALLERS = 200, 180.0, 8
MIB = 1024 * 1024
VICTIMS = (ENGINE, EMBEDDER, SANDBOX, "worker-1")
"""The other worker lives on: it is the one whose memory is watched."""


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server({"engine": {"context": 2048}}, workers=2) as running:
        yield running


class Soak:
    """Load and kills, and what came of them."""

    def __init__(self, server: Server, *, seed: int) -> None:
        self._server = server
        self._random = random.Random(seed)
        self._until_s = time.monotonic() + SECONDS
        self.kills: Counter[str] = Counter()
        self.worker_killed_at_s: list[float] = []
        self.statuses: Counter[str] = Counter()
        self.silent: list[tuple[str, Answer | None]] = []
        self.memory: list[int] = []

    @property
    def runs(self) -> bool:
        return time.monotonic() < self._until_s

    async def call(self) -> None:
        """One caller: request after request."""
        while self.runs:
            path, body = self._request()
            began_s = time.monotonic()
            answer: Answer | None = None
            with contextlib.suppress(OSError, EOFError):
                answer = await ask(self._server, path, body)
            self._judge(path, answer, began_s=began_s)
            if answer is not None and answer.status >= 500:
                await asyncio.sleep(0.2)  # a caller with manners

    async def kill(self) -> None:
        """Rounds of kills; who does not run at the moment is spared."""
        for _ in range(ROUNDS):
            victim = self._random.choice(VICTIMS)
            status = (await children(self._server))[victim]
            if status.state == "ready" and status.pid is not None:
                await kill(self._server, victim)
                self.kills[victim] += 1
                if victim == "worker-1":
                    self.worker_killed_at_s.append(time.monotonic())
            self.memory.append(memory_bytes(await pid(self._server, "worker-0")))
            await asyncio.sleep(SECONDS / ROUNDS)

    def _request(self) -> tuple[str, dict[str, Any]]:
        stream, tokens = self._random.random() < 0.5, self._random.randint(1, 40)
        return self._random.choice(
            [
                (CHAT, chat("Tell me something.", max_tokens=tokens, stream=stream)),
                (COMPLETIONS, endless(max_tokens=tokens, stream=stream, n=self._random.randint(1, 4))),
                (EMBEDDINGS, embedding("a sentence " * tokens)),
            ]
        )

    def _judge(self, path: str, answer: Answer | None, *, began_s: float) -> None:
        """Only a worker that was killed may leave its callers without a word."""
        if answer is not None and answer.status and honest(answer):
            self.statuses[f"{answer.status}{'' if answer.whole else ' ' + str((answer.error or {}).get('code'))}"] += 1
        elif any(killed_s > began_s - 0.1 for killed_s in self.worker_killed_at_s):
            self.statuses["worker killed"] += 1
        else:
            self.silent.append((path, answer))


async def test_every_request_is_answered_while_processes_are_killed(server: Server) -> None:
    survivor = await pid(server, "worker-0")
    soak = Soak(server, seed=1)
    await asyncio.gather(soak.kill(), *(soak.call() for _ in range(CALLERS)))
    print(f"kills: {dict(soak.kills)}, answers: {dict(soak.statuses)}")
    assert not soak.silent, soak.silent[:3]
    assert soak.kills.total() >= 10
    assert soak.statuses["200"] >= 100
    assert await pid(server, "worker-0") == survivor
    third = len(soak.memory) // 3
    growth = statistics.median(soak.memory[-third:]) - statistics.median(soak.memory[third:-third])
    print(f"memory of a worker: {min(soak.memory) // MIB}-{max(soak.memory) // MIB} MiB, grew by {growth // 1024} KiB")
    assert growth < 4 * MIB
    await served(server, within_s=40)

    async def is_free() -> bool:
        return await free(server)

    await until(is_free, within_s=20)
