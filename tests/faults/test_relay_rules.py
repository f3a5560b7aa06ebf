"""The rules of passing on a stream of OpenAI's format: what of it is theirs, and what is ours."""

import asyncio
import json
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.callers import CHAT, Answer, ask, calling
from tests.relayed_chunks import ASKED, ASKING, ENDS, STARTS, USAGE, WAYS, Tell, alike, spoken
from tests.served_gateway import (
    DONE,
    HELLO,
    chat,
    chunks,
    config,
    deltas,
    gateway,
    serving,
    streaming,
    text,
)
from tests.server_process import Server, StartServer

from narthex.testing.scripted import END, Reply, chunked, head, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

OURS = ("id", "object", "created", "model")
SAID = {"content": "Hi"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("up")


@pytest.fixture(scope="module")
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    rules = {"retry": {"attempts": 1}, "timeouts": {"idle": 5, "total": 20}}
    names = [{"name": f"m{number}", "deployments": [f"there/m{number}"], **rules} for number in range(200)]
    with gateway(start_server, config(folder, {"there": "openai-compatible"}, names)) as running:
        yield running


MODELS = count()


@pytest.fixture
def model() -> str:
    """One whose health no other test has touched."""
    return f"m{next(MODELS)}"


async def streamed(server: Server, model: str, **fields: Any) -> Answer:
    return await chat(server, model, stream=True, **fields)


# --- usage -----------------------------------------------------------------------------------------------------------

PLACES: dict[str, Callable[[Tell], list[bytes]]] = {
    "in a chunk of its own": lambda tell: [*spoken(tell, "a", "b"), tell(usage=USAGE)],
    "in a chunk of its own, before the end": lambda tell: (
        [*spoken(tell, "a", "b")[:-1], tell(usage=USAGE), tell({}, ENDS)]
    ),
    "with the last piece": lambda tell: [*spoken(tell, "a", "b")[:-1], tell({}, ENDS, usage=USAGE)],
    "in every chunk": lambda tell: [
        tell(STARTS, usage=USAGE),
        *(tell({"content": word}, usage=USAGE) for word in "ab"),
        tell({}, ENDS, usage=USAGE),
    ],
    "before the choices": lambda tell: [
        *(tell(delta, before={"usage": USAGE}) for delta in (STARTS, {"content": "a"}, {"content": "b"})),
        tell({}, ENDS, before={"usage": USAGE}),
    ],
    "null until the end": lambda tell: [
        *(tell(delta, usage=None) for delta in (STARTS, {"content": "a"}, {"content": "b"})),
        tell({}, ENDS, usage=None),
        tell(usage=USAGE),
    ],
    "within the choice": lambda tell: [
        *spoken(tell, "a", "b")[:-1],
        tell({}, ENDS | {"usage": USAGE}),
        tell(usage=USAGE),
    ],
    "by a name of their own": lambda tell: [
        *spoken(tell, "a", "b")[:-1],
        tell({}, ENDS, x_groq={"id": "req_x", "usage": USAGE}),
        tell(usage=USAGE),
    ],
}


@WAYS
@pytest.mark.parametrize("place", PLACES)
async def test_usage_that_nobody_asked_for_is_withheld(
    server: Server, folder: Path, model: str, place: str, tell: Tell
) -> None:
    async with serving(folder, "there", streaming(*PLACES[place](tell), DONE)):
        answer = await streamed(server, model)
    assert text(answer) == "ab"
    assert b"usage" not in answer.body
    assert all(chunk["choices"] for chunk in chunks(answer))


@WAYS
@pytest.mark.parametrize("place", PLACES)
async def test_usage_that_was_asked_for_is_told_once_and_last(
    server: Server, folder: Path, model: str, place: str, tell: Tell
) -> None:
    async with serving(folder, "there", streaming(*PLACES[place](tell), DONE)):
        answer = await streamed(server, model, **ASKED)
    assert text(answer) == "ab"
    *before, last = chunks(answer)
    assert (last["choices"], last["usage"]["total_tokens"], last["usage"]["prompt_tokens"]) == ([], 5, 3)
    assert [each["usage"] for each in before] == [None] * 4
    assert answer.body.count(b'"usage":') == 5


@WAYS
async def test_usage_that_the_server_does_not_tell_is_nought(
    server: Server, folder: Path, model: str, tell: Tell
) -> None:
    async with serving(folder, "there", streaming(*spoken(tell, "a"), DONE)):
        answer = await streamed(server, model, **ASKED)
    assert (chunks(answer)[-1]["choices"], chunks(answer)[-1]["usage"]["total_tokens"]) == ([], 0)


# --- who answers -----------------------------------------------------------------------------------------------------


@WAYS
@ASKING
async def test_names_are_ours_and_the_same_in_every_chunk(
    server: Server, folder: Path, model: str, tell: Tell, options: dict[str, Any]
) -> None:
    async with serving(folder, "there", streaming(*spoken(tell, "a", "b", "c"), tell(usage=USAGE), DONE)):
        answer = await streamed(server, model, **options)
    [(id_, object_, created, name)] = {tuple(each[field] for field in OURS) for each in chunks(answer)}
    assert id_ == f"chatcmpl-{answer.headers['x-request-id'].removeprefix('req_')}"
    assert (object_, name) == ("chat.completion.chunk", model)
    assert created > 1_000_000_000
    assert b"theirs" not in answer.body


async def test_names_are_ours_where_theirs_change_or_are_missing(server: Server, folder: Path, model: str) -> None:
    bare = [json.dumps({"choices": [{"index": 0, "delta": {"content": word}}]}).encode() for word in "ab"]
    last = json.dumps({"model": None, "choices": [{"index": 0, "delta": {}, **ENDS}], "created": "now"}).encode()
    async with serving(folder, "there", streaming(alike(STARTS), bare[0], alike({"content": "-"}), bare[1], last)):
        answer = await streamed(server, model)
    assert text(answer) == "a-b"
    [(*_, name)] = {tuple(each[field] for field in OURS) for each in chunks(answer)}
    assert name == model


@WAYS
@pytest.mark.parametrize("roles", ["in the first", "in every one", "in none"])
async def test_the_role_is_told_once_and_first(
    server: Server, folder: Path, model: str, tell: Tell, roles: str
) -> None:
    begun = {} if roles == "in none" else {"role": "assistant"}
    going = begun if roles == "in every one" else {}
    said = [tell({"content": "a", **begun}), *(tell({"content": word, **going}) for word in "bc"), tell(going, ENDS)]
    async with serving(folder, "there", streaming(*said, DONE)):
        answer = await streamed(server, model)
    assert text(answer) == "abc"
    assert [delta.get("role") for delta in deltas(answer)] == ["assistant", None, None, None]


@WAYS
async def test_each_choice_has_its_role_once(server: Server, folder: Path, model: str, tell: Tell) -> None:
    said = [
        *(tell({"content": word}, {"index": index}) for word in "ab" for index in (1, 0)),
        *(tell({}, {"index": index, **ENDS}) for index in (0, 1)),
    ]
    async with serving(folder, "there", streaming(*said, DONE)):
        answer = await streamed(server, model, n=2)
    told_of = [(choice["index"], choice["delta"]) for each in chunks(answer) for choice in each["choices"]]
    for index in (0, 1):
        of_it = [delta for number, delta in told_of if number == index]
        assert of_it == [{"content": "a", "role": "assistant"}, {"content": "b"}, {}]


# --- other members ---------------------------------------------------------------------------------------------------


@WAYS
async def test_padding_is_not_passed_on(server: Server, folder: Path, model: str, tell: Tell) -> None:
    said = [
        tell(STARTS, obfuscation="p"),
        tell({"content": "a"}, obfuscation="pad"),
        tell({"content": "b"}, before={"obfuscation": "padding"}),
        tell({}, ENDS, obfuscation="pa"),
    ]
    async with serving(folder, "there", streaming(*said, DONE)):
        answer = await streamed(server, model)
    assert text(answer) == "ab"
    assert b"obfuscation" not in answer.body


@WAYS
@ASKING
async def test_the_tier_is_told_alike_in_every_chunk_if_it_was_asked_for(
    server: Server, folder: Path, model: str, tell: Tell, options: dict[str, Any]
) -> None:
    said = [tell(STARTS, service_tier="flex"), tell(SAID), tell({}, ENDS, service_tier="other"), tell(usage=USAGE)]
    async with serving(folder, "there", streaming(*said, DONE)):
        unasked = await streamed(server, model, **options)
        asked = await streamed(server, model, service_tier="auto", **options)
    assert b"service_tier" not in unasked.body
    assert {each.get("service_tier") for each in chunks(asked)} == {"flex"}


@WAYS
async def test_what_we_do_not_know_is_passed_on_as_it_is(server: Server, folder: Path, model: str, tell: Tell) -> None:
    number = "12345678901234567890.10"
    said = [
        tell(STARTS),
        tell({"content": "a", "x": {"y": [1]}}, {"matched_stop": 7}, timings={"z": 2}),
        tell({"content": "b"}, more="@").replace(b'"@"', number.encode()),
        tell({}, ENDS),
    ]
    async with serving(folder, "there", streaming(*said, DONE)):
        answer = await streamed(server, model)
    first = chunks(answer)[1]
    assert (first["timings"], first["choices"][0]["matched_stop"]) == ({"z": 2}, 7)
    assert first["choices"][0]["delta"] == {"content": "a", "x": {"y": [1]}}
    assert number.encode() in answer.body


@WAYS
async def test_a_text_that_looks_like_members_stays_a_text(
    server: Server, folder: Path, model: str, tell: Tell
) -> None:
    words = ['"usage":{"prompt_tokens":1}', '"role"', "data: [DONE]\n\n", '}],"id":"y"', "\u2028é😀\u0000", "[DONE]"]
    async with serving(folder, "there", streaming(*spoken(tell, *words), DONE)):
        answer = await streamed(server, model)
    assert text(answer) == "".join(words)


# --- what is on the wire besides -------------------------------------------------------------------------------------


@WAYS
async def test_comments_and_names_of_events_are_not_passed_on(
    server: Server, folder: Path, model: str, tell: Tell
) -> None:
    pieces = [b": PROCESSING\n\n", b"event: ping\n\n", b"id: 7\nretry: 9\n"]
    for each in spoken(tell, "a", "b"):
        pieces += [b": comment\n", b"event: message\r\n", b"data:" + each + b"\r\n\r\n", b":\n\n"]
    body = b"\xef\xbb\xbf" + b"".join(pieces)
    cut = [body[at : at + 50] for at in range(0, len(body), 50)]
    async with serving(folder, "there", Reply(stream_head(), chunked(*cut, end=False), sse(DONE), END)):
        answer = await streamed(server, model)
    assert text(answer) == "ab"
    assert answer.body.replace(b"\n\n", b"\n").splitlines() == [b"data: " + each for each in answer.data]


THEIR_HEADERS = (
    "set-cookie: session=canary; Path=/",
    "server: canary/1.0",
    "x-ratelimit-remaining-requests: 414141",
    "x-ratelimit-limit-tokens: 424242",
    "x-request-id: canary",
    "openai-organization: canary",
    "openai-processing-ms: 123456",
    "openai-version: 1999-01-01",
    "cf-ray: canary",
    "via: canary",
    "strict-transport-security: max-age=1",
    "alt-svc: h3=canary",
    "access-control-allow-origin: *",
    "retry-after: 43",
    "x-should-retry: true",
    "cache-control: canary",
    "www-authenticate: canary",
)


@pytest.mark.parametrize("status", [200, 400, 401, 500])
async def test_their_headers_are_not_passed_on(server: Server, folder: Path, model: str, status: int) -> None:
    lines = head("content-type: text/event-stream", "transfer-encoding: chunked", *THEIR_HEADERS, status=status)
    said = spoken(alike, "a") if status == 200 else [b'{"error":{"message":"canary"}}']
    body = sse(*said) if status == 200 else chunked(*said, end=False)
    async with serving(folder, "there", Reply(lines, body, END)):
        answer = await streamed(server, model)
    assert answer.status == (502 if status in {401, 500} else status)
    values = " ".join(answer.headers.values())
    for word in ("canary", "414141", "424242", "123456", "1999"):
        assert word not in values.replace(answer.headers["x-request-id"], "").replace(answer.headers["date"], "")
    names = {line.partition(":")[0] for line in THEIR_HEADERS}
    allowed = {"x-request-id", "openai-processing-ms", "openai-version", "cache-control"}
    ours = {401: {"x-should-retry"}, 500: {"retry-after"}}.get(status, set())
    assert not (names - allowed) & answer.headers.keys() - ours
    assert answer.headers.get("x-should-retry") != "true"


async def test_pieces_arrive_as_they_are_sent(server: Server, folder: Path, model: str) -> None:
    """Nothing is held back for what is to come."""
    go = [asyncio.Event() for _ in range(3)]
    said = spoken(alike, "first", "second")
    steps: list[bytes | asyncio.Event] = [
        sse(said[0], said[1]),
        go[0],
        sse(said[2]),
        go[1],
        sse(said[3]),
        go[2],
        sse(DONE),
        END,
    ]
    body = {"model": model, "messages": HELLO, "stream": True}
    async with serving(folder, "there", Reply(stream_head(), *steps)), calling(server, CHAT, body) as caller:
        for event, word in zip(go, (b"first", b"second", b'"stop"'), strict=True):
            async with asyncio.timeout(60):
                await caller.until(word)
            event.set()
        assert (await caller.end()).whole


async def test_the_next_request_uses_the_same_connection(server: Server, folder: Path, model: str) -> None:
    async with serving(folder, "there", streaming(*spoken(alike, "a"), DONE)) as upstream:
        for _ in range(3):
            answer = await ask(server, CHAT, {"model": model, "messages": HELLO, "stream": True})
            assert text(answer) == "a"
        assert len(upstream.peers) == 1
