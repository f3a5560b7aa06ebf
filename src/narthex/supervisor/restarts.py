"""When a child that ended is started again. Pure: time and chance come from outside."""

from collections.abc import Callable

FIRST_S = 0.2
LONGEST_S = 30.0
HEALTHY_S = 60.0
FAILED_S = 5.0


class RestartPolicy:
    """The memory of one child's crashes and failures."""

    def __init__(self, *, jitter: Callable[[], float]) -> None:
        """`jitter`: a number in [0, 1) that spreads the restarts of children which crashed together."""
        self._jitter = jitter
        self._crashes = 0
        self._ready_at_s: float | None = None
        self._failed_at_s: float | None = None

    @property
    def crashes(self) -> int:
        """Crashes in a row, without a healthy minute between them."""
        return self._crashes

    def ready(self, now_s: float) -> None:
        """The child works since now."""
        self._ready_at_s = now_s
        self._failed_at_s = None

    def crashed(self, now_s: float) -> float:
        """The child ended unasked; returns the seconds to wait before its next start."""
        if self._ready_at_s is not None and now_s - self._ready_at_s >= HEALTHY_S:
            self._crashes = 0
        self._ready_at_s = None
        delay_s: float = min(FIRST_S * 2 ** min(self._crashes, 16), LONGEST_S)
        self._crashes += 1
        return min(delay_s * (0.75 + 0.5 * self._jitter()), LONGEST_S)

    def stopped(self) -> None:
        """The child ended because it was asked to."""
        self._ready_at_s = None

    def failed(self, now_s: float) -> None:
        """The child said that it can't work."""
        self._failed_at_s = now_s
        self._ready_at_s = None

    def failed_for_s(self, now_s: float) -> float:
        """Seconds until a child that can't work may be tried again; 0 when it may."""
        if self._failed_at_s is None:
            return 0.0
        return max(0.0, self._failed_at_s + FAILED_S - now_s)
