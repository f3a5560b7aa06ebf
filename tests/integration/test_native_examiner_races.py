"""Several callers at one collection or document at the same time: one wins, and everybody sees whole things."""

import threading

import pytest
from tests.native_calls import all_at_once, collection_path, document_path, fresh, made, said_no
from tests.server_process import EMBEDDING_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.native_fixture"]
pytestmark = pytest.mark.patient

CALLERS = 8
BODY = {"model": EMBEDDING_MODEL}


def statuses(answers):
    return sorted(answer.status_code for answer in answers)


def text(number):
    return f"Ferry number {number} sails at {number} o'clock. " * (number + 1)


def searched(api, shelf):
    answer = api.post(f"{collection_path(shelf)}/search", json={"query": "ferry", "n": 50})
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("first", [True, False], ids=["new", "replaced"])
def test_puts_of_one_document_leave_one_of_them_whole(api, first):
    shelf = made(api, {} if first else {"d": "The old text."})
    answers = all_at_once(
        *(
            lambda number=number: api.put(document_path(shelf, "d"), json={"content": text(number), "chunkSize": 60})
            for number in range(CALLERS)
        )
    )
    assert statuses(answers) == [200] * (CALLERS - first) + [201] * first
    ids = [answer.json()["documentId"] for answer in answers]
    assert len(set(ids)) == CALLERS
    got = api.get(document_path(shelf, "d"), params={"content": "true"}).json()
    assert got["content"] == text(ids.index(got["id"]))
    for each in searched(api, shelf)["citations"]:
        assert got["content"][each["start"] : each["end"]] == each["quote"]
    assert len(api.get(f"{collection_path(shelf)}/documents").json()["documents"]) == 1


def test_readers_see_whole_documents_while_they_are_replaced(api):
    shelf = made(api, {"d": text(0)})
    done, wrong = threading.Event(), []

    def read():
        while not done.is_set():
            got = api.get(document_path(shelf, "d"), params={"content": "true"})
            if got.status_code != 200 or got.json()["content"] not in {text(number) for number in range(CALLERS)}:
                wrong.append(got.text)
            sources = searched(api, shelf)["sources"]
            if sources != ["d"]:
                wrong.append(sources)

    reader = threading.Thread(target=read)
    reader.start()
    try:
        for number in range(CALLERS):
            answer = api.put(document_path(shelf, "d"), json={"content": text(number), "chunkSize": 60})
            assert answer.status_code == 200, answer.text
    finally:
        done.set()
        reader.join(60)
    assert wrong == []


def test_puts_of_different_documents_all_arrive(api):
    shelf = made(api)
    answers = all_at_once(
        *(
            lambda number=number: api.put(document_path(shelf, f"d{number}"), json={"content": text(number)})
            for number in range(CALLERS)
        )
    )
    assert statuses(answers) == [201] * CALLERS
    listed = api.get(f"{collection_path(shelf)}/documents").json()["documents"]
    assert {each["key"]: each["id"] for each in listed} == {
        f"d{number}": answer.json()["documentId"] for number, answer in enumerate(answers)
    }
    assert set(searched(api, shelf)["sources"]) == {f"d{number}" for number in range(CALLERS)}


def test_one_post_of_a_document_wins(api):
    shelf = made(api)
    answers = all_at_once(
        *(
            lambda number=number: api.post(document_path(shelf, "d"), json={"content": text(number)})
            for number in range(CALLERS)
        )
    )
    assert statuses(answers) == [201] + [409] * (CALLERS - 1)
    [won] = [number for number, answer in enumerate(answers) if answer.status_code == 201]
    got = api.get(document_path(shelf, "d"), params={"content": "true"}).json()
    assert (got["id"], got["content"]) == (answers[won].json()["documentId"], text(won))
    for answer in answers:
        if answer.status_code == 409:
            said_no(answer, 409, "d")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_one_collection_is_made(api, method):
    key = fresh()
    answers = all_at_once(*(lambda: api.request(method, collection_path(key), json=BODY) for _ in range(CALLERS)))
    assert statuses(answers) == sorted([201] + [409 if method == "POST" else 200] * (CALLERS - 1))
    ids = {answer.json()["id"] for answer in answers if answer.is_success}
    assert ids == {api.get(collection_path(key)).json()["id"]}


def test_one_delete_finds_something(api):
    shelf = made(api, {"d": "words"})
    answers = all_at_once(*(lambda: api.delete(document_path(shelf, "d")) for _ in range(CALLERS)))
    assert statuses(answers) == [204] + [404] * (CALLERS - 1)
    answers = all_at_once(*(lambda: api.delete(collection_path(shelf)) for _ in range(CALLERS)))
    assert statuses(answers) == [204] + [404] * (CALLERS - 1)


def test_puts_and_deletes_of_one_document_leave_it_there_or_gone(api):
    shelf = made(api, {"other": "Cats hunt at night."})
    for _ in range(3):
        answers = all_at_once(
            *(
                lambda number=number: api.put(document_path(shelf, "d"), json={"content": text(number)})
                for number in range(CALLERS // 2)
            ),
            *(lambda: api.delete(document_path(shelf, "d")) for _ in range(CALLERS // 2)),
        )
        assert {answer.status_code for answer in answers} <= {200, 201, 204, 404}
        got = api.get(document_path(shelf, "d"), params={"content": "true"})
        found = [each for each in searched(api, shelf)["citations"] if each["documentKey"] == "d"]
        if got.status_code == 404:
            assert found == []
        else:
            assert "".join(each["quote"] for each in found) == got.json()["content"]


def test_a_collection_that_is_deleted_under_its_writers(api):
    """Each write is in before the end, or is told that there is no such collection; nothing comes back by itself."""
    shelf = made(api, {"d": "words"})
    writes = [
        lambda number=number: api.put(document_path(shelf, f"d{number}"), json={"content": text(number)})
        for number in range(CALLERS - 1)
    ]
    *written, deleted = all_at_once(*writes, lambda: api.delete(collection_path(shelf)))
    assert deleted.status_code == 204
    assert set(statuses(written)) <= {201, 404}
    said_no(api.get(collection_path(shelf)), 404)
    assert api.post(collection_path(shelf), json=BODY).status_code == 201
    assert api.get(f"{collection_path(shelf)}/documents").json() == {"documents": []}
