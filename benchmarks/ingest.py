"""Files into a collection, end to end, beside bare onnxruntime on the very same chunks.

Files are sent with `narthex docs add`; "busy" is the share of all cores' time that the embedder's process used from the
first file to the last vector. What is left over goes to everything else: extraction, chunking, writing, HTTP.
"""

import argparse
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from quality.corpus import pages

from narthex.retrieval.embedding_model import EmbeddingModel

COLLECTION = "pages"
MODEL = "all-minilm-l6-v2"
_TICKS = os.sysconf("SC_CLK_TCK")


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
        elapsed_s, busy = _ingested(wanted, files, f"{COLLECTION} {number}")
        texts = _texts(wanted.data)
        bare_s = _bare(model, texts)
        ratios.append(bare_s / elapsed_s)
        shares.append(busy)
        print(
            f"{len(files)} files, {len(texts)} chunks: {len(texts) / elapsed_s:.1f} a second, embedder {busy:.0%} busy;"
            f" bare onnxruntime {len(texts) / bare_s:.1f}: {bare_s / elapsed_s:.2f}",
            flush=True,
        )
    middle = len(ratios) // 2
    print(f"ingest: {sorted(ratios)[middle]:.2f} of bare onnxruntime, embedder {sorted(shares)[middle]:.0%} busy")


def _ingested(wanted: argparse.Namespace, files: list[Path], key: str) -> tuple[float, float]:
    """Seconds, and the share of the cores that the embedder had."""
    options = ["--url", wanted.url, "--data", str(wanted.data)]
    narthex = [sys.executable, "-m", "narthex", "docs"]
    subprocess.run([*narthex, "create", key, "--model", MODEL, *options], check=True, stdout=subprocess.DEVNULL)
    with tempfile.TemporaryDirectory() as folder:
        for file in files:
            shutil.copy(file, folder)
        before_s, began = _embedder_s(wanted.data), time.monotonic()
        command = [*narthex, "add", key, folder, "--chunk-size", "1000", *options]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        elapsed_s = time.monotonic() - began
    return elapsed_s, (_embedder_s(wanted.data) - before_s) / elapsed_s / (os.cpu_count() or 1)


def _embedder_s(data: Path) -> float:
    """CPU seconds of the embedder's process so far."""
    command = [sys.executable, "-m", "narthex", "status", "--json", "--data", str(data)]
    rows = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)
    (pid,) = (row["pid"] for row in rows if row["name"].startswith("embedder/"))
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _texts(data: Path) -> list[str]:
    """What was embedded for the collection that was made last."""
    newest = max(data.glob("collections/*/c.db"), key=lambda path: path.stat().st_mtime)
    with sqlite3.connect(f"file:{newest}?mode=ro", uri=True) as connection:
        rows = connection.execute("select context, text from chunk order by id").fetchall()
    return [f"{context}\n{text}" if context else text for context, text in rows]


def _bare(model: EmbeddingModel, texts: list[str]) -> float:
    """Seconds for the same texts, one a run, with all cores."""
    began = time.monotonic()
    for text in texts:
        [ids] = model.tokenize([text])
        model.run([[*ids[: model.max_tokens - 1], model.last] if len(ids) > model.max_tokens else ids])
    return time.monotonic() - began


if __name__ == "__main__":
    main()
