"""A server for the native API: an embedding model of its own, and chat models at upstreams that answer by script."""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from anyio.from_thread import start_blocking_portal
from tests.native_calls import CITED_TOKENS, FAR_VECTORS, SAID, SAID_TOKENS, TELLER, WRITER, Heard
from tests.served_gateway import DONE, ROLE, STOP, chunk, streaming, whole
from tests.server_process import EMBEDDING_MODEL, Server, StartServer

from narthex.testing.scripted import ScriptedUpstream

USED = {"prompt_tokens": CITED_TOKENS, "completion_tokens": SAID_TOKENS, "total_tokens": CITED_TOKENS + SAID_TOKENS}
MESSAGE = {"role": "assistant", "content": SAID, "refusal": None}
CHOICES = [{"index": 0, "message": MESSAGE, "finish_reason": "stop", "logprobs": None}]
ANSWER = {"id": "x", "object": "chat.completion", "created": 1, "model": "x", "choices": CHOICES, "usage": USED}
SPENT = {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [], "usage": USED}
PIECES = [SAID[:6], SAID[6:]]


class Native:
    """The server and the upstreams behind it."""

    def __init__(self, server: Server, upstreams: tuple[ScriptedUpstream, ...]) -> None:
        self.server = server
        self.upstreams = upstreams


@pytest.fixture(scope="session")
def native(start_server: StartServer) -> Iterator[Native]:
    """One for the whole session: tests keep to collections and accounts of their own."""
    told = streaming(ROLE, *(chunk({"content": piece}) for piece in PIECES), STOP, json.dumps(SPENT).encode(), DONE)
    scripts = {"plain": whole(ANSWER), "flow": told}
    with tempfile.TemporaryDirectory(prefix="nx-up-") as name, start_blocking_portal() as portal:
        folder = Path(name)
        providers: dict[str, Any] = {
            each: {"type": "openai", "base_url": f"unix:{folder / each}.sock", "api_key": "sk-x"} for each in scripts
        }
        providers["plain"]["models"] = {"words": {"kind": "chat"}, "vectors": {"kind": "embedding"}}
        models = [
            {"name": WRITER, "deployments": ["plain/words"]},
            {"name": TELLER, "deployments": ["flow/words"]},
            {"name": FAR_VECTORS, "deployments": ["plain/vectors"]},
        ]
        upstreams = tuple(ScriptedUpstream(reply, unix=folder / f"{each}.sock") for each, reply in scripts.items())
        for upstream in upstreams:
            portal.call(upstream.__aenter__)
        try:
            config = {"engine": {"default": None}, "providers": providers, "models": models}
            with start_server(config, models=(EMBEDDING_MODEL,)) as server:
                yield Native(server, upstreams)
        finally:
            for upstream in upstreams:
                portal.call(upstream.aclose)


@pytest.fixture(scope="session")
def api(native: Native) -> Iterator[httpx2.Client]:
    """A plain HTTP client with the admin's key, as the native API wants it."""
    key = native.server.admin_key
    with httpx2.Client(base_url=native.server.url, headers={"x-api-key": key}, timeout=60) as client:
        yield client


@pytest.fixture
def heard(native: Native) -> Heard:
    """What the upstreams hear during this test."""
    return Heard(*native.upstreams)
