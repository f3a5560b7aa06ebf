"""How well documents are found: Python's manual, asked what docstrings say, by vectors, by keywords and by both.

Goes the way of a user: a server of its own, `narthex docs create`, `narthex docs add`, `narthex eval docs`.
"""

import argparse
import csv
import random
import subprocess
import sys
import time
from pathlib import Path

from quality.corpus import pages
from quality.questions import questions
from run import MODELS, server

from narthex.cli.server import Server, path
from narthex.engine.models.catalogue import CATALOGUE
from narthex.engine.models.pull import pull
from narthex.retrieval.evaluation import Judged

COLLECTION = "python manual"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--questions", type=int, default=800, help="at most so many")
    parser.add_argument("--chunk-size", type=int, default=1000, help="code points")
    parser.add_argument("--only", default="*", help="pages whose path has this pattern, e.g. 'library/a*'")
    wanted = parser.parse_args()
    for row in CATALOGUE.values():
        pull(row, MODELS)
    with server() as (data, url):

        def narthex(*arguments: str) -> str:
            command = [sys.executable, "-m", "narthex", *arguments, "--url", url, "--data", str(data)]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout

        narthex("docs", "create", COLLECTION, "--model", "all-minilm-l6-v2")
        began = time.monotonic()
        size = ("--chunk-size", str(wanted.chunk_size), "--mode", "structure")
        narthex("docs", "add", COLLECTION, str(pages()), "--include", f"{wanted.only}.html", *size)
        elapsed_s = time.monotonic() - began
        with Server(url, (data / "admin.key").read_text().strip()) as connection:
            asked, chunks = _asked(connection, most=wanted.questions)
        print(f"{chunks} chunks in {elapsed_s:.0f} s: {chunks / elapsed_s:.1f} a second")
        file = data / "questions.csv"
        _write(file, asked)
        print(narthex("eval", "docs", COLLECTION, "--questions", str(file)))


def _asked(connection: Server, *, most: int) -> tuple[list[Judged], int]:
    """Questions, and how many chunks there are."""
    documents = path("collections", COLLECTION, "documents")
    listed = connection.ask("GET", documents)["documents"]
    texts = {}
    for row in listed:
        target = path("collections", COLLECTION, "documents", row["key"])
        texts[row["key"]] = connection.ask("GET", target, query={"content": "true"})["content"]
    found = questions(texts)
    print(f"{len(listed)} documents, {len(found)} questions", flush=True)
    chosen = random.Random(5).sample(found, min(most, len(found)))
    return chosen, sum(row["chunks"] for row in listed)


def _write(file: Path, asked: list[Judged]) -> None:
    with file.open("w", newline="", encoding="utf-8") as lines:
        rows = csv.writer(lines)
        rows.writerow(("question", "document", "start", "stop"))
        rows.writerows((each.question, each.document, each.start, each.stop) for each in asked)


if __name__ == "__main__":
    main()
