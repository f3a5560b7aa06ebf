"""From a model's name to the deployment that answers; nothing is sent on before its commit point.

Source: ARCHITECTURE D3 and D4. The commit point of a stream is its first output; of an answer that is sent whole, its
end. A stream that breaks off after it may be gone on with elsewhere (`rescue.py`).
"""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from random import Random

import msgspec
import structlog

from narthex.core.capabilities import TIMEOUT
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import CallersTimeout, InvalidRequest, ModelNotFound, NarthexError, UpstreamTimeout
from narthex.core.ports import Call, Deployment, OnAnswer, Opened, Sink, Stream
from narthex.core.stream import Frame
from narthex.ipc.alarms import Alarms
from narthex.ipc.deadline import Deadline
from narthex.routing.attempt import Attempting, Filtered
from narthex.routing.health import Health
from narthex.routing.journey import Journey
from narthex.routing.passage import Passage, Receiver
from narthex.routing.prompt import Begun, Prompted, only, prompt_of
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
        self._only = {name: only(route) for name, route in routes.items()}
        self.health = health or Health(clock=_loop_time)
        self._on_loop: tuple[asyncio.AbstractEventLoop, Alarms] | None = None
        self.rng = rng or Random()  # noqa: S311 - chooses deployments, no secrets

    def on_loop(self) -> tuple[asyncio.AbstractEventLoop, Alarms]:
        """The loop that it serves, which takes a system call to find, and the clocks there."""
        if self._on_loop is None:
            loop = asyncio.get_running_loop()
            self._on_loop = loop, Alarms(loop)
        return self._on_loop

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
            InvalidRequest: it wants to take longer than it may.
            UpstreamTimeout: the whole request, all attempts and waits together, took too long.
            NarthexError: what the last attempt ended with.
        """
        return _Answer(self, call, total_s=self._total_s)

    def ask(self, call: Call, told: OnAnswer) -> Prompted | None:
        """Ask now, if the call is one of those (see `prompt.py`). `told` hears of it once, of None if it has to be
        waited for: `resume` it then. None: it was not asked, and has to be opened.

        Raises:
            ModelNotFound: there is no such model.
            InvalidRequest: as `open`.
        """
        deployment, total_s = self._only_one(call)
        opened = None if deployment is None else prompt_of(call, deployment)
        if opened is None:
            return None
        loop, alarms = self.on_loop()
        prompted = Prompted(call, opened, told, loop=loop)
        asked = prompted.ask(health=self.health, alarms=alarms, total_s=total_s)
        return prompted if asked else None

    def stream(self, call: Call, receiver: Receiver) -> Passage | None:
        """The same of a call for a stream (see `passage.py`)."""
        deployment, total_s = self._only_one(call)
        if deployment is None or self.route(call.request.model).rules.rescue:
            return None
        opened = prompt_of(call, deployment)
        if opened is None:
            return None
        loop, alarms = self.on_loop()
        passage = Passage(call, opened, receiver, loop=loop, alarms=alarms)
        asked = passage.ask(health=self.health, total_s=total_s, idle_s=deployment.clocks.idle_s)
        return passage if asked else None

    def _only_one(self, call: Call) -> tuple[Deployment | None, float]:
        """Who alone may be asked, and how long it may take."""
        model = call.request.model
        total_s = self.route(model).rules.total_s or self._total_s
        if TIMEOUT in call.request.fields:
            total_s = _wanted_s(call, most_s=total_s)
        return self._only.get(model, self._only.get(ANY)), total_s

    def resume(self, call: Call, begun: Begun) -> Opened:
        """Go on with what was asked, as if the call had been opened then. See `open`."""
        begun.give_up()
        return _Answer(self, call, total_s=self._total_s, begun=begun)

    async def frames(self, call: Call, journey: Journey, begun: Begun | None) -> AsyncGenerator[Frame, Sink | None]:
        """The answer's frames, by whichever attempts it took; its commit point is announced by `_COMMITTED`.

        Whoever sends a sink for a frame may find what goes on after it written there: it is asked for the next frame
        only when there is one that says more.
        """
        request = call.request
        told = _told(call, journey) if journey.rules.rescue else None
        streams = not isinstance(request, EmbeddingsRequest) and request.stream
        asked = call
        while True:
            deployment = await journey.next()
            committed = False
            try:
                attempting = Attempting(call, deployment, asked=asked, journey=journey, begun=begun)
                begun = None
                async with attempting as attempt:
                    held = _as_told(attempt.held if streams else await attempt.whole(), told)
                    committed = True
                    if asked is call:
                        yield _COMMITTED
                    sink = None
                    for first in held:
                        sink = yield first
                    while (frame := await attempt.next(sink if told is None else None)) is not None:
                        sink = yield frame if told is None else told.next(frame)
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


class _Answer:
    """One call on its way: the block begins at the commit point of its answer, under the total clock."""

    __slots__ = ("_begun", "_call", "_frames", "_router", "_total", "_total_s")

    def __init__(self, router: Router, call: Call, *, total_s: float, begun: Begun | None = None) -> None:
        self._router = router
        self._call = call
        self._total_s = total_s
        self._begun = begun

    async def __aenter__(self) -> Stream:
        router, call = self._router, self._call
        loop, alarms = router.on_loop()
        route = router.route(call.request.model)
        self._total_s = route.rules.total_s or self._total_s
        if TIMEOUT in call.request.fields:
            self._total_s = _wanted_s(call, most_s=self._total_s)
        begun = self._begun
        deadline_s = loop.time() + self._total_s if begun is None else begun.deadline_s
        journey = Journey(
            call, route, health=router.health, rng=router.rng, deadline_s=deadline_s, loop=loop, alarms=alarms
        )
        call.paced = route.rules.paces
        self._total = Deadline(deadline_s, loop=loop, alarms=alarms)
        self._total.begin()
        self._frames = router.frames(call, journey, begun)
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
            self._stopped(error)

    def _stopped(self, error: BaseException | None) -> None:
        try:
            self._total.end(error)
        except TimeoutError:
            message = f"The request took longer than {self._total_s:g} s."
            if TIMEOUT in self._call.request.fields:
                raise CallersTimeout(message, param=TIMEOUT) from None
            raise UpstreamTimeout(message) from None


def _wanted_s(call: Call, *, most_s: float) -> float:
    """How long the whole request may take by its caller's own wish.

    Raises:
        InvalidRequest: that is longer than it may.
    """
    wanted_s: float = call.request.fields[TIMEOUT]
    if wanted_s > most_s:
        message = f"Invalid '{TIMEOUT}': requests to this model may take at most {most_s:g} s."
        raise InvalidRequest(message, param=TIMEOUT, code="decimal_above_max_value")
    return wanted_s


def _told(call: Call, journey: Journey) -> Told | None:
    """What remembers an answer that could be gone on with; None where nobody could."""
    request = call.request
    if not can_be_rescued(request):
        return None
    asked = call.asking(msgspec.structs.replace(request, begun="a"))
    return Told(request) if journey.could_go_on(asked) else None


def _as_told(frames: list[Frame], told: Told | None) -> list[Frame]:
    return frames if told is None else [told.next(frame) for frame in frames]


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
