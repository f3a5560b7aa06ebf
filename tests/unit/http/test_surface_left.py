"""Model surfaces behind our own server, which tells by a call that the caller has left."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from tests.raw_asgi import Caller, until
from tests.scripted_deployment import SILENCE, START, ScriptedDeployment, answer, principal, text

from narthex.core.errors import EngineCrashed, NarthexError
from narthex.dialects.openai_chat import ChatDialect
from narthex.http.asgi import ON_LOST, CallerLeft
from narthex.http.exchange import Exchange
from narthex.http.surface import ModelSurface

pytestmark = pytest.mark.anyio

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
either_way = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])


class Connected(Caller):
    """A caller on a line that may break."""

    def __init__(self, *, stream: bool) -> None:
        super().__init__(json.dumps(BODY | {"stream": stream}).encode(), quiet=True)
        self.scope["extensions"] = {ON_LOST: self._on_lost}
        self.listeners: list[Callable[[], None] | None] = []

    def _on_lost(self, callback: Callable[[], None] | None) -> None:
        self.listeners.append(callback)

    def leave(self) -> None:
        listener = self.listeners[-1]
        assert listener is not None
        listener()


async def served(deployment: ScriptedDeployment, caller: Connected) -> Exchange:
    surface = ModelSurface(
        ChatDialect(), deployment.open, clock=lambda: 7.0, body_limit_bytes=10_000, lenient=False, ping_after_s=1000.0
    )
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal = principal()
    await surface(exchange)
    return exchange


@either_way
@pytest.mark.parametrize("before", [(), (START, text("Hi"))], ids=["before the first token", "later"])
async def test_a_caller_who_leaves_ends_the_work(before: Any, stream: bool) -> None:
    deployment, caller = ScriptedDeployment(*before, SILENCE()), Connected(stream=stream)
    task = asyncio.ensure_future(served(deployment, caller))
    await until(lambda: deployment.opened == 1 and (not before or not stream or bool(caller.sent)))
    caller.leave()
    with pytest.raises(CallerLeft):
        await task
    assert (deployment.closed, caller.listeners[-1]) == (1, None)
    assert not caller.ended


async def test_a_caller_who_leaves_without_reading_ends_the_work() -> None:
    deployment, caller = ScriptedDeployment(*answer()), Connected(stream=True)
    caller.reads.clear()
    task = asyncio.ensure_future(served(deployment, caller))
    await until(lambda: bool(caller.sent))
    caller.leave()
    with pytest.raises(CallerLeft):
        await task
    assert deployment.closed == 1


@either_way
async def test_after_the_answer_nobody_listens(stream: bool) -> None:
    deployment, caller = ScriptedDeployment(*answer()), Connected(stream=stream)
    await served(deployment, caller)
    assert caller.ended
    assert (len(caller.listeners), caller.listeners[-1], deployment.closed) == (2, None, 1)


@either_way
async def test_after_an_error_nobody_listens(stream: bool) -> None:
    deployment, caller = ScriptedDeployment(EngineCrashed()), Connected(stream=stream)
    with pytest.raises(NarthexError):
        await served(deployment, caller)
    assert (caller.listeners[-1], deployment.closed) == (None, 1)
