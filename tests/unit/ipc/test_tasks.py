"""Tasks with an owner."""

import asyncio

import pytest
from structlog.testing import capture_logs

from narthex.ipc.tasks import TaskSet

pytestmark = pytest.mark.anyio


async def test_closing_cancels_and_awaits_the_rest() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    tasks = TaskSet()
    tasks.start(work())
    await asyncio.sleep(0)
    assert len(tasks) == 1
    await tasks.aclose()
    assert ended.is_set()
    assert len(tasks) == 0


async def test_a_failure_is_logged() -> None:
    async def fail() -> None:
        raise ValueError("x")

    tasks = TaskSet()
    with capture_logs() as logs:
        task = tasks.start(fail())
        await asyncio.wait([task])
    assert [line["event"] for line in logs] == ["a background task failed"]


async def test_a_task_may_close_its_own_set() -> None:
    tasks = TaskSet()
    task = tasks.start(tasks.aclose())
    async with asyncio.timeout(60):
        await task
    assert len(tasks) == 0
