"""One attempt at a call: opened, held back until its first output, watched by its clocks, and accounted for."""

import math
from collections.abc import AsyncIterator, Callable
from types import TracebackType
from typing import Self

import structlog
from typing_extensions import override

from narthex.core.attempts import ANSWERED, FILTERED, LEFT, Attempt
from narthex.core.capabilities import TIMEOUT
from narthex.core.errors import NarthexError, RequestError, UpstreamTimeout
from narthex.core.ports import NO_CLOCKS, Call, Clocks, Deployment, Opened, Relaying, Sink, Stream
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Frame, Pulse, Usage, UsageReported
from narthex.ipc.deadline import Deadline
from narthex.routing.journey import Journey
from narthex.routing.prompt import Begun
from narthex.routing.route import Rules

log = structlog.get_logger(__name__)

PACE_S = 10.0
"""Over how long the pace of an answer is taken."""


class Filtered(Exception):
    """A content filter ended the answer before anything of it could be seen; somebody else may be asked."""


class Attempting:
    """Asks one deployment; the block begins with its first output, and leaving it stops its work. Use it once.

    Errors that the block raises count as the deployment's.

    Raises:
        Filtered: see there.
        NarthexError: what the deployment raises, at the end of the block too.
        UpstreamTimeout: one of the attempt's own clocks ran out.
    """

    __slots__ = (
        "_asked", "_before", "_began_s", "_begun", "_call", "_clocks", "_deployment", "_journey", "_opened", "_pulse",
        "_timer", "_turn", "_usage", "held", "rest",
    )  # fmt: skip

    def __init__(
        self, call: Call, deployment: Deployment, *, asked: Call, journey: Journey, begun: Begun | None = None
    ) -> None:
        """`asked`: what it is asked, which is accounted for on `call`. `begun`: what of it was done already."""
        self._call = call
        self._deployment = deployment
        self._asked = asked
        self._journey = journey
        self._clocks: _Clocks | None = None
        self._timer: Deadline | None = None
        self._begun = begun
        self._opened: Opened | None = None
        self._usage: Usage | None = None
        self._pulse = Pulse()
        self.held: list[Frame] = []
        """The frames up to its first output, or all that there are."""
        self.rest: Stream
        """What follows."""

    async def __aenter__(self) -> Self:
        call, name, journey, begun = self._call, self._deployment.name, self._journey, self._begun
        self._began_s = journey.now() if begun is None else begun.began_s
        if self._asked is not call:
            self._tell_what_goes_on()
        call.deployment, call.fingerprint = name, self._deployment.fingerprint
        self._before = call.attempts
        call.attempts = (*self._before, Attempt(deployment=name))
        self._turn = journey.health.begin(name) if begun is None else begun.turn
        try:
            await self._first_output()
        except BaseException as error:
            raised = await self._ended(error)
            if raised is error:
                raise
            raise raised or error from None
        return self

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        raised = await self._ended(error)
        if raised is not None and raised is not error:
            raise raised from None

    async def _first_output(self) -> None:
        journey, clocks = self._journey, self._deployment.clocks
        if journey.rules.ticks or clocks != NO_CLOCKS:
            self._clocks = _Clocks(journey.rules, clocks, journey.now)
            self._timer = Deadline(self._clocks.first_s(), loop=journey.loop, alarms=journey.alarms)
            self._timer.begin()
        opened = self._deployment.open(self._asked) if self._begun is None else self._begun.opened
        frames = await opened.__aenter__()
        self._opened = opened
        if self._begun is not None and (pulse := self._begun.pulse) is not None:  # it is past that
            self._pulse = pulse
        else:
            await self._hold(frames)
        if self._timer is not None:
            self._timer.set(None)
        held = self.held
        last = held[-1] if held else None
        if last is not None and last.finishes and journey.asks_past_filters() and _is_filtered(held):
            raise Filtered
        complete = last is not None and last.finishes and last.usage is not None  # no more to wait for
        if self._clocks is not None and self._timer is not None and not complete:
            frames = self._clocks.over(frames, self._timer)
        self.rest = frames

    async def _hold(self, frames: Stream) -> None:
        held = self.held
        async for frame in frames:  # before the first that a caller would see the attempt can still be replaced
            held.append(frame)
            if frame.has_output:
                self.sent(frame)
                break
            if frame.usage is not None:
                self.sent(frame)
        self._turn.answered()

    async def whole(self) -> list[Frame]:
        """All that it sends, once it is here to the end."""
        async for frame in self.rest:
            self.sent(frame)
            self.held.append(frame)
        return self.held

    def sent(self, frame: Frame) -> None:
        """It sent this frame of output."""
        if frame.usage is not None:
            self._usage = frame.billed or frame.usage
        elif not frame.finishes:
            self._pulse.pieces += 1

    async def next(self, sink: Sink | None) -> Frame | None:
        """The next of `rest`, None at its end; with a sink, after what could be written there as it came."""
        if sink is not None and isinstance(self.rest, Relaying):
            await self.rest.hand_over(sink, self._pulse)
        frame = await anext(self.rest, None)
        if frame is not None:
            self.sent(frame)
        return frame

    async def _ended(self, error: BaseException | None) -> BaseException | None:
        """Leave what was entered, the last first, and account for it. What the block ends with, if anything."""
        if self._opened is not None:
            try:
                await self._opened.__aexit__(None if error is None else type(error), error, _trace(error))
            except BaseException as other:  # noqa: BLE001 - handed on to whoever leaves next
                error = other
        if self._timer is not None:
            try:
                self._timer.end(error)
            except TimeoutError as timeout:
                error = timeout
            if self._timer.expired and isinstance(error, TimeoutError):
                error = UpstreamTimeout()
        outcome = self._outcome(error)
        self._call.attempts = (
            *self._before,
            Attempt(
                deployment=self._deployment.name,
                outcome=outcome,
                seconds=self._journey.now() - self._began_s,
                usage=self._usage,
                pieces=self._pulse.pieces,
            ),
        )
        return error

    def _outcome(self, error: BaseException | None) -> str:
        turn, journey = self._turn, self._journey
        if error is None or isinstance(error, Filtered):
            turn.done()
            return ANSWERED if error is None else FILTERED
        if isinstance(error, NarthexError):
            turn.failed(error, cooldown_s=journey.rules.cooldown_s)
            self._tell(error)
            return type(error).__name__
        if journey.now() >= journey.deadline_s and not turn.has_answered and TIMEOUT not in self._call.request.fields:
            # who let the total clock run out is at fault; a caller's own clock may be as short as they like
            turn.failed(UpstreamTimeout(), cooldown_s=journey.rules.cooldown_s)
            return UpstreamTimeout.__name__
        turn.left()
        return LEFT

    def _tell_what_goes_on(self) -> None:
        characters = len(getattr(self._asked.request, "begun", ""))
        log.info(
            "an answer goes on", after=self._call.deployment, deployment=self._deployment.name, characters=characters
        )

    def _tell(self, error: NarthexError) -> None:
        # What is too long is no fault of the deployment, and a file may have thousands of such chunks.
        tell = log.debug if isinstance(error, RequestError) else log.warning
        tell(
            "an attempt failed",
            deployment=self._deployment.name,
            attempt=len(self._call.attempts),
            error=type(error).__name__,
            code=error.code,
            retry_after_s=error.retry_after_s,
            seconds=round(self._journey.now() - self._began_s, 4),
        )


def _trace(error: BaseException | None) -> TracebackType | None:
    return None if error is None else error.__traceback__


class _Clocks:
    """The limits of one attempt: those of the model's rules and of the deployment's provider, whichever is earlier."""

    __slots__ = ("_ends_s", "_first_token_s", "_idle_s", "_pieces_per_s", "now")

    def __init__(self, rules: Rules, provider: Clocks, now: Callable[[], float]) -> None:
        self._first_token_s = _earlier(rules.first_token_s, provider.first_token_s)
        self._idle_s = _earlier(rules.idle_s, provider.idle_s)
        self._pieces_per_s = rules.min_pieces_per_s
        self.now = now
        self._ends_s = None if rules.attempt_s is None else now() + rules.attempt_s

    def over(self, frames: Stream, timer: Deadline) -> Stream:
        """What follows the first output, under the clocks that there are."""
        if self._pieces_per_s is not None:
            return _Paced(frames, timer, self, pieces_per_s=self._pieces_per_s)
        return _Clocked(frames, timer, self)

    def first_s(self) -> float | None:
        """When the first output is due."""
        return self._ends_s if self._first_token_s is None else _earlier(self.now() + self._first_token_s, self._ends_s)

    def next_s(self, last_s: float) -> float | None:
        """When the next frame is due after one that came then."""
        if self._idle_s is None:
            return self._ends_s
        due_s = last_s + self._idle_s
        return due_s if self._ends_s is None else min(due_s, self._ends_s)


class _Clocked(Relaying):
    """Frames under the attempt's clocks, which run only while somebody waits for the next one."""

    __slots__ = ("_clocks", "_frames", "_timer")

    def __init__(self, frames: Stream, timer: Deadline, clocks: _Clocks) -> None:
        self._frames = frames
        self._timer = timer
        self._clocks = clocks

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        self._timer.set(self._clocks.next_s(self._clocks.now()))
        frame = await anext(self._frames)
        self._timer.set(None)
        return frame

    @override
    async def hand_over(self, sink: Sink, pulse: Pulse) -> None:
        if isinstance(self._frames, Relaying):
            pulse.last_s = self._clocks.now()
            self._timer.follow(lambda: self._clocks.next_s(pulse.last_s))
            await self._frames.hand_over(sink, pulse)
            self._timer.set(None)


class _Paced(_Clocked):
    """The same, and so many pieces have to come in each `PACE_S` of waiting; who brings them sooner begins anew."""

    __slots__ = ("_due", "_left_s", "_missing")

    def __init__(self, frames: Stream, timer: Deadline, clocks: _Clocks, *, pieces_per_s: float) -> None:
        super().__init__(frames, timer, clocks)
        self._due = self._missing = math.ceil(pieces_per_s * PACE_S)
        self._left_s = PACE_S

    @override
    async def __anext__(self) -> Frame:
        began_s = self._clocks.now()
        self._timer.set(_earlier(began_s + self._left_s, self._clocks.next_s(began_s)))
        frame = await anext(self._frames)
        self._timer.set(None)
        self._left_s -= self._clocks.now() - began_s
        self._missing -= frame.usage is None
        if not self._missing or frame.finishes:  # what comes after the finish is no output that could be slow
            self._missing, self._left_s = self._due, PACE_S
        return frame

    @override
    async def hand_over(self, sink: Sink, pulse: Pulse) -> None:
        """Nothing: how long each piece took is looked at."""


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


def _is_filtered(held: list[Frame]) -> bool:
    silent = ChoiceStarted | UsageReported
    events = [event for frame in held for event in frame.events if not isinstance(event, silent)]
    return bool(events) and all(
        isinstance(event, ChoiceFinished) and event.reason == "content_filter" for event in events
    )
