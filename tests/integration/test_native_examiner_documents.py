"""Documents as the contract has them: keys, sizes, chunks, what POST, PUT, GET and DELETE answer."""

import json

import pytest
from tests.native_calls import (
    FAR_VECTORS,
    Json,
    collection_path,
    document_path,
    fresh,
    is_time,
    is_uuid,
    made,
    said_no,
    said_nothing,
)
from tests.server_process import EMBEDDING_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.native_fixture"]
pytestmark = pytest.mark.patient

MIB = 1_048_576
CHUNK_SIZE, CHUNKS, CHUNK_TOKENS = "maxChunkSize", "maxChunkCount", "maxChunkTokens"


@pytest.fixture(scope="module")
def limits(api) -> Json:
    return next(each for each in api.get("/api/models").json()["data"] if each["id"] == EMBEDDING_MODEL)


@pytest.fixture(scope="module")
def shelf(api) -> str:
    """A collection for tests that use keys of their own in it."""
    return made(api)


def content(api, collection, key):
    answer = api.get(document_path(collection, key), params={"content": "true"})
    assert answer.status_code == 200, answer.text
    return answer.json()["content"]


KEYS = {
    "sixty-four": "d" * 64,
    "sixty-four of two bytes": "ß" * 64,
    "sixty-four of four bytes": "\U0001f600" * 64,
    "spaces": "my own file.txt",
    "space": " ",
    "dots": "..a..",
    "two dots": "..",
    "escaped": '100%25?#[]"<>\\^`{|}&=+;',
    "emoji": "\U0001f468‍\U0001f469‍\U0001f467",
    "chinese": "文档",
    "chunks": "search",
}
IMPOSSIBLE = {
    "sixty-five": "d" * 65,
    "sixty-five of four bytes": "\U0001f600" * 65,
    "slash": "a/b",
    "nul": "a\0b",
    "newline": "a\nb",
    "delete": "a\x7f",
}


def rows(table):
    return [pytest.param(value, id=name) for name, value in table.items()]


@pytest.mark.parametrize("key", rows(KEYS))
def test_a_key_of_any_characters_is_kept_as_it_was_sent(api, shelf, key):
    place = document_path(shelf, key).replace("/..", "/%2E%2E")
    answer = api.post(place, json={"content": "words"})
    assert answer.status_code == 201, answer.text
    got = api.get(place)
    assert (got.status_code, got.json()["key"], got.json()["id"]) == (200, key, answer.json()["documentId"])
    listed = [each["key"] for each in api.get(f"{collection_path(shelf)}/documents").json()["documents"]]
    assert key in listed
    said_no(api.post(place, json={"content": "other words"}), 409)
    said_nothing(api.delete(place))
    said_no(api.get(place), 404)


@pytest.mark.parametrize("key", rows(IMPOSSIBLE))
def test_a_key_that_can_not_be_is_refused_when_added_and_unknown_otherwise(api, shelf, key):
    for method in ("POST", "PUT"):
        said_no(api.request(method, document_path(shelf, key), json={"content": "words"}), 400, "Key")
    for method in ("GET", "DELETE"):
        said_no(api.request(method, document_path(shelf, key)), 404)


def test_keys_differ_by_case(api, shelf):
    first, second = (api.post(document_path(shelf, key), json={"content": key}) for key in ("Case", "case"))
    assert (first.status_code, second.status_code) == (201, 201)
    assert content(api, shelf, "Case") == "Case"
    said_no(api.get(document_path(shelf, "CASE")), 404)


def test_the_answer_to_the_sample_of_the_documentation(api, shelf):
    body = {"description": "A document about the world", "content": "Hello, world!", "chunkSize": 1536}
    answer = api.post(document_path(shelf, "sample"), json=body)
    assert answer.status_code == 201
    said = answer.json()
    assert set(said) - {"warnings"} == {"documentId", "usage"}
    assert is_uuid(said["documentId"])
    usage = said["usage"]
    assert set(usage) == {"apiKeyID", "embeddingModel", "documentStore"}
    assert is_uuid(usage["apiKeyID"])
    assert usage["embeddingModel"] == EMBEDDING_MODEL
    store = usage["documentStore"]
    assert set(store) == {"embeddingTokens", "chunks", "chunkSizeSum", "duration"}
    assert (store["chunks"], store["chunkSizeSum"]) == (1, 13)
    assert 0 < store["embeddingTokens"] <= 13
    assert isinstance(store["duration"], int)
    got = api.get(document_path(shelf, "sample")).json()
    assert "content" not in got
    assert (got["description"], got["characters"]) == ("A document about the world", 13)
    assert is_time(got["createdAt"])
    assert content(api, shelf, "sample") == "Hello, world!"


@pytest.mark.parametrize(
    ("body", "named"),
    [
        pytest.param({}, "content", id="nothing"),
        pytest.param({"description": "d"}, "content", id="no content"),
        pytest.param({"content": None}, "content", id="null"),
        pytest.param({"content": ""}, "content", id="empty"),
        pytest.param({"content": " \n\t\u00a0\u2003"}, "content", id="white space"),
        pytest.param({"content": 1}, "content", id="number"),
        pytest.param({"content": True}, "content", id="boolean"),
        pytest.param({"content": ["words"]}, "content", id="array"),
        pytest.param({"content": {"text": "words"}}, "content", id="object"),
        pytest.param({"content": "w", "description": 1}, "description", id="description a number"),
        pytest.param({"content": "w", "description": ["d"]}, "description", id="description an array"),
        pytest.param({"content": "w", "description": "d" * 257}, "description", id="description too long"),
        pytest.param({"content": "w", "description": "\U0001f600" * 257}, "description", id="too many emoji"),
        pytest.param({"content": "w", "chunkSize": 0}, "chunkSize", id="chunkSize 0"),
        pytest.param({"content": "w", "chunkSize": -1}, "chunkSize", id="chunkSize below 0"),
        pytest.param({"content": "w", "chunkSize": 1.5}, "chunkSize", id="chunkSize not whole"),
        pytest.param({"content": "w", "chunkSize": "1"}, "chunkSize", id="chunkSize a string"),
        pytest.param({"content": "w", "chunkSize": True}, "chunkSize", id="chunkSize a boolean"),
        pytest.param({"content": "w", "chunkSize": [1]}, "chunkSize", id="chunkSize an array"),
        pytest.param({"content": "w", "chunkSize": 10**30}, "chunkSize", id="chunkSize huge"),
        pytest.param({"content": "w", "chunksize": 5}, "chunksize", id="chunkSize in other case"),
        pytest.param({"content": "w", "chunk_size": 5}, "chunk_size", id="snake case"),
        pytest.param({"content": "w", "model": EMBEDDING_MODEL}, "model", id="unknown field"),
    ],
)
def test_what_a_document_may_not_be(api, shelf, body, named):
    key = fresh("d")
    for method in ("POST", "PUT"):
        said_no(api.request(method, document_path(shelf, key), json=body), 400, named)
    said_no(api.get(document_path(shelf, key)), 404)


@pytest.mark.parametrize("fields", [{}, {"description": None, "chunkSize": None}, {"description": ""}])
def test_what_is_not_said_has_its_default(api, shelf, limits, fields):
    key = fresh("d")
    assert api.post(document_path(shelf, key), json={"content": "words", **fields}).status_code == 201
    got = api.get(document_path(shelf, key)).json()
    assert (got["description"], got["chunkSize"]) == ("", limits[CHUNK_SIZE])


@pytest.mark.parametrize("character", ["d", "é", "\U0001f600"])
def test_a_description_has_at_most_256_characters(api, shelf, character):
    key = fresh("d")
    body = {"content": "words", "description": character * 256}
    assert api.post(document_path(shelf, key), json=body).status_code == 201
    assert api.get(document_path(shelf, key)).json()["description"] == character * 256


@pytest.mark.parametrize("character", ["a", "é", "ქ", "\U0001f600"])
def test_content_has_at_most_a_mebibyte_as_utf_8(api, character):
    shelf = made(api)
    width = len(character.encode())
    text = character * (MIB // width) + "a" * (MIB % width)
    assert len(text.encode()) == MIB
    answer = api.post(document_path(shelf, "most"), json={"content": text})
    assert answer.status_code == 201, answer.text[:500]
    assert answer.json()["usage"]["documentStore"]["chunkSizeSum"] == len(text)
    assert content(api, shelf, "most") == text
    said_no(api.post(document_path(shelf, "more"), json={"content": text + "a"}), 413, "content")
    said_no(api.put(document_path(shelf, "most"), json={"content": text + "a"}), 413, "content")
    assert content(api, shelf, "most") == text
    said_nothing(api.delete(collection_path(shelf)))


def test_the_limit_is_of_the_decoded_text_not_of_its_escapes(api):
    shelf = made(api)
    body = b'{"content": "' + b"\\u0061" * MIB + b'"}'
    headers = {"content-type": "application/json"}
    answer = api.post(document_path(shelf, "d"), content=body, headers=headers)
    assert answer.status_code == 201, answer.text[:500]
    more = b'{"content": "' + b"\\u0061" * (MIB + 1) + b'"}'
    said_no(api.post(document_path(shelf, "e"), content=more, headers=headers), 413, "content")
    said_nothing(api.delete(collection_path(shelf)))


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_chunks_are_windows_of_code_points_without_overlap(api, shelf, size):
    text = "Zoë \U0001f600 naïve e\u0301t\u00e9 文档!"
    key = fresh("d")
    answer = api.post(document_path(shelf, key), json={"content": text, "chunkSize": size})
    assert answer.status_code == 201, answer.text
    store = answer.json()["usage"]["documentStore"]
    windows = [text[start : start + size] for start in range(0, len(text), size)]
    assert (store["chunks"], store["chunkSizeSum"]) == (len(windows), len(text))
    found = api.post(f"{collection_path(shelf)}/search", json={"query": text, "documents": [key], "n": 50})
    for each in found.json()["citations"]:
        assert text[each["start"] : each["end"]] == each["quote"]
        assert each["quote"] == windows[each["chunkIndex"]]
        assert each["start"] % size == 0


def test_the_number_of_chunks_is_that_of_the_windows(api, shelf):
    for characters, chunks in ((1, 1), (9, 1), (10, 1), (11, 2), (20, 2), (21, 3)):
        body = {"content": "x" * characters, "chunkSize": 10}
        said = api.put(document_path(shelf, "windows"), json=body).json()
        assert said["usage"]["documentStore"]["chunks"] == chunks, characters


def test_chunk_size_reaches_to_the_models_own_and_no_further(api, shelf, limits):
    most = limits[CHUNK_SIZE]
    key = fresh("d")
    body = {"content": "x" * (most + 1), "chunkSize": most}
    answer = api.post(document_path(shelf, key), json=body)
    assert answer.status_code == 201
    assert answer.json()["usage"]["documentStore"]["chunks"] == 2
    said_no(api.put(document_path(shelf, key), json={"content": "x", "chunkSize": most + 1}), 400, "chunkSize")


def test_more_chunks_than_the_model_takes_are_refused(api, shelf, limits):
    most = limits[CHUNKS]
    key = fresh("d")
    said_no(api.post(document_path(shelf, key), json={"content": "x" * (most + 1), "chunkSize": 1}), 400, "chunk")
    said_no(api.get(document_path(shelf, key)), 404)
    answer = api.post(document_path(shelf, key), json={"content": "x" * most, "chunkSize": 1})
    assert answer.status_code == 201, answer.text
    assert answer.json()["usage"]["documentStore"]["chunks"] == most


def test_chunks_of_too_many_tokens_are_warned_of_and_no_error(api, shelf, limits):
    dense = "1 " * (limits[CHUNK_SIZE] // 2)
    assert len(dense) // 2 > limits[CHUNK_TOKENS]
    answer = api.post(document_path(shelf, fresh("d")), json={"content": dense})
    assert answer.status_code == 201
    [warning] = answer.json()["warnings"]
    assert isinstance(warning, str)
    sparse = api.post(document_path(shelf, fresh("d")), json={"content": "Few words."}).json()
    assert sparse.get("warnings", []) == []


@pytest.mark.parametrize("text", ["a\0b", "\u2028\u2029\ufeff.", "\U0010ffff", "a\r\nb\n", "  kept  ", "e\u0301\u00e9"])
def test_content_is_kept_to_the_character(api, shelf, text):
    key = fresh("d")
    answer = api.post(document_path(shelf, key), json={"content": text})
    assert answer.status_code == 201, answer.text
    assert content(api, shelf, key) == text


def test_content_that_is_no_text_is_refused(api, shelf):
    for raw in (rb"\ud800", rb"\udc00\ud800", b"\xff", b"\xed\xa0\x80"):
        body = b'{"content": "words ' + raw + b'"}'
        said_no(api.post(document_path(shelf, "d"), content=body, headers={"content-type": "application/json"}), 400)


def test_post_adds_only_what_is_not_there(api, shelf):
    key = fresh("d")
    first = api.post(document_path(shelf, key), json={"content": "first"})
    assert first.status_code == 201
    said_no(api.post(document_path(shelf, key), json={"content": "second"}), 409, key)
    assert content(api, shelf, key) == "first"
    assert api.get(document_path(shelf, key)).json()["id"] == first.json()["documentId"]


def test_put_replaces_as_a_whole_under_a_new_id(api):
    shelf = made(api)
    first = api.put(document_path(shelf, "d"), json={"content": "Ferries sail. " * 300, "description": "old"})
    second = api.put(document_path(shelf, "d"), json={"content": "Mice squeak.", "chunkSize": 5})
    assert (first.status_code, second.status_code) == (201, 200)
    assert first.json()["documentId"] != second.json()["documentId"]
    got = api.get(document_path(shelf, "d")).json()
    assert (got["id"], got["description"], got["chunkSize"]) == (second.json()["documentId"], "", 5)
    assert content(api, shelf, "d") == "Mice squeak."
    found = api.post(f"{collection_path(shelf)}/search", json={"query": "Ferries sail.", "n": 50}).json()
    assert "Ferries" not in json.dumps(found["citations"])


def test_delete_leaves_nothing_to_find(api):
    shelf = made(api, {"gone": "The ferry leaves at nine.", "kept": "Cats hunt at night."})
    said_nothing(api.delete(document_path(shelf, "gone")))
    said_no(api.get(document_path(shelf, "gone")), 404, "gone")
    said_no(api.delete(document_path(shelf, "gone")), 404, "gone")
    assert [each["key"] for each in api.get(f"{collection_path(shelf)}/documents").json()["documents"]] == ["kept"]
    for retrieval in ("hybrid", "vector", "keyword"):
        body = {"query": "When does the ferry leave?", "retrieval": retrieval}
        found = api.post(f"{collection_path(shelf)}/search", json=body).json()
        assert set(found["sources"]) <= {"kept"}
    again = api.post(document_path(shelf, "gone"), json={"content": "Something else."})
    assert again.status_code == 201


def test_unknown_collections_have_no_documents(api):
    key = fresh()
    for method in ("POST", "PUT"):
        said_no(api.request(method, document_path(key, "d"), json={"content": "words"}), 404, key)
    for method in ("GET", "DELETE"):
        said_no(api.request(method, document_path(key, "d")), 404, key)
    said_no(api.get(f"{collection_path(key)}/documents"), 404, key)


def test_a_failure_of_the_embedding_leaves_no_document(api):
    key = fresh()
    answer = api.post(collection_path(key), json={"model": FAR_VECTORS})
    if answer.status_code == 201:
        answer = api.post(document_path(key, "d"), json={"content": "words"})
        said_no(api.get(document_path(key, "d")), 404)
    assert answer.status_code >= 500
    said_no(answer, answer.status_code)
