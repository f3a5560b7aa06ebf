"""How each deployment fares: a circuit breaker, how many requests it works on, how soon it begins to answer.

One record per deployment, shared by all public models that use it. A breaker is *closed* while all is well; *open*
after too many failures, or as long as the upstream said to stay away; then *half open*: one attempt is let through, and
what becomes of it decides. Open means tried last, not never.
"""

from collections import deque
from collections.abc import Callable
from typing import Literal

import msgspec

from narthex.core.errors import (
    EngineError,
    NarthexError,
    RequestError,
    UpstreamError,
    UpstreamRateLimited,
    UpstreamRejected,
)

LONGEST_REST_S = 600.0
"""However long an upstream says to stay away: a wrong header must not switch it off for a day."""

_WHILE_PROBING_S = 1.0
_NEWEST_COUNTS = 0.2  # how much the newest time to the first output counts in their moving mean


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """When a breaker opens: after `in_a_row` failures, or when `share` of the last `window` outcomes are failures.

    The share counts from `least` outcomes on; outcomes are forgotten after `within_s`.
    """

    in_a_row: int = 5
    window: int = 20
    least: int = 10
    share: float = 0.5
    within_s: float = 60.0


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """One deployment at one time, for metrics. Counts since the start; `first_output_s` is a moving mean."""

    state: Literal["closed", "open", "half_open"]
    in_flight: int
    attempts: int
    failures: int
    opened: int
    first_output_s: float | None


def is_fault(error: NarthexError) -> bool:
    """Whether an error tells against the deployment; one of the request itself, or a full queue of ours, does not."""
    return isinstance(error, UpstreamError | EngineError) and not isinstance(error, UpstreamRejected)


def told_s(error: NarthexError) -> float | None:
    """How long the other side said to stay away, within reason."""
    return None if error.retry_after_s is None else min(error.retry_after_s, LONGEST_REST_S)


class _Record:
    """What is known of one deployment."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.outcomes: deque[tuple[float, bool]] = deque(maxlen=limits.window)
        self.in_a_row = self.in_flight = self.attempts = self.failures = self.opened = 0
        self.open_until_s: float | None = None  # None: closed
        self.probing = False
        self.first_output_s: float | None = None

    def close(self) -> None:
        """All is well again; what was before is forgotten."""
        self.open_until_s, self.in_a_row = None, 0
        self.outcomes.clear()

    def open(self, until_s: float) -> None:
        """Rest until then, or longer if that was decided already."""
        self.opened += self.open_until_s is None
        self.open_until_s = max(until_s, self.open_until_s or until_s)

    def note(self, now_s: float, *, failed: bool) -> None:
        """Remember an outcome."""
        self.outcomes.append((now_s, failed))
        self.in_a_row = self.in_a_row + 1 if failed else 0

    def failing(self, now_s: float) -> bool:
        """Whether there were too many failures."""
        recent = [failed for at_s, failed in self.outcomes if now_s - at_s <= self.limits.within_s]
        too_often = len(recent) >= self.limits.least and sum(recent) >= self.limits.share * len(recent)
        return self.in_a_row >= self.limits.in_a_row or too_often


class Turn:
    """One attempt, as health counts it. Made by `Health.begin`; end it with exactly one of `failed`, `done`, `left`."""

    __slots__ = ("_began_s", "_clock", "_is_probe", "_record", "has_answered")

    def __init__(self, record: _Record, clock: Callable[[], float]) -> None:
        now_s = clock()
        self._record = record
        self._clock = clock
        self._began_s = now_s
        self.has_answered = False
        rests = record.open_until_s
        self._is_probe = rests is not None and rests <= now_s and not record.probing
        if self._is_probe:
            record.probing = True
        record.in_flight += 1
        record.attempts += 1

    def answered(self) -> None:
        """Its first output is here."""
        self._answered(self._clock())

    def _answered(self, now_s: float) -> None:
        self.has_answered = True
        took_s, before_s = now_s - self._began_s, self._record.first_output_s
        mean_s = took_s if before_s is None else before_s + _NEWEST_COUNTS * (took_s - before_s)
        self._record.first_output_s = mean_s
        if self._is_probe:
            self._record.close()

    def at_once(self) -> float:
        """It answered in full, and all of that is here now: `answered` and `done`. How long it took, in seconds."""
        now_s = self._clock()
        self._answered(now_s)
        self._end()
        self._record.note(now_s, failed=False)
        return now_s - self._began_s

    def done(self) -> None:
        """It answered in full."""
        self._end()
        self._record.note(self._clock(), failed=False)

    def left(self) -> None:
        """Nobody waits for it any more; that says nothing of the deployment."""
        self._end()

    def failed(self, error: NarthexError, *, cooldown_s: float) -> None:
        """It ended with an error, which may be the request's own."""
        self._end()
        record, now_s = self._record, self._clock()
        if not is_fault(error):
            if self._is_probe and isinstance(error, RequestError | UpstreamRejected):
                record.close()  # it refused this request, so it works
            return
        record.failures += 1
        record.note(now_s, failed=True)
        rest_s = told_s(error)
        if rest_s is not None and isinstance(error, UpstreamRateLimited):
            record.open(now_s + rest_s)
        elif self._is_probe or record.failing(now_s):
            record.open(now_s + (cooldown_s if rest_s is None else rest_s))

    def _end(self) -> None:
        self._record.in_flight -= 1
        if self._is_probe:
            self._record.probing = False


class Health:
    """All deployments of a worker, by name. `clock` gives seconds that never go back."""

    def __init__(self, *, clock: Callable[[], float], limits: Limits | None = None) -> None:
        self._clock = clock
        self._limits = limits or Limits()
        self._records: dict[str, _Record] = {}

    def begin(self, name: str) -> Turn:
        """An attempt begins."""
        return Turn(self._record(name), self._clock)

    def rest_s(self, name: str) -> float:
        """How many seconds it is still to be tried last; 0: none. While a probe is under way it never is 0."""
        record = self._record(name)
        if record.open_until_s is None:
            return 0.0
        left_s = max(0.0, record.open_until_s - self._clock())
        return left_s or (_WHILE_PROBING_S if record.probing else 0.0)

    def in_flight(self, name: str) -> int:
        """How many attempts run there."""
        return self._record(name).in_flight

    def first_output_s(self, name: str) -> float | None:
        """A moving mean of the time to its first output; None if it has not answered yet."""
        return self._record(name).first_output_s

    def snapshot(self) -> dict[str, Condition]:
        """How every deployment fares that was ever looked at."""
        return {name: self._condition(record) for name, record in self._records.items()}

    def _condition(self, record: _Record) -> Condition:
        until_s = record.open_until_s
        resting: Literal["open", "half_open"] = "half_open" if (until_s or 0.0) <= self._clock() else "open"
        return Condition(
            state="closed" if until_s is None else resting,
            in_flight=record.in_flight,
            attempts=record.attempts,
            failures=record.failures,
            opened=record.opened,
            first_output_s=record.first_output_s,
        )

    def _record(self, name: str) -> _Record:
        if (record := self._records.get(name)) is None:
            record = self._records[name] = _Record(self._limits)
        return record
