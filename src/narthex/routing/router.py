"""From a model's name to the deployment that answers; nothing is sent on before its first output (the commit point).

Source: ARCHITECTURE D3 and D4.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from random import Random

from narthex.core.errors import ModelNotFound, NarthexError, UpstreamTimeout
from narthex.core.ports import Call, Opened, Stream
from narthex.core.stream import Frame
from narthex.routing.attempt import Filtered, attempt
from narthex.routing.health import Health
from narthex.routing.journey import Journey
from narthex.routing.route import ANY, Route

__all__ = ["ANY", "Route", "Router"]


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
        self._rng = rng or Random()  # noqa: S311 - chooses deployments, no secrets

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
        """The `Handler` at the end of all policies: the block begins with the first output.

        Raises:
            ModelNotFound: there is no such model.
            UnsupportedParameter: no deployment honours the request; names the field.
            UpstreamTimeout: the whole request, all attempts and waits together, took too long.
            NarthexError: what the last attempt ended with.
        """
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        route = self.route(call.request.model)
        total_s = route.rules.total_s or self._total_s
        deadline_s = _loop_time() + total_s
        journey = Journey(call, route, health=self.health, rng=self._rng, deadline_s=deadline_s)
        total = asyncio.timeout_at(deadline_s)
        try:
            async with total, aclosing(self._frames(call, journey)) as frames:
                await anext(frames)
                yield frames
        except TimeoutError:
            if not total.expired():
                raise
            raise UpstreamTimeout(f"The request took longer than {total_s:g} s.") from None

    async def _frames(self, call: Call, journey: Journey) -> AsyncGenerator[Frame, None]:
        """The frames of whichever attempt comes as far as its first output, which is announced by `_COMMITTED`."""
        while True:
            deployment = await journey.next()
            committed = False
            try:
                async with attempt(
                    call,
                    deployment,
                    rules=journey.rules,
                    health=self.health,
                    deadline_s=journey.deadline_s,
                    refuse_filtered=journey.asks_past_filters,
                ) as answering:
                    committed = True
                    yield _COMMITTED
                    for frame in answering.held:
                        yield frame
                    async for frame in answering.rest:
                        yield frame
                return
            except Filtered:
                journey.filtered(deployment)
            except NarthexError as error:
                if committed:
                    raise
                journey.failed(deployment, error)


def _loop_time() -> float:
    return asyncio.get_running_loop().time()
