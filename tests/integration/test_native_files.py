"""Files over HTTP against a real server: they become documents that can be found, by jobs that tell what they do."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.server_process import EMBEDDING_MODEL, Server

from narthex.core.documents import MAX_DOCUMENT_KEY
from narthex.wire.sse import SseDecoder

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

pytestmark = pytest.mark.patient

GUIDE = """# Guide

## Install

Unpack the archive and run the installer. Administrators need a licence key before they begin.

## Ferry times

The ferry leaves from the eastern pier every hour. Bicycles travel for free on the upper deck.
"""


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx2.Client]:
    with server.http() as it:
        yield it


@pytest.fixture
def collection(http: httpx2.Client, request: pytest.FixtureRequest) -> Iterator[str]:
    """The path of a collection that is this test's own."""
    place = f"/api/collections/{request.node.name[5:37].rstrip('[]')}"
    assert http.post(place, json={"model": EMBEDDING_MODEL}).status_code == 201
    yield place
    assert http.delete(place).status_code == 204


def upload(http: httpx2.Client, place: str, *files: tuple[str, bytes], wait: float = 60, **fields: str) -> Any:
    sent = [("file", (name, content, "application/octet-stream")) for name, content in files]
    return http.post(f"{place}/files", params={"wait": wait}, files=sent, data=fields)


def ended(http: httpx2.Client, place: str, job_id: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while (job := http.get(f"{place}/jobs/{job_id}").json())["state"] in {"queued", "running"}:
        assert time.monotonic() < deadline, job
        time.sleep(0.05)
    return dict(job)


def found(http: httpx2.Client, place: str, words: str) -> list[dict[str, Any]]:
    answer = http.post(f"{place}/search", json={"query": words})
    assert answer.status_code == 200, answer.text
    return list(answer.json()["citations"])


def test_a_file_becomes_a_document_that_is_found(http, collection):
    answer = upload(http, collection, ("guide.md", GUIDE.encode()), description="How to", chunkSize="120")
    assert answer.status_code == 201, answer.text
    [job] = answer.json()["jobs"]
    assert (job["state"], job["percent"], job["documentKey"]) == ("done", 100, "guide.md")
    document = http.get(f"{collection}/documents/guide.md", params={"content": "true"}).json()
    assert document["id"] == job["result"]["documentId"]
    assert (document["name"], document["description"], document["chunkSize"]) == ("guide.md", "How to", 120)
    assert document["chunks"] == job["result"]["chunks"] > 1
    best = found(http, collection, "When do boats leave the harbour?")[0]
    assert "ferry" in best["quote"]
    assert document["content"][best["start"] : best["end"]] == best["quote"]


def test_without_waiting_the_job_is_followed(http, collection):
    answer = upload(http, collection, ("a.txt", b"Some words of a file."), wait=0)
    assert answer.status_code == 202
    [job] = answer.json()["jobs"]
    assert answer.headers["location"].endswith(f"/jobs/{job['id']}")
    assert ended(http, collection, job["id"])["state"] == "done"
    assert [each["id"] for each in http.get(f"{collection}/jobs").json()["jobs"]] == [job["id"]]
    assert http.get(f"{collection}/jobs", params={"open": "true"}).json() == {"jobs": []}


def test_a_job_is_told_as_events_to_its_end(http, collection):
    [job] = upload(http, collection, ("a.txt", b"Words. " * 3000), wait=0).json()["jobs"]
    decoder, told = SseDecoder(), []
    with http.stream("GET", f"{collection}/jobs/{job['id']}", headers={"accept": "text/event-stream"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        for piece in answer.iter_bytes():
            told += [json.loads(event.data) for event in decoder.feed(piece)]
    assert told[-1]["state"] == "done"
    percents = [each["percent"] for each in told]
    assert percents == sorted(percents)
    assert {each["id"] for each in told} == {job["id"]}
    with http.stream("GET", f"{collection}/jobs/{job['id']}/events") as answer:
        assert json.loads(answer.read().split(b"data: ")[1])["state"] == "done"


def test_the_same_file_again_changes_nothing_and_a_changed_one_replaces_it(http, collection):
    """No duplicates: complaint C25."""
    first = upload(http, collection, ("guide.md", GUIDE.encode())).json()["jobs"][0]["result"]["documentId"]
    again = upload(http, collection, ("guide.md", GUIDE.encode()))
    assert again.status_code == 200
    [told] = again.json()["jobs"]
    assert (told["unchanged"], told["documentId"], told["id"]) == (True, first, None)
    changed = upload(http, collection, ("guide.md", GUIDE.encode() + b"\nThe last boat leaves at ten.\n"))
    assert changed.status_code == 200
    assert changed.json()["jobs"][0]["result"]["documentId"] != first
    listed = http.get(f"{collection}/documents").json()["documents"]
    assert [each["key"] for each in listed] == ["guide.md"]
    assert "ten" in found(http, collection, "last boat")[0]["quote"]
    recut = upload(http, collection, ("guide.md", GUIDE.encode()), chunkSize="50")
    assert "unchanged" not in recut.json()["jobs"][0]


def test_many_files_at_once_each_become_a_document(http, collection):
    names = [f"folder/{number}.txt" for number in range(12)]
    answer = upload(http, collection, *((name, f"This is file {name}.".encode()) for name in names))
    assert answer.status_code == 201
    listed = http.get(f"{collection}/documents").json()["documents"]
    assert sorted(each["key"] for each in listed) == sorted(name.replace("/", ":") for name in names)


def test_a_file_that_nothing_reads_fails_with_a_reason_and_leaves_nothing(server, http, collection):
    answer = upload(http, collection, ("x.bin", bytes(range(256)) * 50))
    assert answer.status_code == 415
    body = answer.json()
    assert isinstance(body["error"], str)
    assert body["jobs"][0]["error"] == body["error"]
    assert http.get(f"{collection}/documents").json() == {"documents": []}
    deadline = time.monotonic() + 60
    while list((server.data / "uploads").iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_an_attached_file_is_there_once_its_job_is_done(http, collection):
    """Never "content empty" for what was uploaded: complaint C30."""
    for number in range(5):
        upload(http, collection, (f"{number}.txt", f"Number {number} says hello.".encode()))
        assert found(http, collection, f"number {number}")[0]["documentKey"] == f"{number}.txt"


def test_a_key_may_be_given_for_one_file(http, collection):
    assert upload(http, collection, ("a.txt", b"Words."), key="my notes").status_code == 201
    assert http.get(f"{collection}/documents/my%20notes").status_code == 200


def test_a_cancelled_job_stores_nothing(http, collection):
    [job] = upload(http, collection, ("a.txt", b"Many words. " * 20_000), wait=0).json()["jobs"]
    assert http.delete(f"{collection}/jobs/{job['id']}").status_code == 204
    assert ended(http, collection, job["id"])["state"] == "cancelled"
    assert http.get(f"{collection}/documents").json() == {"documents": []}
    assert http.delete(f"{collection}/jobs/{job['id']}").status_code == 204


@pytest.mark.parametrize(
    ("fields", "files", "status"),
    [
        ({"chunkSize": "0"}, 1, 400),
        ({"chunkSize": "many"}, 1, 400),
        ({"chunkSize": "100000"}, 1, 400),
        ({"mode": "other"}, 1, 400),
        ({"description": "x" * 257}, 1, 400),
        ({"key": "a/b"}, 1, 400),
        ({"key": "k" * (MAX_DOCUMENT_KEY + 1)}, 1, 400),
        ({"key": "k"}, 2, 400),
        ({"unknown": "x"}, 1, 400),
        ({"wait": "61"}, 1, 400),
        ({}, 0, 400),
    ],
)
def test_a_form_that_is_wrong_is_refused(http, collection, fields, files, status):
    sent = [("file", (f"{number}.txt", b"Words.")) for number in range(files)] or [("other", (None, b"x"))]
    query = {"wait": fields.pop("wait")} if "wait" in fields else {}
    answer = http.post(f"{collection}/files", params=query, files=sent, data=fields)
    assert answer.status_code == status, answer.text
    assert isinstance(answer.json()["error"], str)
    assert http.get(f"{collection}/jobs").json() == {"jobs": []}


def test_what_is_no_form_is_refused(http, collection):
    assert http.post(f"{collection}/files", json={}).status_code == 415
    broken = http.post(f"{collection}/files", content=b"x", headers={"content-type": "multipart/form-data; boundary=y"})
    assert broken.status_code == 400
    assert http.post("/api/collections/nothing/files", files={"file": ("a.txt", b"x")}).status_code == 404
    for method in ("GET", "DELETE"):
        assert http.request(method, f"{collection}/jobs/nobody").status_code == 404


def test_jobs_of_another_collection_are_not_told(http, collection):
    other = f"{collection[:40]}-2"
    http.post(other, json={"model": EMBEDDING_MODEL})
    [job] = upload(http, other, ("a.txt", b"Words.")).json()["jobs"]
    assert http.get(f"{collection}/jobs/{job['id']}").status_code == 404
    assert http.get(f"{other}/jobs/{job['id']}").status_code == 200
    http.delete(other)


def test_two_accounts_see_nothing_of_each_other(server, collection):
    with server.http(server.key(name="theirs", account="theirs")) as theirs:
        assert upload(theirs, collection, ("a.txt", b"Words.")).status_code == 404
        assert theirs.get(f"{collection}/jobs").status_code == 404
