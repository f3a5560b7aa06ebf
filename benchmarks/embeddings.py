"""The embedder's texts per second for 16 callers, beside bare onnxruntime's on the same texts, taken in turns.

`python benchmarks/embeddings.py [--models DIR] [--texts N] [--rounds N]` prints both figures and their ratio.
Bare onnxruntime runs in this process with its own defaults, one text a call, ids already made.
"""

import argparse
import asyncio
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import msgspec
import numpy as np
import onnxruntime
from tokenizers import Tokenizer

from narthex.engine.models.pull import pull
from narthex.retrieval import onnx_graph
from narthex.retrieval.embed import Embedder

MODEL = "all-minilm-l6-v2"
CALLERS = 16
LENGTHS = (6, 12, 20, 35, 60, 100, 160, 250, 310)
WORDS = ("time", "year", "people", "way", "day", "man", "thing", "life", "child", "world", "school", "state", "family")


def texts(count: int) -> list[str]:
    rng = random.Random(0)
    return [" ".join(rng.choices(WORDS, k=rng.choice(LENGTHS) + rng.randint(0, 9))) for _ in range(count)]


def bare(session: onnxruntime.InferenceSession, ids: list[list[int]]) -> float:
    started = time.perf_counter()
    for one in ids:
        session.run(None, {onnx_graph.INPUT: np.array([one])})
    return len(ids) / (time.perf_counter() - started)


async def served(socket: Path, work: list[str]) -> float:
    clients = [Embedder(socket, MODEL) for _ in range(CALLERS)]
    waiting = iter(work)

    async def caller(client: Embedder) -> None:
        for text in waiting:
            await client.embed(texts=[text])

    await asyncio.gather(*(client.info() for client in clients))
    started = time.perf_counter()
    await asyncio.gather(*(caller(client) for client in clients))
    took = time.perf_counter() - started
    for client in clients:
        await client.aclose()
    return len(work) / took


def start(socket: Path, model_dir: Path) -> "subprocess.Popen[bytes]":
    reading, writing = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-m", "narthex.retrieval.embedder", "--notify", str(writing)],
        stdin=subprocess.PIPE,
        pass_fds=(writing,),
    )
    os.close(writing)
    assert child.stdin is not None
    child.stdin.write(msgspec.json.encode({"name": MODEL, "model_dir": str(model_dir), "socket": str(socket)}) + b"\n")
    child.stdin.flush()
    with os.fdopen(reading, "rb") as notices:
        assert b'"ready"' in notices.readline(), "the embedder did not start"
    return child


def measure(models_dir: Path, *, count: int, rounds: int) -> dict[str, float]:
    """Medians over `rounds`; the two ways take turns, so that a busy machine slows both."""
    pull(MODEL, models_dir)
    work = texts(count)
    tokenizer = Tokenizer.from_file(str(models_dir / MODEL / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    ids = [found.ids for found in tokenizer.encode_batch(work)]
    session = onnxruntime.InferenceSession(onnx_graph.ensure(models_dir / MODEL))
    bares, serveds = [], []
    with tempfile.TemporaryDirectory() as folder:
        child = start(Path(folder) / "e.sock", models_dir / MODEL)
        try:
            asyncio.run(served(Path(folder) / "e.sock", work[:32]))
            bare(session, ids[:32])
            for _ in range(rounds):
                bares.append(bare(session, ids))
                serveds.append(asyncio.run(served(Path(folder) / "e.sock", work)))
        finally:
            child.kill()
            child.wait()
    ratio = statistics.median(one / other for one, other in zip(serveds, bares, strict=True))
    return {"bare": statistics.median(bares), "served": statistics.median(serveds), "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=Path(__file__).parents[1] / ".cache" / "models")
    parser.add_argument("--texts", type=int, default=192)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = measure(options.models, count=options.texts, rounds=options.rounds)
    print(f"embeddings: {found['served']:.1f} texts/s served, {found['bare']:.1f} bare, ratio {found['ratio']:.2f}")


if __name__ == "__main__":
    main()
