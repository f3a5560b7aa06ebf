"""Requests that come all at once: what else there is to do waits for some of them and not for all."""

import asyncio
from typing import Any

import pytest
import uvicorn
from tests.unit.upstream.test_relay import Wire
from uvicorn.server import ServerState

from narthex.http.protocol import Protocol
from narthex.ipc import turns

pytestmark = pytest.mark.anyio

REQUEST = b"POST /%d HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n"


class Answers:
    """An application that answers at once, without a task. `begun`: the paths in their order."""

    def __init__(self) -> None:
        self.begun: list[str] = []

    def begin(self, scope: Any, direct: Any) -> bool:
        self.begun.append(scope["path"])
        direct.answer(b"content-length: 2", b"ok")
        return True

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("it has answered")


@pytest.mark.parametrize("times", [1, 2])
async def test_an_event_does_not_wait_for_all_of_them(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    monkeypatch.setattr(turns, "MOST_S", 0.0)
    app = Answers()
    config = uvicorn.Config(app, http=Protocol, loop="none", ws="none", lifespan="off", log_config=None)
    config.load()
    config.loaded_app = app  # without what uvicorn puts around it
    state = ServerState()
    state.default_headers = []
    connections = [Protocol(config, state, {}) for _ in range(20)]
    for connection in connections:
        connection.connection_made(Wire())
    for _ in range(times):
        app.begun.clear()
        for number, connection in enumerate(connections):
            connection.data_received(REQUEST % number)
        assert app.begun == ["/0"]
        await asyncio.sleep(0)
        assert app.begun == ["/0", "/1"]
        while len(app.begun) < len(connections):
            await asyncio.sleep(0)
        assert app.begun == [f"/{number}" for number in range(20)]
        for _ in range(2):
            await asyncio.sleep(0)
    for connection in connections:
        connection.connection_lost(ConnectionResetError())
