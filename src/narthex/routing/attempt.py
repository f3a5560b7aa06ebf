"""One attempt at a call: opened, held back until its first output, watched by its clocks, and accounted for."""

import asyncio
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import TracebackType

import msgspec
import structlog
from typing_extensions import override

from narthex.core.attempts import ANSWERED, FILTERED, LEFT, Attempt
from narthex.core.errors import NarthexError, UpstreamTimeout
from narthex.core.ports import Call, Deployment, Stream
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Frame, Usage
from narthex.ipc.deadline import Deadline
from narthex.routing.health import Health, Turn
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


@asynccontextmanager
async def attempt(
    call: Call,
    deployment: Deployment,
    *,
    asked: Call,
    rules: Rules,
    health: Health,
    deadline_s: float,
    refuse_filtered: bool,
    loop: asyncio.AbstractEventLoop,
) -> AsyncIterator[Answering]:
    """Ask one deployment; the block begins with its first output, and leaving it stops its work.

    `asked`: what it is asked, which is accounted for on `call`. `deadline_s`: the end of the total clock, which is the
    caller's to keep. `refuse_filtered`: an answer that consists of nothing but a filter's verdict is not to be passed
    on. Errors that the block raises count as the deployment's.

    Raises:
        Filtered: see there.
        NarthexError: what the deployment raises, at the end of the block too.
        UpstreamTimeout: one of the attempt's own clocks ran out.
    """
    spent = Spent()
    now = loop.time
    with _Accounted(call, deployment, spent, rules=rules, health=health, deadline_s=deadline_s, now=now) as turn:
        ends_s = None if rules.attempt_s is None else now() + rules.attempt_s
        timer = Deadline(_earlier(_after(now, rules.first_token_s), ends_s), loop=loop)
        try:
            async with timer, deployment.open(asked) as frames:
                held = await _first_output(frames, spent)
                timer.set(None)
                turn.answered()
                if refuse_filtered and _is_filtered(held):
                    raise Filtered
                yield Answering(held=held, rest=_clocked(frames, timer, rules, ends_s=ends_s, now=now), spent=spent)
        except TimeoutError:
            if not timer.expired:
                raise
            raise UpstreamTimeout from None


class _Clocked:
    """Frames under the attempt's clocks, which run only while somebody waits for the next one."""

    def __init__(
        self,
        frames: Stream,
        timer: Deadline,
        *,
        idle_s: float | None,
        ends_s: float | None,
        now: Callable[[], float],
    ) -> None:
        self._frames = frames
        self._timer = timer
        self._idle_s = idle_s
        self._ends_s = ends_s
        self._now = now

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        self._timer.set(_earlier(_after(self._now, self._idle_s), self._ends_s))
        frame = await anext(self._frames)
        self._timer.set(None)
        return frame


class _Paced(_Clocked):
    """The same, and so many pieces have to come in each `PACE_S` of waiting; who brings them sooner begins anew."""

    def __init__(
        self,
        frames: Stream,
        timer: Deadline,
        *,
        idle_s: float | None,
        ends_s: float | None,
        now: Callable[[], float],
        pieces_per_s: float,
    ) -> None:
        super().__init__(frames, timer, idle_s=idle_s, ends_s=ends_s, now=now)
        self._due = self._missing = math.ceil(pieces_per_s * PACE_S)
        self._left_s = PACE_S

    @override
    async def __anext__(self) -> Frame:
        began_s = self._now()
        clock_s = _earlier(_after(self._now, self._idle_s), self._ends_s)
        self._timer.set(_earlier(began_s + self._left_s, clock_s))
        frame = await anext(self._frames)
        self._timer.set(None)
        self._left_s -= self._now() - began_s
        self._missing -= frame.usage is None
        if not self._missing:
            self._missing, self._left_s = self._due, PACE_S
        return frame


def _clocked(
    frames: Stream, timer: Deadline, rules: Rules, *, ends_s: float | None, now: Callable[[], float]
) -> Stream:
    """What follows the first output, under the clocks that there are."""
    idle_s, pieces_per_s = rules.idle_s, rules.min_pieces_per_s
    if pieces_per_s is not None:
        return _Paced(frames, timer, idle_s=idle_s, ends_s=ends_s, now=now, pieces_per_s=pieces_per_s)
    if idle_s is None and ends_s is None:
        return frames
    return _Clocked(frames, timer, idle_s=idle_s, ends_s=ends_s, now=now)


def _after(now: Callable[[], float], seconds: float | None) -> float | None:
    return None if seconds is None else now() + seconds


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


class _Accounted:
    """Counts an attempt in the deployment's health and on the call, whichever way its block ends."""

    __slots__ = (
        "_attempt", "_before", "_began_s", "_call", "_deadline_s", "_now", "_rules", "_spent", "_turn",
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
        name = deployment.name
        call.deployment, call.fingerprint = name, deployment.fingerprint
        self._call = call
        self._spent = spent
        self._rules = rules
        self._deadline_s = deadline_s
        self._now = now
        self._began_s = now()
        self._before, self._attempt = call.attempts, Attempt(deployment=name)
        call.attempts = (*self._before, self._attempt)
        self._turn = health.begin(name)

    def __enter__(self) -> Turn:
        return self._turn

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        outcome = self._outcome(error)
        self._call.attempts = (
            *self._before,
            Attempt(
                deployment=self._attempt.deployment,
                outcome=outcome,
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
            deployment=self._attempt.deployment,
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
    events = [event for frame in held for event in frame.events if not isinstance(event, ChoiceStarted)]
    return bool(events) and all(
        isinstance(event, ChoiceFinished) and event.reason == "content_filter" for event in events
    )
