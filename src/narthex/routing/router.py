"""From a model's name to the deployment that answers; nothing is sent on before its commit point.

Source: ARCHITECTURE D3 and D4. The commit point of a stream is its first output; of an answer that is sent whole, its
end. A stream that breaks off after it may be gone on with elsewhere (`rescue.py`).
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from random import Random

import msgspec
import structlog

from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import ModelNotFound, NarthexError, UpstreamTimeout
from narthex.core.ports import Call, Deployment, Opened, Stream
from narthex.core.stream import Frame
from narthex.ipc.deadline import Deadline
from narthex.routing.attempt import Answering, Attempting, Filtered
from narthex.routing.health import Health
from narthex.routing.journey import Journey
from narthex.routing.rescue import Told, can_be_rescued
from narthex.routing.route import ANY, Route

__all__ = ["ANY", "Route", "Router"]

log = structlog.get_logger(__name__)

_COMMITTED = Frame()
"""Never told to anybody."""


class Router:
    """Opens calls on deployments. `routes` is one snapshot: it is never changed, only replaced."""

    def __init__(
        self,
        routes: Mapping[str, Route],
        *,
        total_s: float,
        health: Health | None = None,
        rng: Random | None = None,
    ) -> None:
        """`total_s`: how long a whole request may take where its model has no such limit of its own.

        `health`: outlives the snapshot, if given. `rng`: chooses by weight, explores, spreads retries.
        """
        self.routes = routes
        self._total_s = total_s
        self.health = health or Health(clock=_loop_time)
        self.loop: asyncio.AbstractEventLoop | None = None
        self.rng = rng or Random()  # noqa: S311 - chooses deployments, no secrets

    def route(self, model: str) -> Route:
        """The row of a name.

        Raises:
            ModelNotFound: there is none.
        """
        route = self.routes.get(model) or self.routes.get(ANY)
        if route is None or not route.exists():
            raise ModelNotFound.named(model)
        return route

    def open(self, call: Call) -> Opened:
        """The `Handler` at the end of all policies: the block begins at the commit point.

        Raises:
            ModelNotFound: there is no such model.
            UnsupportedParameter: no deployment honours the request; names the field.
            UpstreamTimeout: the whole request, all attempts and waits together, took too long.
            NarthexError: what the last attempt ended with.
        """
        return _Answer(self, call, total_s=self._total_s)

    async def frames(
        self, call: Call, journey: Journey, loop: asyncio.AbstractEventLoop
    ) -> AsyncGenerator[Frame, None]:
        """The answer's frames, by whichever attempts it took; its commit point is announced by `_COMMITTED`."""
        request = call.request
        told = _told(call, journey)
        streams = not isinstance(request, EmbeddingsRequest) and request.stream
        asked = call
        while True:
            deployment = await journey.next()
            committed = False
            try:
                async with self._attempt(call, deployment, journey, asked=asked, loop=loop) as answering:
                    held = await _seen(answering, told, whole=not streams)
                    committed = True
                    if asked is call:
                        yield _COMMITTED
                    for frame in held:
                        yield frame
                    async for frame in answering.rest:
                        answering.spent.add(frame)
                        yield frame if told is None else told.next(frame)
                return
            except Filtered:
                journey.filtered(deployment)
            except NarthexError as error:
                if not committed:
                    journey.failed(deployment, error)
                elif told is not None and (end := told.at_its_limit) is not None:
                    yield end
                    return
                else:
                    asked = _goes_on(call, told, error)
                    journey.broke_off(deployment, error, asked=asked)

    def _attempt(
        self, call: Call, deployment: Deployment, journey: Journey, *, asked: Call, loop: asyncio.AbstractEventLoop
    ) -> Attempting:
        request = asked.request
        if isinstance(request, ChatRequest | CompletionRequest) and request.begun:
            characters = len(request.begun)
            log.info("an answer goes on", after=call.deployment, deployment=deployment.name, characters=characters)
        return Attempting(
            call,
            deployment,
            asked=asked,
            rules=journey.rules,
            health=self.health,
            deadline_s=journey.deadline_s,
            past_filters=journey.asks_past_filters,
            loop=loop,
        )


class _Answer:
    """One call on its way: the block begins at the commit point of its answer, under the total clock."""

    __slots__ = ("_call", "_frames", "_router", "_total", "_total_s")

    def __init__(self, router: Router, call: Call, *, total_s: float) -> None:
        self._router = router
        self._call = call
        self._total_s = total_s

    async def __aenter__(self) -> Stream:
        router, call = self._router, self._call
        loop = router.loop = router.loop or asyncio.get_running_loop()  # kept: finding it takes a system call
        route = router.route(call.request.model)
        self._total_s = route.rules.total_s or self._total_s
        deadline_s = loop.time() + self._total_s
        journey = Journey(call, route, health=router.health, rng=router.rng, deadline_s=deadline_s, now=loop.time)
        call.paced = route.rules.paces
        self._total = await Deadline(deadline_s, loop=loop).__aenter__()
        self._frames = router.frames(call, journey, loop)
        try:
            await anext(self._frames)
        except BaseException as error:
            await self._leave(error)
            raise
        return self._frames

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        await self._leave(error)

    async def _leave(self, error: BaseException | None) -> None:
        try:
            await self._frames.aclose()
        except BaseException as other:
            error = other
            raise
        finally:
            await self._stopped(error)

    async def _stopped(self, error: BaseException | None) -> None:
        try:
            await self._total.__aexit__(None if error is None else type(error), error, None)
        except TimeoutError:
            raise UpstreamTimeout(f"The request took longer than {self._total_s:g} s.") from None


def _told(call: Call, journey: Journey) -> Told | None:
    """What remembers an answer that could be gone on with; None where nobody could."""
    request = call.request
    if not (journey.rules.rescue and can_be_rescued(request)):
        return None
    asked = call.asking(msgspec.structs.replace(request, begun="a"))
    return Told(request) if journey.could_go_on(asked) else None


async def _seen(answering: Answering, told: Told | None, *, whole: bool) -> list[Frame]:
    """What the caller sees of an attempt at once: its first output, or all of an answer that is sent whole."""
    held = answering.held
    if whole:
        async for frame in answering.rest:
            answering.spent.add(frame)
            held.append(frame)
    return held if told is None else [told.next(frame) for frame in held]


def _goes_on(call: Call, told: Told | None, error: NarthexError) -> Call:
    """The call for the rest of an answer that an error broke off.

    Raises:
        NarthexError: the same error, where the answer can't be gone on with.
    """
    continuation = told.continuation() if told is not None else None
    if continuation is None:
        raise error
    return call.asking(continuation)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
