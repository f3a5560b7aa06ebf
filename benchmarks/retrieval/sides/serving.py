"""What every side does alike: takes orders as lines of JSON, measures itself, and answers. Needs numpy only."""

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np

N = 10


class Side(Protocol):
    def ingest(self, low: int, vectors: Any, texts: list[str]) -> None:
        """Store rows and make them durable; ids count from `low`."""

    def index(self) -> None:
        """Make what searches need, once all rows are there."""

    def search(self, vector: Any, text: str | None) -> list[int]:
        """The ids of the best ten."""


def serve(make: Callable[[Path], Side]) -> None:
    """`python side.py FOLDER DATA`: DATA holds vectors.npy, queries.npy, texts.json, questions.json."""
    folder, data = Path(sys.argv[1]), Path(sys.argv[2])
    answers, sys.stdout = sys.stdout, sys.stderr  # whatever else is printed does not disturb
    vectors = np.load(data / "vectors.npy", mmap_mode="r")
    queries = np.load(data / "queries.npy")
    texts, questions = (json.loads((data / f"{name}.json").read_text()) for name in ("texts", "questions"))
    side = make(folder)
    for line in sys.stdin:
        order = json.loads(line)
        if order["do"] == "ingest":
            answer = ingest(side, vectors, texts, batch=order["batch"])
        elif order["do"] == "index":
            answer = {"seconds": timed(side.index)}
        else:
            with_text, with_vector = order["do"] != "vector", order["do"] != "keyword"
            answer = {"ms": [], "ids": [], "cpu_ms": []}
            spent = time.process_time()
            for at in range(order["from"], order["to"]):
                vector, text = queries[at] if with_vector else None, questions[at] if with_text else None
                began = time.perf_counter()
                answer["ids"].append(side.search(vector, text))
                answer["ms"].append((time.perf_counter() - began) * 1000)
            answer["cpu_ms"].append((time.process_time() - spent) * 1000 / max(1, len(answer["ms"])))
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def ingest(side: Side, vectors: Any, texts: list[str], *, batch: int) -> dict[str, Any]:
    seconds = 0.0
    for low in range(0, len(vectors), batch):
        rows = np.ascontiguousarray(vectors[low : low + batch])
        pieces = [texts[at % len(texts)] for at in range(low, low + len(rows))]
        began = time.perf_counter()
        side.ingest(low, rows, pieces)
        seconds += time.perf_counter() - began
    return {"seconds": seconds}


def timed(work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began
