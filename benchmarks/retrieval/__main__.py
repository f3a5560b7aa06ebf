"""Searching many texts: Narthex beside LanceDB and Chroma, on the same rows in the same run.

python -m retrieval [--quick] [--only ours,lancedb,chroma] [--rows 100000] [--json FILE]

Every side runs in a process of its own and measures itself. Searches are asked in rounds, all sides in turn, so that
the figures that stand beside each other are of the same seconds. Recall is against an exact scan.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import msgspec
from retrieval.data import questions, texts, vectors
from retrieval.figures import Figures, Size, told
from retrieval.peers import SIDES
from retrieval.running import measure

ROWS, MOST_TEXTS, ASKED = 100_000, 400_000, 200
MILLION = 1_000_000
EACH, COLLECTIONS, FEW_COLLECTIONS = 1000, 1000, 100


def main() -> None:
    asked = arguments()
    sizes = [Size(name="one collection", rows=asked.rows, batch=1000, sides=asked.only, recall=True)]
    count = FEW_COLLECTIONS if asked.quick else COLLECTIONS
    sizes.append(Size(name=f"{count} collections", rows=count * EACH, batch=EACH, sides=["many"], recall=False))
    if not asked.quick:
        sizes.append(Size(name="one large collection", rows=MILLION, batch=1000, sides=["ours"], recall=True))
    found: list[Figures] = []
    for size in sizes:
        with tempfile.TemporaryDirectory(prefix="nx-") as folder:
            prepare(Path(folder), rows=size.rows)
            for side, outcome in measure(Path(folder), size, asked=ASKED).items():
                if isinstance(outcome, str):
                    print(f"{side}: not measured: {outcome}")
                else:
                    found.append(outcome)
        print(told([figures for figures in found if figures.size == size.name], size), flush=True)
    if asked.json:
        asked.json.write_bytes(msgspec.json.format(msgspec.json.encode(found)))


def prepare(folder: Path, *, rows: int) -> None:
    """Write what all sides read."""
    import numpy as np  # noqa: PLC0415 - after the arguments, which need no waiting

    print(f"making {rows:,} rows", file=sys.stderr, flush=True)
    np.save(folder / "vectors.npy", vectors(rows, seed=10))
    np.save(folder / "queries.npy", vectors(ASKED, seed=11))
    pieces = texts(min(rows, MOST_TEXTS))
    (folder / "texts.json").write_text(json.dumps(pieces))
    (folder / "questions.json").write_text(json.dumps(questions(pieces, ASKED)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="without the million, and fewer collections")
    parser.add_argument("--only", type=sides, default=list(SIDES), help=f"of {','.join(SIDES)}; ours always")
    parser.add_argument("--rows", type=int, default=ROWS, help="in the one collection that all sides have")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every figure into it")
    return parser.parse_args()


def sides(text: str) -> list[str]:
    unknown = set(text.split(",")) - set(SIDES)
    if unknown:
        raise argparse.ArgumentTypeError(f"not known: {', '.join(sorted(unknown))}")
    return [name for name in SIDES if name == "ours" or name in text.split(",")]


if __name__ == "__main__":
    main()
