"""A process that writes to a collection, or rebuilds or reads it, until it is killed: `python collection_writer.py
ROLE FOLDER NAME SEED`. Before each change it says what it is about to do, and afterwards that it is done.
"""

import asyncio
import os
import random
import sys
from pathlib import Path

from tests.collection_parts import collection, document, vector

from narthex.core.documents import Query
from narthex.retrieval.opened import OpenCollections, OpenDocuments
from narthex.retrieval.rebuild import rebuild

CHUNKS = 12


def words(key: str, version: int) -> list[str]:
    return [f"{key}v{version} chunk{place} of all" for place in range(CHUNKS)]


def say(*parts: object) -> None:
    os.write(1, (" ".join(map(str, parts)) + "\n").encode())


async def write(documents: OpenDocuments, name: str, seed: int) -> None:
    chance, mine, version = random.Random(seed), [], seed * 1_000_000
    while True:
        version += 1
        key = chance.choice(mine) if len(mine) > 3 and chance.random() < 0.6 else f"{name}-{version}"
        if key in mine and chance.random() < 0.4:
            say("try", "delete", key, 0)
            await documents.delete(key)
            mine.remove(key)
            say("done", "delete", key, 0)
            continue
        say("try", "put", key, version)
        await put(documents, key, version, staged=chance.random() < 0.3)
        say("done", "put", key, version)
        if key not in mine:
            mine.append(key)


async def put(documents: OpenDocuments, key: str, version: int, *, staged: bool) -> None:
    new, chunks, vectors = document(key, *words(key, version), version=version)
    if not staged:
        await documents.put(new, chunks, vectors, tokens=1)
        return
    await documents.stage_begin(key, new, chunks)
    for place in range(0, CHUNKS, 5):
        await documents.stage_vectors(key, list(enumerate(vectors))[place : place + 5])
    await documents.stage_commit(key, tokens=1)


async def read(documents: OpenDocuments) -> None:
    found = 0
    while True:
        hits = (await documents.search(Query(n=5, vector=vector(found), text="chunk3 all", per_document=1))).hits
        for hit in hits:
            assert hit.chunk.text.startswith(f"{hit.document_key}v"), hit
        found += 1
        say("read", found)


async def main() -> None:
    role, folder, name, seed = sys.argv[1:]
    collections = OpenCollections(Path(folder), clock=lambda: 1)
    async with collections.open(collection()) as documents:
        say("ready")
        if role == "write":
            await write(documents, name, int(seed))
        elif role == "read":
            await read(documents)
        while True:
            say("built", rebuild(collections.path(collection()), clock=lambda: 1))
            await asyncio.sleep(0.01)


if __name__ == "__main__":
    asyncio.run(main())
