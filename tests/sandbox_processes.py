"""A sandbox as a real process, without a supervisor."""

import asyncio
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from narthex.sandbox.protocol import SandboxSettings


class Sandboxes:
    """Stands in for the supervisor: `ensure` starts one sandbox, a child of the given name, when it doesn't run."""

    def __init__(self, folder: Path, *, child: str, module: str, **limits: Any) -> None:
        self.socket = folder / f"{child}.sock"
        self._child, self._module = child, module
        self._starting = asyncio.Lock()
        self.processes: list[subprocess.Popen[bytes]] = []
        self._settings = SandboxSettings(socket=str(self.socket), **limits)
        self._log = folder / "log"

    @property
    def running(self) -> "subprocess.Popen[bytes] | None":
        return self.processes[-1] if self.processes and self.processes[-1].poll() is None else None

    async def ensure(self, child: str) -> None:
        assert child == self._child
        async with self._starting:
            if self.running is None:
                await asyncio.to_thread(self._start)

    def _start(self) -> None:
        reading, writing = os.pipe()
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", self._module, "--notify", str(writing)],
                stdin=subprocess.PIPE,
                stderr=log,
                pass_fds=(writing,),
            )
        self.processes.append(process)
        os.close(writing)
        assert process.stdin is not None
        process.stdin.write(msgspec.json.encode(self._settings) + b"\n")
        process.stdin.flush()
        with os.fdopen(reading, "rb") as notices:
            assert json.loads(notices.readline())["event"] == "ready"

    def until_busy(self) -> None:
        """Wait until the process has computed for a while."""
        before, deadline = self._ticks(), time.monotonic() + 60
        while self._ticks() < before + 10:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def _ticks(self) -> int:
        """Its processor time, in hundredths of a second."""
        return int(Path(f"/proc/{self.processes[-1].pid}/stat").read_text().rpartition(")")[2].split()[11])

    def ended(self) -> int:
        return self.processes[-1].wait(60)

    def aclose(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()  # a child ends when its parent is gone
            process.wait(60)
