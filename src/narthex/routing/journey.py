"""One request's way through the deployments of its model: whom to ask next, where to turn, when to give up."""

import asyncio
from collections.abc import Sequence
from random import Random
from typing import NoReturn

from narthex.core import capabilities
from narthex.core.errors import InvalidRequest, NarthexError
from narthex.core.ports import Call, Deployment
from narthex.core.templates import TEMPLATE, check_allowed
from narthex.ipc.alarms import Alarms
from narthex.routing.choice import ordered
from narthex.routing.health import Health
from narthex.routing.retry import Itinerary, filtered, moves_on, too_long
from narthex.routing.route import Route
from narthex.routing.validated import NotAsAsked


class Journey:
    """Made for one call, used by one task. `deadline_s`: the end of the total clock, as a time of the loop."""

    __slots__ = (
        "_able_first", "_asked_first", "_call", "_goes_on", "_ignored", "_last", "_made_anew", "_rng", "_route",
        "_turned", "_way_on", "alarms", "deadline_s", "health", "loop", "now", "rules",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        route: Route,
        *,
        health: Health,
        rng: Random,
        deadline_s: float,
        loop: asyncio.AbstractEventLoop,
        alarms: Alarms,
    ) -> None:
        """Choose who may answer.

        Raises:
            UnsupportedParameter: nobody can; names the field that stands in the way of the first. Or the request brings
                a chat template, and may not.
            InvalidRequest: the model does not serve this surface at all.
        """
        request = call.request
        if TEMPLATE in request.fields:
            check_allowed(call.principal, model=request.model, trusted=route.trusts_templates)
        self.rules = route.rules
        self.deadline_s = deadline_s
        self.loop = loop
        self.now = loop.time
        self.alarms = alarms
        self.health = health
        self._call = call
        self._route = route
        self._rng = rng
        self._ignored = tuple(call.ignored)
        self._last: NarthexError | None = None
        self._turned = False
        self._made_anew = False
        self._goes_on = False
        able = self._able(route.deployments)
        if not able:
            raise self._refusal()
        if len(able) > 1 and route.rules.strategy != "order":
            weights = dict(zip(route.deployments, route.weights, strict=False))
            weighted = [(deployment, weights.get(deployment, 1.0)) for deployment in able]
            able = ordered(weighted, strategy=route.rules.strategy, health=health, rng=rng)
        self._able_first = able
        self._way_on: Itinerary | None = None
        self._asked_first = False

    def asks_past_filters(self) -> bool:
        """Whether there is somebody else to ask when a content filter ends an answer before it began."""
        if self._goes_on:
            return False
        if self._turned:
            return self._itinerary.untried
        return bool(self._route.content_filter and self._able(self._route.content_filter))

    async def next(self) -> Deployment:
        """Whom to ask, after the wait that is due.

        Raises:
            NarthexError: nobody is left, or not in time; what the last attempt ended with.
        """
        if len(self._able_first) == 1 and not self._asked_first and self._way_on is None:
            self._asked_first, deployment = (
                True,
                self._able_first[0],
            )  # nearly all requests need no more of an itinerary
        else:
            step = self._itinerary.next(self.now())
            if step is None:
                self._give_up()
            deployment, wait_s = step
            if wait_s:
                await asyncio.sleep(wait_s)
        call = self._call
        honoured = deployment.capabilities(call.surface) or {}
        call.ignored[:] = (*self._ignored, *capabilities.without_effect(call.request.fields, honoured))
        return deployment

    def failed(self, deployment: Deployment, error: NarthexError) -> None:
        """An attempt ended before its commit point.

        Raises:
            NarthexError: the same error, where another attempt could end no better.
        """
        if self._goes_on:  # whoever refuses to is not asked again; the caller is told what broke the answer off
            self._itinerary.failed(deployment, error, now_s=self.now())
            return
        self._last = error
        if isinstance(error, NotAsAsked):
            if self._made_anew:  # ARCHITECTURE D3: once
                raise error
            self._made_anew = True
        if too_long(error):
            turned = self._turn(self._route.context_window)
        elif filtered(error):
            turned = self._turn(self._route.content_filter)
        else:
            turned = False
        if not turned:
            if not moves_on(error) and not self._fallback_left(error):
                raise error
            self._itinerary.failed(deployment, error, now_s=self.now())

    def could_go_on(self, asked: Call) -> bool:
        """Whether there is anybody who could go on as `asked` says."""
        return any(each.continues(asked) for each in self._route.deployments)

    def broke_off(self, deployment: Deployment, error: NarthexError, *, asked: Call) -> None:
        """An attempt ended after its commit point; from now on those are asked that can go on as `asked` says.

        Raises:
            NarthexError: the same error, where another attempt could end no better.
        """
        if not moves_on(error):
            raise error
        self._last, self._goes_on = error, True
        self._itinerary.failed(deployment, error, now_s=self.now())
        self._itinerary.keep(lambda each: each.continues(asked))

    def filtered(self, deployment: Deployment) -> None:
        """A content filter ended an answer before it began, and somebody else is to be asked."""
        if not self._turn(self._route.content_filter):
            self._itinerary.dismissed(deployment)

    def _turn(self, fallbacks: Sequence[Deployment]) -> bool:
        """Go on with the fallbacks for one kind of refusal, once."""
        able = [] if self._turned else self._able(fallbacks)
        if able:
            self._turned = True
            self._way_on = self._way(able)
        return bool(able)

    @property
    def _itinerary(self) -> Itinerary:
        if self._way_on is None:
            self._way_on = self._way(self._able_first)
            if self._asked_first:
                self._way_on.next(0.0)
        return self._way_on

    def _way(self, deployments: Sequence[Deployment]) -> Itinerary:
        return Itinerary(deployments, rules=self.rules, health=self.health, rng=self._rng, deadline_s=self.deadline_s)

    def _fallback_left(self, error: NarthexError) -> bool:
        """Among fallbacks, what made us turn to them may be mended by the next of them."""
        return self._turned and (too_long(error) or filtered(error))

    def _give_up(self) -> NoReturn:
        assert self._last is not None  # noqa: S101 - an itinerary begins with somebody to ask
        raise self._itinerary.explained(self._last, now_s=self.now())

    # --- who can honour the request

    def _able(self, deployments: Sequence[Deployment]) -> list[Deployment]:
        surface, request = self._call.surface, self._call.request
        able = []
        for deployment in deployments:
            honoured = deployment.capabilities(surface)
            if honoured is not None and capabilities.refusal(request.fields, honoured, model=request.model) is None:
                able.append(deployment)
        return able

    def _refusal(self) -> NarthexError:
        surface, request = self._call.surface, self._call.request
        for deployment in self._route.deployments:
            honoured = deployment.capabilities(surface)
            if honoured is not None:
                refusal = capabilities.refusal(request.fields, honoured, model=request.model)
                if refusal is not None:
                    return refusal
        message = f"The model '{request.model}' is not a model for {surface}."
        return InvalidRequest(message, param="model", code="unsupported_value")
