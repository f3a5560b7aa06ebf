"""Files into a collection, end to end, beside bare onnxruntime on the very same chunks.

Files are sent with `narthex docs add`. Of the time from its start to its end is told in which share of it the embedding
model ran, which share of all cores' time the embedder's process had, and which share of what all our processes used
together, `narthex docs add` included. What bare onnxruntime has of the cores, one text after the other, stands beside.
"""

import argparse
import asyncio
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import NamedTuple

from gateways.processes import tree
from quality.corpus import pages

from narthex.retrieval.embed import Embedder
from narthex.retrieval.embedding_model import EmbeddingModel
from narthex.supervisor.datafolder import find_run_dir

COLLECTION = "pages"
MODEL = "all-minilm-l6-v2"
_TICKS = os.sysconf("SC_CLK_TCK")


class Shares(NamedTuple):
    """Of the time that files took: see the module's text."""

    seconds: float
    ran: float
    cores: float
    ours: float


class Spent(NamedTuple):
    """Seconds of CPU by the embedder, and by all that the server started; and those in which the model ran."""

    embedder_s: float
    all_s: float
    ran_s: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--url", required=True)
    parser.add_argument("--files", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    wanted = parser.parse_args()
    files = sorted((pages() / "library").glob("*.html"))[:: max(1, 300 // wanted.files)][: wanted.files]
    model = EmbeddingModel(wanted.data / "models" / MODEL)
    ratios, shares = [], []
    for number in range(wanted.rounds):
        share = _ingested(wanted, files, f"{COLLECTION} {number}")
        texts = _texts(wanted.data)
        bare_s, bare_cores = _bare(model, texts)
        ratios.append(bare_s / share.seconds)
        shares.append(share)
        print(
            f"{len(files)} files, {len(texts)} chunks: {len(texts) / share.seconds:.1f} a second; the model ran"
            f" {share.ran:.0%} of the time, with {share.cores:.0%} of the cores and {share.ours:.0%} of our CPU;"
            f" bare onnxruntime {len(texts) / bare_s:.1f} a second with {bare_cores:.0%} of the cores:"
            f" {bare_s / share.seconds:.2f}",
            flush=True,
        )
    ran, cores, ours = (median(values) for values in list(zip(*shares, strict=True))[1:])
    print(
        f"ingest: {median(ratios):.2f} of bare onnxruntime, the model ran {ran:.0%} of the time,"
        f" with {cores:.0%} of the cores and {ours:.0%} of our CPU"
    )


def _ingested(wanted: argparse.Namespace, files: list[Path], key: str) -> Shares:
    options = ["--url", wanted.url, "--data", str(wanted.data)]
    narthex = [sys.executable, "-m", "narthex", "docs"]
    subprocess.run([*narthex, "create", key, "--model", MODEL, *options], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            shutil.copy(file, folder)
        before, began, own_s = _spent(wanted.data), time.monotonic(), _children_s()
        command = [*narthex, "add", key, folder, "--chunk-size", "1000", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seconds, own_s, after = time.monotonic() - began, _children_s() - own_s, _spent(wanted.data)
    embedder_s = after.embedder_s - before.embedder_s
    return Shares(
        seconds=seconds,
        ran=(after.ran_s - before.ran_s) / seconds,
        cores=embedder_s / seconds / (os.cpu_count() or 1),
        ours=embedder_s / (after.all_s - before.all_s + own_s),
    )


def _spent(data: Path) -> Spent:
    embedder = _embedder(data)
    supervisor = _stat(embedder)[1]
    socket = find_run_dir(data) / f"embedder-{MODEL}.sock"
    all_s = sum(_cpu_s(pid) for pid in tree(supervisor))
    return Spent(embedder_s=_cpu_s(embedder), all_s=all_s, ran_s=asyncio.run(_ran_s(socket)))


async def _ran_s(socket: Path) -> float:
    client = Embedder(socket, MODEL)
    try:
        return (await client.work()).busy_s
    finally:
        await client.aclose()


def _embedder(data: Path) -> int:
    command = [sys.executable, "-m", "narthex", "status", "--json", "--data", str(data)]
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    (pid,) = (row["pid"] for row in rows if row["name"].startswith("embedder/"))
    return int(pid)


def _cpu_s(pid: int) -> float:
    """Of a process so far, and of those of its children that have ended."""
    return sum(_stat(pid)[11:15]) / _TICKS


def _stat(pid: int) -> list[int]:
    """From the state on, which is 0."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [0, *map(int, fields[1:20])]


def _children_s() -> float:
    times = os.times()
    return times.children_user + times.children_system


def _texts(data: Path) -> list[str]:
    """What was embedded for the collection that was made last."""
    newest = max(data.glob("collections/*/c.db"), key=lambda path: path.stat().st_mtime)
    with sqlite3.connect(f"file:{newest}?mode=ro", uri=True) as connection:
        rows = connection.execute("select context, text from chunk order by id").fetchall()
    return [f"{context}\n{text}" if context else text for context, text in rows]


def _bare(model: EmbeddingModel, texts: list[str]) -> tuple[float, float]:
    """Seconds for the same texts, one a run, with all cores; and which share of these it had."""
    began, used_s = time.monotonic(), time.process_time()
    for text in texts:
        [ids] = model.tokenize([text])
        model.run([[*ids[: model.max_tokens - 1], model.last] if len(ids) > model.max_tokens else ids])
    seconds = time.monotonic() - began
    return seconds, (time.process_time() - used_s) / seconds / (os.cpu_count() or 1)


if __name__ == "__main__":
    main()
