import resource
import shutil
import stat
import time

import anyio
import apsw
import pytest
from tests.collection_parts import DIM, MODEL, collection, document, vector

from narthex.core.documents import Documents, EmbeddingModel, Query
from narthex.core.errors import Conflict, NotFound, StorageError
from narthex.retrieval.opened import OpenCollections, OpenDocuments
from narthex.storage.sqlite import connection as connections

pytestmark = [pytest.mark.anyio, pytest.mark.patient]


@pytest.fixture
async def opened(tmp_path):
    collections = OpenCollections(tmp_path / "collections", clock=lambda: 7)
    yield collections
    await collections.aclose()


@pytest.fixture
async def documents(opened):
    async with opened.open(collection()) as documents:
        yield documents


def rows(opened, query: str) -> list:
    connection = apsw.Connection(str(opened.path(collection()) / "c.db"))
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def test_a_document_comes_back_as_it_was_put(documents):
    store: Documents = documents
    new, chunks, vectors = document("d", "one", "two", original=b"%PDF")
    made = await store.put(new, chunks, [vectors[0], memoryview(vectors[1])], tokens=5)
    assert (made.key, made.characters, made.chunks, made.tokens, made.created_ms) == ("d", 7, 2, 5, 7)
    assert await store.get("d") == made
    assert await store.list() == (made,)
    assert await store.text("d") == "one two"
    assert await documents.original("d") == b"%PDF"
    assert await documents.chunks("d") == tuple(chunks)
    contents = await documents.contents("d")
    assert (contents.document, contents.text, contents.original) == (made, "one two", b"%PDF")
    assert (contents.chunks, contents.vectors) == (tuple(chunks), tuple(vectors))


async def test_what_is_not_there_is_none(documents):
    assert await documents.get("d") is None
    assert await documents.text("d") is None
    assert await documents.original("d") is None
    assert await documents.contents("d") is None
    assert await documents.chunks("d") == ()
    assert await documents.delete("d") is False


async def test_a_document_put_again_replaces_the_former(documents):
    first = await documents.put(*document("d", "old", "older"), tokens=1)
    second = await documents.put(*document("d", "new"), tokens=1)
    assert first.id != second.id
    assert await documents.list() == (second,)
    assert (await documents.search(Query(n=5, text="old"))).hits == ()
    assert len((await documents.search(Query(n=5, text="new"))).hits) == 1


async def test_nothing_is_left_of_a_deleted_document(opened, documents):
    """Complaint: removing a file leaves its vectors."""
    await documents.put(*document("stays", "apple"), tokens=1)
    await documents.put(*document("goes", "pear", "plum", original=b"x"), tokens=1)
    assert await documents.delete("goes") is True
    for table, left in (("document", 1), ("body", 1), ("original", 0), ("chunk", 1), ("vec", 1)):
        assert rows(opened, f"select count(*) from {table}") == [(left,)], table
    assert rows(opened, "select rowid from fts") == [(1,)]
    rows(opened, "insert into fts(fts) values('integrity-check')")
    assert (await documents.search(Query(n=5, text="pear"))).hits == ()


async def test_all_documents_in_the_order_they_were_stored(documents):
    for key in ("b", "c", "a"):
        await documents.put(*document(key, "x"), tokens=1)
    first = await documents.documents_after(0, 2)
    assert [found.key for _, found in first] == ["b", "c"]
    await documents.put(*document("b", "y"), tokens=1)
    rest = await documents.documents_after(first[-1][0], 9)
    assert [found.key for _, found in rest] == ["a", "b"]


async def test_a_vector_of_another_length_is_refused(documents):
    new, chunks, _ = document("d", "one")
    with pytest.raises(ValueError, match="float32"):
        await documents.put(new, chunks, [b"1234"], tokens=1)
    with pytest.raises(ValueError, match="argument 2"):
        await documents.put(new, chunks, [], tokens=1)
    assert await documents.list() == ()
    await documents.put(*document("d", "one"), tokens=1)
    with pytest.raises(ValueError, match="numbers"):
        await documents.search(Query(n=1, vector=b"1234"))


async def test_statistics(documents):
    await documents.put(*document("d", "one", "two"), tokens=1)
    counted = await documents.statistics()
    assert (counted.documents, counted.chunks, counted.characters) == (1, 2, 7)
    assert (counted.indexed, counted.tail, counted.dead) == (0, 2, 0)
    assert counted.bytes > 10_000


async def test_a_staged_document_is_seen_only_once_it_is_whole(documents):
    """Complaint: a failed chunk restarts the whole document."""
    await documents.put(*document("d", "former"), tokens=1)
    new, chunks, vectors = document("d", "one", "two", "three", original=b"o")
    await documents.stage_begin("job", new, chunks)
    assert await documents.staged_jobs() == ("job",)
    await documents.stage_vectors("job", [(1, vectors[1])])
    left = await documents.staged_missing("job")
    assert [(one.index, one.chunk) for one in left] == [(0, chunks[0]), (2, chunks[2])]
    assert [one.index for one in await documents.staged_missing("job", n=1)] == [0]
    with pytest.raises(Conflict):
        await documents.stage_commit("job", tokens=9)
    assert await documents.text("d") == "former"
    assert (await documents.search(Query(n=5, text="two"))).hits == ()
    await documents.stage_vectors("job", [(0, vectors[0]), (2, vectors[2])])
    assert await documents.staged_missing("job") == ()
    made = await documents.stage_commit("job", tokens=9)
    assert (made.chunks, made.tokens, made.characters) == (3, 9, 13)
    contents = await documents.contents("d")
    assert (contents.text, contents.original, contents.vectors) == ("one two three", b"o", tuple(vectors))
    assert await documents.staged_jobs() == ()
    assert await documents.stage_drop("job") is False


async def test_a_job_that_has_nothing_staged(documents):
    for call in (
        documents.staged_missing("job"),
        documents.stage_commit("job", tokens=1),
        documents.stage_vectors("job", [(0, vector("x"))]),
    ):
        with pytest.raises(NotFound):
            await call
    await documents.stage_vectors("job", [])
    new, chunks, _ = document("d", "one")
    await documents.stage_begin("job", new, chunks)
    await documents.stage_begin("job", new, chunks)  # begun anew after a crash
    assert await documents.stage_drop("job") is True


async def test_another_models_vectors_are_refused(opened):
    """Complaint: changing the embedding model breaks everything."""
    async with opened.open(collection()) as documents:
        await documents.put(*document("d", "one"), tokens=1)
    opened.forget("c-1")
    renamed = EmbeddingModel(name="other name", dim=DIM, digest=MODEL.digest)
    async with opened.open(collection(model=renamed)) as documents:
        assert await documents.get("d")
    for model in (
        EmbeddingModel(name="embedder", dim=DIM, digest="d2"),
        EmbeddingModel(name="another", dim=DIM),
        EmbeddingModel(name="embedder", dim=DIM + 1, digest="d1"),
    ):
        opened.forget("c-1")
        with pytest.raises(Conflict, match="rebuild"):
            async with opened.open(collection(model=model)):
                pass


async def test_files_are_for_their_owner_only(opened, documents):
    folder = opened.path(collection())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


async def test_collections_that_nobody_uses_are_closed_when_memory_is_short(tmp_path):
    collections = OpenCollections(tmp_path, clock=lambda: 1, max_bytes=1)
    seen: list[OpenDocuments] = []
    for place in range(3):
        async with collections.open(collection(f"c{place}")) as documents:
            await documents.put(*document("d", "one"), tokens=1)
            seen.append(documents)
            async with collections.open(collection(f"c{place}")) as again:
                assert again is documents
            assert await documents.get("d")  # in use: stays open
    for documents in seen:
        with pytest.raises(StorageError):
            await documents.get("d")
    async with collections.open(collection("c0")) as documents:
        assert await documents.get("d")
    await collections.aclose()
    with pytest.raises(StorageError):
        async with collections.open(collection("c0")):
            pass


async def test_what_open_collections_hold_is_counted(opened):
    for place in range(3):
        async with opened.open(collection(f"c{place}")) as documents:
            await documents.put(*document("d", "one", "two"), tokens=1)
            before = documents.bytes
            await documents.search(Query(n=1, vector=vector("d"), text="one"))
            assert 100_000 < before < documents.bytes < 4_000_000
    assert opened._bytes == sum(entry.documents.bytes for entry in opened._entries.values()) > 600_000
    opened.forget("c1")
    assert opened._bytes == sum(entry.documents.bytes for entry in opened._entries.values()) > 400_000
    await opened.remove("c0")
    await opened.drop(collection("c2"))
    assert opened._bytes == 0


@pytest.mark.parametrize(("files", "left"), [(32, 2), (5, 1), (resource.RLIM_INFINITY, 4)])
async def test_as_many_are_open_as_there_may_be_files(tmp_path, monkeypatch, files, left):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    collections = OpenCollections(tmp_path, clock=lambda: 1)
    for place in range(4):
        async with collections.open(collection(f"c{place}")) as documents:
            assert await documents.list() == ()
    assert list(collections._entries) == [f"c{place}" for place in range(4)][-left:]
    await collections.aclose()


async def test_a_collection_that_is_removed_while_it_is_used(opened):
    async with opened.open(collection()) as documents:
        await documents.put(*document("d", "one"), tokens=1)
        assert await documents.get("d")
        async with opened.open(collection(generation=2)):
            await opened.remove("c-1")
        assert await documents.get("d")
        assert not opened.path(collection()).exists()
        assert not opened.path(collection(generation=2)).exists()
    with pytest.raises(StorageError):
        await documents.get("d")
    await opened.remove("c-1")  # there is nothing any more


async def test_what_a_crash_left_is_swept(opened):
    kept, switched = collection("kept"), collection("switched", generation=2)
    for one in (kept, switched, collection("switched"), collection("gone"), collection("switched", generation=3)):
        async with opened.open(one):
            pass
    await opened.sweep([kept, switched], unused_for_s=3600)
    assert len(list(opened.path(kept).parent.iterdir())) == 5  # somebody may be at them
    await opened.sweep([kept, switched], unused_for_s=-1e12)
    assert {path.name for path in opened.path(kept).parent.iterdir()} == {"kept", "switched_2", "switched_3"}


async def test_a_body_that_is_damaged_is_an_error_of_the_store(opened, documents):
    await documents.put(*document("d", "one"), tokens=1)
    rows(opened, "update body set z = x'00'")
    with pytest.raises(StorageError, match="backup"):
        await documents.text("d")


async def test_a_file_that_is_no_database(opened):
    async with opened.open(collection()) as documents:
        await documents.put(*document("d", "one"), tokens=1)
    opened.forget("c-1")
    for path in opened.path(collection()).glob("c.db*"):
        path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(StorageError):
        async with opened.open(collection()):
            pass


async def test_a_write_waits_for_another_processs_long_one(opened, documents, monkeypatch):
    monkeypatch.setattr(connections, "BUSY_TIMEOUT_MS", 50)
    await documents.list()
    other = apsw.Connection(str(opened.path(collection()) / "c.db"))
    other.execute("begin immediate")
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.to_thread.run_sync, lambda: (time.sleep(0.15), other.execute("commit")))
        await documents.put(*document("d", "one"), tokens=1)
    other.execute("begin immediate")
    with pytest.raises(StorageError, match="busy"):
        await documents.put(*document("d", "two"), tokens=1)
    other.close()
    assert await documents.text("d") == "one"


async def test_nothing_is_written_to_a_file_that_was_deleted_by_hand(opened):
    async with opened.open(collection()) as documents:
        await documents.put(*document("d", "one"), tokens=1)
    shutil.rmtree(opened.path(collection()))
    async with opened.open(collection()) as documents:
        await documents.put(*document("e", "two"), tokens=1)
    assert rows(opened, "select key from document") == [("e",)]
