"""The speech engine as a deployment: what it refuses, what it does without its parts, and when it fails."""

import asyncio
import json
import os
import shutil
import stat
import sys
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace

from narthex.core.capabilities import State, Verdict, refusal
from narthex.core.errors import EngineCrashed, EngineUnavailable, QueueFull, UnsupportedParameter
from narthex.core.keys import Account, Grants, Key, Principal, Project
from narthex.core.ports import Call
from narthex.core.speech import RATE
from narthex.core.stream import SoundDelta, Usage, UsageReported
from narthex.dialects.openai_speech import SpeechDialect
from narthex.engine.speech import speaker as speaking
from narthex.engine.speech.deployment import SpeechDeployment, honoured
from narthex.engine.speech.encoder import FORMATS
from narthex.engine.speech.espeak import AUTO, NAME, SpeechEngine, program_of
from narthex.engine.speech.speaker import Speaker
from narthex.engine.speech.spool import Shelf

pytestmark = pytest.mark.anyio

KEY = Key(id="k", account_id="a", project_id="p", name="k", prefix="nx-", grants=Grants(), created_ms=0)
PRINCIPAL = Principal(key=KEY, account=Account(id="a", name="a"), project=Project(id="p", account_id="a", name="p"))
FAKE = """#!{python}
import sys
from narthex.core.speech import wav_header
sys.stdin.read()
out = sys.stdout.buffer
{code}
"""


def engine(tmp_path: Path, code: str, **options: Any) -> Speaker:
    """One whose program is that code."""
    program = tmp_path / "espeak-ng"
    program.write_text(FAKE.format(python=sys.executable, code=code))
    program.chmod(stat.S_IRWXU)
    return Speaker(SpeechEngine(program=(str(program),), **options))


TONE = "out.write(wav_header(22050) + b'\\x00\\x10' * 22050)"


def call(**fields: Any) -> Call:
    body = json.dumps({"model": "m", "input": "Hello", "voice": "alloy"} | fields).encode()
    request = SpeechDialect().decode(body, profile="openai", strict=True).request
    return Call(request, id="1", surface="speech", principal=PRINCIPAL, started_s=0.0)


async def told(speaker: Speaker | None, **fields: Any) -> tuple[bytes, Usage]:
    async with SpeechDeployment(speaker).open(call(**fields)) as frames:
        events = [event async for frame in frames for event in frame.events]
    (used,) = (event.usage for event in events if isinstance(event, UsageReported))
    return b"".join(event.data for event in events if isinstance(event, SoundDelta)), used


async def test_samples_are_told_at_our_rate(tmp_path: Path) -> None:
    sound, used = await told(engine(tmp_path, TONE), response_format="pcm")
    samples = np.frombuffer(sound, "<i2")
    assert abs(len(samples) - RATE) < 50
    assert set(samples[100:-100]) == {0x1000}
    assert used == Usage(prompt_tokens=2, completion_tokens=20)


async def test_without_an_engine_who_asks_is_told() -> None:
    with pytest.raises(EngineUnavailable, match=r"No speech engine is installed here.*narthex\[speech\]"):
        await told(None)


@pytest.mark.parametrize("fields", [{}, {"response_format": "opus"}], ids=str)
async def test_without_encoders_their_formats_are_refused(fields: dict[str, str], tmp_path: Path) -> None:
    with pytest.raises(UnsupportedParameter) as raised:
        await told(engine(tmp_path, TONE), **fields)
    assert (raised.value.param, raised.value.code) == ("response_format", "unsupported_value")
    sound, _ = await told(engine(tmp_path, TONE), response_format="wav")
    assert sound.startswith(b"RIFF")


async def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    async def silence() -> AsyncIterator[bytes]:
        yield b""

    with pytest.raises(EngineUnavailable):
        await anext(engine(tmp_path, TONE).encoded(silence(), "mp3"))


def test_capabilities() -> None:
    assert honoured(encodes=True)["response_format"] is State.NATIVE
    rules = honoured(encodes=False)
    for name in FORMATS:
        found = refusal({"response_format": name}, rules, model="m")
        assert found is not None
        assert found.param == "response_format"
    assert refusal({"response_format": "wav", "instructions": ""}, rules, model="m") is None
    found = refusal({"instructions": "Whisper."}, rules, model="m")
    assert found is not None
    assert found.param == "instructions"
    assert issubclass(Verdict, Exception)


@pytest.mark.parametrize(
    "code",
    [
        "out.write(b'no sound at all' * 1000)",
        "out.write(wav_header(22050)); sys.exit(1)",
        "out.write(wav_header(22050) + b'ab' * 100_000); out.flush(); import os; os.kill(os.getpid(), 9)",
    ],
    ids=["garbage", "fails", "killed"],
)
async def test_an_engine_that_fails(code: str, tmp_path: Path) -> None:
    with pytest.raises(EngineCrashed):
        await told(engine(tmp_path, code), response_format="pcm")


async def test_an_engine_that_fails_at_first_is_started_again(tmp_path: Path) -> None:
    code = f"import pathlib\np = pathlib.Path({str(tmp_path)!r}) / 'began'\nif not p.exists(): p.touch(); sys.exit(1)\n"
    sound, _ = await told(engine(tmp_path, code + TONE), response_format="pcm")
    assert len(sound) > RATE


async def test_who_listens_slowly_holds_nobody_up(tmp_path: Path) -> None:
    """Nor the programs, which end when all is spoken."""
    speaker = engine(tmp_path, f"{TONE}; [out.write(bytes(50_000)) for _ in range(60)]", at_once=1)
    deployment = SpeechDeployment(speaker, shelf=Shelf(tmp_path))
    async with deployment.open(call(response_format="wav")) as slow:
        first = await anext(slow)
        async with asyncio.timeout(60):
            quick = await told(speaker, response_format="wav")
        events = [*first.events, *[event async for frame in slow for event in frame.events]]
    sound = b"".join(event.data for event in events if isinstance(event, SoundDelta))
    assert sound == quick[0]
    assert len(sound) > 3_000_000
    assert isinstance(events[-1], UsageReported)


async def test_who_leaves_ends_the_engine_and_gives_back_its_turn(tmp_path: Path) -> None:
    pid = tmp_path / "pid"
    code = f"import os, time\nopen({str(pid)!r}, 'w').write(str(os.getpid()))\n{TONE}; out.flush(); time.sleep(1000)"
    speaker = engine(tmp_path, code, at_once=1)
    async with SpeechDeployment(speaker).open(call(response_format="wav")) as frames:
        await anext(frames)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
    async with asyncio.timeout(5), speaker.turn("k"):
        pass


async def test_nobody_fills_the_shelf_that_all_share(tmp_path: Path) -> None:
    """Whoever listens to much of it slowly is told to hear that first, and others are spoken for."""
    speaker = engine(tmp_path, "out.write(wav_header(22050) + bytes(44100 * 60))", at_once=1)
    shelf = Shelf(tmp_path, most_bytes=4 * 1024 * 1024)
    deployment = SpeechDeployment(speaker, shelf=shelf)
    other = call(response_format="pcm")
    other.principal = replace(PRINCIPAL, key=replace(KEY, id="other"))
    async with deployment.open(call(response_format="pcm")) as unheard:
        await anext(unheard)
        async with speaker.turn("k"):  # all of it is made
            assert shelf.held_bytes > shelf.most_bytes / 4
        with pytest.raises(QueueFull, match="not been heard"):
            async with deployment.open(call(response_format="pcm")) as frames:
                await anext(frames)
        async with deployment.open(other) as frames:
            await anext(frames)
    assert shelf.held_bytes == 0
    async with deployment.open(call(response_format="pcm")) as frames:
        await anext(frames)


class Slow(Speaker):
    """Speaks without an end, and takes its time to stop."""

    stopping = False

    async def spoken(self, *_: Any, **__: Any) -> AsyncGenerator[bytes, None]:  # type: ignore[override]
        gone = asyncio.Event()
        try:
            while True:
                yield bytes(1024 * 1024)
        finally:
            self.stopping = True
            await gone.wait()


async def test_who_leaves_while_it_stops_leaves_nothing_on_the_shelf(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, most_bytes=2 * 1024 * 1024)
    speaker = Slow(SpeechEngine(program=("none",)))

    async def listen() -> None:
        async with SpeechDeployment(speaker, shelf=shelf).open(call(response_format="pcm")):
            await asyncio.Event().wait()

    listening = asyncio.ensure_future(listen())
    while shelf.held_bytes < shelf.most_bytes:
        await asyncio.sleep(0.01)
    listening.cancel()
    while not speaker.stopping:
        await asyncio.sleep(0.01)
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    assert shelf.held_bytes == 0


async def test_an_engine_that_fails_is_no_whole_file(tmp_path: Path) -> None:
    pytest.importorskip("av")
    code = "out.write(wav_header(22050) + b'ab' * 100_000); out.flush(); sys.exit(1)"
    with pytest.raises(EngineCrashed):
        await told(engine(tmp_path, code, encodes=True), response_format="mp3")


async def test_an_engine_that_never_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speaking, "LONGEST_S", 10)
    endless = "out.write(wav_header(22050))\nwhile True: out.write(bytes(100_000))"
    with pytest.raises(EngineCrashed, match="more than 10 s of sound"):
        await told(engine(tmp_path, endless), response_format="pcm")


async def test_an_engine_that_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(EngineCrashed, match="said nothing"):
        await told(engine(tmp_path, "import time; time.sleep(100)", stall_s=0.3), response_format="pcm")


async def test_too_many_wait(tmp_path: Path) -> None:
    speaker = engine(tmp_path, TONE, at_once=1, max_waiting=1)
    async with speaker.turn("k"):
        waiting = asyncio.ensure_future(told(speaker, response_format="pcm"))
        while not len(speaker._turns):
            await asyncio.sleep(0)
        with pytest.raises(QueueFull) as raised:
            await told(speaker, response_format="pcm")
        assert raised.value.retry_after_s
    assert await waiting


async def test_a_text_without_words_is_a_moment_of_silence(tmp_path: Path) -> None:
    sound, used = await told(engine(tmp_path, "out.write(wav_header(22050))"), response_format="pcm")
    assert set(sound) == {0}
    assert used.completion_tokens == 2


async def test_next_to_nothing_is_as_long(tmp_path: Path) -> None:
    """As espeak-ng makes of marks alone."""
    sound, used = await told(engine(tmp_path, "out.write(wav_header(22050) + b'ab' * 40)"), response_format="pcm")
    assert len(sound) == RATE // 10 * 2
    assert used.completion_tokens == 2


async def test_a_slow_voice_takes_its_time(tmp_path: Path) -> None:
    sound, _ = await told(engine(tmp_path, TONE), response_format="pcm", speed=0.25)
    assert len(sound) / 2 / RATE == pytest.approx(1.83, abs=0.1)


@pytest.mark.skipif(shutil.which(NAME) is None, reason="the program espeak-ng is not on the PATH")
async def test_the_program_itself_speaks() -> None:
    sound, _ = await told(Speaker(SpeechEngine(program=program_of(AUTO))), response_format="pcm", input="Good morning.")
    samples = np.frombuffer(sound, "<i2")
    assert 0.5 < len(samples) / RATE < 5
    assert np.abs(samples.astype(int)).max() > 3000


@pytest.mark.skipif(not program_of(AUTO), reason="no espeak-ng is installed")
async def test_a_language_that_it_does_not_speak() -> None:
    speaker = Speaker(SpeechEngine(program=program_of(AUTO), language="xx-nowhere"))
    async with aclosing(speaker.spoken("Hello", voice="alloy", key="k")) as sound:
        with pytest.raises(EngineCrashed):
            async for _ in sound:
                pass
