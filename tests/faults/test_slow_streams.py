"""Servers that go on, but too slowly: over real sockets, with a pace that is taken over a short while."""

import asyncio
from pathlib import Path

import pytest
from tests.scripted_gateway import DONE, ROLE, chunk, gateway, said, whole

from narthex.ipc.tasks import TaskSet
from narthex.routing import attempt
from narthex.routing.route import Rules
from narthex.testing.scripted import END, HANG, Reply, ScriptedUpstream, sse, stream_head

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

EVERY_S, PIECES = 0.1, 100
FAST = Rules(attempts=2, backoff_s=0.01, min_pieces_per_s=1000.0, total_s=30.0)


@pytest.fixture(autouse=True)
def pace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "PACE_S", 0.4)


class Dripping:
    """A reply whose pieces come one by one, until its server is closed."""

    def __init__(self) -> None:
        self._drops = [asyncio.Event() for _ in range(PIECES)]
        steps = [step for drop in self._drops for step in (sse(chunk("a")), drop)]
        self.reply = Reply(stream_head(), sse(ROLE), *steps, HANG)

    async def run(self) -> None:
        for drop in self._drops:
            await asyncio.sleep(EVERY_S)
            drop.set()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_answer_is_broken_off_or_made_anew(tmp_path: Path, stream: bool) -> None:
    drops, tasks = Dripping(), TaskSet()
    tasks.start(drops.run())
    async with ScriptedUpstream(drops.reply) as one, ScriptedUpstream(whole("quick")) as two:
        async with gateway(tmp_path, {"one": one.url, "two": two.url}, rules=FAST) as served:
            caller = await served.ask(stream=stream)
        if stream:
            last = caller.events()[-1]
            assert '"code":"timeout"' in last
            assert 2 <= sum('"content":"a"' in event or '"content": "a"' in event for event in caller.events()) < PIECES
        else:
            assert said(caller) == "quick"
        await asyncio.wait_for(one.peers[0].closed.wait(), 60)
    await tasks.aclose()


async def test_a_quick_one_is_left_alone(tmp_path: Path) -> None:
    pieces = [chunk("a") for _ in range(2000)]
    reply = Reply(stream_head(), sse(ROLE, *pieces, chunk(finish="stop"), DONE), END)
    async with ScriptedUpstream(reply) as one, gateway(tmp_path, {"one": one.url}, rules=FAST) as served:
        assert said(await served.ask(stream=True)) == "a" * 2000
