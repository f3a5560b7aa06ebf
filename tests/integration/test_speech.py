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
from tests import speech_chats as chats
from tests.served_gateway import DONE, HELLO, ROLE, STOP, chunk
from tests.server_inside import pid, until
from tests.server_process import Server, StartServer
from tests.speech_chats import ALOUD, STREAMED, answer, choice, heard_of, written
from tests.speech_gateway import ENGINE, TEXT, VOCAL, Speaking, fits, heard, heard_raw, speaking
from tests.validation_rows import Row
from tests.validation_rows_speech import rows

from narthex.testing.scripted import CUT, END, Reply, response, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

SAID = "The lighthouse keeper climbed the stairs, as he did every evening."
PATH, CHATS = "/v1/audio/speech", "/v1/chat/completions"
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


@pytest.fixture(scope="module")
def usual(http: httpx2.Client) -> int:
    """How long the text is at its usual speed."""
    return len(ask(http).content)


@pytest.mark.parametrize("speed", [0.25, 0.5, 2.0, 4.0])
def test_speeds(speed: float, usual: int, http: httpx2.Client) -> None:
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


@pytest.mark.parametrize("text", ["…", "[[]]", ", " * 2000, "\n\t ", "\u200b"])
def test_a_text_without_words_is_silence(text: str, http: httpx2.Client) -> None:
    answer = ask(http, input=text)
    assert answer.status_code == 200
    assert 0.1 <= len(answer.content) / 48_000 < 0.6


@pytest.mark.parametrize(
    ("text", "as_long_as"),
    [
        ("🎉", "party popper"),
        ("It was 1234.5 dollars.", "It was one thousand two hundred thirty four point five dollars."),
        ("Hello\0there", "Hello there"),
        ("<speak><break time='9s'/>Hi</speak>", "speak break time equals nine s slash hi slash speak"),
        ("--version -w /tmp/x.wav", "version w slash tmp slash x dot wav"),
        ("-v de", "v d e"),
        ("Grüße aus München", "Grusse aus Munchen"),
    ],
)
def test_a_text_is_only_read(text: str, as_long_as: str, http: httpx2.Client) -> None:
    """What it holds is no order to whoever reads it, and none of it is lost."""
    seconds, whole = (len(ask(http, input=each).content) / 48_000 for each in (text, as_long_as))
    assert 0.5 < seconds / whole < 2


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


# --- chats that are spoken -------------------------------------------------------------------------------------------


def chat(http: httpx2.Client, model: str = TEXT, **fields: Any) -> httpx2.Response:
    return http.post(CHATS, json={"model": model, "messages": HELLO} | fields)


def told(answer: httpx2.Response) -> list[dict[str, Any]]:
    """The chunks of a stream that ended well."""
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]", answer.text[:500]
    return [json.loads(line) for line in lines]


def test_an_answer_is_spoken(world: Speaking, client: OpenAI) -> None:
    world.answers(TEXT, answer(choice()))
    made = client.chat.completions.create(
        model=TEXT, messages=HELLO, modalities=["text", "audio"], audio={"voice": "sage", "format": "wav"}
    )
    message = made.choices[0].message
    assert message.content is None
    assert message.audio is not None
    assert message.audio.transcript == chats.SAID
    assert 3000 < message.audio.expires_at - made.created <= 3601
    sound = heard(base64.b64decode(message.audio.data))
    assert fits(sound, chats.SAID)
    tokens = -(-len(sound[1]) * 20 // 24_000)
    assert made.usage is not None
    details = made.usage.completion_tokens_details
    assert details is not None
    assert details.audio_tokens == tokens
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (5, 4 + tokens)
    sent = json.loads(world.upstreams[TEXT].requests[-1].body)
    assert not {"modalities", "audio"} & set(sent)


@pytest.mark.parametrize("name", ["aac", "flac", "mp3", "opus", "pcm16"])
def test_an_answer_in_every_format(name: str, world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, answer(choice()))
    made = chat(http, **ALOUD | {"modalities": ["audio"], "audio": {"voice": "echo", "format": name}}).json()
    data = base64.b64decode(made["choices"][0]["message"]["audio"]["data"])
    assert fits(heard_raw(data) if name == "pcm16" else heard(data), chats.SAID)


def test_a_stream_is_spoken_sentence_by_sentence(world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, written("The tide", " is low. We can", " walk to the island now,", " if you like."))
    chunks = told(chat(http, **STREAMED, stream_options={"include_usage": True}))
    found = heard_of(chunks)
    assert found.transcript == chats.SAID
    assert fits(heard_raw(found.data), chats.SAID)
    assert (found.kinds[0], found.kinds[-1], found.finish) == ("id", "expires_at", "stop")
    assert found.kinds.index("data") < len(found.kinds) - found.kinds[::-1].index("transcript"), "before the text ended"
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": None, "refusal": None}
    used = chunks[-1]["usage"]
    assert used["completion_tokens_details"]["audio_tokens"] == -(-len(found.data) // 2 * 20 // 24_000)


def test_several_choices_have_voices_of_their_own(world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, answer(choice(), choice(1, "length", content="Perhaps")))
    made = chat(http, n=2, **ALOUD).json()["choices"]
    assert [each["message"]["audio"]["transcript"] for each in made] == [chats.SAID, "Perhaps"]
    assert [each["finish_reason"] for each in made] == ["stop", "length"]
    assert len({each["message"]["audio"]["id"] for each in made}) == 2


def test_calls_and_refusals_are_not_spoken(world: Speaking, http: httpx2.Client) -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    world.answers(TEXT, answer(choice(finish="tool_calls", content=None, tool_calls=[call])))
    tools = [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}]
    message = chat(http, tools=tools, **ALOUD).json()["choices"][0]["message"]
    assert message["tool_calls"] == [call]
    assert "audio" not in message
    world.answers(TEXT, answer(choice(content=None, refusal="No.")))
    message = chat(http, **ALOUD).json()["choices"][0]["message"]
    assert message["refusal"] == "No."
    assert "audio" not in message


def test_what_was_said_is_known_in_the_next_turn(world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, answer(choice()))
    message = chat(http, **ALOUD).json()["choices"][0]["message"]
    for former in (message, {"role": "assistant", "audio": {"id": message["audio"]["id"]}}):
        for model in (TEXT, VOCAL):
            world.answers(model, answer(choice(content="Yes.")))
            asked = chat(http, model, messages=[*HELLO, former, *HELLO])
            assert asked.json()["choices"][0]["message"]["content"] == "Yes."
            sent = json.loads(world.upstreams[model].requests[-1].body)["messages"][1]
            assert sent["content"] == chats.SAID
            assert "audio" not in sent


def test_what_was_forgotten_is_told_of_spoken_answers_too(world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, answer(choice()))
    messages = [{"role": "user", "content": f"{number} " + "many words " * 30} for number in range(4)]
    for fields in ({}, ALOUD):
        asked = chat(http, messages=messages, token_budget=120, store=True, **fields)
        assert asked.headers["x-narthex-forgotten"] == "3"
        kept = http.get(f"{CHATS}/{asked.json()['id']}/messages").json()["data"]
        assert [message["content"][0] for message in kept] == ["3"]


def test_what_others_heard_is_not_there(world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, answer(choice()))
    name = chat(http, **ALOUD).json()["choices"][0]["message"]["audio"]["id"]
    former = {"role": "assistant", "audio": {"id": name}}
    with world.client("another") as other, pytest.raises(openai.BadRequestError) as raised:
        other.chat.completions.create(model=TEXT, messages=[*HELLO, former, *HELLO])  # type: ignore[list-item]
    assert (raised.value.param, raised.value.code) == ("messages[1].audio.id", "invalid_value")
    for wrong in ("audio_1", name[:-1], f"{name}/../x"):
        refused = chat(http, messages=[*HELLO, {"role": "assistant", "audio": {"id": wrong}}, *HELLO])
        assert refused.status_code == 400
        assert refused.json()["error"]["param"] == "messages[1].audio.id"


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        (STREAMED | {"audio": {"voice": "sage", "format": "wav"}}, ("audio.format", "unsupported_value")),
        (ALOUD | {"audio": {"voice": {"id": "mine"}, "format": "wav"}}, ("audio.voice", "unsupported_value")),
        (ALOUD | {"audio": {"voice": "nova", "format": "wav"}}, ("audio.voice", "invalid_value")),
        (ALOUD | {"logprobs": True}, ("logprobs", "unsupported_parameter")),
        ({"modalities": ["text", "audio"]}, ("audio", "missing_required_parameter")),
    ],
    ids=str,
)
def test_what_can_t_be_spoken_is_refused(fields: Any, told: tuple[str, str], http: httpx2.Client) -> None:
    refused = chat(http, **fields)
    assert refused.status_code == 400
    assert (refused.json()["error"]["param"], refused.json()["error"]["code"]) == told


def test_a_voice_that_nobody_asked_to_speak(world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, answer(choice()))
    made = chat(http, audio=ALOUD["audio"])
    assert made.headers["x-narthex-ignored"] == "audio"
    assert made.json()["choices"][0]["message"]["content"] == chats.SAID


def test_a_stream_that_breaks_off_says_so(world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, Reply(stream_head(), sse(ROLE, chunk({"content": "One. Two. Thr"})), CUT))
    lines = chat(http, **STREAMED).text.strip().split("\n\n")
    assert "error" in json.loads(lines[-1].removeprefix("data: "))
    assert any('"data"' in line for line in lines)


def test_a_spoken_answer_is_stored(world: Speaking, http: httpx2.Client) -> None:
    world.answers(TEXT, written("Hello. ", "There."))
    chunks = told(chat(http, store=True, **STREAMED))
    stored = http.get(f"{CHATS}/{chunks[0]['id']}").json()["choices"][0]["message"]["audio"]
    found = heard_of(chunks)
    assert (stored["id"], stored["transcript"], stored["expires_at"]) == (found.id, "Hello. There.", found.expires_at)
    assert base64.b64decode(stored["data"]) == found.data


def test_capabilities_tell_who_speaks(http: httpx2.Client) -> None:
    listed = {row["id"]: row["deployments"][0]["surfaces"] for row in http.get("/v1/capabilities").json()["data"]}
    states = {model: listed[model]["chat"]["modalities"]["state"] for model in (TEXT, VOCAL)}
    assert states == {TEXT: "emulated", VOCAL: "native"}


# --- chats that servers elsewhere speak ------------------------------------------------------------------------------


def test_an_answer_that_was_spoken_elsewhere(world: Speaking, http: httpx2.Client) -> None:
    audio = {"id": "audio_1", "data": "AAEC", "expires_at": 99, "transcript": "Hi."}
    world.answers(VOCAL, answer(choice(content=None, audio=audio)))
    for more in ({}, {"logprobs": False}):
        message = chat(http, VOCAL, **ALOUD, **more).json()["choices"][0]["message"]
        assert message["audio"] == audio
        assert message["content"] is None
    sent = json.loads(world.upstreams[VOCAL].requests[-1].body)
    assert {name: sent[name] for name in ALOUD} == ALOUD
    world.answers(VOCAL, answer(choice()))
    chat(http, VOCAL, messages=[*HELLO, {"role": "assistant", "audio": {"id": "audio_1"}}, *HELLO])
    assert json.loads(world.upstreams[VOCAL].requests[-1].body)["messages"][1]["audio"] == {"id": "audio_1"}


def test_a_stream_that_was_spoken_elsewhere(world: Speaking, http: httpx2.Client) -> None:
    deltas = [{"id": "audio_1"}, {"transcript": "Hi."}, {"data": "AAEC"}, {"expires_at": 99}]
    events = [chunk({"role": "assistant"}), *(chunk({"audio": delta}) for delta in deltas), STOP, DONE]
    world.answers(VOCAL, Reply(stream_head(), sse(*events), END))
    found = heard_of(told(chat(http, VOCAL, **STREAMED)))
    assert (found.id, found.transcript, found.data, found.expires_at) == ("audio_1", "Hi.", b"\0\1\2", 99)
