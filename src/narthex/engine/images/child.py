"""The image model's process: `python -m narthex.engine.images.child --notify FD`, its settings on standard input.

Serves the operations of `narthex.engine.images.draw` on one unix socket. An abort in the runtime ends the process and
nothing else: the supervisor starts it again.
"""

import asyncio
import importlib.util
import os
import secrets
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import structlog

from narthex.core.errors import EngineUnavailable, ModelLoadFailed, NotFound
from narthex.engine.images import samplers
from narthex.engine.images.draw import Accepted, DrawCall, Drawn, ImagesSettings, State
from narthex.engine.images.jobs import Job, Turns
from narthex.engine.images.pipeline import Picture, Pipeline, Pixels, Stopped
from narthex.engine.resident import Resident
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Peer

log = structlog.get_logger(__name__)

MOST_STEPS = 50
_SHARES = {"low": 0.5, "high": 2.0, "hd": 2.0}
"""Of the usual steps, by quality."""


class Service:
    """The operations over one model."""

    def __init__(self, pipeline: Pipeline, settings: ImagesSettings) -> None:
        self._pipeline = pipeline
        self._settings = settings
        self._turns = Turns(most=settings.max_waiting, most_per_key=settings.max_waiting_per_key)
        self._jobs: dict[Peer, dict[int, Job]] = {}
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="drawing")
        self._running = 0
        self._steps = 0
        self.resident = Resident(settings.name, busy=lambda: bool(self._running or len(self._turns)))

    async def draw(self, peer: Peer, payload: msgspec.Raw) -> Accepted:
        """Take a call, without giving way to any other: `drop` must find it."""
        if self.resident.ended.is_set():
            raise EngineUnavailable("The image model is being unloaded.", retry_after_s=1)
        call = msgspec.msgpack.decode(payload, type=DrawCall)
        width, height = self._pipeline.sized(call.size)
        tokens = self._pipeline.tokens(call.prompt, call.negative)
        job = Job(call, self._pictures(call, width=width, height=height))
        self._turns.add(job)
        self._of(peer)[call.job] = job
        return Accepted(size=f"{width}x{height}", tokens=tokens)

    async def next(self, peer: Peer, payload: msgspec.Raw) -> Drawn:
        """What comes next of a job."""
        job = self._of(peer).get(msgspec.msgpack.decode(payload, type=int))
        if job is None:
            raise NotFound("There is no such job.")
        return await job.next()

    async def drop(self, peer: Peer, payload: msgspec.Raw) -> None:
        """Stop a job; does nothing for one that has ended."""
        if (job := self._of(peer).pop(msgspec.msgpack.decode(payload, type=int), None)) is not None:
            self._drop(job)

    async def state(self, _peer: Peer, _payload: msgspec.Raw) -> State:
        """What it is at."""
        return State(waiting=len(self._turns), running=self._running, steps=self._steps)

    async def work(self) -> None:
        """Make what waits, until cancelled."""
        while True:
            job, picture = await self._turns.take()
            self._running = 1
            began_s = time.monotonic()
            try:
                await self._make(job, picture)
            finally:
                self._running = 0
                self.resident.worked()
            if not job.brake.pulled:
                self._turns.took(time.monotonic() - began_s)

    def close(self) -> None:
        """Stop everything."""
        for jobs in self._jobs.values():
            for job in jobs.values():
                self._drop(job)
        self._thread.shutdown(wait=False, cancel_futures=True)

    # --- one image ---------------------------------------------------------------------------------------------------

    async def _make(self, job: Job, picture: Picture) -> None:
        loop = asyncio.get_running_loop()

        def partial(index: int, pixels: Pixels) -> None:
            drawn = Drawn(data=self._file(job.call, pixels), partial=index)
            loop.call_soon_threadsafe(job.give, drawn)

        def make() -> Drawn:
            pixels = self._pipeline.draw(picture, job.brake, partial, self._stepped)
            return Drawn(data=self._file(job.call, pixels))

        try:
            job.give(await loop.run_in_executor(self._thread, make))
        except Stopped:
            log.info("an image was given up", model=self._settings.name)
        except Exception:  # whatever the runtime raises, it costs this call only
            log.exception("an image could not be made", model=self._settings.name)
            self._drop(job)
            job.give(EngineUnavailable("The image model failed on this request.", retry_after_s=1))

    def _file(self, call: DrawCall, pixels: Pixels) -> bytes:
        from narthex.engine.images.encoding import encoded  # noqa: PLC0415 - it needs the extra, which `main` looks for

        return encoded(pixels, call.output, quality=call.compression)

    def _stepped(self) -> None:
        self._steps += 1

    def _pictures(self, call: DrawCall, *, width: int, height: int) -> list[Picture]:
        usual = round(self._settings.steps * _SHARES.get(call.quality, 1.0))
        seed = secrets.randbits(63) if call.seed is None else call.seed
        return [
            Picture(
                prompt=call.prompt,
                negative=call.negative,
                width=width,
                height=height,
                steps=call.steps or min(MOST_STEPS, max(1, usual)),
                sampler=call.sampler or samplers.DEFAULT,
                seed=(seed + number) % 2**64,  # equal seeds would make equal images
                guidance=self._settings.guidance,
                partials=call.partials,
            )
            for number in range(call.n)
        ]

    # --- jobs --------------------------------------------------------------------------------------------------------

    def _of(self, peer: Peer) -> dict[int, Job]:
        if peer not in self._jobs:
            self._jobs[peer] = {}
            peer.on_close.append(lambda: self._left(peer))
        return self._jobs[peer]

    def _left(self, peer: Peer) -> None:
        for job in self._jobs.pop(peer, {}).values():
            self._drop(job)

    def _drop(self, job: Job) -> None:
        job.brake.pull()
        self._turns.discard(job)


async def serve(service: Service, settings: ImagesSettings, *, lifeline: Lifeline, stop: asyncio.Event) -> None:
    """Listen until the process is to end."""
    await service.resident.serve(
        {name: getattr(service, name) for name in ("draw", "next", "drop", "state")},
        socket=Path(settings.socket),
        idle_unload_s=settings.idle_unload_s,
        lifeline=lifeline,
        stop=stop,
        beside=service.work(),
    )
    service.close()


def _loaded(settings: ImagesSettings) -> Pipeline:
    if importlib.util.find_spec("PIL") is None:
        raise ModelLoadFailed("Making images here needs the extra `narthex[images]`, which is not installed.")
    return Pipeline(Path(settings.folder), threads=settings.threads, room_bytes=settings.room_bytes)


def main() -> int:
    """The process's life."""
    os.umask(0o077)
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(ImagesSettings)
    lifeline.watch()
    logs.configure(settings.log_format, process=f"images/{settings.name}")
    try:
        pipeline = _loaded(settings)
    except ModelLoadFailed as error:
        lifeline.failed(error.message)
        return 1
    service = Service(pipeline, settings)
    run_until_stopped(lambda stop: serve(service, settings, lifeline=lifeline, stop=stop))
    return 0


if __name__ == "__main__":
    sys.exit(main())
