"""Whether an error is worth another attempt, at which deployment, and after what wait. Decides; does nothing itself."""

from collections.abc import Callable, Sequence
from random import Random

from narthex.core.errors import (
    ContextLengthExceeded,
    ModelLoadFailed,
    NarthexError,
    UpstreamCredentials,
    UpstreamRejected,
)
from narthex.core.ports import Deployment
from narthex.routing.health import Health, told_s
from narthex.routing.route import Rules

LONGEST_WAIT_S = 60.0
"""A longer wait than this is the caller's to make: they are told when to come back."""

LONGEST_BACKOFF_S = 8.0

_WAITS_ARE_TOLD = frozenset((429, 503))
_HERE_ONLY = (UpstreamCredentials, ModelLoadFailed)
"""Not mended by trying again, but another deployment has other keys and other models."""

_FILTER_CODES = frozenset(("content_filter", "content_policy_violation"))


def moves_on(error: NarthexError) -> bool:
    """Whether another attempt may end better."""
    return error.retryable or isinstance(error, _HERE_ONLY)


def too_long(error: NarthexError) -> bool:
    """Whether the prompt did not fit this deployment's context window."""
    if isinstance(error, ContextLengthExceeded):
        return True
    return isinstance(error, UpstreamRejected) and error.code == ContextLengthExceeded.default_code


def filtered(error: NarthexError) -> bool:
    """Whether this deployment's content filter refused the request."""
    return isinstance(error, UpstreamRejected) and error.code in _FILTER_CODES


class _Stop:
    """A deployment on the way, and what this request has met there."""

    __slots__ = ("deployment", "gone", "place", "ready_s", "tries")

    def __init__(self, deployment: Deployment, place: int) -> None:
        self.deployment = deployment
        self.place = place
        self.tries = 0
        self.ready_s = 0.0
        self.gone = False


class Itinerary:
    """Which deployment a request tries next. `deployments` in order of preference; `deadline_s`: the total clock's end.

    Each is tried once, those with an open breaker last; then those that may do better again, after a jittered backoff
    that doubles each round. Who told us to stay away is not tried again before that, while others are.
    """

    def __init__(
        self, deployments: Sequence[Deployment], *, rules: Rules, health: Health, rng: Random, deadline_s: float
    ) -> None:
        self._stops = [_Stop(deployment, place) for place, deployment in enumerate(deployments)]
        self._left = rules.attempts or len(deployments)
        self._backoff_s = rules.backoff_s
        self._waits_s: list[float] = []
        self._health = health
        self._rng = rng
        self._deadline_s = deadline_s

    @property
    def untried(self) -> bool:
        """Whether somebody has not been asked yet and may still be."""
        return self._left > 0 and any(stop.tries == 0 for stop in self._stops)

    def next(self, now_s: float) -> tuple[Deployment, float] | None:
        """Whom to try, and how many seconds to wait before; None to give up."""
        stop = self._soonest(now_s)
        if stop is None or self._left == 0:
            return None
        wait_s = max(0.0, stop.ready_s - now_s)
        if wait_s > LONGEST_WAIT_S or now_s + wait_s >= self._deadline_s:
            return None
        self._left -= 1
        stop.tries += 1
        return stop.deployment, wait_s

    def failed(self, deployment: Deployment, error: NarthexError, *, now_s: float) -> None:
        """What came of the attempt that `next` named."""
        stop = self._stop(deployment)
        stop.gone = not error.retryable
        stop.ready_s = now_s + max(self._backoff(stop.tries), told_s(error) or 0.0)

    def dismissed(self, deployment: Deployment) -> None:
        """This one is not to be asked again."""
        self._stop(deployment).gone = True

    def keep(self, may_be_asked: Callable[[Deployment], bool]) -> None:
        """Only these are to be asked from now on."""
        for stop in self._stops:
            stop.gone |= not may_be_asked(stop.deployment)

    def _stop(self, deployment: Deployment) -> _Stop:
        return next(each for each in self._stops if each.deployment is deployment)

    def explained(self, error: NarthexError, *, now_s: float) -> NarthexError:
        """The last error, ready for the caller: where it asks for patience, it tells for how long."""
        if error.status in _WAITS_ARE_TOLD or error.retry_after_s is not None:
            stop = self._soonest(now_s)
            if stop is None:
                error.retry_after_s = told_s(error)
            else:
                rest_s = self._health.rest_s(stop.deployment.name)
                error.retry_after_s = max(1.0, stop.ready_s - now_s, rest_s)
        return error

    def _soonest(self, now_s: float) -> _Stop | None:
        live = [stop for stop in self._stops if not stop.gone]
        if len(live) == 1:  # as it is for nearly every request
            return live[0]
        return min(live, key=lambda stop: self._rank(stop, now_s), default=None)

    def _rank(self, stop: _Stop, now_s: float) -> tuple[float, int, float, int]:
        return max(stop.ready_s, now_s), stop.tries, self._health.rest_s(stop.deployment.name), stop.place

    def _backoff(self, tries: int) -> float:
        """The same for all that were tried so often, so that they keep their order."""
        while len(self._waits_s) < tries:
            longest_s = min(LONGEST_BACKOFF_S, self._backoff_s * 2.0 ** len(self._waits_s))
            self._waits_s.append(longest_s * self._rng.uniform(0.5, 1.0))
        return self._waits_s[tries - 1]
