"""Exported collections: what comes back is what was there, and nothing else gets in."""

import zlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import apsw
import pytest

from narthex.core.documents import Chunk, Chunking, Collection, EmbeddingModel, NewDocument
from narthex.core.errors import InvalidRequest, StorageError
from narthex.retrieval import portable
from narthex.retrieval.opened import OpenCollections
from narthex.retrieval.portable import About, Portable, PortableFile, export

pytestmark = pytest.mark.anyio

MODEL = EmbeddingModel(name="m", dim=2, digest="d")
COLLECTION = Collection(
    id="c1", account_id="a", key="house", model=MODEL, description="Ours", retrieval="vector", weight=0.25, created_ms=1
)
TEXT = "Grüße. And more words."


@pytest.fixture
async def stores(tmp_path: Path, anyio_backend: str) -> AsyncIterator[OpenCollections]:
    opened = OpenCollections(tmp_path / "collections", clock=lambda: 7)
    async with opened.open(COLLECTION) as documents:
        for key, original in (("a", b"%PDF"), ("b", None)):
            new = NewDocument(
                key=key,
                text=TEXT,
                sha256=b"x" * 32,
                chunking=Chunking(size=8, mode="structure"),
                description="D",
                media_type="application/pdf",
                name="a.pdf",
                original=original,
            )
            chunks = [
                Chunk(start=0, stop=6, text=TEXT[:6], context="Top", page=3),
                Chunk(start=7, stop=22, text=TEXT[7:]),
            ]
            await documents.put(new, chunks, [b"\0\0\x80?" * 2, b"\0\0\0\0" * 2], tokens=9)
        await documents.stage_begin("job", new, chunks)
    yield opened
    await opened.aclose()


@pytest.fixture
def exported(stores: OpenCollections, tmp_path: Path) -> Path:
    target = tmp_path / "house.narthex"
    export(stores.path(COLLECTION), target, COLLECTION)
    return target


def read(path: Path) -> list[Portable]:
    file = PortableFile(path)
    found, after = [], 0
    try:
        while (one := file.document(after)) is not None:
            after = one[0]
            found.append(one[1])
    finally:
        file.close()
    return found


async def test_what_was_there_comes_back(exported):
    file = PortableFile(exported)
    assert file.about == About(key="house", model=MODEL, description="Ours", retrieval="vector", weight=0.25)
    assert file.count() == (2, 4)
    file.close()
    one, other = read(exported)
    assert (one.new.key, one.new.text, one.new.original, one.tokens) == ("a", TEXT, b"%PDF", 9)
    assert (one.new.chunking, one.new.media_type, one.new.name) == (
        Chunking(size=8, mode="structure"),
        "application/pdf",
        "a.pdf",
    )
    assert [(chunk.text, chunk.context, chunk.page) for chunk in one.chunks] == [
        ("Grüße.", "Top", 3),
        ("And more words.", "", None),
    ]
    assert one.vectors == (b"\0\0\x80?" * 2, b"\0\0\0\0" * 2)
    assert (other.new.key, other.new.original) == ("b", None)


async def test_nobody_else_may_read_the_file_and_none_is_overwritten(exported, stores):
    assert exported.stat().st_mode & 0o777 == 0o600
    with pytest.raises(StorageError):
        export(stores.path(COLLECTION), exported, COLLECTION)


async def test_a_collection_that_is_not_there_is_no_export(stores, tmp_path):
    with pytest.raises(StorageError):
        export(tmp_path / "nothing", tmp_path / "x", COLLECTION)


SPOILED: dict[str, str] = {
    "another program's": "pragma application_id = 1",
    "a later version's": "pragma user_version = 2",
    "a trigger": "create trigger t after insert on vec begin delete from chunk; end",
    "a view": "create view v as select 1",
    "a virtual table": "create virtual table f using fts5(x)",
    "a table less": "drop table vec",
    "nothing about": "delete from about",
    "words about": "update about set v = 'x'",
    "a dimension that can't be": """update about set v = replace(v, '"dim":2', '"dim":0')""",
    "a long description": "update about set v = replace(v, 'Ours', hex(zeroblob(200)))",
}


@pytest.mark.parametrize("change", SPOILED.values(), ids=SPOILED)
async def test_a_file_that_is_no_export_is_refused(exported, change):
    spoil(exported, change)
    with pytest.raises(InvalidRequest, match="can't be imported"):
        PortableFile(exported)


ROWS: dict[str, str | Callable[[apsw.Connection], object]] = {
    "a key that can't be": "update document set key = 'a/b'",
    "no key": "update document set key = ''",
    "a long description": "update document set description = hex(zeroblob(200))",
    "no text": "delete from body",
    "a text that is not packed": "update body set z = x'00'",
    "a text that is cut off": "update body set z = substr(z, 1, 5)",
    "a text that is not UTF-8": lambda one: one.execute("update body set z = ?", (zlib.compress(b"\xff"),)),
    "a mode that can't be": "update document set mode = 'x'",
    "chunks of another text": "update chunk set text = 'other'",
    "a chunk before the text": "update chunk set start = -3",
    "no chunks": "delete from chunk",
    "vectors of another length": "update vec set e = x'00000000'",
    "vectors that are no numbers": "update vec set e = x'0000c07f0000c07f'",
}


@pytest.mark.parametrize("change", ROWS.values(), ids=ROWS)
async def test_a_document_that_cannot_be_is_refused(exported, change):
    spoil(exported, change)
    with pytest.raises(InvalidRequest, match="can't be imported"):
        read(exported)


async def test_no_text_unpacks_without_end(exported, monkeypatch):
    monkeypatch.setattr(portable, "MAX_TEXT_BYTES", 10)
    with pytest.raises(InvalidRequest, match="too large"):
        read(exported)


async def test_any_cut_or_flipped_byte_is_refused_or_read_as_it_was(exported, tmp_path):
    whole = exported.read_bytes()
    expected = read(exported)
    copy = tmp_path / "copy"
    for at in range(0, len(whole), 701):
        copy.write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        try:
            found = read(copy)
        except InvalidRequest:
            continue
        assert [len(one.chunks) for one in found] <= [len(one.chunks) for one in expected]
    copy.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidRequest):
        read(copy)


async def test_a_closed_file_is_not_read(exported):
    file = PortableFile(exported)
    file.close()
    with pytest.raises(StorageError):
        file.count()


def spoil(path: Path, change: str | Callable[[apsw.Connection], object]) -> None:
    connection = apsw.Connection(str(path))
    if isinstance(change, str):
        connection.execute(change).fetchall()
    else:
        change(connection)
    connection.close()
