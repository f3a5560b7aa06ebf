"""Calls that are asked before anybody waits for them: of their model's one deployment.

Nearly all calls are such, those for a whole answer (here) and those for a stream (`passage.py`). They need no task, no
itinerary and no clock but the whole request's; whatever else comes of one is left to the router, which goes on with
what was begun here.

Rule: nobody can tell from an answer, a log line or a metric which way it took.
"""

import asyncio
from typing import Protocol

from narthex.core import capabilities
from narthex.core.attempts import ANSWERED, Attempt
from narthex.core.errors import NarthexError
from narthex.core.ports import Call, Deployment, OnAnswer, Prompt
from narthex.core.stream import Frame, Pulse
from narthex.core.templates import TEMPLATE
from narthex.ipc.alarms import Alarm, Alarms
from narthex.routing.health import Health, Turn
from narthex.routing.route import Route


def prompt_of(call: Call, deployment: Deployment) -> Prompt | None:
    """What to ask, if the call is of this kind. Sets what an attempt sets on the call."""
    honoured = deployment.capabilities(call.surface)
    if honoured is None:
        return None
    fields = call.request.fields
    if TEMPLATE in fields:  # the router knows who may send one
        return None
    if not capabilities.are_honoured(fields, honoured) and (
        capabilities.without_effect(fields, honoured)  # the router names them
        or capabilities.refusal(fields, honoured, model=call.request.model) is not None
    ):
        return None
    try:
        opened = deployment.open(call)
    except NarthexError:  # whoever opens it again learns of it
        return None
    if not isinstance(opened, Prompt):
        return None
    call.deployment, call.fingerprint = deployment.name, deployment.fingerprint
    return opened


def only(route: Route) -> Deployment | None:
    """The only one that may ever be asked for a model, without a clock over its pieces."""
    if len(route.deployments) != 1 or route.content_filter or route.rules.ticks:
        return None
    (deployment,) = route.deployments
    return deployment if deployment.clocks.first_token_s is None else None


class Begun(Protocol):
    """What was begun of an attempt; it can be gone on with once it is given up.

    `pulse`: past its commit point; None: it has not come there.
    """

    began_s: float
    deadline_s: float
    opened: Prompt
    turn: Turn
    pulse: Pulse | None

    def give_up(self) -> None:
        """Tell nothing any more: somebody waits for it now, or nobody wants it."""
        ...


class Prompted:
    """A call for a whole answer on its way. Of its end it tells once, unless it is given up before."""

    __slots__ = ("_alarm", "_call", "_told", "began_s", "deadline_s", "opened", "turn")

    turn: Turn
    pulse: Pulse | None = None

    def __init__(self, call: Call, opened: Prompt, told: OnAnswer, *, loop: asyncio.AbstractEventLoop) -> None:
        self._call = call
        self._told: OnAnswer | None = told
        self._alarm: Alarm | None = None
        self.opened = opened
        self.began_s = loop.time()
        self.deadline_s = 0.0

    def ask(self, *, health: Health, alarms: Alarms, total_s: float) -> bool:
        """Ask now. Whether that could be done without waiting."""
        if not self.opened.ask(self._heard):
            return False
        self.turn = health.begin(self._call.deployment)
        self.deadline_s = self.began_s + total_s
        self._alarm = alarms.call_at(self.deadline_s, self._late)
        return True

    def give_up(self) -> None:
        """See `Begun`."""
        self._told = None
        self.opened.hush()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _heard(self, frame: Frame | None) -> None:
        told = self._told
        if told is None:
            return
        if frame is None:
            self.give_up()
        else:
            self._told = None
            if self._alarm is not None:
                self._alarm.cancel()
            self._answered(frame)
        told(frame)

    def _answered(self, frame: Frame) -> None:
        call = self._call
        seconds = self.turn.at_once()
        attempt = Attempt(
            deployment=call.deployment,
            outcome=ANSWERED,
            seconds=seconds,
            usage=frame.billed or frame.usage,
            pieces=0 if frame.finishes or frame.usage is not None else 1,
        )
        call.attempts = (attempt,)

    def _late(self) -> None:
        """The whole request takes too long; whoever goes on with it will find so."""
        self._heard(None)
