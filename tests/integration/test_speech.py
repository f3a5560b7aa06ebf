"""Texts that are read aloud: a real server and engine, the official client, and real decoders of what comes."""

import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from tests.server_inside import pid, until
from tests.server_process import Server, StartServer
from tests.speech_gateway import ENGINE, VOCAL, Speaking, fits, heard, heard_raw, speaking
from tests.validation_rows import Row
from tests.validation_rows_speech import rows

from narthex.testing.scripted import CUT, END, Reply, response, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

SAID = "The lighthouse keeper climbed the stairs, as he did every evening."
PATH = "/v1/audio/speech"
MEDIA = {
    "mp3": "audio/mpeg", "opus": "audio/ogg", "aac": "audio/aac", "flac": "audio/flac", "wav": "audio/wav",
    "pcm": "audio/pcm",
}  # fmt: skip


@pytest.fixture(scope="module")
def world(start_server: StartServer) -> Iterator[Speaking]:
    yield from speaking(start_server)


@pytest.fixture(scope="module")
def server(world: Speaking) -> Server:
    return world.server


@pytest.fixture(scope="module")
def client(world: Speaking) -> Iterator[OpenAI]:
    with world.client() as made:
        yield made


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.http() as made:
        yield made


@pytest.fixture(scope="module")
def lenient(server: Server) -> Iterator[httpx2.Client]:
    """With a key that drops what is unknown."""
    with server.http(server.key(strict=False)) as made:
        yield made


def ask(http: httpx2.Client, **fields: Any) -> httpx2.Response:
    return http.post(PATH, json={"model": ENGINE, "voice": "alloy", "input": SAID, "response_format": "pcm"} | fields)


@pytest.mark.parametrize("name", MEDIA)
def test_every_format_is_the_text(name: Any, client: OpenAI) -> None:
    answer = client.audio.speech.with_raw_response.create(
        model="tts-1", voice="coral", input=SAID, response_format=name
    )
    assert answer.headers["content-type"] == MEDIA[name]
    assert answer.headers["x-narthex-deployment"] == f"local/{ENGINE}"
    data = answer.content
    assert fits(heard_raw(data) if name == "pcm" else heard(data), SAID)


def test_mp3_is_what_nobody_asked_for(client: OpenAI) -> None:
    assert fits(heard(client.audio.speech.create(model=ENGINE, voice="ash", input=SAID).content), SAID)


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_speeds(speed: float, http: httpx2.Client) -> None:
    usual = len(ask(http).content)
    assert len(ask(http, speed=speed).content) * speed == pytest.approx(usual, rel=0.25)


def test_every_voice_is_another(http: httpx2.Client) -> None:
    voices = ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse")
    assert len({ask(http, voice=voice, input="Good morning.").content for voice in voices}) == len(voices)


def test_the_sound_in_events(http: httpx2.Client) -> None:
    answer = ask(http, stream_format="sse", response_format="wav")
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.split("\n\n") if line]
    sound = b"".join(base64.b64decode(event["audio"]) for event in events[:-1])
    assert {event["type"] for event in events[:-1]} == {"speech.audio.delta"}
    assert fits(heard(sound), SAID)
    seconds = len(sound) / 48_000
    assert events[-1]["type"] == "speech.audio.done"
    used = events[-1]["usage"]
    assert used["input_tokens"] == -(-len(SAID) // 4)
    assert used["output_tokens"] == pytest.approx(seconds * 20, abs=1.5)
    assert used["total_tokens"] == used["input_tokens"] + used["output_tokens"]


@pytest.mark.parametrize("text", ["!", "…", " ", "🎉", "[[]]", "\x01\x02"])
def test_a_text_without_words_is_silence(text: str, http: httpx2.Client) -> None:
    answer = ask(http, input=text)
    assert answer.status_code == 200
    assert len(answer.content) > 0


def test_a_long_text_comes_as_it_is_made(server: Server) -> None:
    text = "One sentence after the other. " * 30
    body = {"model": ENGINE, "voice": "alloy", "input": text}
    with server.http() as http, http.stream("POST", PATH, json=body) as answer:
        pieces = list(answer.iter_raw())
    assert len(pieces) > 3
    assert fits(heard(b"".join(pieces)), text)


@pytest.mark.anyio
async def test_who_leaves_ends_the_engine(server: Server) -> None:
    worker = await pid(server, "worker-0")
    body = {"model": ENGINE, "voice": "alloy", "input": "And so on and on. " * 200, "speed": 0.25}
    for _ in range(2):
        headers = {"x-api-key": server.admin_key}
        async with (
            httpx2.AsyncClient(base_url=server.url, headers=headers) as http,
            http.stream("POST", PATH, json=body) as answer,
        ):
            await anext(answer.aiter_raw())
            assert programs(worker)

        async def ended() -> bool:
            return not programs(worker)

        await until(ended, within_s=60)


def programs(worker: int) -> list[str]:
    """What the worker has started."""
    return Path(f"/proc/{worker}/task/{worker}/children").read_text().split()


def test_the_engine_is_a_model(client: OpenAI) -> None:
    assert {ENGINE, "tts-1"} <= {model.id for model in client.models.list()}
    with pytest.raises(openai.BadRequestError, match="not a model for chat"):
        client.chat.completions.create(model=ENGINE, messages=[{"role": "user", "content": "Hi"}])


@pytest.mark.parametrize("row", [*rows()], ids=str)
def test_each_row(row: Row, lenient: httpx2.Client, http: httpx2.Client) -> None:
    caller = http if row.key == "openai" else lenient
    answer = caller.post(row.path, content=row.body, headers={"content-type": row.content_type})
    assert answer.status_code == row.status, answer.text[:500]
    if row.status != 200:
        error = answer.json()["error"]
        assert (error["code"], error["param"]) == (row.code, row.param)


# --- by a server elsewhere -------------------------------------------------------------------------------------------


def test_a_server_elsewhere_speaks(world: Speaking, client: OpenAI) -> None:
    world.answers(VOCAL, Reply(response(b"ID3\x00\xff", headers=("content-type: audio/mpeg",))))
    made = client.audio.speech.create(model=VOCAL, voice="ash", input=SAID, instructions="Whisper.", speed=1.5)
    assert made.content == b"ID3\x00\xff"
    sent = json.loads(world.upstreams[VOCAL].requests[-1].body)
    assert sent == {"model": "x", "voice": "ash", "input": SAID, "instructions": "Whisper.", "speed": 1.5}


def test_a_server_elsewhere_speaks_in_events(world: Speaking, http: httpx2.Client) -> None:
    done = {"type": "speech.audio.done", "usage": {"input_tokens": 4, "output_tokens": 9, "total_tokens": 13}}
    events = [{"type": "speech.audio.delta", "audio": "AAEC"}, done]
    world.answers(VOCAL, Reply(stream_head(), sse(*(json.dumps(event).encode() for event in events)), END))
    told = ask(http, model=VOCAL, stream_format="sse").text
    assert [json.loads(line.removeprefix("data: ")) for line in told.split("\n\n") if line] == events


def test_a_sound_that_breaks_off_is_no_whole_answer(world: Speaking, http: httpx2.Client) -> None:
    world.answers(VOCAL, Reply(b"HTTP/1.1 200 OK\r\ncontent-type: audio/mpeg\r\ncontent-length: 9\r\n\r\nID3", CUT))
    with pytest.raises(httpx2.RemoteProtocolError):
        ask(http, model=VOCAL)


def test_a_refusal_elsewhere_is_told(world: Speaking, client: OpenAI) -> None:
    body = b'{"error": {"message": "No such voice.", "type": "invalid_request_error", "param": "voice", "code": null}}'
    world.answers(VOCAL, Reply(response(body, status=400)))
    with pytest.raises(openai.BadRequestError, match="No such voice"):
        client.audio.speech.create(model=VOCAL, voice="ash", input=SAID)
