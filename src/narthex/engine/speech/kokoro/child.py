"""Kokoro's process: `python -m narthex.engine.speech.kokoro.child --notify FD`, its settings on standard input.

Serves the operations of `narthex.engine.speech.kokoro.calls` on one unix socket, one run at a time; keys take turns. An
abort in the runtime ends the process and nothing else: the supervisor starts it again.
"""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import msgspec
import onnxruntime
import structlog

from narthex.core.errors import EngineCrashed, EngineUnavailable, ModelLoadFailed
from narthex.engine.resident import Resident
from narthex.engine.speech.kokoro.calls import KokoroSettings, SpeakCall
from narthex.engine.speech.kokoro.model import Model
from narthex.engine.speech.turns import Turns
from narthex.ipc import logs
from narthex.ipc.child import Lifeline, run_until_stopped
from narthex.ipc.server import Peer

log = structlog.get_logger(__name__)

_MOST = 10_000
"""Runs that may wait: workers bound how many texts there are."""


class Service:
    """The operations over one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._turns = Turns(at_once=1, max_waiting=_MOST, max_waiting_per_key=_MOST)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="speaking")
        self._calls = 0
        self.resident = Resident("kokoro", busy=lambda: bool(self._calls))

    async def speak(self, _peer: Peer, payload: msgspec.Raw) -> bytes:
        """One run."""
        if self.resident.ended.is_set():
            raise EngineUnavailable("The speech model is being unloaded.", retry_after_s=1)
        call = msgspec.msgpack.decode(payload, type=SpeakCall)
        self._calls += 1
        try:
            async with self._turns.turn(call.key):
                return await self._spoken(call)
        finally:
            self._calls -= 1
            self.resident.worked()

    def close(self) -> None:
        """Stop everything."""
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _spoken(self, call: SpeakCall) -> bytes:
        options = onnxruntime.RunOptions()
        speak = partial(self._model.speak, call.phonemes, voice=call.voice, speed=call.speed, options=options)
        running = asyncio.get_running_loop().run_in_executor(self._thread, speak)
        try:
            return await asyncio.shield(running)
        except asyncio.CancelledError:
            options.terminate = True
            await asyncio.wait({running})  # the turn lasts until it has stopped
            running.exception()
            raise
        except Exception as error:  # whatever the runtime raises, it costs this call only
            log.exception("a text could not be spoken", model="kokoro")
            raise EngineCrashed("The speech model failed on this text.") from error


async def serve(service: Service, settings: KokoroSettings, *, lifeline: Lifeline, stop: asyncio.Event) -> None:
    """Listen until the process is to end."""
    await service.resident.serve(
        {"speak": service.speak},
        socket=Path(settings.socket),
        idle_unload_s=settings.idle_unload_s,
        lifeline=lifeline,
        stop=stop,
    )
    service.close()


def main() -> int:
    """The process's life."""
    os.umask(0o077)
    lifeline = Lifeline.from_argv()
    settings = lifeline.settings(KokoroSettings)
    lifeline.watch()
    logs.configure(settings.log_format, process="speech/kokoro")
    try:
        model = Model(Path(settings.model), Path(settings.voices), named=settings.named, threads=settings.threads)
    except ModelLoadFailed as error:
        log.exception("the speech model can't be loaded")
        lifeline.failed(error.message)
        return 1
    service = Service(model)
    run_until_stopped(lambda stop: serve(service, settings, lifeline=lifeline, stop=stop))
    return 0


if __name__ == "__main__":
    sys.exit(main())
