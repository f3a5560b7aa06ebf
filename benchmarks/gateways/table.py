"""The results as tables for people."""

from gateways.results import DIRECT, Cell, Results
from gateways.sides import OURS
from gateways.targets import TARGETS

JSON_HEAD = ("", "CPU us/request", "times ours", "requests/s", "added p50 ms", "added p99 ms", "failed")
STREAM_HEAD = (
    "",
    "CPU us/stream",
    "times ours",
    "events/s",
    "held p50 ms",
    "held p99 ms",
    "merged",
    "misplaced",
    "failed",
)
LEGEND = f"""\
times ours: its CPU divided by that of {OURS} just before it. Added, held: a request's time, and an event's
between being sent and being read, less what the upstream takes when it is asked directly (the first row).
Merged: events that were read together with the one before them. With 256 streams a core is asked for some 50,000 events
a second, about as many as the floor can pass on: how long they are held there tells of the queue before a full core."""


def told(results: Results) -> str:
    """Everything: starts and memory, a table for each cell, then what we hold ourselves to."""
    parts = [starts(results), LEGEND, *(cell_table(results, cell) for cell in results.cells()), targets(results)]
    parts += [f"{name}: not measured: {why}" for name, why in results.absent.items()]
    others = [trial.load.others_share for trial in results.trials if trial.side != DIRECT]
    if others:
        parts.append(f"others on the gateways' core: {sum(others) / len(others):.0%} of it on average")
    return "\n\n".join(parts)


def starts(results: Results) -> str:
    rows = [[side.name, number(side.start_s), number(side.idle_mb), number(side.after_mb)] for side in results.sides]
    return aligned([["", "start s", "idle MB", "MB after load"], *rows])


def cell_table(results: Results, cell: Cell) -> str:
    stream = cell.mode == "stream64"
    rows = [list(STREAM_HEAD if stream else JSON_HEAD)]
    for name in [DIRECT, *(side.name for side in results.sides)]:
        cost = [results.cpu_us(name, cell), 1.0 if name == OURS else results.ratio(name, cell)]
        figures = streamed(results, cell, name) if stream else answered(results, cell, name)
        rows.append([name, *map(number, cost if name != DIRECT else [None, None]), *figures])
    title = f"{cell.mode}, {cell.connections} connection{'s' * (cell.connections > 1)}"
    return f"{title}\n{aligned(rows)}"


def answered(results: Results, cell: Cell, name: str) -> list[str]:
    beyond = results.figure if name == DIRECT else results.added
    latencies = [beyond(name, cell, "p50_ms"), beyond(name, cell, "p99_ms")]
    return [number(results.rate(name, cell, "answered")), *map(number, latencies), failed(results, cell, name)]


def streamed(results: Results, cell: Cell, name: str) -> list[str]:
    beyond = results.figure if name == DIRECT else results.added
    delays = [beyond(name, cell, "delay_p50_ms"), beyond(name, cell, "delay_p99_ms")]
    merged = results.merged_share(name, cell)
    return [
        number(results.rate(name, cell, "events")),
        *map(number, delays),
        "-" if merged is None else f"{merged:.1%}",
        str(sum(trial.load.misplaced for trial in results.of(name, cell))),
        failed(results, cell, name),
    ]


def failed(results: Results, cell: Cell, name: str) -> str:
    """How many were answered wrongly, with which statuses, and how many not in time."""
    loads = [trial.load for trial in results.of(name, cell)]
    wrong, cut = sum(load.failed for load in loads), sum(load.cut for load in loads)
    statuses = sorted({status for load in loads for status in load.statuses if status != 200})
    told = f"{wrong} ({', '.join(map(str, statuses))})" if statuses else str(wrong)
    return f"{told}, {cut} late" if cut else told


def targets(results: Results) -> str:
    rows = [["held to", "measured", ""]]
    for target in TARGETS:
        value = target.value(results)
        if value is not None:
            rows.append([target.name, number(value), "yes" if target.holds(value) else "NO"])
    return aligned(rows) if len(rows) > 1 else "none of what we hold ourselves to was measured"


def number(value: float | None) -> str:
    """Three figures."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "  ".join(
            text.ljust(width) if place == 0 else text.rjust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)
