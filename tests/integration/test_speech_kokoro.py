"""A neural voice, by files with next to nothing in them: a real server, its process, and the official client."""

import asyncio
import base64
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests import speech_chats as chats
from tests import tiny_kokoro
from tests.server_inside import children, kill, until
from tests.server_process import StartServer
from tests.speech_gateway import TEXT, Sound, Speaking, heard, heard_raw, speaking

from narthex.engine.speech.espeak import AUTO, program_of

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [
    pytest.mark.patient,
    pytest.mark.skipif(not program_of(AUTO), reason="no espeak-ng is installed, which tells phonemes"),
]

SAID = "The lighthouse keeper climbed the stairs. He was not alone."


@pytest.fixture(scope="module")
def world(start_server: StartServer) -> Iterator[Speaking]:
    with tempfile.TemporaryDirectory(prefix="nx-k-") as folder:
        yield from speaking(start_server, kokoro=tiny_kokoro.write(Path(folder)) | {"names": {"verse": "ef_dora"}})


def hertz(sound: Sound) -> float:
    rate, samples = sound
    spectrum = np.abs(np.fft.rfft(samples[: 2 * rate]))
    return float(np.argmax(spectrum) * rate / min(len(samples), 2 * rate))


def fits(sound: Sound, *, tone: float) -> bool:
    """Whether it is what the tiny model makes of the text: a tone, of 50 ms for each phoneme."""
    seconds = len(sound[1]) / sound[0]
    return len(SAID) * 0.03 < seconds < len(SAID) * 0.08 and abs(hertz(sound) - tone) < 10


@pytest.mark.parametrize("name", ["wav", "pcm", "mp3"])
def test_it_reads_aloud(name: Any, world: Speaking) -> None:
    with world.client() as client:
        assert "kokoro" in {model.id for model in client.models.list()}
        made = client.audio.speech.create(model="kokoro", voice="verse", input=SAID, response_format=name)
        assert fits(heard_raw(made.content) if name == "pcm" else heard(made.content), tone=1100)


def test_it_speaks_for_chats(world: Speaking) -> None:
    world.answers(TEXT, chats.answer(chats.choice(content=SAID)))
    with world.server.http() as http:
        asked = {"model": TEXT, "messages": [{"role": "user", "content": "Hi"}]} | chats.ALOUD
        audio = http.post("/v1/chat/completions", json=asked).json()["choices"][0]["message"]["audio"]
    assert audio["transcript"] == SAID
    assert fits(heard(base64.b64decode(audio["data"])), tone=800)


def test_a_process_that_died_is_started_again(world: Speaking) -> None:
    async def killed() -> None:
        before = await kill(world.server, "speech/kokoro")

        async def gone() -> bool:
            return (await children(world.server))["speech/kokoro"].pid != before

        await until(gone)

    with world.client() as client:
        for kills in (False, True):
            if kills:
                asyncio.run(killed())
            made = client.audio.speech.create(model="kokoro", voice="alloy", input=SAID, response_format="wav")
            assert fits(heard(made.content), tone=300)
