"""A real server before scripted upstreams: what callers get, and what the upstreams saw.

The providers of `config` are unix sockets whose paths are known before anything listens there, so that one server does
for a whole module: each test opens the upstreams that it needs, and asks for a model of its own, whose health no other
test has touched.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import openai
from openai import AsyncOpenAI
from tests.callers import CHAT, Answer, ask
from tests.server_process import Server, StartServer

from narthex.testing.scripted import END, Reply, ScriptedUpstream, response, sse, stream_head

DONE = b"[DONE]"
HELLO: list[Any] = [{"role": "user", "content": "Hello"}]


def config(folder: Path, types: Mapping[str, str], models: list[dict[str, Any]]) -> dict[str, Any]:
    """Settings with a provider at `<folder>/<name>.sock` for each of `types`."""
    providers = {
        name: {"type": type_, "base_url": f"unix:{folder / name}.sock", "api_key": f"sk-of-{name}"}
        for name, type_ in types.items()
    }
    return {"engine": {"default": None}, "embedder": {"default": None}, "providers": providers, "models": models}


@contextlib.contextmanager
def gateway(start_server: StartServer, settings: dict[str, Any]) -> Iterator[Server]:
    """A server with these settings and no model of its own."""
    with start_server(settings, models=()) as server:
        yield server


@contextlib.asynccontextmanager
async def started(start_server: StartServer, settings: dict[str, Any]) -> AsyncIterator[Server]:
    """The same, from within a test that serves upstreams already."""
    stack = start_server(settings, models=())
    server = await asyncio.to_thread(stack.__enter__)
    try:
        yield server
    finally:
        await asyncio.to_thread(stack.__exit__, None, None, None)


@contextlib.asynccontextmanager
async def serving(folder: Path, name: str, *replies: Reply) -> AsyncIterator[ScriptedUpstream]:
    """The upstream of a provider of `config`."""
    async with ScriptedUpstream(*replies, unix=folder / f"{name}.sock") as upstream:
        yield upstream


def client(server: Server) -> AsyncOpenAI:
    """The official client, which tries nothing again; the caller closes it."""
    http = openai.DefaultAsyncHttpxClient()
    return AsyncOpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0, timeout=60, http_client=http)


async def chat(server: Server, model: str, **fields: Any) -> Answer:
    """The whole answer to a chat."""
    return await ask(server, CHAT, {"model": model, "messages": HELLO, **fields})


def text(answer: Answer) -> str:
    """The text of an answer, streamed or not."""
    assert answer.whole, answer
    if not answer.headers["content-type"].startswith("text/event-stream"):
        return str(answer.json["choices"][0]["message"]["content"])
    return "".join(delta.get("content") or "" for delta in deltas(answer))


def chunks(answer: Answer) -> list[dict[str, Any]]:
    """The chunks of a stream."""
    return [json.loads(each) for each in answer.data if each != DONE]


def deltas(answer: Answer) -> list[dict[str, Any]]:
    """What a stream says piece by piece."""
    return [choice["delta"] for chunk in chunks(answer) for choice in chunk["choices"]]


# --- what upstreams say ----------------------------------------------------------------------------------------------


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """A chunk in OpenAI's form."""
    choices = [{"index": 0, "delta": delta or {}, "finish_reason": finish}]
    line = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": choices, **more}
    return json.dumps(line).encode()


ROLE = chunk({"role": "assistant", "content": ""})
STOP = chunk(finish="stop")


def saying(*words: str) -> Reply:
    """A stream of these words."""
    return Reply(stream_head(), sse(ROLE, *(chunk({"content": word}) for word in words), STOP, DONE), END)


def streaming(*events: bytes) -> Reply:
    """A stream of these events."""
    return Reply(stream_head(), sse(*events), END)


def refusing(status: int, *headers: str, code: str | None = None) -> Reply:
    """An error in OpenAI's form."""
    body = json.dumps({"error": {"message": "No.", "type": "x", "param": None, "code": code}}).encode()
    return Reply(response(body, status=status, headers=("content-type: application/json", *headers)))


def whole(document: Any) -> Reply:
    """An answer of 200 with JSON."""
    return Reply(response(json.dumps(document).encode(), headers=("content-type: application/json",)))


def bodies(upstream: ScriptedUpstream) -> list[dict[str, Any]]:
    """What an upstream was asked."""
    return [json.loads(request.body) for request in upstream.requests]
