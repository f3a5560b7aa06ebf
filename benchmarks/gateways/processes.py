"""What a gateway's processes cost: read from the kernel, for all of them together."""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

PROC = Path("/proc")
TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """The process and all its descendants."""
    found = [pid]
    for parent in found:
        for children in (PROC / str(parent) / "task").glob("*/children"):
            found += [int(child) for child in children.read_text().split()]
    return found


def cpu_s(pids: Sequence[int]) -> float:
    """CPU seconds, user and system, of every thread that they have or had; exact to the nanosecond.

    Raises:
        OSError: one of them has ended.
    """
    return sum(time.clock_gettime(cpu_clock(pid)) for pid in pids)


def cpu_clock(pid: int) -> int:
    """A process's clock of CPU time, as `clock_getcpuclockid(3)` makes it: the last bits say what, the others who."""
    return (~pid << 3) | 2


def proportional_mb(pids: Sequence[int]) -> float:
    """Resident memory, where a page that several of them share counts once."""
    lines = [line for pid in pids for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def core_busy_s(core: int) -> float:
    """Seconds that a core has worked for anyone."""
    for line in (PROC / "stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            user, nice, system, _idle, _iowait, irq, softirq = map(int, ticks[:7])
            return (user + nice + system + irq + softirq) / TICKS
    raise SystemExit(f"this machine has no core {core}")


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Whatever is started inside this block stays on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
