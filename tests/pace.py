"""How fast the machine is for us now: others may hold our processes up, and limits of time are for free cores."""

import hashlib
import time
from collections.abc import Awaitable, Callable

_SAMPLE_S = 0.02


def slowness() -> float:
    """How many times longer than on a free core a computation takes now; at least 1."""
    began_s, had_s = time.perf_counter(), time.thread_time()
    while (worked_s := time.thread_time() - had_s) < _SAMPLE_S:
        hashlib.sha256(bytes(50_000)).digest()
    return max(1.0, (time.perf_counter() - began_s) / worked_s)


async def soon(attempt: Callable[[], Awaitable[float]], *, within_s: float, times: int = 1, tries: int = 10) -> None:
    """`attempt` tells how many seconds something took: within that limit on free cores, `times` of at most `tries`."""
    found: list[float] = []
    while sum(each <= within_s for each in found) < times:
        assert len(found) < tries, f"not {times} times within {within_s} s: {found}"
        before = slowness()
        took_s = await attempt()
        found.append(took_s / max(before, slowness()))
