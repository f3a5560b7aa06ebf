"""The life of a collection against a real server: made anew with another model or cut otherwise, taken out, put in."""

import threading
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.process.test_background import Counting, ended, lines, listening, started, until, upload
from tests.server_process import Server

pytestmark = pytest.mark.patient

MODEL = "counted"


@pytest.fixture(scope="module")
def counting() -> Counting:
    return Counting()


@pytest.fixture(scope="module")
def server(counting: Counting, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with listening(counting) as address, started(tmp_path_factory.mktemp("life"), address) as running:
        yield running


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.http() as it:
        yield it


@pytest.fixture
def place(http: httpx2.Client, request: pytest.FixtureRequest) -> str:
    """The path of a collection with two documents: a file and a text."""
    made = f"/api/collections/{request.node.name[5:33].rstrip('[]')}"
    assert http.post(made, json={"model": MODEL}).status_code == 201
    job = upload(http, made, "guide.txt", lines(30), mode="windows")
    assert ended(http, made, job["id"])["state"] == "done"
    note = {"content": "A note of its own, given as text.", "chunkSize": 20, "description": "Mine"}
    assert http.put(f"{made}/documents/note", json=note).status_code == 201
    return made


def documents(http: httpx2.Client, place: str) -> dict[str, dict[str, Any]]:
    return {each["key"]: each for each in http.get(f"{place}/documents").json()["documents"]}


def whole(http: httpx2.Client, place: str, key: str) -> dict[str, Any]:
    return dict(http.get(f"{place}/documents/{key}", params={"content": "true"}).json())


def test_a_rebuild_cuts_otherwise_and_keeps_everything_else(http, place):
    """Complaint C26: chunks can be made anew without deleting and uploading."""
    before = {key: whole(http, place, key) for key in documents(http, place)}
    answer = http.post(f"{place}/rebuild", params={"wait": 60}, json={"chunkSize": 100, "mode": "structure"})
    assert answer.status_code == 200, answer.text
    after = {key: whole(http, place, key) for key in documents(http, place)}
    assert before.keys() == after.keys()
    for key, document in after.items():
        for name in ("content", "description", "name", "sha256", "mediaType"):
            assert document[name] == before[key][name]
        assert (document["chunkSize"], document["mode"]) == (100, "structure")
    assert after["guide.txt"]["chunks"] < before["guide.txt"]["chunks"]
    best = http.post(f"{place}/search", json={"query": "thing number 17"}).json()["citations"]
    assert any("number 17." in each["quote"] for each in best)
    for each in best:
        assert after[each["documentKey"]]["content"][each["start"] : each["end"]] == each["quote"]


def test_a_rebuild_that_changes_no_chunk_embeds_nothing(http, place, counting):
    seen = counting.calls
    assert http.post(f"{place}/rebuild", params={"wait": 60}).status_code == 200
    assert counting.calls <= seen + 2, "only probes"


def test_a_rebuild_is_refused_while_one_runs_and_with_what_cannot_be(http, place, counting):
    for body, status in (({"model": "nobody"}, 404), ({"chunkSize": 0}, 400), ({"x": 1}, 400), ({"mode": "y"}, 400)):
        assert http.post(f"{place}/rebuild", json=body).status_code == status, body
    counting.pause_s = 0.5
    try:
        job = http.post(f"{place}/rebuild", json={"chunkSize": 30})
        assert job.status_code == 202
        assert http.post(f"{place}/rebuild", json={}).status_code == 409
        assert http.delete(f"{place}/jobs/{job.json()['id']}").status_code == 204
    finally:
        counting.pause_s = 0
    assert ended(http, place, job.json()["id"])["state"] == "cancelled"
    assert documents(http, place)["guide.txt"]["chunkSize"] == 60
    again = http.post(f"{place}/rebuild", params={"wait": 60}, json={"chunkSize": 30})
    assert again.status_code == 200, again.text
    assert http.put(f"{place}/documents/more", json={"content": "More."}).status_code == 201


def test_nothing_that_is_written_during_a_rebuild_is_lost(server, http, place, counting):
    """Complaints C22 and C23: the former state serves until the switch, and what comes meanwhile is in the new one."""
    counting.pause_s = 0.1
    stop = threading.Event()
    written: dict[str, str] = {}
    deleted: set[str] = set()
    faults: list[str] = []

    def write() -> None:
        with server.http() as client:
            number = 0
            while not stop.is_set():
                number += 1
                key, content = f"w{number % 7}", f"Version {number} of what is written meanwhile."
                answer = client.put(f"{place}/documents/{key}", json={"content": content})
                if answer.status_code not in {200, 201}:
                    faults.append(answer.text)
                written[key] = content
                deleted.discard(key)
                if number % 5 == 0:
                    gone = f"w{(number + 3) % 7}"
                    if client.delete(f"{place}/documents/{gone}").status_code == 204:
                        written.pop(gone, None)
                        deleted.add(gone)
                if client.post(f"{place}/search", json={"query": "thing number 5"}).json()["citations"] == []:
                    faults.append("nothing was found meanwhile")

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for size in (40, 80):
            job = http.post(f"{place}/rebuild", json={"chunkSize": size}).json()
            assert ended(http, place, job["id"])["state"] == "done"
    finally:
        stop.set()
        thread.join()
        counting.pause_s = 0
    assert faults == []
    found = documents(http, place)
    assert {key: whole(http, place, key)["content"] for key in written} == written
    assert found.keys() == {"guide.txt", "note", *written}
    assert found["guide.txt"]["chunkSize"] == 80


def test_a_collection_is_taken_out_and_put_in_with_its_vectors(http, place, tmp_path):
    answer = http.get(f"{place}/export")
    assert answer.status_code == 200
    assert "attachment" in answer.headers["content-disposition"]
    assert int(answer.headers["content-length"]) == len(answer.content)
    copy = f"{place[:40]}-2"
    files = {"file": ("x.narthex", answer.content)}
    taken = http.post(f"{copy}/import", params={"wait": 60}, files=files)
    assert taken.status_code == 201, taken.text
    assert taken.json()["result"]["documents"] == 2
    before, after = documents(http, place), documents(http, copy)
    for key in before:
        for name in ("sha256", "chunks", "chunkSize", "mode", "description", "mediaType", "name", "characters"):
            assert before[key][name] == after[key][name]
        assert whole(http, place, key)["content"] == whole(http, copy, key)["content"]
    words = {"query": "thing number 17"}
    one, other = (http.post(f"{each}/search", json=words).json()["citations"] for each in (place, copy))
    assert [each["quote"] for each in one] == [each["quote"] for each in other]
    again = http.post(f"{copy}/import", files=files)
    assert again.status_code == 409


@pytest.mark.parametrize("content", [b"", b"no database", b"SQLite format 3\0" + b"x" * 4096])
def test_what_was_never_exported_is_refused(http, content, server):
    answer = http.post("/api/collections/broken/import", files={"file": ("x.narthex", content)})
    assert answer.status_code == 400, answer.text
    assert http.get("/api/collections/broken").status_code == 404
    until(lambda: not list((server.data / "uploads").iterdir()))


def test_an_import_needs_one_file(http):
    two = [("file", ("a", b"x")), ("file", ("b", b"y"))]
    assert http.post("/api/collections/broken/import", files=two).status_code == 400
    assert http.get("/api/collections/nothing/export").status_code == 404
