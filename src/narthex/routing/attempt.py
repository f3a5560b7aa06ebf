"""One attempt at a call: opened, held back until its first output, watched by its clocks, and accounted for."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager

import msgspec
import structlog

from narthex.core.attempts import ANSWERED, FILTERED, LEFT, Attempt
from narthex.core.errors import NarthexError, UpstreamTimeout
from narthex.core.ports import Call, Deployment, Stream
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Frame
from narthex.routing.health import Health, Turn
from narthex.routing.route import Rules

log = structlog.get_logger(__name__)


class Filtered(Exception):
    """A content filter ended the answer before anything of it could be seen; somebody else may be asked."""


async def answer(
    call: Call, deployment: Deployment, *, rules: Rules, health: Health, deadline_s: float, refuse_filtered: bool
) -> AsyncGenerator[Frame, None]:
    """The frames of one deployment; the first comes with its first output, and ending the iteration stops its work.

    `deadline_s`: the end of the total clock, which is the caller's to keep. `refuse_filtered`: an answer that consists
    of nothing but a filter's verdict is not to be passed on.

    Raises:
        Filtered: see there.
        NarthexError: what the deployment raises.
        UpstreamTimeout: one of the attempt's own clocks ran out.
    """
    with _accounted(call, deployment, rules=rules, health=health, deadline_s=deadline_s) as watch:
        timer = asyncio.timeout_at(watch.first_s)
        try:
            async with timer, deployment.open(call) as frames:
                held = await _first_output(frames)
                timer.reschedule(None)
                watch.turn.answered()
                if refuse_filtered and _is_filtered(held):
                    raise Filtered
                for frame in held:
                    yield frame
                timer.reschedule(watch.next_s())
                async for frame in frames:
                    timer.reschedule(None)  # while the caller reads, nobody waits for the deployment
                    yield frame
                    timer.reschedule(watch.next_s())
        except TimeoutError:
            if not timer.expired():
                raise
            raise UpstreamTimeout from None


class _Watch:
    """The clocks of one attempt, as times of the loop; None: none runs."""

    def __init__(self, rules: Rules, turn: Turn, now: Callable[[], float]) -> None:
        began_s = now()
        self.turn = turn
        self._now = now
        self._idle_s = rules.idle_s
        self._ends_s = None if rules.attempt_s is None else began_s + rules.attempt_s
        self.first_s = _earlier(None if rules.first_token_s is None else began_s + rules.first_token_s, self._ends_s)

    def next_s(self) -> float | None:
        """When the next frame must be here."""
        return _earlier(None if self._idle_s is None else self._now() + self._idle_s, self._ends_s)


def _earlier(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)


@contextmanager
def _accounted(
    call: Call, deployment: Deployment, *, rules: Rules, health: Health, deadline_s: float
) -> Iterator[_Watch]:
    """Count the attempt in the deployment's health and on the call, whichever way it ends."""
    now = asyncio.get_running_loop().time
    began_s = now()
    call.deployment, call.fingerprint = deployment.name, deployment.fingerprint
    before, attempt = call.attempts, Attempt(deployment=deployment.name)
    call.attempts = (*before, attempt)
    turn = health.begin(deployment.name)
    outcome = LEFT
    try:
        yield _Watch(rules, turn, now)
        outcome = ANSWERED
        turn.done()
    except Filtered:
        outcome = FILTERED
        turn.done()
        raise
    except NarthexError as error:
        outcome = type(error).__name__
        turn.failed(error, cooldown_s=rules.cooldown_s)
        log.warning(
            "an attempt failed",
            deployment=deployment.name,
            attempt=len(call.attempts),
            error=outcome,
            code=error.code,
            retry_after_s=error.retry_after_s,
            seconds=round(now() - began_s, 4),
        )
        raise
    except BaseException:
        if now() >= deadline_s:  # who lets the total clock run out is at fault, whoever keeps it
            outcome = UpstreamTimeout.__name__
            turn.failed(UpstreamTimeout(), cooldown_s=rules.cooldown_s)
        else:
            turn.left()
        raise
    finally:
        call.attempts = (*before, msgspec.structs.replace(attempt, outcome=outcome, seconds=now() - began_s))


async def _first_output(frames: Stream) -> list[Frame]:
    """The frames up to the first that a caller would see; before it the attempt can still be replaced."""
    held: list[Frame] = []
    async for frame in frames:
        held.append(frame)
        if frame.has_output:
            break
    return held


def _is_filtered(held: list[Frame]) -> bool:
    events = [event for frame in held for event in frame.events if not isinstance(event, ChoiceStarted)]
    return bool(events) and all(
        isinstance(event, ChoiceFinished) and event.reason == "content_filter" for event in events
    )
