"""Narthex with a thousand rows in each of many collections, of which each search asks another."""

from pathlib import Path
from typing import Any

import numpy as np
from ours import Ours
from serving import serve

from narthex.retrieval.rebuild import needs_rebuild, rebuild


class Many(Ours):
    """Every batch is a collection; ids count on over all of them."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.folder = folder
        self.names = sorted(path.name for path in folder.glob("c*"))
        self.chance = np.random.default_rng(5)

    def ingest(self, low: int, vectors: Any, texts: list[str]) -> None:
        self.name = f"c{low}"
        super().ingest(low, vectors, texts)

    def index(self) -> None:
        """As the background process does, where it finds that to be due."""
        for folder in sorted(self.folder.glob("c*")):
            if needs_rebuild(folder):
                rebuild(folder, clock=lambda: 1)

    def search(self, vector: Any, text: str | None) -> list[int]:
        self.name = self.names[int(self.chance.integers(0, len(self.names)))]
        return super().search(vector, text)


if __name__ == "__main__":
    serve(Many)
