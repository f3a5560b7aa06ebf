"""One attempt at a call: opened, held back until its first output, watched by its clocks, and accounted for."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
import structlog
from typing_extensions import override

from narthex.core.attempts import ANSWERED, FILTERED, LEFT, Attempt
from narthex.core.errors import NarthexError, UpstreamTimeout
from narthex.core.ports import Call, Clocks, Deployment, Opened, Stream
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Frame, Usage, UsageReported
from narthex.ipc.deadline import Deadline
from narthex.routing.health import Health
from narthex.routing.route import Rules

log = structlog.get_logger(__name__)

PACE_S = 10.0
"""Over how long the pace of an answer is taken."""


class Filtered(Exception):
    """A content filter ended the answer before anything of it could be seen; somebody else may be asked."""


class Spent:
    """What an attempt has used so far; see `Attempt`."""

    def __init__(self) -> None:
        self.usage: Usage | None = None
        self.pieces = 0

    def add(self, frame: Frame) -> None:
        """It sent this frame of output."""
        if frame.usage is not None:
            self.usage = frame.billed or frame.usage
        elif not frame.finishes:
            self.pieces += 1


class Answering(msgspec.Struct, frozen=True, kw_only=True):
    """An attempt whose first output is here, or which ended without any: what was held back, and what follows.

    Whoever takes a frame of `rest` adds it to `spent`.
    """

    held: list[Frame]
    rest: Stream
    spent: Spent


class Attempting:
    """Asks one deployment; the block begins with its first output, and leaving it stops its work. Use it once.

    Errors that the block raises count as the deployment's.

    Raises:
        Filtered: see there.
        NarthexError: what the deployment raises, at the end of the block too.
        UpstreamTimeout: one of the attempt's own clocks ran out.
    """

    __slots__ = (
        "_account", "_asked", "_clocks", "_deployment", "_loop", "_opened", "_past_filters", "_spent",
        "_timer",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        deployment: Deployment,
        *,
        asked: Call,
        rules: Rules,
        health: Health,
        deadline_s: float,
        past_filters: Callable[[], bool],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        """`asked`: what it is asked, which is accounted for on `call`. `deadline_s`: the end of the total clock, which
        is the caller's to keep. `past_filters`: whether an answer that consists of nothing but a filter's verdict is
        not to be passed on.
        """
        self._deployment = deployment
        self._asked = asked
        self._past_filters = past_filters
        self._loop = loop
        self._clocks = _Clocks(rules, deployment.clocks, loop.time)
        self._spent = Spent()
        self._account = _Account(
            call, deployment, self._spent, rules=rules, health=health, deadline_s=deadline_s, now=loop.time
        )
        self._timer: Deadline | None = None
        self._opened: Opened | None = None

    async def __aenter__(self) -> Answering:
        self._account.begin()
        try:
            return await self._answering()
        except BaseException as error:
            raised = await self._unwound(error)
            if raised is error:
                raise
            raise raised or error from None

    async def __aexit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        raised = await self._unwound(error)
        if raised is not None and raised is not error:
            raise raised from None

    async def _answering(self) -> Answering:
        clocks = self._clocks
        if clocks.run:
            timer = Deadline(clocks.first_s(), loop=self._loop)
            self._timer = await timer.__aenter__()
        opened = self._deployment.open(self._asked)
        frames = await opened.__aenter__()
        self._opened = opened
        held = await _first_output(frames, self._spent)
        if self._timer is not None:
            self._timer.set(None)
        self._account.answered()
        last = held[-1] if held else None
        if last is not None and last.finishes and self._past_filters() and _is_filtered(held):
            raise Filtered
        complete = last is not None and last.finishes and last.usage is not None  # no more to wait for
        return Answering(held=held, rest=frames if complete else clocks.over(frames, self._timer), spent=self._spent)

    async def _unwound(self, error: BaseException | None) -> BaseException | None:
        """Leave what was entered, the last first. What the block ends with, if anything."""
        if self._opened is not None:
            error = await _left(self._opened, error)
        if self._timer is not None:
            error = await _left(self._timer, error)
            if self._timer.expired and isinstance(error, TimeoutError):
                error = UpstreamTimeout()
        self._account.end(error)
        return error


async def _left(block: AbstractAsyncContextManager[Any], error: BaseException | None) -> BaseException | None:
    """Leave a block that ended with `error`, if any; what it ends with now."""
    try:
        await block.__aexit__(
            None if error is None else type(error), error, None if error is None else error.__traceback__
        )
    except BaseException as other:  # noqa: BLE001 - handed on to whoever leaves next
        return other
    return error


class _Clocks:
    """The limits of one attempt: those of the model's rules and of the deployment's provider, whichever is earlier."""

    __slots__ = ("_ends_s", "_first_token_s", "_idle_s", "_pieces_per_s", "now", "run")

    def __init__(self, rules: Rules, provider: Clocks, now: Callable[[], float]) -> None:
        self._first_token_s = _earlier(rules.first_token_s, provider.first_token_s)
        self._idle_s = _earlier(rules.idle_s, provider.idle_s)
        self._pieces_per_s = rules.min_pieces_per_s
        self.now = now
        self._ends_s = None if rules.attempt_s is None else now() + rules.attempt_s
        limits = (self._first_token_s, self._idle_s, self._ends_s, self._pieces_per_s)
        self.run = limits != (None, None, None, None)

    def over(self, frames: Stream, timer: Deadline | None) -> Stream:
        """What follows the first output, under the clocks that there are."""
        if timer is None:
            return frames
        if self._pieces_per_s is not None:
            return _Paced(frames, timer, self, pieces_per_s=self._pieces_per_s)
        return _Clocked(frames, timer, self)

    def first_s(self) -> float | None:
        """When the first output is due."""
        return self._ends_s if self._first_token_s is None else _earlier(self.now() + self._first_token_s, self._ends_s)

    def next_s(self) -> float | None:
        """When the next frame is due, asked now."""
        if self._idle_s is None:
            return self._ends_s
        due_s = self.now() + self._idle_s
        return due_s if self._ends_s is None else min(due_s, self._ends_s)


class _Clocked:
    """Frames under the attempt's clocks, which run only while somebody waits for the next one."""

    __slots__ = ("_clocks", "_frames", "_timer")

    def __init__(self, frames: Stream, timer: Deadline, clocks: _Clocks) -> None:
        self._frames = frames
        self._timer = timer
        self._clocks = clocks

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        self._timer.set(self._clocks.next_s())
        frame = await anext(self._frames)
        self._timer.set(None)
        return frame


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
        self._timer.set(_earlier(began_s + self._left_s, self._clocks.next_s()))
        frame = await anext(self._frames)
        self._timer.set(None)
        self._left_s -= self._clocks.now() - began_s
        self._missing -= frame.usage is None
        if not self._missing or frame.finishes:  # what comes after the finish is no output that could be slow
            self._missing, self._left_s = self._due, PACE_S
        return frame


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class _Account:
    """Counts an attempt in the deployment's health and on the call. `begin` it once, and `end` it whatever happens."""

    __slots__ = (
        "_before", "_began_s", "_call", "_deadline_s", "_deployment", "_health", "_name", "_now", "_rules", "_spent",
        "_turn",
    )  # fmt: skip

    def __init__(
        self,
        call: Call,
        deployment: Deployment,
        spent: Spent,
        *,
        rules: Rules,
        health: Health,
        deadline_s: float,
        now: Callable[[], float],
    ) -> None:
        self._call = call
        self._deployment = deployment
        self._name = deployment.name
        self._spent = spent
        self._rules = rules
        self._health = health
        self._deadline_s = deadline_s
        self._now = now

    def begin(self) -> None:
        """The attempt is under way."""
        call = self._call
        self._began_s = self._now()
        call.deployment, call.fingerprint = self._name, self._deployment.fingerprint
        self._before = call.attempts
        call.attempts = (*self._before, Attempt(deployment=self._name))
        self._turn = self._health.begin(self._name)

    def answered(self) -> None:
        """Its first output is here."""
        self._turn.answered()

    def end(self, error: BaseException | None) -> None:
        """It has ended, with this error if any."""
        self._call.attempts = (
            *self._before,
            Attempt(
                deployment=self._name,
                outcome=self._outcome(error),
                seconds=self._now() - self._began_s,
                usage=self._spent.usage,
                pieces=self._spent.pieces,
            ),
        )

    def _outcome(self, error: BaseException | None) -> str:
        if error is None or isinstance(error, Filtered):
            self._turn.done()
            return ANSWERED if error is None else FILTERED
        if isinstance(error, NarthexError):
            self._turn.failed(error, cooldown_s=self._rules.cooldown_s)
            self._tell(error)
            return type(error).__name__
        if self._now() >= self._deadline_s and not self._turn.has_answered:
            # who let the total clock run out is at fault
            self._turn.failed(UpstreamTimeout(), cooldown_s=self._rules.cooldown_s)
            return UpstreamTimeout.__name__
        self._turn.left()
        return LEFT

    def _tell(self, error: NarthexError) -> None:
        log.warning(
            "an attempt failed",
            deployment=self._name,
            attempt=len(self._call.attempts),
            error=type(error).__name__,
            code=error.code,
            retry_after_s=error.retry_after_s,
            seconds=round(self._now() - self._began_s, 4),
        )


async def _first_output(frames: Stream, spent: Spent) -> list[Frame]:
    """The frames up to the first that a caller would see; before it the attempt can still be replaced."""
    held: list[Frame] = []
    async for frame in frames:
        held.append(frame)
        if frame.has_output:
            spent.add(frame)
            break
        if frame.usage is not None:
            spent.add(frame)
    return held


def _is_filtered(held: list[Frame]) -> bool:
    silent = ChoiceStarted | UsageReported
    events = [event for frame in held for event in frame.events if not isinstance(event, silent)]
    return bool(events) and all(
        isinstance(event, ChoiceFinished) and event.reason == "content_filter" for event in events
    )
