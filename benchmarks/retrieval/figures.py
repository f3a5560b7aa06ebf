"""What was measured, what we hold ourselves to, and both as tables for people."""

import msgspec
import numpy as np
from gateways.table import aligned, number


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How many rows, stored `batch` at a time as one document; of which sides; whether `recall` means something."""

    name: str
    rows: int
    batch: int
    sides: list[str]
    recall: bool


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """Of one side and size. `ms`: every search of each kind; `cpu_ms`: the CPU time of one, which neighbours on the
    machine disturb less.
    """

    size: str
    side: str
    ingest_rows_s: float
    index_s: float
    disk_mb: float
    memory_mb: float
    recall: float | None
    ms: dict[str, list[float]]
    cpu_ms: dict[str, float]

    def percentile(self, kind: str, share: int) -> float | None:
        return float(np.percentile(self.ms[kind], share)) if self.ms.get(kind) else None


class Target(msgspec.Struct, frozen=True):
    """`least`: whether the figure must be at least the bound, not at most."""

    size: str
    what: str
    bound: float
    least: bool = False

    def value(self, figures: Figures) -> float | None:
        kind, _, share = self.what.partition(" p")
        return figures.percentile(kind, int(share)) if share else getattr(figures, self.what)


ONE, MANY, LARGE = "one collection", "collections", "one large collection"
TARGETS = (
    Target(ONE, "vector p50", 2),
    Target(ONE, "recall", 0.99, least=True),
    Target(ONE, "hybrid p50", 6),
    Target(ONE, "hybrid p99", 25),
    Target(ONE, "ingest_rows_s", 8000, least=True),
    Target(MANY, "hybrid p50", 5),
    Target(LARGE, "hybrid p50", 40),
    Target(LARGE, "recall", 0.98, least=True),
)
HEAD = ("", "rows/s in", "index s", "disk MB", "memory MB", "recall@10")
KINDS = ("vector", "keyword", "hybrid")


def told(all_figures: list[Figures], size: Size) -> str:
    """A table, and whether ours is what it shall be. Milliseconds are p50 / p99, and of CPU."""
    rows = [[*HEAD, *(f"{kind} ms (CPU)" for kind in KINDS)]]
    for figures in all_figures:
        counted = (figures.ingest_rows_s, figures.index_s, figures.disk_mb, figures.memory_mb)
        recall = "-" if figures.recall is None else f"{figures.recall:.4f}"
        rows.append([figures.side, *map(number, counted), recall, *(both(figures, kind) for kind in KINDS)])
    lines = [f"{size.name}: {size.rows:,} rows", aligned(rows), *targets(all_figures)]
    return "\n".join(lines) + "\n"


def both(figures: Figures, kind: str) -> str:
    wall = f"{number(figures.percentile(kind, 50))} / {number(figures.percentile(kind, 99))}"
    return f"{wall} ({number(figures.cpu_ms.get(kind))})"


def targets(all_figures: list[Figures]) -> list[str]:
    rows = [["held to", "", "measured", ""]]
    for figures in all_figures:
        for target in TARGETS:
            if figures.side not in ("ours", "many") or not figures.size.endswith(target.size):
                continue
            value = target.value(figures)
            if value is not None:
                holds = value >= target.bound if target.least else value <= target.bound
                sign = ">=" if target.least else "<="
                rows.append([target.what, f"{sign} {target.bound:g}", number(value), "yes" if holds else "NO"])
    return [aligned(rows)] if len(rows) > 1 else []
