"""The extractor process: reads one file after the other, each under a limit of time; its memory is limited as a whole.

Run as `python -m narthex.retrieval.extract.child --notify FD` with `ExtractorSettings` on standard input. It
ends by itself when nobody has asked for a while, or when a file has left it large: what parsers took is given back no
other way.
"""

import asyncio
import contextlib
import functools
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import structlog

from narthex.core.errors import InvalidRequest, UnsupportedMediaType
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Operation, Peer, Server
from narthex.retrieval.chunking.cut import cut
from narthex.retrieval.extract.extracted import PARAM, Bounds
from narthex.retrieval.extract.protocol import (
    NAME,
    SCRATCH,
    Cut,
    Extract,
    Extraction,
    ExtractorSettings,
    job_file,
    packed,
)
from narthex.retrieval.extract.read import read
from narthex.sandbox.limits import run_job

log = structlog.get_logger(__name__)

GRACE_S = 3.0
"""What a file may take beyond its limit before the process gives up on itself."""
_NOTED_EVERY_S = 0.2
LEFT_BEHIND_S = 3600.0
"""Nobody waits for so long."""
LARGE_BYTES = 384 * 1024 * 1024
"""Of resident memory after a file."""


class Jobs:
    """Does them, one at a time, and notes where it is."""

    def __init__(self, settings: ExtractorSettings, stop: asyncio.Event) -> None:
        """`stop`: is set when the process had better end."""
        self._settings = settings
        self._stop = stop
        self._note = os.open(job_file(Path(settings.socket)), os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._noted_s = 0.0
        self._say("none", 0, 0)
        self._sweep()
        self.asked_s = time.monotonic()

    def operations(self) -> dict[str, Operation]:
        """What others ask for."""

        async def on_extract(_: Peer, payload: msgspec.Raw) -> Any:
            ask = msgspec.msgpack.decode(payload, type=Extract)
            self._do(ask, lambda: self._extracted(ask))

        async def on_cut(_: Peer, payload: msgspec.Raw) -> Any:
            ask = msgspec.msgpack.decode(payload, type=Cut)
            self._do(ask, lambda: _cut(ask))

        return {"extract": on_extract, "cut": on_cut}

    def _do(self, ask: Extract | Cut, job: Callable[[], Extraction]) -> None:
        """Do it and write the answer where it is wanted; if nobody waits any more, the file is gone."""
        self._say(ask.job, 0, 0)
        try:
            self._write(ask, job)
        finally:
            self.asked_s = time.monotonic()
            if _resident_bytes() > LARGE_BYTES:
                self._stop.set()

    def _sweep(self) -> None:
        """Remove what those left behind who were killed while they asked."""
        now_s = os.fstat(self._note).st_mtime  # it has just been written
        for path in Path(self._settings.socket).parent.glob(f"{SCRATCH}*"):
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < now_s - LEFT_BEHIND_S:
                    path.unlink()

    def _write(self, ask: Extract | Cut, job: Callable[[], Extraction]) -> None:
        try:
            into = os.open(ask.into, os.O_WRONLY | os.O_NOFOLLOW)
        except OSError:
            raise InvalidRequest("Nobody waits for this file any more.", param=PARAM) from None
        with os.fdopen(into, "wb") as file:
            limit_s = self._settings.time_limit_s
            file.write(run_job(lambda: _done(job), limit_s=limit_s, grace_s=GRACE_S, what="file", param=PARAM))

    def _extracted(self, ask: Extract) -> Extraction:
        bounds = Bounds(
            max_characters=self._settings.max_characters, progress=functools.partial(self._progress, ask.job)
        )
        try:
            it = read(Path(ask.path), name=ask.name, media_type=ask.media_type, bounds=bounds)
        except OSError as error:
            raise InvalidRequest(f"The file can't be read: {error.strerror}.", param=PARAM) from None
        return Extraction(
            text=it.text,
            chunks=tuple(cut(it.text, ask.chunking, kind=it.kind, headings=it.headings, pages=it.pages)),
            media_type=it.media_type,
            title=it.title,
            warnings=it.warnings,
        )

    def _progress(self, job: str, done: int, total: int) -> None:
        now_s = time.monotonic()
        if now_s - self._noted_s >= _NOTED_EVERY_S:
            self._noted_s = now_s
            self._say(job, done, total)

    def _say(self, job: str, done: int, total: int) -> None:
        """In one write of one length, so that nobody reads half of it."""
        os.pwrite(self._note, f"{job} {done:>9} {total:>9}\n".encode(), 0)


def _resident_bytes() -> int:
    """0 where the system does not tell in this way."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    except OSError:
        return 0


def _cut(ask: Cut) -> Extraction:
    text = Path(ask.path).read_bytes().decode("utf-8", "surrogatepass")
    chunks = tuple(cut(text, ask.chunking, kind=ask.kind))
    return Extraction(text="", chunks=chunks, media_type="text/plain")


def _done(job: Callable[[], Extraction]) -> bytes:
    """The answer. What a parser says of a file may quote it, so nobody hears more than the error's name."""
    try:
        return msgspec.msgpack.encode(packed(job()))
    except (InvalidRequest, UnsupportedMediaType, MemoryError, RecursionError):
        raise
    except Exception as error:  # noqa: BLE001 - the edge to parsers, which raise anything
        log.warning("a file could not be read", error=type(error).__name__)
        message = f"The file is damaged, or too large for its parser ({type(error).__name__})."
        raise InvalidRequest(message, param=PARAM) from None


def run() -> None:
    """Run as a child of the supervisor until told to stop, or until nothing was asked for a while."""
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(ExtractorSettings)
    logs.configure(settings.log_format, process=NAME)
    limit = settings.memory_limit_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core file would hold what was read
    lifeline.watch()

    async def serve(stop: asyncio.Event) -> None:
        jobs = Jobs(settings, stop)
        server = Server(Path(settings.socket), jobs.operations())
        await server.start()
        lifeline.ready()
        while not stop.is_set() and (left_s := jobs.asked_s + settings.idle_s - time.monotonic()) > 0:
            try:
                await asyncio.wait_for(stop.wait(), left_s)
            except TimeoutError:
                continue
        await server.aclose()

    run_until_stopped(serve)


if __name__ == "__main__":
    run()
