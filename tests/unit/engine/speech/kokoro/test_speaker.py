"""Kokoro as what speaks: sentence by sentence, over its process's socket, by phonemes that a program tells."""

# ruff: noqa: RUF001 - phonemes look like letters
import asyncio
import stat
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from narthex.core.errors import EngineCrashed, EngineUnavailable
from narthex.core.speech import RATE
from narthex.engine.speech.espeak import AUTO, SpeechEngine, program_of
from narthex.engine.speech.kokoro.calls import Kokoro, SpeakCall
from narthex.engine.speech.kokoro.child import Service
from narthex.engine.speech.kokoro.speaker import KokoroSpeaker
from narthex.ipc.server import Server

pytestmark = pytest.mark.anyio

TELLS = """#!{python}
import sys
assert sys.argv[1:] == ["-v", "en-us", "-q", "--ipa", "-b", "1", "--stdin"]
for clause in sys.stdin.read().lower().replace("!", ",").split(","):
    print(" " + clause.strip(" .?;\\n").replace(";", ""))
"""


class Model:
    """Says how many phonemes there were; `holds`: until then, and `stopped` where it was to stop meanwhile."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.keys: list[str] = []
        self.holds = threading.Event()
        self.holds.set()
        self.stopped = False

    def speak(self, phonemes: str, *, voice: str, speed: float, options: Any) -> bytes:
        if phonemes.startswith("broken"):
            raise RuntimeError("as a runtime fails")
        self.said.append(phonemes)
        while not self.holds.wait(0.01):
            if options.terminate:
                self.stopped = True
                raise RuntimeError("as the runtime says")
        return np.full(500 * len(phonemes), int(speed * 100), "<i2").tobytes()


@asynccontextmanager
async def served(folder: Path, model: Any) -> AsyncIterator[tuple[Kokoro, Service]]:
    service = Service(model)
    server = Server(folder / "k.sock", {"speak": service.speak})
    await server.start()
    kokoro = Kokoro(folder / "k.sock")
    try:
        yield kokoro, service
    finally:
        await kokoro.aclose()
        await server.aclose()
        service.close()


def speaker(folder: Path, kokoro: Kokoro, *, ensure: Any = None) -> KokoroSpeaker:
    program = folder / "espeak-ng"
    program.write_text(TELLS.format(python=sys.executable))
    program.chmod(stat.S_IRWXU)
    return KokoroSpeaker(SpeechEngine(program=(str(program),)), kokoro, child="speech/kokoro", ensure=ensure)


async def all_of(speaking: KokoroSpeaker, text: str, **options: Any) -> bytes:
    pieces = speaking.spoken(text, voice="alloy", key="k", **options)
    return b"".join([piece async for piece in pieces])


def call(phonemes: str, key: str = "k") -> SpeakCall:
    return SpeakCall(phonemes=phonemes, voice="alloy", speed=1.0, key=key)


async def asked(kokoro: Kokoro, model: Model) -> asyncio.Future[bytes]:
    """A run that the model is at."""
    asking = asyncio.ensure_future(kokoro.speak(call("first", "x")))
    while not model.said:
        await asyncio.sleep(0.01)
    return asking


async def test_a_text_is_spoken_sentence_by_sentence(tmp_path: Path) -> None:
    model = Model()
    async with served(tmp_path, model) as (kokoro, _):
        sound = await all_of(speaker(tmp_path, kokoro), "Well, then. -v DE <x> [[k]]\nYes!", speed=2.0)
    assert model.said == ["well, then.", "v de x k", "yes!"]
    assert set(np.frombuffer(sound, "<i2")) == {200}
    assert len(sound) == 1000 * sum(map(len, model.said))


async def test_marks_are_left_out_where_it_is_not_clear_whose_they_are(tmp_path: Path) -> None:
    """The program of this test knows no question mark."""
    model = Model()
    async with served(tmp_path, model) as (kokoro, _):
        await all_of(speaker(tmp_path, kokoro), "One? two, three!")
        assert model.said == ["one?", "two, three!"]
        model.said.clear()
        await all_of(speaker(tmp_path, kokoro), "One; two, three!")
    assert model.said == ["one two three!"]


async def test_a_text_without_words_is_a_moment_of_silence(tmp_path: Path) -> None:
    async with served(tmp_path, Model()) as (kokoro, _):
        assert await all_of(speaker(tmp_path, kokoro), "… !") == bytes(RATE // 10 * 2)


async def test_a_run_that_fails_costs_one_text(tmp_path: Path) -> None:
    model = Model()
    async with served(tmp_path, model) as (kokoro, _):
        speaking = speaker(tmp_path, kokoro)
        with pytest.raises(EngineCrashed, match="failed on this text"):
            await all_of(speaking, "Broken.")
        assert await all_of(speaking, "Right.")


async def test_its_process_is_started_when_it_is_not_there(tmp_path: Path) -> None:
    started: list[str] = []
    async with served(tmp_path, Model()) as (kokoro, service):
        assert await service.resident.retire(None, None) == {"retired": True}  # type: ignore[arg-type]

        async def ensure(child: str) -> None:
            started.append(child)
            service.resident.ended.clear()

        assert await all_of(speaker(tmp_path, kokoro, ensure=ensure), "Here.")
        assert started == ["speech/kokoro"]


async def test_a_process_that_is_taken_for_ready_while_it_ends_is_asked_for_again(tmp_path: Path) -> None:
    """The supervisor hears of its end later than we do: an answer that was written would be lost by that."""
    started: list[str] = []
    async with served(tmp_path, Model()) as (kokoro, service):
        assert await service.resident.retire(None, None) == {"retired": True}  # type: ignore[arg-type]

        async def ensure(child: str) -> None:
            started.append(child)
            if len(started) > 2:
                service.resident.ended.clear()

        assert await all_of(speaker(tmp_path, kokoro, ensure=ensure), "Here.")
        assert len(started) == 3


async def test_who_leaves_stops_the_run_and_gives_back_the_turn(tmp_path: Path) -> None:
    model = Model()
    model.holds.clear()
    async with served(tmp_path, model) as (kokoro, service):
        asking = await asked(kokoro, model)
        assert await service.resident.retire(None, None) == {"retired": False}  # type: ignore[arg-type]
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        while not model.stopped:
            await asyncio.sleep(0.01)
        model.holds.set()
        assert await kokoro.speak(call("b"))


async def test_keys_take_turns(tmp_path: Path) -> None:
    model = Model()
    model.holds.clear()
    async with served(tmp_path, model) as (kokoro, service):
        first = await asked(kokoro, model)
        others = [asyncio.ensure_future(kokoro.speak(call(name, name[0]))) for name in ("a1", "a2", "a3", "b1")]
        while len(service._turns) < len(others):
            await asyncio.sleep(0.01)
        model.holds.set()
        await asyncio.gather(first, *others)
    assert model.said == ["first", "a1", "b1", "a2", "a3"]


async def test_it_ends_when_nobody_wants_anything(tmp_path: Path) -> None:
    model = Model()
    model.holds.clear()
    async with served(tmp_path, model) as (kokoro, service):
        asking = await asked(kokoro, model)
        unloading = asyncio.ensure_future(service.resident.unload_when_idle(0.01))
        await asyncio.sleep(0.1)
        assert not unloading.done()
        model.holds.set()
        await asking
        await unloading
        with pytest.raises(EngineUnavailable, match="being unloaded"):
            await kokoro.speak(call("a"))


@pytest.mark.skipif(not program_of(AUTO), reason="no espeak-ng is installed")
async def test_the_real_program_tells_phonemes(tmp_path: Path) -> None:
    model = Model()
    async with served(tmp_path, model) as (kokoro, _):
        engine = SpeechEngine(program=program_of(AUTO))
        speaking = KokoroSpeaker(engine, kokoro, child="speech/kokoro", ensure=None)  # type: ignore[arg-type]
        assert await all_of(speaking, "Good morning, world! 12")
    assert len(model.said) == 2
    assert model.said[0].startswith("\u0261ˈʊd m")
    assert model.said[0].endswith("d!")
    assert "," in model.said[0]
