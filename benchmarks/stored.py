"""How long lists of stored completions take: the median of each kind of list, at the store and with its JSON.

`python benchmarks/stored.py [--rows N] [--rounds N]` makes a store of a million completions and prints one line a list.
"""

import argparse
import asyncio
import statistics
import tempfile
import time
from pathlib import Path

from narthex.dialects.openai_stored import shown_page
from narthex.storage.sqlite.stored import FILE, SqliteStoredChats
from narthex.testing.stored_chats import QUERIES, REACH, fill


async def measured(path: Path, rounds: int) -> None:
    store = SqliteStoredChats(path, clock=lambda: 0)
    try:
        for name, query in QUERIES.items():
            waits = []
            for _ in range(rounds):
                began = time.perf_counter()
                page = await store.list(REACH, query)
                shown_page(page)
                waits.append(1000 * (time.perf_counter() - began))
            median, most = statistics.median(waits), max(waits)
            print(f"{name:30} {len(page.chats):3} rows   p50 {median:6.2f} ms   most {most:7.2f} ms", flush=True)
    finally:
        await store.aclose()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="nx-") as folder:
        path, began = Path(folder) / FILE, time.perf_counter()
        fill(path, options.rows)
        took_s, size = time.perf_counter() - began, path.stat().st_size
        print(f"{options.rows} stored in {took_s:.0f} s, {size / options.rows:.0f} bytes each", flush=True)
        asyncio.run(measured(path, options.rounds))


if __name__ == "__main__":
    main()
