"""Files that are there anyway, and what holds for whatever is drawn out of one."""

import random
from pathlib import Path

from narthex.retrieval.extract.protocol import Extraction

MAX_BYTES = 20 * 1024 * 1024


def sample(folder: Path, count: int) -> list[Path]:
    """Some of the folder's files, the same each time."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    random.Random(1).shuffle(files)
    return [path for path in files if path.stat().st_size <= MAX_BYTES][:count]


def covered(it: Extraction, *, size: int) -> None:
    """Its chunks are exact, in order, within the size, and hold all that isn't blank."""
    place = 0
    for chunk in it.chunks:
        assert it.text[chunk.start : chunk.stop] == chunk.text
        assert 0 < len(chunk.text) <= size
        assert chunk.start >= place
        assert not it.text[place : chunk.start].strip()
        place = chunk.stop
    assert not it.text[place:].strip()
