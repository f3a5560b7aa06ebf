"""Lines about requests: in order, in one write for each turn of the loop, and written whatever happens to the loop."""

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from narthex.ipc.logs import AccessLog

pytestmark = pytest.mark.anyio

LAST_WORDS = """
import asyncio, sys, uvloop
from narthex.ipc import logs

logs.configure(sys.argv[1], process="worker-0")
access = logs.AccessLog(sys.argv[1], process="worker-0")

async def cancelled():
    try:
        await asyncio.Event().wait()
    finally:
        access({"request_id": "2"})

async def main():
    task = asyncio.ensure_future(cancelled())
    await asyncio.sleep(0)
    access({"request_id": "1", "status": 200})
    if sys.argv[3] == "fails":
        raise SystemExit(3)
    return task

(uvloop if sys.argv[2] == "uvloop" else asyncio).run(main())
"""


def last_words(log_format: str, loop: str, ends: str = "returns") -> list[str]:
    argv = [sys.executable, "-c", LAST_WORDS, log_format, loop, ends]
    ran = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert ran.returncode == (3 if ends == "fails" else 0)
    return ran.stderr.splitlines()


@contextlib.contextmanager
def recorded() -> Iterator[socket.socket]:
    """What is written to standard error: each write is one message."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    here.setblocking(False)
    with here, there, there.makefile("w") as stderr, contextlib.redirect_stderr(stderr):
        yield here


def waiting(writes: socket.socket) -> list[list[dict[str, Any]]]:
    """The lines of each write."""
    found: list[list[dict[str, Any]]] = []
    while True:
        try:
            data = writes.recv(1_000_000)
        except BlockingIOError:
            return found
        assert data.endswith(b"\n")
        found.append([json.loads(line) for line in data.splitlines()])


async def test_the_lines_of_one_turn_leave_in_one_write_and_in_their_order() -> None:
    with recorded() as writes:
        access = AccessLog("json", process="worker-0")
        for turn in range(3):
            for number in range(5):
                access({"request_id": f"{turn}-{number}"})
            assert waiting(writes) == []
            await asyncio.sleep(0)
            (lines,) = waiting(writes)
            assert [line["request_id"] for line in lines] == [f"{turn}-{number}" for number in range(5)]
        await asyncio.sleep(0)
        assert waiting(writes) == []


async def test_a_line_tells_what_any_line_of_ours_does() -> None:
    with recorded() as writes:
        AccessLog(process="worker-0")({"path": Path("/x"), "text": 'ä\n"', "seconds": 0.5, "none": None})
        await asyncio.sleep(0)
        ((line,),) = waiting(writes)
    assert {**line, "timestamp": line["timestamp"][-1]} == {
        "event": "request",
        "level": "info",
        "process": "worker-0",
        "timestamp": "Z",
        "path": "/x",
        "text": 'ä\n"',
        "seconds": 0.5,
        "none": None,
    }


@pytest.mark.parametrize("gone", ["full", "closed"])
async def test_lines_that_nobody_can_take_cost_nothing(gone: str) -> None:
    with Path("/dev/full").open("w") as full:
        with contextlib.redirect_stderr(full):
            access = AccessLog("json", process="worker-0")
        if gone == "full":
            access({"request_id": "1"})
            await asyncio.sleep(0)
            assert access._held == []
    access({"request_id": "2"})
    await asyncio.sleep(0)
    assert access._held == []


@pytest.mark.parametrize("ends", ["returns", "fails"])
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_last_lines_are_written_when_the_loop_ends(loop: str, ends: str) -> None:
    lines = [json.loads(line) for line in last_words("json", loop, ends)]
    assert [line["request_id"] for line in lines] == ["1", "2"]


def test_columns_when_asked_for() -> None:
    first, second = last_words("console", "asyncio")
    assert "request_id=1" in first
    assert "status=200" in first
    assert "process=worker-0" in first
    assert "request_id=2" in second
