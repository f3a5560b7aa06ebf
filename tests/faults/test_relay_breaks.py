"""The rules of passing on a stream of OpenAI's format: how it ends, and how it breaks."""

import asyncio
import json
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from tests.callers import Answer
from tests.relayed_chunks import ASKED, ASKING, STARTS, USAGE, WAYS, Tell, alike, spoken
from tests.served_gateway import (
    DONE,
    chat,
    chunks,
    config,
    gateway,
    serving,
    streaming,
    text,
)
from tests.server_process import Server, StartServer

from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, Step, chunked, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]


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


def broke(answer: Answer) -> tuple[int, str, str]:
    """A stream that began, and ended with an error of ours; its text, and the error's code."""
    assert answer.complete
    assert DONE not in answer.data
    *before, last = answer.data
    assert not any("error" in json.loads(each) for each in before)
    error = json.loads(last)
    assert list(error) == ["error"]
    assert list(error["error"]) == ["message", "type", "param", "code"]
    said = [choice["delta"].get("content") or "" for each in before for choice in json.loads(each)["choices"]]
    return answer.status, "".join(said), error["error"]["code"]


# --- the end ---------------------------------------------------------------------------------------------------------

TAILS: dict[str, list[bytes]] = {
    "with their end mark": [sse(DONE), END],
    "without it": [END],
    "two end marks": [sse(DONE, DONE), END],
    "text after the end mark": [sse(DONE, alike({"content": "more"})), END],
    "an error after the end mark": [sse(DONE, b'{"error":{"message":"late"}}'), END],
    "no JSON after the end mark": [sse(DONE, b"<html>"), sse(DONE), END],
    "text after the finish reason": [sse(alike({"content": "more"}), DONE), END],
    "a second finish reason": [sse(alike({}, {"finish_reason": "length"}), DONE), END],
    "an end mark without an empty line": [chunked(b"data: [DONE]\n", end=False), END],
}


@WAYS
@ASKING
@pytest.mark.parametrize("tail", TAILS)
async def test_the_end_is_ours(
    server: Server, folder: Path, model: str, tail: str, tell: Tell, options: dict[str, Any]
) -> None:
    said = spoken(tell, "a", "b")
    async with serving(folder, "there", Reply(stream_head(), sse(*said), *TAILS[tail])):
        async with asyncio.timeout(30):
            answer = await streamed(server, model, **options)
    assert text(answer) == "ab"
    assert answer.data.count(DONE) == 1
    assert answer.body.endswith(b"\n\ndata: [DONE]\n\n")
    reasons = [choice["finish_reason"] for each in chunks(answer) for choice in each["choices"]]
    assert reasons == [None, None, None, "stop"]


LATE: dict[str, list[bytes | Step]] = {
    "cut after the end mark": [sse(DONE), CUT],
    "reset after the end mark": [sse(DONE), RESET],
    "cut before the end mark": [CUT],
    "no chunk after the end mark": [sse(DONE), b"zz\r\n", HANG],
    "silence after the end mark": [sse(DONE), HANG],
    "silence before the end mark": [HANG],
    "comments after the end mark": [sse(DONE), *[chunked(b": alive\n\n" * 1000, end=False)] * 100, HANG],
}


@ASKING
@pytest.mark.parametrize("tail", LATE)
async def test_an_answer_that_has_finished_is_whole_whatever_follows(
    server: Server, folder: Path, model: str, tail: str, options: dict[str, Any]
) -> None:
    said = [*spoken(alike, "a", "b"), alike(usage=USAGE)]
    async with serving(folder, "there", Reply(stream_head(), sse(*said), *LATE[tail])) as upstream:
        async with asyncio.timeout(30):
            answer = await streamed(server, model, **options)
        assert text(answer) == "ab"
        assert answer.body.endswith(b"\n\ndata: [DONE]\n\n")
        assert chunks(answer)[-1].get("usage", {}).get("total_tokens") == (5 if options else None)
        async with asyncio.timeout(30):
            await upstream.peers[0].closed.wait()


async def test_one_of_two_choices_is_no_answer(server: Server, folder: Path, model: str) -> None:
    said = [alike({"content": "a"}, {"index": 1}), *spoken(alike, "b")]
    async with serving(folder, "there", Reply(stream_head(), sse(*said), CUT)):
        answer = await streamed(server, model, n=2)
    assert broke(answer)[2] == "upstream_error"


# --- faults in the middle --------------------------------------------------------------------------------------------

CANARY = "sk-canary of org-canary"


def failing(**fields: Any) -> bytes:
    return json.dumps({"error": {"message": CANARY, "provider": "x", **fields}}).encode()


FAULTS: dict[str, tuple[bytes, str]] = {
    "a server's error": (failing(type="server_error", code=500), "upstream_error"),
    "a refused key": (failing(type="x", code=401), "upstream_error"),
    "a rate limit": (failing(type="tokens", code="rate_limit_exceeded"), "rate_limit_exceeded"),
    "an error of text": (json.dumps({"error": CANARY}).encode(), "upstream_error"),
    "an error beside choices": (json.dumps({"choices": [], "error": {"message": CANARY}}).encode(), "upstream_error"),
    "no JSON": (b"<html>sk-canary</html>", "upstream_error"),
    "half of a JSON": (b'{"choices":[{"index":0,"delta":{"content":"sk-canary"', "upstream_error"),
    "broken UTF-8": (alike({"content": "@"}).replace(b"@", b"\xff\xfe sk-canary"), "upstream_error"),
    "half of a surrogate in UTF-8": (alike({"content": "@"}).replace(b"@", b"\xed\xa0\x80"), "upstream_error"),
    "an array": (b'["sk-canary"]', "upstream_error"),
    "an unknown finish reason": (alike({}, {"finish_reason": "sk-canary"}), "upstream_error"),
}


@WAYS
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_in_the_middle_is_told_in_our_words_and_nothing_follows_it(
    server: Server, folder: Path, model: str, fault: str, tell: Tell
) -> None:
    frame, code = FAULTS[fault]
    said = [tell(STARTS), tell({"content": "a"}), tell({"content": "b"}), frame, tell({"content": "c"}), DONE]
    async with serving(folder, "there", streaming(*said)):
        answer = await streamed(server, model, **ASKED)
    assert broke(answer) == (200, "ab", code)
    assert b"canary" not in answer.body


@WAYS
async def test_an_error_that_is_the_callers_is_passed_on_in_our_shape(
    server: Server, folder: Path, model: str, tell: Tell
) -> None:
    error = {"message": "Too long.", "type": "invalid_request_error", "param": "messages", "code": "too_long", "x": 1}
    said = [tell(STARTS), tell({"content": "a"}), json.dumps({"error": error}).encode(), DONE]
    async with serving(folder, "there", streaming(*said)):
        answer = await streamed(server, model)
    assert broke(answer) == (200, "a", "too_long")
    assert answer.error == {name: error[name] for name in ("message", "type", "param", "code")}
