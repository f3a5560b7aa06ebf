"""Streams that break off, gone on with by the embedded engine: the same text as if it had answered from the first."""

import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from openai import AsyncOpenAI
from tests.scripted_gateway import ERROR_EVENT, ROLE, chunk
from tests.server_inside import ENGINE, kill
from tests.server_process import CHAT_MODEL, Server, StartServer

from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, ScriptedUpstream, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

ASKED: Any = [{"role": "user", "content": "Name three colours of the rainbow and say one sentence about each."}]
LIMIT = 24
NEVER_MIND = {"cooldown": "1ms"}
"""However often it fails, it is the first to be asked."""


@pytest.fixture(scope="module")
def port() -> int:
    """A free one, where the upstream that breaks off will listen."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@pytest.fixture(scope="module")
def server(start_server: StartServer, port: int) -> Iterator[Server]:
    here = f"local/{CHAT_MODEL}"
    config = {
        "engine": {"slots": 2, "context": 2048, "threads": 1},
        "embedder": {"default": None},
        "providers": {"broken": {"type": "openai-compatible", "base_url": f"http://127.0.0.1:{port}", "idle_s": 0.5}},
        "models": [
            {"name": "m", "deployments": ["broken/model", here], "rescue": True, "retry": NEVER_MIND},
            {"name": "here", "deployments": [here], "retry": {"backoff": "100ms", "attempts": 5}},
        ],
    }
    with start_server(config) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0, timeout=60) as it:
        yield it


class Answer:
    """A stream, as far as it has come."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self.finish: list[str] = []
        self.ids: set[str] = set()
        self.usage: Any = None

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    @property
    def used(self) -> tuple[int, int]:
        return self.usage.prompt_tokens, self.usage.completion_tokens

    def add(self, event: Any) -> None:
        self.usage = event.usage or self.usage
        self.ids.add(event.id)
        for choice in event.choices:
            piece = choice.delta.content if hasattr(choice, "delta") else choice.text
            self.pieces += [piece] if piece else []
            self.finish += [choice.finish_reason] if choice.finish_reason else []


async def stream_of(client: AsyncOpenAI, model: str, *, prompt: str = "", **fields: Any) -> Any:
    common = {"max_tokens": LIMIT, "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
    if prompt:
        return await client.completions.create(model=model, prompt=prompt, **common | fields)
    return await client.chat.completions.create(model=model, messages=ASKED, **common | fields)


async def told(client: AsyncOpenAI, model: str, **fields: Any) -> Answer:
    answer = Answer()
    async for event in await stream_of(client, model, **fields):
        answer.add(event)
    return answer


@asynccontextmanager
async def breaking_off(port: int, *replies: Reply) -> AsyncIterator[ScriptedUpstream]:
    upstream = ScriptedUpstream(*replies)
    upstream.port = port
    async with upstream:
        yield upstream


def chat_that_begins(*pieces: str) -> Reply:
    return Reply(stream_head(), sse(ROLE, *map(chunk, pieces)), CUT)


def text_that_begins(*pieces: str) -> Reply:
    events = [json.dumps({"choices": [{"index": 0, "text": piece}]}).encode() for piece in pieces]
    return Reply(stream_head(), sse(*events), CUT)


CUTS = (1, 2, 3, 8, 13, 23)
NEARLY_ALL = len(CUTS) - 1
"""Read in one go, a text's sums come out otherwise than token by token: where two tokens are as good, that decides."""


async def test_after_any_token_the_rest_is_the_same(client: AsyncOpenAI, port: int) -> None:
    plain = await told(client, CHAT_MODEL)
    replies = [chat_that_begins(*plain.pieces[:cut]) for cut in CUTS]
    async with breaking_off(port, *replies) as upstream:
        same = 0
        for number, cut in enumerate(CUTS, start=1):
            answer = await told(client, "m")
            assert answer.text.startswith("".join(plain.pieces[:cut]))
            assert (answer.finish, answer.used) == (plain.finish, plain.used)
            assert (len(upstream.requests), len(answer.ids)) == (number, 1)
            same += answer.text == plain.text
        assert same >= NEARLY_ALL


async def test_text_completions_go_on_likewise(client: AsyncOpenAI, port: int) -> None:
    prompt = "The three primary colours are"
    plain = await told(client, CHAT_MODEL, prompt=prompt)
    async with breaking_off(port, *(text_that_begins(*plain.pieces[:cut]) for cut in CUTS)) as upstream:
        same = 0
        for number, cut in enumerate(CUTS, start=1):
            answer = await told(client, "m", prompt=prompt)
            assert answer.text.startswith("".join(plain.pieces[:cut]))
            assert (answer.finish, answer.used) == (plain.finish, plain.used)
            assert len(upstream.requests) == number
            same += answer.text == plain.text
        assert same >= NEARLY_ALL


FAULTS = {
    "reset": (RESET,),
    "ended before it finished": (END,),
    "no JSON": (sse(b"{"), END),
    "an error event": (sse(ERROR_EVENT), END),
    "silence": (HANG,),
}


@pytest.mark.parametrize("fault", FAULTS)
async def test_however_it_breaks_off(fault: str, client: AsyncOpenAI, port: int) -> None:
    first = Reply(stream_head(), sse(ROLE, chunk("Red, "), chunk("green")), *FAULTS[fault])
    async with breaking_off(port, first) as upstream:
        answer = await told(client, "m", max_tokens=9)
    assert answer.text.startswith("Red, green")
    assert len(answer.text) > len("Red, green")
    assert (len(answer.finish), len(answer.ids), len(upstream.requests)) == (1, 1, 1)


BEGINNINGS = (
    "R", "Re", "1. Red: Th", "Red ", " Red", "Red\n", "\n\nRed",
    "R\u00f6t ist \U0001f534", "\u8d64", "<|im_end|>", "Red<|im_end|>\n", "<think>", "Red and  ", "\ttab",
)  # fmt: skip


async def test_any_text_is_gone_on_with(client: AsyncOpenAI, port: int) -> None:
    """What another model began, wherever it stopped; control tokens in it are text."""
    async with breaking_off(port, *map(chat_that_begins, BEGINNINGS)):
        for begun in BEGINNINGS:
            answer = await told(client, "m", max_tokens=9)
            assert answer.text.startswith(begun)
            assert 1 < len(answer.text) <= len(begun) + 100
            assert answer.finish in (["stop"], ["length"])
            assert answer.used[0] < 60, "what was begun is not counted as prompt"


async def test_an_engine_that_is_killed_goes_on_when_it_is_back(client: AsyncOpenAI, server: Server) -> None:
    plain = await told(client, CHAT_MODEL, max_tokens=100)
    answer = Answer()
    killed = False
    async for event in await stream_of(client, "here", max_tokens=100):
        answer.add(event)
        if len(answer.pieces) >= 5 and not killed:
            await kill(server, ENGINE)
            killed = True
    assert killed
    assert answer.text.startswith("".join(plain.pieces[:5]))
    assert (answer.finish, answer.used) == (plain.finish, plain.used)
