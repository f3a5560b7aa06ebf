import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from narthex.core.errors import EngineUnavailable
from narthex.ipc.server import Peer, Server
from narthex.jobs import waking
from narthex.jobs.waking import Wake, Waker, Woken, socket_of

pytestmark = pytest.mark.anyio


class Sleeper:
    """A process that is woken."""

    def __init__(self, run_dir: Path) -> None:
        self.heard: list[Wake] = []
        self.outdated = 0
        self.ensured = 0
        self.starts = True
        self.heard_one = asyncio.Event()
        self._server = Server(socket_of(run_dir), {"wake": self._wake})
        self._runs = False

    async def start(self) -> None:
        self._runs = True
        await self._server.start()

    async def aclose(self) -> None:
        await self._server.aclose()

    async def ensure(self, child: str) -> None:
        assert child == waking.NAME
        self.ensured += 1
        if not self.starts:
            raise EngineUnavailable("It crashed.")
        if not self._runs:
            await self.start()

    async def _wake(self, _: Peer, payload: msgspec.Raw) -> Woken:
        wake = msgspec.msgpack.decode(payload, type=Wake)
        self.heard.append(wake)
        if self.outdated:
            self.outdated -= 1
            return Woken(outdated=True)
        self.heard_one.set()
        return Woken()


@pytest.fixture
async def sleeper(tmp_path: Path, anyio_backend: str) -> AsyncIterator[Sleeper]:
    made = Sleeper(tmp_path)
    yield made
    await made.aclose()


@pytest.fixture
async def waker(sleeper: Sleeper, tmp_path: Path) -> AsyncIterator[Waker]:
    made = Waker(tmp_path, ensure=sleeper.ensure)
    yield made
    await made.aclose()


async def heard(sleeper: Sleeper) -> None:
    async with asyncio.timeout(60):
        await sleeper.heard_one.wait()


async def test_one_that_runs_is_told(sleeper, waker):
    await sleeper.start()
    waker.wake("s", collection_id="c")
    await heard(sleeper)
    assert sleeper.heard == [Wake(settings="s", collection_id="c")]
    assert sleeper.ensured == 0


async def test_one_that_does_not_run_is_started(sleeper, waker):
    waker.wake("s")
    await heard(sleeper)
    assert sleeper.ensured == 1


async def test_one_that_ends_for_its_settings_is_followed_by_another(sleeper, waker):
    await sleeper.start()
    sleeper.outdated = 2
    waker.wake("new")
    await heard(sleeper)
    assert [wake.settings for wake in sleeper.heard] == ["new"] * 3


async def test_what_is_said_while_it_is_woken_is_told_as_well_with_the_newest_settings(sleeper, waker):
    waker.wake("old", collection_id="a")
    waker.wake("new", collection_id="b")
    while {wake.collection_id for wake in sleeper.heard} != {"a", "b"}:
        sleeper.heard_one.clear()
        await heard(sleeper)
    assert {wake.settings for wake in sleeper.heard} == {"new"}


async def test_one_that_cannot_be_started_is_given_up_at_last(sleeper, waker, monkeypatch):
    monkeypatch.setattr(waking, "_PAUSES_S", (0.0, 0.0, 0.0))
    sleeper.starts = False
    waker.wake("s")
    async with asyncio.timeout(60):
        while sleeper.ensured < 3:
            await asyncio.sleep(0)
    sleeper.starts = True
    async with asyncio.timeout(60):
        while not sleeper.heard:
            waker.wake("s")
            await asyncio.sleep(0.01)
