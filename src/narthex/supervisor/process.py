"""One started process: its pipes, its reports, its end. Never forks a running interpreter."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import structlog

from narthex.supervisor.plan import ChildSpec, json_line

log = structlog.get_logger(__name__)

_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a child says of itself on its notify pipe."""

    event: str
    message: str = ""


class Process:
    """A running child. `on_report` and `on_exit` are called on the loop, every report before the exit."""

    def __init__(
        self,
        spec: ChildSpec,
        *,
        listen_fds: Sequence[int],
        on_report: Callable[["Process", Report], None],
        on_exit: Callable[["Process", int], None],
    ) -> None:
        """Start it; call from the main thread, whose end the child's PDEATHSIG watches.

        Raises:
            OSError: it can't be started.
        """
        self._loop = asyncio.get_running_loop()
        self._on_report = on_report
        self._on_exit = on_exit
        self._unread = b""
        self.exited = asyncio.Event()
        self._notify, notify = os.pipe()
        os.set_blocking(self._notify, False)
        fds = tuple(listen_fds) if spec.listener else ()
        # -P: the folder in which the server was started may hold anything, modules named like ours included
        argv = [sys.executable, "-P", "-m", spec.module, "--notify", str(notify)]
        for fd in fds:
            argv += ["--listen", str(fd)]
        try:
            # a session of its own: Ctrl-C at the terminal reaches the supervisor alone
            self._popen = subprocess.Popen(  # noqa: S603 - our own interpreter and modules
                argv, stdin=subprocess.PIPE, pass_fds=(notify, *fds), start_new_session=True
            )
        except OSError:
            os.close(self._notify)
            raise
        finally:
            os.close(notify)
        self.pid = self._popen.pid
        self._loop.add_reader(self._notify, self._read)
        settings = json_line(spec.settings)
        threading.Thread(target=self._attend, args=(settings,), name=f"wait {spec.name}", daemon=True).start()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process itself; nothing happens when it has ended."""
        with contextlib.suppress(ProcessLookupError):
            self._popen.send_signal(number)

    def kill(self) -> None:
        """End the process and all that it started, at once."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)

    def memory_bytes(self) -> int:
        """Resident memory; 0 where the system doesn't tell."""
        try:
            return int(Path(f"/proc/{self.pid}/statm").read_bytes().split()[1]) * _PAGE_BYTES
        except (OSError, IndexError, ValueError):
            return 0

    def _attend(self, settings: bytes) -> None:
        """In a thread: hand over the settings, which may not fit into the pipe at once, then wait for the end."""
        pipe: Any = self._popen.stdin
        with contextlib.suppress(OSError):
            pipe.write(settings)
            pipe.flush()
        code = self._popen.wait()
        with contextlib.suppress(OSError):
            pipe.close()
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for us any more
            self._loop.call_soon_threadsafe(self._ended, code)

    def _ended(self, code: int) -> None:
        self._read()
        self._close_notify()
        self.kill()  # what the child itself had started
        self.exited.set()
        self._on_exit(self, code)

    def _close_notify(self) -> None:
        if self._notify >= 0:
            self._loop.remove_reader(self._notify)
            os.close(self._notify)
            self._notify = -1

    def _read(self) -> None:
        if self._notify < 0:
            return
        try:
            data = os.read(self._notify, 65536)
        except BlockingIOError:
            return
        if not data:
            self._close_notify()
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            try:
                report = msgspec.json.decode(line, type=Report)
            except msgspec.MsgspecError:
                log.warning("unreadable report", pid=self.pid)
            else:
                self._on_report(self, report)
