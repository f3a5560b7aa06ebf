import os
import subprocess
import sys

import numpy as np
import pytest
from tests.collection_parts import DIM, collection, document, vector

from narthex.core.documents import Query
from narthex.core.errors import StorageFull
from narthex.retrieval import newer, rebuild
from narthex.retrieval.opened import OpenCollections
from narthex.retrieval.rebuild import LOCK, needs_rebuild
from narthex.storage.sqlite.connection import open_connection
from narthex.storage.sqlite.migrate import load, migrate
from narthex.vectors import segment

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


@pytest.fixture
def folder(opened):
    return opened.path(collection())


def built(folder) -> bool:
    return rebuild.rebuild(folder, clock=lambda: 1)


async def fill(documents, *keys: str, words: int = 30) -> None:
    for key in keys:
        await documents.put(*document(key, *(f"{key}w{place} shared" for place in range(words))), tokens=1)


def keys(found) -> list[str]:
    return [hit.document_key for hit in found.hits]


async def nearest(documents, key: str, place: int = 0):
    [hit] = (await documents.search(Query(n=1, vector=vector(key, 0, place)))).hits
    return hit


async def same_answers(documents, *there: str, gone: str = "") -> None:
    """Of searches by meaning, by words and by both, for documents of `fill`."""
    for key in there:
        hit = await nearest(documents, key, 3)
        assert (hit.document_key, hit.index) == (key, 3)
        assert hit.scores.vector == pytest.approx(1, abs=1e-5)
        found = await documents.search(Query(n=2, text=f"{key}w3 unknown"))
        assert keys(found) == [key]
        assert found.words == (f"{key}w3",)
        both = await documents.search(Query(n=3, text=f"{key}w4 shared", vector=vector(key, 0, 4)))
        assert (both.hits[0].document_key, both.hits[0].index) == (key, 4)
        assert both.hits[0].scores.fused == pytest.approx(1, abs=0.05)
    if gone:
        assert (await nearest(documents, gone, 3)).document_key != gone
        assert (await documents.search(Query(n=2, text=f"{gone}w3"))).hits == ()


async def test_the_answers_are_the_same_with_and_without_a_code_file(documents, folder):
    await fill(documents, "a", "b", "c")
    await same_answers(documents, "a", "b", "c")
    assert built(folder)
    await same_answers(documents, "a", "b", "c")
    assert (await documents.statistics()).indexed == 90
    await fill(documents, "d")  # newer than the file
    await same_answers(documents, "a", "b", "c", "d")
    await documents.delete("b")
    await same_answers(documents, "a", "c", "d", gone="b")
    counted = await documents.statistics()
    assert (counted.indexed, counted.tail, counted.dead) == (90, 30, 30)
    assert built(folder)
    await same_answers(documents, "a", "c", "d", gone="b")
    assert len(list(folder.glob("seg-*"))) == 1


async def test_everything_derived_may_vanish_at_any_moment(documents, folder):
    await fill(documents, "a", "b")
    assert built(folder)
    await same_answers(documents, "a", "b")
    [file] = folder.glob("seg-*")
    file.unlink()
    await same_answers(documents, "a", "b")
    assert needs_rebuild(folder)
    await fill(documents, "c")
    await same_answers(documents, "a", "b", "c")
    assert built(folder)
    assert not needs_rebuild(folder)
    await same_answers(documents, "a", "b", "c")


@pytest.mark.parametrize("harm", ["truncated", "magic", "checksum", "empty", "gone", "text"])
async def test_a_damaged_code_file_is_ignored_and_made_anew(opened, folder, harm):
    async with opened.open(collection()) as documents:
        await fill(documents, "a", "b")
        assert built(folder)
    opened.forget("c-1")
    [file] = folder.glob("seg-*")
    whole = file.read_bytes()
    harmed = {
        "truncated": whole[:-10],
        "magic": whole.replace(b"narthex-segment", b"narthex-nothing", 1),
        "checksum": b"0" * 8 + whole[8:],
        "empty": b"",
        "gone": None,
        "text": b"not a number at all",
    }[harm]
    file.unlink()
    if harmed is not None:
        file.write_bytes(harmed)
    async with opened.open(collection()) as documents:
        await same_answers(documents, "a", "b")
        assert needs_rebuild(folder)
        assert built(folder)
        assert not needs_rebuild(folder)
        await same_answers(documents, "a", "b")


async def test_a_code_file_of_other_vectors_is_not_used(documents, folder):
    await fill(documents, "a")
    assert built(folder)
    [file] = folder.glob("seg-*")
    with pytest.raises(segment.Damaged):
        segment.open_segment(file, dim=DIM + 1)


async def test_only_one_makes_the_code_file(documents, folder):
    await fill(documents, "a")
    with rebuild._alone(folder) as alone:
        assert alone
        assert not built(folder)
    assert built(folder)


async def test_a_rebuild_removes_what_a_killed_one_left(documents, folder):
    await fill(documents, "a")
    (folder / "seg-1-dead.tmp").write_bytes(b"half")
    (folder / "seg-9-dead.bin").write_bytes(b"never committed")
    assert built(folder)
    assert [path.suffix for path in folder.glob("seg-*")] == [".bin"]
    await same_answers(documents, "a")


async def test_an_emptied_collection_loses_its_code_file(documents, folder):
    await fill(documents, "a")
    assert built(folder)
    await documents.delete("a")
    assert built(folder)
    assert list(folder.glob("seg-*")) == []
    assert (await documents.search(Query(n=1, vector=vector("a"), text="shared"))).hits == ()


async def test_when_it_is_time_for_a_rebuild(documents, folder, monkeypatch):
    monkeypatch.setattr(rebuild, "SMALL", 50)
    await fill(documents, "a")
    assert not needs_rebuild(folder)
    await fill(documents, "b")
    assert needs_rebuild(folder)
    assert built(folder)
    assert not needs_rebuild(folder)
    await documents.delete("a")
    assert needs_rebuild(folder)


async def test_a_file_whose_maker_died_at_once_needs_none(folder):
    folder.mkdir(parents=True)
    connection = open_connection(folder / "c.db", synchronous="FULL", create=True)
    migrate(connection, load("collection"), clock=lambda: 1)
    connection.close()
    assert not needs_rebuild(folder)


async def test_the_less_there_is_in_the_code_file_the_sooner_it_is_made_anew(documents, folder, monkeypatch):
    monkeypatch.setattr(rebuild, "FEW", 50)
    await fill(documents, "a", words=50)
    assert not needs_rebuild(folder)
    await fill(documents, "b", words=10)
    assert needs_rebuild(folder)
    assert built(folder)
    await fill(documents, "c", words=60)
    assert not needs_rebuild(folder)
    await fill(documents, "d", words=1)
    assert needs_rebuild(folder)


async def test_a_search_by_words_reads_no_vectors(documents, folder):
    await fill(documents, "a", "b")
    found = await documents.search(Query(n=1, text="bw5"))
    assert keys(found) == ["b"]
    assert documents._index.bytes == 0
    await same_answers(documents, "a", "b")
    assert documents._index.bytes >= 60 * 4 * DIM


async def test_the_module_makes_it_in_a_process_of_its_own(documents, folder):
    await fill(documents, "a")
    command = [sys.executable, "-m", "narthex.retrieval.rebuild", str(folder)]
    assert subprocess.run(command, check=False).returncode == 0
    await same_answers(documents, "a")
    [file] = folder.glob("seg-*")
    assert file.stat().st_mode & 0o777 == 0o600
    failed = subprocess.run([*command[:-1], str(folder / "nowhere")], check=False, capture_output=True, text=True)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr


async def test_a_full_disk_leaves_the_former_code_file(documents, folder, monkeypatch):
    await fill(documents, "a")
    assert built(folder)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(StorageFull):
        built(folder)
    await same_answers(documents, "a")
    assert len(list(folder.glob("seg-*"))) == 1


async def test_documents_narrow_the_search_before_the_best_are_chosen(documents, folder):
    """Complaint: a metadata filter is ignored, or returns nothing."""
    await fill(documents, *"abcdefgh")
    for _ in range(2):
        for chosen in (("b",), ("b", "g"), ("b", "nowhere")):
            found = await documents.search(Query(n=5, vector=vector("a", 0, 1), text="aw1 shared", documents=chosen))
            assert len(found.hits) == 5
            assert set(keys(found)) <= set(chosen)
        assert (await documents.search(Query(n=5, vector=vector("a"), documents=("nowhere",)))).hits == ()
        assert (await documents.search(Query(n=5, text="shared", documents=()))).hits == ()
        assert built(folder)


async def test_one_document_gives_no_more_than_its_share(documents, folder):
    """Complaint: one document fills the whole answer."""
    await fill(documents, "long", words=300)
    await fill(documents, "x", "y", words=1)
    for _ in range(2):
        found = await documents.search(Query(n=4, vector=vector("long", 0, 7), text="longw7 shared", per_document=2))
        assert sorted(keys(found)) == ["long", "long", "x", "y"]
        assert found.hits[0].index == 7
        assert {one.why for one in found.left} == {"per_document"}
        assert built(folder)


async def test_what_was_left_out_and_why(documents):
    await fill(documents, "a", words=20)
    found = await documents.search(Query(n=3, vector=vector("a", 0, 7)))
    assert [one.why for one in found.left] == ["rank"] * 10
    scores = [one.scores.fused for one in (*found.hits, *found.left)]
    assert scores == sorted(scores, reverse=True)
    assert found.words == ()


async def test_the_weight_tells_which_search_decides(documents, folder):
    await fill(documents, "a", "b")
    for _ in range(2):
        for weight, first in ((1.0, ("a", 3)), (0.0, ("b", 5))):
            [hit] = (await documents.search(Query(n=1, vector=vector("a", 0, 3), text="bw5", weight=weight))).hits
            assert (hit.document_key, hit.index) == first
        found = await documents.search(Query(n=60, vector=vector("a", 0, 3), text="bw5"))
        assert len(found.hits) == 60
        assert [hit.document_key for hit in found.hits if hit.scores.bm25 is not None] == ["b"]
        assert all(hit.scores.vector is not None for hit in found.hits)
        assert built(folder)


async def test_identifiers_and_unspaced_scripts_are_found_by_their_words(documents, folder):
    """Complaints: exact names are not found; Chinese, Japanese and Thai text is not found by keywords."""
    texts = {
        "name": "call fooBar_baz before it",
        "code": "the error ORA-00942 table or view",
        "zh": "我们在上海的办公室星期一开门",
        "ja": "日本語のテキストを検索する",
        "th": "ภาษาไทยไม่มีช่องว่าง",
        "marks": "Ärger über Größe",
    }
    for key, text in texts.items():
        await documents.put(*document(key, text), tokens=1)
    asked = {
        "fooBar_baz": "name",
        "foobar_BAZ": "name",
        "ORA-00942": "code",
        "上海办公室": "zh",
        "検索": "ja",
        "ช่องว่าง": "th",
        "arger UBER": "marks",
    }
    for _ in range(2):
        for question, key in asked.items():
            assert keys(await documents.search(Query(n=1, text=question))) == [key], question
        assert built(folder)


@pytest.mark.parametrize(
    "question", ["", " ", '"', "a OR NOT (", "*", "\x00", "💥", "\ud800", "NEAR(", "-" * 5000, "字" * 3000]
)
async def test_a_question_is_never_a_query_language(documents, question):
    await fill(documents, "a", words=2)
    found = await documents.search(Query(n=1, text=question))
    assert found.hits == ()
    assert len((await documents.search(Query(n=1, text=question, vector=vector("a", 0, 0)))).hits) == 1


async def test_a_very_long_question_is_cut_to_its_rarest_words(documents, folder):
    await fill(documents, "a", words=200)
    for _ in range(2):
        found = await documents.search(Query(n=1, text=" ".join(f"aw{place}" for place in range(1000))))
        assert len(found.words) == 64
        assert len(found.hits) == 1
        assert built(folder)


async def test_another_process_and_another_connection_see_a_put_at_once(tmp_path, documents):
    await fill(documents, "a")
    other = OpenCollections(tmp_path / "collections", clock=lambda: 1)
    async with other.open(collection()) as elsewhere:
        await same_answers(elsewhere, "a")
        await fill(documents, "b")
        await same_answers(elsewhere, "a", "b")
        await elsewhere.delete("a")
    await other.aclose()
    await same_answers(documents, "b", gone="a")


async def test_more_vectors_than_memory_is_meant_for_are_read_each_time(documents, folder, monkeypatch):
    monkeypatch.setattr(newer, "MAX_TAIL", 40)
    monkeypatch.setattr(newer, "_BLOCK", 20)
    await fill(documents, "a", "b", "c")
    await same_answers(documents, "a", "b", "c")
    assert documents.bytes < documents.file.bytes + 20_000
    found = await documents.search(Query(n=5, vector=vector("c", 0, 1), documents=("c",)))
    assert keys(found) == ["c"] * 5
    assert built(folder)
    await same_answers(documents, "a", "b", "c")


async def test_vectors_that_are_gone_leave_memory(documents, monkeypatch):
    monkeypatch.setattr(newer, "_SPARE", 10)
    await same_answers(documents)
    for _ in range(20):
        await fill(documents, "a")
        await same_answers(documents, "a")
    assert documents._index._derived._newer._tail.rows < 100


async def test_a_vector_that_is_no_number_comes_last(documents):
    new, chunks, _ = document("bad", "one")
    await documents.put(new, chunks, [np.full(DIM, np.nan, "<f4").tobytes()], tokens=1)
    await fill(documents, "a", words=3)
    found = await documents.search(Query(n=4, vector=vector("a", 0, 0)))
    assert keys(found) == ["a", "a", "a", "bad"]


def test_the_lock_is_not_left_behind(tmp_path):
    with rebuild._alone(tmp_path) as alone:
        assert alone
    with rebuild._alone(tmp_path) as again:
        assert again
    assert (tmp_path / LOCK).exists()
