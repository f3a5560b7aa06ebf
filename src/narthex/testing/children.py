"""Children with one habit each, to try a supervisor on: `python -m narthex.testing.children --notify FD`."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import msgspec

from narthex.core.errors import ConfigError
from narthex.ipc.child import Lifeline, listening_fds, run_until_stopped
from narthex.ipc.server import Operation, Server


class Habit(msgspec.Struct, frozen=True, kw_only=True):
    """What a child does. All times count from its start.

    `ready_after_s` None: never. `crashes`: so many first starts end in a crash. `crash_after_s`, `idle_after_s`: it
    ends with 3, or 0, by itself. `stopping_s`: how long it takes to end once told to. `stopping_until`: a file for
    which it waits then. `trace`: a file to which it appends "name event" lines: start, ready, term, end,
    prepare, commit, abandon, settled. `refuses`: which of the last four it fails at; `die`: it ends under `prepare`.
    """

    name: str = "child"
    ready_after_s: float | None = 0.0
    failed: str | None = None
    crashes: int = 0
    crash_after_s: float | None = None
    idle_after_s: float | None = None
    ignore_sigterm: bool = False
    stopping_s: float = 0.0
    stopping_until: str | None = None
    control: str | None = None
    busy: bool = False
    refuses: str | None = None
    trace: str | None = None

    def note(self, event: str) -> None:
        """Append a line to the trace."""
        if self.trace is not None:
            fd = os.open(self.trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            os.write(fd, f"{self.name} {event}\n".encode())
            os.close(fd)

    def starts(self) -> int:
        """How often a child of this name has started, by the trace."""
        if self.trace is None:
            return 0
        return Path(self.trace).read_text().splitlines().count(f"{self.name} start")


async def _live(habit: Habit, lifeline: Lifeline, stop: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    if habit.ignore_sigterm:
        loop.add_signal_handler(signal.SIGTERM, habit.note, "term")

    for fd in listening_fds():
        loop.add_reader(fd, _answer, socket.socket(fileno=fd))

    def ready() -> None:
        habit.note("ready")
        lifeline.ready()

    for delay_s, action in (
        (habit.ready_after_s, ready),
        (habit.crash_after_s, lambda: os._exit(3)),
        (habit.idle_after_s, stop.set),
    ):
        if delay_s is not None:
            loop.call_later(delay_s, action)
    async with _control(habit, stop):
        await stop.wait()
        habit.note("term")
        await asyncio.sleep(habit.stopping_s)
        await _appeared(habit.stopping_until)
    habit.note("end")


async def _appeared(path: str | None) -> None:
    while path is not None and not Path(path).exists():  # noqa: ASYNC110, ASYNC240 - another process makes the file
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def _control(habit: Habit, stop: asyncio.Event) -> AsyncIterator[None]:
    """Answer on the control socket, if there is to be one."""
    if habit.control is None:
        yield
        return

    async def retire(_peer: Any, _payload: msgspec.Raw) -> dict[str, bool]:
        if not habit.busy:
            asyncio.get_running_loop().call_later(0.05, stop.set)
        return {"retired": not habit.busy}

    def follows(event: str) -> Operation:
        async def answer(_peer: Any, _payload: msgspec.Raw) -> dict[str, str]:
            habit.note(event)
            if habit.refuses == "die":
                os._exit(3)
            if habit.refuses == event:
                raise ConfigError(f"{habit.name} refuses to {event}.")
            return {}

        return answer

    steps = {event: follows(event) for event in ("prepare", "commit", "abandon", "settled")}
    server = Server(Path(habit.control), {"retire": retire, **steps})
    await server.start()
    yield
    await server.aclose()


def _answer(listening: socket.socket) -> None:
    """Tell whoever connects which process answers."""
    listening.setblocking(False)  # noqa: FBT003 - the standard library's own parameter
    try:
        connection, _ = listening.accept()
    except BlockingIOError:  # a sibling was faster
        return
    with connection:
        connection.sendall(f"{os.getpid()}\n".encode())


def main() -> int:
    """Live by the habit that comes on standard input."""
    lifeline = Lifeline.from_argv()
    habit = lifeline.settings(Habit)
    lifeline.watch()
    habit.note("start")
    if habit.failed is not None:
        lifeline.failed(habit.failed)
        return 1
    if habit.crashes and habit.starts() <= habit.crashes:
        return 3
    run_until_stopped(lambda stop: _live(habit, lifeline, stop))
    return 0


if __name__ == "__main__":
    sys.exit(main())
