"""The image model's process: how it begins, what it answers, how it ends."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests import tiny_pipeline
from tests.server_inside import until

from narthex.core.errors import EngineCrashed, EngineUnavailable, NotFound, QueueFull
from narthex.engine.images.draw import Accepted, DrawCall, Drawn, Painter
from narthex.ipc.client import Client
from narthex.supervisor.memory import Retired

pytest.importorskip("PIL.Image", reason="the extra narthex[images] is not installed")

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

CAT = DrawCall(job=0, key="k", prompt="a cat", steps=2)
LONG = DrawCall(job=0, key="k", prompt="a cat", steps=50, size="1024x1024", n=9)
WITHOUT_PILLOW = "import sys; sys.modules['PIL'] = None; from narthex.engine.images.child import main; sys.exit(main())"


class Child:
    def __init__(self, process: "subprocess.Popen[bytes]", notices: Any, socket: Path) -> None:
        self.process = process
        self.socket = socket
        self._notices = notices

    def notice(self) -> dict[str, Any]:
        """The next line of the child to its parent; empty when it ended without one."""
        return json.loads(self._notices.readline() or b"{}")


@contextlib.contextmanager
def child(
    tmp_path: Path, folder: Path, *, run: tuple[str, ...] = ("-m", "narthex.engine.images.child"), **settings: Any
) -> Iterator[Child]:
    reading, writing = os.pipe()
    process = subprocess.Popen(
        [sys.executable, *run, "--notify", str(writing)], stdin=subprocess.PIPE, pass_fds=(writing,)
    )
    os.close(writing)
    assert process.stdin is not None
    socket = tmp_path / "i.sock"
    line = {"name": "tiny", "folder": str(folder), "socket": str(socket), "threads": 1, **settings}
    process.stdin.write(msgspec.json.encode(line) + b"\n")
    process.stdin.flush()
    try:
        with os.fdopen(reading, "rb") as notices:
            yield Child(process, notices, socket)
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdin.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_pipeline.write(tmp_path_factory.mktemp("pipe"), slow=32)


async def drawn(painter: Painter, call: DrawCall = CAT) -> list[Drawn]:
    async with painter.draw(call) as drawing:
        return [each async for each in drawing.images]


async def test_it_is_full_at_some_point_and_forgets_those_who_leave(folder: Path, tmp_path: Path) -> None:
    with child(tmp_path, folder, max_waiting_per_key=1) as started:
        assert started.notice() == {"event": "ready"}
        painter, other = Painter(started.socket, "tiny"), Painter(started.socket, "tiny")
        async with painter.draw(LONG):
            with pytest.raises(QueueFull) as raised:
                await drawn(other)
            assert raised.value.retry_after_s == 60
            assert (await painter.state()).waiting == 1

        async def idle() -> bool:
            state = await other.state()
            return not state.waiting and not state.running

        await until(idle)
        async with painter.draw(LONG):
            await painter.aclose()  # without a word
            await until(idle)
        assert len(await drawn(other)) == 1
        await other.aclose()


async def test_jobs_are_their_callers_own(folder: Path, tmp_path: Path) -> None:
    with child(tmp_path, folder) as started:
        assert started.notice() == {"event": "ready"}
        one, other = (Client(started.socket, name="images") for _ in range(2))
        await one.call("draw", msgspec.structs.replace(CAT, job=7), Accepted)
        with pytest.raises(NotFound):
            await other.call("next", 7, Drawn)
        await other.call("drop", 7, None)
        assert (await one.call("next", 7, Drawn)).data
        for each in (one, other):
            await each.aclose()


async def test_it_retires_when_it_is_idle(folder: Path, tmp_path: Path) -> None:
    with child(tmp_path, folder) as started:
        assert started.notice() == {"event": "ready"}
        asks, painter = Client(started.socket, name="images"), Painter(started.socket, "tiny")
        async with painter.draw(LONG):
            assert not (await asks.call("retire", None, Retired)).retired
        await drawn(painter)
        assert (await asks.call("retire", None, Retired)).retired
        with pytest.raises((EngineCrashed, EngineUnavailable)):
            await drawn(painter)
        assert started.process.wait(60) == 0
        for each in (asks, painter):
            await each.aclose()


def test_it_is_unloaded_when_nobody_wants_anything(folder: Path, tmp_path: Path) -> None:
    with child(tmp_path, folder, idle_unload_s=0.05) as started:
        assert started.notice() == {"event": "ready"}
        assert started.process.wait(60) == 0


async def test_ends_with_its_parent_and_when_told(folder: Path, tmp_path: Path) -> None:
    for end in ("lifeline", "SIGTERM"):
        with child(tmp_path, folder) as started:
            assert started.notice() == {"event": "ready"}
            painter = Painter(started.socket, "tiny")
            waiting = asyncio.ensure_future(drawn(painter, LONG))

            async def working(painter: Painter = painter) -> bool:
                return (await painter.state()).running == 1

            await until(working)
            if end == "lifeline":
                assert started.process.stdin is not None
                started.process.stdin.close()
            else:
                started.process.send_signal(signal.SIGTERM)
            with pytest.raises(EngineCrashed):
                await waiting
            assert started.process.wait(60) == 0
            await painter.aclose()


@pytest.mark.parametrize(
    ("run", "said"),
    [
        (("-c", WITHOUT_PILLOW), "needs the extra `narthex[images]`"),
        (("-m", "narthex.engine.images.child"), "none is no pipeline: it has no model_index.json"),
    ],
    ids=["no extra", "no pipeline"],
)
def test_why_it_can_t_work_is_told(run: tuple[str, ...], said: str, tmp_path: Path) -> None:
    with child(tmp_path, tmp_path / "none", run=run) as started:
        notice = started.notice()
        assert notice["event"] == "failed"
        assert said in notice["message"]
        assert started.process.wait(60) == 1
