"""A child's side of its life: settings and lifeline come on standard input, its readiness goes to `--notify FD`.

The supervisor writes one line of JSON and keeps the pipe open. When the pipe closes, the parent is gone, whatever
killed it, and the child ends at once. PDEATHSIG is the second line of defence.

Rule: standard input is read by its descriptor. A thread that waits inside Python's buffered reader would abort the
interpreter when it ends ("could not acquire lock for <_io.BufferedReader name='<stdin>'>").
"""

import asyncio
import contextlib
import ctypes
import itertools
import os
import signal
import sys
import threading
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

_PR_SET_PDEATHSIG = 1
_STDIN = 0


class Lifeline:
    """What ties this process to its supervisor. Made first thing in a child's `main`."""

    def __init__(self, notify_fd: int | None) -> None:
        self._notify_fd = notify_fd
        if notify_fd is not None:
            with contextlib.suppress(OSError):
                os.set_inheritable(notify_fd, False)  # noqa: FBT003 - the name says what is false
        with contextlib.suppress(OSError, AttributeError):  # Linux only
            ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    @classmethod
    def from_argv(cls) -> "Lifeline":
        """Of this process's command line: `… --notify FD`."""
        with contextlib.suppress(ValueError, IndexError):
            return cls(int(sys.argv[sys.argv.index("--notify") + 1]))
        return cls(None)

    def settings(self, kind: type[T]) -> T:
        """The line that the supervisor wrote. Blocks until it is there; ends the process if the pipe closes first."""
        line = bytearray()
        while not line.endswith(b"\n"):
            if not (piece := os.read(_STDIN, 65536)):
                os._exit(0)
            line += piece
        return msgspec.json.decode(line, type=kind)

    def watch(self, ended: Callable[[], None] | None = None) -> None:
        """End this process as soon as the pipe closes (or call `ended`, from a thread, instead)."""

        def wait() -> None:
            with contextlib.suppress(OSError):
                while os.read(_STDIN, 4096):
                    pass
            if ended is None:
                os._exit(0)
            ended()

        threading.Thread(target=wait, name="lifeline", daemon=True).start()

    def ready(self, **details: Any) -> None:
        """Tell the supervisor that this child serves now."""
        self._notify({"event": "ready", **details})

    def failed(self, message: str) -> None:
        """Tell the supervisor why this child can't work: it is not started again until somebody asks for it."""
        self._notify({"event": "failed", "message": message})

    def _notify(self, message: dict[str, Any]) -> None:
        if self._notify_fd is not None:
            with contextlib.suppress(OSError):
                os.write(self._notify_fd, msgspec.json.encode(message) + b"\n")


def listening_fds() -> list[int]:
    """The descriptors of the inherited listening sockets, by `--listen FD` on the command line, once for each."""
    return [int(value) for option, value in itertools.pairwise(sys.argv) if option == "--listen"]


def run_until_stopped(
    main: Callable[[asyncio.Event], Any], *, loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
) -> None:
    """Run `main(stop)` on a loop; `stop` is set by SIGTERM and SIGINT."""

    async def body() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await main(stop)

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(body())
