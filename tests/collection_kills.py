"""Processes at work on one collection, killed at a random moment; and what must be true afterwards."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import apsw
from tests import collection_writer
from tests.collection_parts import collection, vector

from narthex.core.documents import Query
from narthex.retrieval.opened import OpenCollections
from narthex.retrieval.rebuild import rebuild

ROLES = (("write", "a"), ("write", "b"), ("rebuild", "r"), ("read", "q"))
SOURCES = Path(__file__).parent.parent


def start(role: str, folder: Path, *, name: str, seed: int, said: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(SOURCES), "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, collection_writer.__file__, role, str(folder), name, str(seed)]
    with said.open("wb") as output:
        return subprocess.Popen(command, stdout=output, stderr=output, env=environment, cwd=SOURCES)


def run_and_kill(folder: Path, *, seed: int, seconds: float) -> list[str]:
    """What all processes said in that time. Fails if one of them failed."""
    said = {name: folder.parent / f"{folder.name}-{seed}-{name}" for _, name in ROLES}
    processes = [start(role, folder, name=name, seed=seed, said=said[name]) for role, name in ROLES]
    chance = random.Random(seed)
    try:
        deadline_s = time.monotonic() + 300
        while not all("ready\n" in path.read_text() for path in said.values()):
            assert time.monotonic() < deadline_s, [path.read_text() for path in said.values()]
            time.sleep(0.01)
        time.sleep(seconds * chance.uniform(0.3, 1))  # the moment is the test's subject
    finally:
        chance.shuffle(processes)
        for process in processes:
            process.send_signal(signal.SIGKILL)
        for process in processes:
            process.wait(60)
    texts = [path.read_text() for path in said.values()]
    assert not [text for text in texts if "Traceback" in text], texts
    return [line for text in texts for line in text.splitlines()]


class Expected:
    """Which version of each document must be there; None: none may be."""

    def __init__(self) -> None:
        self.sure: dict[str, int | None] = {}
        self.unsure: dict[str, int | None] = {}
        self.acknowledged = 0

    def learn(self, lines: list[str]) -> None:
        for line in lines:
            with contextlib.suppress(ValueError):  # the last line of a killed process may be cut
                when, what, key, version = line.split()
                state = int(version) if what == "put" else None
                if when == "try":
                    self.unsure[key] = state
                elif when == "done":
                    self.sure[key] = state
                    self.unsure.pop(key, None)
                    self.acknowledged += 1

    async def check(self, folder: Path) -> None:
        """Every acknowledged change is there, no document is partial, and the index says what the rows say."""
        collections = OpenCollections(folder, clock=lambda: 1)
        async with collections.open(collection()) as documents:
            there = {document.key: await documents.contents(document.key) for document in await documents.list()}
            for key, contents in there.items():
                assert contents is not None
                version = int(contents.text.partition("v")[2].split()[0])
                assert [chunk.text for chunk in contents.chunks] == collection_writer.words(key, version)
                assert list(contents.vectors) == [vector(key, version, place) for place in range(len(contents.chunks))]
                allowed = {self.sure.get(key), self.unsure.get(key, self.sure.get(key))}
                assert version in allowed, (key, version, allowed)
                self.sure[key] = version
            for key, state in self.sure.items():
                assert key in there or state is None or self.unsure.get(key, 0) is None, key
            self.sure = {key: state for key, state in self.sure.items() if key in there}
            self.unsure.clear()
            for key in random.Random(1).sample(sorted(there), min(40, len(there))):
                await self._check_found(documents, key)
        await collections.aclose()
        integrity(folder)

    async def _check_found(self, documents, key: str) -> None:
        version = self.sure[key]
        [by_meaning] = (await documents.search(Query(n=1, vector=vector(key, version, 3)))).hits
        assert (by_meaning.document_key, by_meaning.index) == (key, 3)
        # Its words are two in the index: the key's letters and number, and the version.
        found = (await documents.search(Query(n=50, text=f"{key}v{version}"))).hits
        exact = [hit for hit in found if f"{key}v{version} " in hit.chunk.text]
        assert len(exact) == collection_writer.CHUNKS, (key, version)


def integrity(folder: Path) -> None:
    """SQLite's own opinion, and that no row is without its others."""
    path = OpenCollections(folder, clock=lambda: 1).path(collection())
    rebuild(path, clock=lambda: 1)
    connection = apsw.Connection(str(path / "c.db"))
    try:
        assert connection.pragma("integrity_check") == "ok"
        connection.execute("insert into fts(fts) values('integrity-check')")
        ids = "select id from chunk"
        for other in ("select id from vec", "select rowid from fts"):
            for one, two in ((ids, other), (other, ids)):
                assert connection.execute(f"{one} except {two}").fetchall() == []
        assert connection.execute("select 1 from chunk where doc_id not in (select id from document)").fetchall() == []
    finally:
        connection.close()
    assert len(list(path.glob("seg-*"))) <= 1
