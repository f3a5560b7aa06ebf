"""Starts the sides and asks them in turn."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from gateways.processes import proportional_mb, tree
from retrieval.figures import Figures, Size
from retrieval.peers import NotInstalled, command

ROUND = 25
BLOCK = 100_000
KINDS = ("vector", "keyword", "hybrid")


class Ended(Exception):
    """A side failed."""


class Running:
    """One side's process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def ask(self, **order: object) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise Ended("it ended: see above")
        return dict(json.loads(line))

    def memory_mb(self) -> float:
        return proportional_mb(tree(self.process.pid))


@contextmanager
def running(side: str, folder: Path, data: Path) -> Iterator[Running]:
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "ANONYMIZED_TELEMETRY": "False"}
    process = subprocess.Popen(
        [*command(side), str(folder), str(data)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
    )
    try:
        yield Running(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.terminate()
        process.wait(60)


def measure(data: Path, size: Size, *, asked: int) -> dict[str, Figures | str]:
    """Of all sides of one size: each stores the rows, then new processes of all of them are asked in turn."""
    outcomes: dict[str, Figures | str] = {}
    built: dict[str, tuple[float, float]] = {}
    for side in size.sides:
        print(f"{side}: storing {size.rows:,} rows", file=sys.stderr, flush=True)
        try:
            with running(side, data / side, data) as one:
                built[side] = one.ask(do="ingest", batch=size.batch)["seconds"], one.ask(do="index")["seconds"]
        except (NotInstalled, Ended) as fault:
            outcomes[side] = str(fault)
    exact = nearest(data) if size.recall else []
    with ExitStack() as stack:
        there = {side: stack.enter_context(running(side, data / side, data)) for side in built}
        for side, answers in asked_in_turn(there, asked).items():
            stored, indexed = built[side]
            outcomes[side] = Figures(
                size=size.name,
                side=side,
                ingest_rows_s=size.rows / stored,
                index_s=indexed,
                disk_mb=disk_mb(data / side),
                memory_mb=there[side].memory_mb(),
                recall=recall(answers["vector"], exact) if size.recall else None,
                ms={kind: answer["ms"] for kind, answer in answers.items()},
                cpu_ms={kind: median(answer["cpu_ms"]) for kind, answer in answers.items()},
            )
    return outcomes


def asked_in_turn(sides: dict[str, Running], asked: int) -> dict[str, dict[str, Any]]:
    """Milliseconds and ids of each side and kind of search. The first round of each is not counted."""
    answers: dict[str, dict[str, Any]] = {side: {} for side in sides}
    for kind in KINDS:
        for low in (0, *range(0, asked, ROUND)):
            for side, one in sides.items():
                if side == "chroma" and kind != "vector":
                    continue
                first = kind not in answers[side]
                answer = one.ask(do=kind, **{"from": low, "to": low + ROUND})
                if first:
                    answers[side][kind] = {"ms": [], "ids": [], "cpu_ms": []}
                else:
                    for name in ("ms", "ids", "cpu_ms"):
                        answers[side][kind][name] += answer[name]
    return answers


def nearest(data: Path) -> list[set[int]]:
    """The ten nearest rows of each query, by an exact scan."""
    vectors = np.load(data / "vectors.npy", mmap_mode="r")
    found = []
    for query in np.load(data / "queries.npy"):
        scores = np.concatenate([vectors[low : low + BLOCK] @ query for low in range(0, len(vectors), BLOCK)])
        found.append(set(np.argpartition(-scores, 10)[:10].tolist()))
    return found


def recall(answer: dict[str, Any], exact: list[set[int]]) -> float:
    found = [len(set(ids) & best) / len(best) for ids, best in zip(answer["ids"], exact, strict=True)]
    return sum(found) / len(found)


def disk_mb(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
