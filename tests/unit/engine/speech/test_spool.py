"""Sound that waits to be heard: in order, out of memory, and gone with its listener."""

import asyncio
import os
from contextlib import aclosing
from pathlib import Path

import pytest

from narthex.core.errors import EngineCrashed, StorageError
from narthex.engine.speech import spool as spooling
from narthex.engine.speech.spool import Shelf, Spool

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spooling, "IN_MEMORY_BYTES", 10)


async def heard(spool: Spool) -> bytes:
    async with aclosing(spool.pieces()) as pieces:
        return b"".join([piece async for piece in pieces])


async def test_nothing_is_lost_or_turned_round(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    spool = Spool(shelf)
    given = [bytes([number]) * 7 for number in range(200)]
    async with aclosing(spool.pieces()) as pieces:
        got = b""
        for number, piece in enumerate(given):
            await spool.put(piece)
            if number % 5 == 0:
                got += await anext(pieces)
        assert shelf.held_bytes
        assert not list(tmp_path.iterdir())  # no name that could be left behind
        spool.end()
        got += b"".join([piece async for piece in pieces])
    assert got == b"".join(given)
    assert shelf.held_bytes == 0
    await spool.aclose()


async def test_a_file_that_is_read_begins_anew(tmp_path: Path) -> None:
    spool = Spool(Shelf(tmp_path))
    async with aclosing(spool.pieces()) as pieces:
        for _ in range(3):
            for _ in range(2):
                await spool.put(b"x" * 30)
            assert (await anext(pieces), await anext(pieces)) == (b"x" * 30, b"x" * 30)
            assert spool._file is not None
            assert os.fstat(spool._file).st_size == 30
    await spool.aclose()


async def test_who_reads_waits_for_what_comes() -> None:
    spool = Spool(Shelf(None))
    reading = asyncio.ensure_future(heard(spool))
    for piece in (b"one", b"two"):
        await asyncio.sleep(0)
        await spool.put(piece)
    await asyncio.sleep(0)
    spool.end()
    assert await reading == b"onetwo"
    await spool.aclose()


async def test_an_error_comes_after_what_was_made() -> None:
    spool = Spool(Shelf(None))
    await spool.put(b"begun")
    spool.end(EngineCrashed("It broke."))
    async with aclosing(spool.pieces()) as pieces:
        assert await anext(pieces) == b"begun"
        with pytest.raises(EngineCrashed, match="broke"):
            await anext(pieces)
    await spool.aclose()


async def test_beyond_what_all_may_hold_who_makes_it_waits(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path, most_bytes=20)
    spool = Spool(shelf)
    for piece in (b"a" * 10, b"b" * 20):
        await spool.put(piece)
    waiting = asyncio.ensure_future(spool.put(b"c"))
    await asyncio.sleep(0)
    async with aclosing(spool.pieces()) as pieces:
        assert await anext(pieces) == b"a" * 10
        await asyncio.sleep(0)
        assert not waiting.done()
        assert await anext(pieces) == b"b" * 20
        await waiting
        assert await anext(pieces) == b"c"
    await spool.aclose()


async def test_who_leaves_leaves_nothing(tmp_path: Path) -> None:
    shelf = Shelf(tmp_path)
    spool = Spool(shelf)
    for _ in range(3):
        await spool.put(b"x" * 10)
    assert (shelf.held_bytes, spool._file is not None) == (20, True)
    await spool.aclose()
    assert (shelf.held_bytes, spool._file) == (0, None)
    spool._append(b"x", 0)  # of a thread that was left behind
    assert spool._file is None


async def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    spool = Spool(Shelf(tmp_path / "nowhere"))
    await spool.put(b"x" * 10)
    with pytest.raises(StorageError):
        await spool.put(b"x")
    await spool.aclose()
