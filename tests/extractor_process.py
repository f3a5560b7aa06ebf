"""The extractor as a real process, without a supervisor."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from narthex.retrieval.extract.protocol import NAME, ExtractorSettings


class ExtractorProcess:
    """Stands in for the supervisor: `ensure` starts the extractor when it doesn't run. Close it with `aclose`."""

    def __init__(self, folder: Path, **limits: Any) -> None:
        self.socket = folder / f"{NAME}.sock"
        self.log = folder / "log"
        self.processes: list[subprocess.Popen[bytes]] = []
        self._settings = ExtractorSettings(socket=str(self.socket), **limits)
        self._starting = asyncio.Lock()

    @property
    def running(self) -> "subprocess.Popen[bytes] | None":
        return self.processes[-1] if self.processes and self.processes[-1].poll() is None else None

    async def ensure(self, child: str) -> None:
        assert child == NAME
        async with self._starting:
            if self.running is None:
                await asyncio.to_thread(self._start)

    def _start(self) -> None:
        reading, writing = os.pipe()
        with self.log.open("ab") as log:
            process = subprocess.Popen(
                [sys.executable, "-P", "-m", "narthex.retrieval.extract.child", "--notify", str(writing)],
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

    def resident_bytes(self) -> int:
        pages = Path(f"/proc/{self.processes[-1].pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def ended(self) -> int:
        return self.processes[-1].wait(60)

    def aclose(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.close()  # a child ends when its parent is gone
            process.wait(60)
