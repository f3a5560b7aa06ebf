"""The process that checks one model's predictions: `python -m narthex.engine.prediction.child --notify FD`.

It has the model a second time, whose weights the system shares between processes where llama.cpp uses them as they are
in the file. It serves one answer at a time: whoever finds it busy goes to the engine, as do all without a prediction.
"""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import structlog

from narthex.core.errors import EngineUnavailable, ModelLoadFailed
from narthex.engine import gguf
from narthex.engine.llama import SPIN_ROUNDS
from narthex.engine.prediction.answer import GivenUp, Wanted, answer, read
from narthex.engine.prediction.choosing import Drawn, Likeliest
from narthex.engine.prediction.draft import Draft
from narthex.engine.prediction.llama_c import Model, Sampler, Speller, Text
from narthex.engine.prediction.protocol import Begin, Burst, End, PredictionSettings
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Peer, Server
from narthex.ipc.tasks import TaskSet

log = structlog.get_logger(__name__)


class Run:
    """One answer under way."""

    def __init__(self, begin: Begin) -> None:
        self.begin = begin
        self.dropped = threading.Event()
        self._bursts: asyncio.Queue[Burst | EngineUnavailable] = asyncio.Queue()

    def give(self, burst: Burst | EngineUnavailable) -> None:
        """Only on the loop."""
        self._bursts.put_nowait(burst)

    async def next(self) -> Burst:
        """What comes next. Raises `EngineUnavailable` when nothing will."""
        burst = await self._bursts.get()
        if isinstance(burst, EngineUnavailable):
            raise burst
        return burst


class Generator:
    """Generates one answer after the other, in a thread of its own. `forget` frees all but the model."""

    def __init__(self, settings: PredictionSettings, model: Model) -> None:
        self._model = model
        self._share = settings.share_prefix_cache
        self._text = Text(model)
        self._account = ""

    def bursts(self, begin: Begin, wanted: Wanted) -> Iterator[Burst]:
        """The answer as it comes.

        Raises:
            GivenUp: it isn't wanted any more.
            MemoryError, RuntimeError: llama.cpp failed.
        """
        text, model, draft = self._text, self._model, Draft(begin.predicted)
        if begin.account != self._account and not self._share:
            text.close()
        self._account = begin.account
        cached = read(text, begin.prompt, batch=model.batch, wanted=wanted)
        sampler, speller = self._sampler(begin), Speller(model)
        choose = Likeliest(text) if sampler is None else Drawn(text, sampler)
        left = begin.max_new
        try:
            for tokens in answer(text, draft, choose, max_new=left, ends=model.ends, wanted=wanted):
                left -= len(tokens)
                end: End = "eos" if model.ends(tokens[-1]) else "" if left else "limit"
                yield Burst(
                    text=speller.text(tokens, last=bool(end)),
                    tokens=tokens,
                    end=end,
                    accepted=draft.accepted,
                    rejected=draft.rejected,
                    cached=cached,
                )
        finally:
            if sampler is not None:
                sampler.close()

    def forget(self) -> None:
        """Free what answers need."""
        self._text.close()

    def _sampler(self, begin: Begin) -> Sampler | None:
        if begin.temperature == 0:
            return None
        return Sampler(
            self._model.library,
            temperature=begin.temperature,
            min_p=begin.min_p,
            top_k=begin.top_k,
            top_p=begin.top_p,
            seed=begin.seed,
        )


class Service:
    """The operations, over one model."""

    def __init__(self, settings: PredictionSettings, model: Model) -> None:
        self._settings = settings
        self._generator = Generator(settings, model)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="prediction")
        self._tasks = TaskSet()
        self._runs: dict[Peer, dict[int, Run]] = {}
        """By who asked, and the number that they gave it, until they drop it or leave."""
        self._running: Run | None = None
        self._idle_since_s = time.monotonic()
        self.ended = asyncio.Event()

    async def begin(self, peer: Peer, payload: msgspec.Raw) -> None:
        """Begin to answer."""
        if self._running or self.ended.is_set():
            raise EngineUnavailable("Another prediction is being checked.", retry_after_s=1)
        begin = msgspec.msgpack.decode(payload, type=Begin)
        if peer not in self._runs:
            self._runs[peer] = {}
            peer.on_close.append(lambda: self._left(peer))
        run = self._running = self._runs[peer][begin.number] = Run(begin)
        self._tasks.start(self._answered(run))

    async def more(self, peer: Peer, payload: msgspec.Raw) -> Burst:
        """What comes next of an answer."""
        run = self._runs.get(peer, {}).get(msgspec.msgpack.decode(payload, type=int))
        if run is None:
            raise EngineUnavailable("There is no such answer any more.", retry_after_s=1)
        return await run.next()

    async def drop(self, peer: Peer, payload: msgspec.Raw) -> None:
        """Stop an answer; does nothing for one that has ended."""
        run = self._runs.get(peer, {}).pop(msgspec.msgpack.decode(payload, type=int), None)
        if run is not None:
            run.dropped.set()

    async def retire(self, _peer: Peer, _payload: msgspec.Raw) -> dict[str, bool]:
        """End, if there is nothing to do."""
        if not self._busy:
            self.ended.set()
        return {"retired": self.ended.is_set()}

    async def unload_when_idle(self) -> None:
        """Return when nobody has wanted anything for so long, and nobody will be served any more."""
        limit_s = self._settings.idle_unload_s
        while self._busy or time.monotonic() - self._idle_since_s < limit_s:  # noqa: ASYNC110 - it waits for a time to pass
            await asyncio.sleep(min(1.0, limit_s))
        self.ended.set()

    async def aclose(self) -> None:
        """Stop everything."""
        for peer in tuple(self._runs):
            self._left(peer)
        await self._tasks.aclose()
        self._thread.shutdown(wait=False, cancel_futures=True)

    @property
    def _busy(self) -> bool:
        """Whether an answer is under way, or one that is ready has not been taken whole by its caller."""
        return self._running is not None or any(self._runs.values())

    def _left(self, peer: Peer) -> None:
        for run in self._runs.pop(peer, {}).values():
            run.dropped.set()

    async def _answered(self, run: Run) -> None:
        loop = asyncio.get_running_loop()

        def generate() -> None:
            for burst in self._generator.bursts(run.begin, lambda: not run.dropped.is_set()):
                loop.call_soon_threadsafe(self._came, run, burst)

        try:
            await loop.run_in_executor(self._thread, generate)
        except GivenUp:
            pass
        except Exception as error:  # noqa: BLE001 - the edge: whoever waits for the answer has to learn of it
            log.warning("a prediction could not be checked", model=self._settings.name, error=repr(error))
            self._generator.forget()
            run.give(EngineUnavailable("The prediction could not be checked.", retry_after_s=1))
        finally:
            self._over(run)

    def _came(self, run: Run, burst: Burst) -> None:
        if burst.end:
            self._over(run)  # before its caller can ask for the next
        run.give(burst)

    def _over(self, run: Run) -> None:
        if self._running is run:
            self._running = None
            self._idle_since_s = time.monotonic()


async def _serve(settings: PredictionSettings, model: Model, lifeline: Lifeline, stop: asyncio.Event) -> None:
    service = Service(settings, model)
    operations = {"begin": service.begin, "more": service.more, "drop": service.drop, "retire": service.retire}
    server = Server(Path(settings.socket), operations)
    tasks = TaskSet()
    tasks.start(service.unload_when_idle())
    await server.start()
    lifeline.ready()
    tasks.start(_passed_on(stop, service.ended))
    await service.ended.wait()
    await server.aclose()
    await tasks.aclose()
    await service.aclose()


async def _passed_on(stop: asyncio.Event, ended: asyncio.Event) -> None:
    await stop.wait()
    ended.set()


def main() -> None:
    """Load, serve, end."""
    os.umask(0o077)
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(PredictionSettings)
    logs.configure(settings.log_format, process=f"prediction/{settings.name}")
    lifeline.watch()
    os.putenv("GOMP_SPINCOUNT", str(SPIN_ROUNDS))
    try:
        path = Path(settings.model_path)
        gguf.read(path)
        model = Model(path, gpu_layers=settings.gpu_layers, batch=settings.batch, threads=settings.threads)
    except ModelLoadFailed as error:
        log.error("predictions can't be checked", model=settings.name, reason=error.message)  # noqa: TRY400
        lifeline.failed(error.message)
        os._exit(1)
    run_until_stopped(lambda stop: _serve(settings, model, lifeline, stop))
    os._exit(0)  # a thread may be in the middle of a batch


if __name__ == "__main__":
    main()
