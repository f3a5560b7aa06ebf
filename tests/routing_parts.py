"""What tests of the router share: deployments that answer each attempt by its own script, and calls to route."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from tests.scripted_deployment import START, STOP, TAKES, USED, principal, text

from narthex.core.capabilities import Capabilities
from narthex.core.chat import ChatRequest, Message, Sampling
from narthex.core.models import ModelCard
from narthex.core.ports import NO_CLOCKS, Call, Opened, Request, Stream, Surface
from narthex.core.stream import ChoiceFinished, Frame, TextDelta
from narthex.routing.health import Health
from narthex.routing.route import Route, Rules
from narthex.routing.router import Router

Step = Frame | Exception | float
"""A frame, an error to raise, or seconds to let pass."""
SILENT = 1e9

FILTERED = (START, Frame.of(ChoiceFinished(0, "content_filter")))


class Clock:
    """Seconds that a test moves on by hand."""

    def __init__(self, now_s: float = 0.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


def says(words: str = "Hi") -> tuple[Frame, ...]:
    """A whole answer."""
    return (START, text(words), STOP, USED)


class Played:
    """A deployment with a script for each attempt, the last one again and again. `at_s`: when each was opened."""

    clocks = NO_CLOCKS
    fingerprint: str | None = None
    running = 0
    """Attempts under way, at all deployments of a test together."""

    def __init__(
        self, name: str, *scripts: Sequence[Step], takes: Capabilities | None = TAKES, goes_on: bool = False
    ) -> None:
        self.name = name
        self.at_s: list[float] = []
        self.asked: list[Request] = []
        self._goes_on = goes_on
        self.closed = 0
        self.most = 0
        self._scripts = scripts
        self._takes = takes

    @property
    def opened(self) -> int:
        return len(self.at_s)

    def capabilities(self, surface: Surface) -> Capabilities | None:
        return self._takes

    def continues(self, call: Call) -> bool:
        return self._goes_on

    def open(self, call: Call) -> Opened:
        self.asked.append(call.request)
        return self._open()

    @asynccontextmanager
    async def _open(self) -> AsyncIterator[Stream]:
        script = self._scripts[min(self.opened, len(self._scripts) - 1)]
        self.at_s.append(asyncio.get_running_loop().time())
        Played.running += 1
        self.most = max(self.most, Played.running)
        try:
            yield self._frames(script)
        finally:
            Played.running -= 1
            self.closed += 1

    async def _frames(self, script: Sequence[Step]) -> AsyncIterator[Frame]:
        for step in script:
            if isinstance(step, float):
                await asyncio.sleep(step)
            elif isinstance(step, Exception):
                raise step
            else:
                yield step


def routed(
    *deployments: Played,
    rules: Rules | None = None,
    health: Health | None = None,
    seed: int = 1,
    total_s: float = 590.0,
    **more: Any,
) -> Router:
    """A router of one model, `m`. `more`: fields of its `Route`."""
    card = ModelCard(id="m", created=0, owned_by="test", kind="chat")
    route = Route(card=card, deployments=deployments, rules=rules or Rules(attempts=3), **more)
    return Router({"m": route}, total_s=total_s, health=health, rng=Random(seed))


def a_call(*, stream: bool = True, **fields: object) -> Call:
    """A chat call for `m`."""
    request = ChatRequest(
        model="m",
        messages=(Message(role="user", content="Hello"),),
        sampling=Sampling(),
        stream=stream,
        fields={"model": "m", **fields},
        sent={},
    )
    return Call(request, id="1", surface="chat", principal=principal(), started_s=0.0)


async def told(router: Router, call: Call | None = None) -> str:
    """The text of an answer. Raises what the router raises."""
    async with router.open(call or a_call()) as frames:
        return "".join([event.text async for frame in frames for event in frame.events if isinstance(event, TextDelta)])


def outcomes(call: Call) -> list[tuple[str, str]]:
    """Who was asked, and what came of it."""
    return [(attempt.deployment, attempt.outcome) for attempt in call.attempts]


def now_s() -> float:
    return asyncio.get_running_loop().time()
