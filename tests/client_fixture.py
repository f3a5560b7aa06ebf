"""The official Python client, sync and async, towards the session's servers; `exchanges` keeps what passes."""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from tests.exchanges import EXCHANGES, HttpExchange, Recorder
from tests.server_process import Server


@pytest.fixture(scope="session")
def exchanges(request: pytest.FixtureRequest) -> list[HttpExchange]:
    """Everything that the clients of this session exchanged."""
    return request.config.stash.setdefault(EXCHANGES, [])


@pytest.fixture(scope="session")
def client(server: Server, exchanges: list[HttpExchange]) -> Iterator[OpenAI]:
    """The official client with the admin's key; it does not retry, so that every fault shows."""
    with _client(server, exchanges) as it:
        yield it


@pytest.fixture(scope="session")
def shallow(shallow_server: Server, exchanges: list[HttpExchange]) -> Iterator[OpenAI]:
    """The same, of the server whose chat model says nonsense."""
    with _client(shallow_server, exchanges) as it:
        yield it


@contextmanager
def _client(server: Server, exchanges: list[HttpExchange]) -> Iterator[OpenAI]:
    http = openai.DefaultHttpxClient(event_hooks={"response": [Recorder(exchanges).note]})
    with OpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0, timeout=120, http_client=http) as it:
        yield it


@pytest.fixture
async def aclient(server: Server, exchanges: list[HttpExchange]) -> AsyncIterator[AsyncOpenAI]:
    """The same, async."""
    http = openai.DefaultAsyncHttpxClient(event_hooks={"response": [Recorder(exchanges).anote]})
    async with AsyncOpenAI(
        base_url=server.base_url, api_key=server.admin_key, max_retries=0, timeout=120, http_client=http
    ) as it:
        yield it


@pytest.fixture(scope="session")
def http(server: Server) -> Iterator[httpx2.Client]:
    """Plain HTTP with the admin's key: for what the official client would not send."""
    with server.http() as it:
        yield it


@pytest.fixture(scope="session")
def shallow_http(shallow_server: Server) -> Iterator[httpx2.Client]:
    """The same, of the server whose chat model says nonsense."""
    with shallow_server.http() as it:
        yield it
