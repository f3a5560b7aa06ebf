"""What is searched: vectors as text embedders give them, and real text that every machine with Python has.

Vectors are a mixture: clusters of unequal size whose centres and noise share a spectrum that falls by a power law, of
unit length. Text is the standard library's own and that of the installed packages, cut into pieces of some 900
characters; where more are wanted, halves of two pieces are joined.
"""

import re
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

DIM = 384
CLUSTERS = 2000
PIECE = 900
_BLOCK = 50_000
_SUFFIXES = {".py", ".rst", ".txt", ".md", ".pyi", ".html", ".json"}


def vectors(n: int, *, seed: int, dim: int = DIM) -> NDArray[np.float32]:
    """`n` of them; of one seed always the same, and of any seed from the same clusters."""
    rows = np.empty((n, dim), np.float32)
    for low, block in _mixture(n, dim=dim, seed=seed):
        rows[low : low + len(block)] = block
    return rows


def _mixture(n: int, *, dim: int, seed: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    random = np.random.default_rng(seed)
    turned = np.linalg.qr(np.random.default_rng(1).standard_normal((dim, dim)))[0].astype(np.float32)
    spread = (np.arange(1, dim + 1) ** -0.45).astype(np.float32)
    centres = np.random.default_rng(2).standard_normal((CLUSTERS, dim)).astype(np.float32) * spread
    bias = np.random.default_rng(3).standard_normal(dim).astype(np.float32) * 0.25 * spread
    weights = 1 / np.arange(1, CLUSTERS + 1) ** 0.5
    weights /= weights.sum()
    for low in range(0, n, _BLOCK):
        of = random.choice(CLUSTERS, min(_BLOCK, n - low), p=weights)
        noise = random.standard_normal((len(of), dim), dtype=np.float32) * spread
        rows = (centres[of] + 0.75 * noise + bias) @ turned
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        yield low, rows.astype(np.float32)


def texts(n: int) -> list[str]:
    """`n` pieces of text, in an order that has nothing to do with where they come from."""
    pieces: list[str] = []
    for path in _files():
        text = re.sub(r"\s+", " ", path.read_text("utf-8", "ignore"))
        pieces += [text[at : at + PIECE] for at in range(0, len(text) - PIECE, PIECE)]
        if len(pieces) >= n:
            break
    random = np.random.default_rng(4)
    order = random.permutation(len(pieces))
    found = [pieces[at] for at in order[:n]]
    while len(found) < n:
        one, other = random.integers(0, len(pieces), 2)
        found.append(pieces[one][: PIECE // 2] + " " + pieces[other][PIECE // 2 :])
    return found


def _files() -> Iterator[Path]:
    for root in dict.fromkeys((sysconfig.get_path("stdlib"), sysconfig.get_path("purelib"), "/usr/share/doc")):
        for path in sorted(Path(root).rglob("*")):
            if path.suffix in _SUFFIXES and path.is_file() and path.stat().st_size < 2_000_000:
                yield path


def questions(pieces: list[str], n: int) -> list[str]:
    """Each is ten running words of a piece, three of them replaced by words of another."""
    random = np.random.default_rng(21)
    asked: list[str] = []
    while len(asked) < n:
        one, other = (re.findall(r"[A-Za-z]{2,}", pieces[at]) for at in random.integers(0, len(pieces), 2))
        if len(one) < 30 or len(other) < 10:
            continue
        start = int(random.integers(0, len(one) - 10))
        words = one[start : start + 10]
        for place in random.choice(10, 3, replace=False):
            words[place] = other[int(random.integers(0, len(other)))]
        asked.append(" ".join(words))
    return asked


if __name__ == "__main__":
    print(len(texts(int(sys.argv[1]))))
