"""Collections as the contract has them: keys, descriptions, models, and what POST, PUT, GET and DELETE answer."""

import pytest
from tests.native_calls import (
    FAR_VECTORS,
    WRITER,
    collection_path,
    document_path,
    fresh,
    is_uuid,
    made,
    said_no,
    said_nothing,
)
from tests.server_process import EMBEDDING_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.native_fixture"]
pytestmark = pytest.mark.patient

BODY = {"model": EMBEDDING_MODEL}
FAMILY = "\U0001f468‍\U0001f469‍\U0001f467"

GOOD_KEYS = {
    "one": "k",
    "thirty-two": "k" * 32,
    "thirty-two of two bytes": "é" * 32,
    "thirty-two of four bytes": "\U0001f600" * 32,
    "spaces": "my own shelf",
    "space": " ",
    "dots": "a.b..c",
    "dot": ".",
    "two dots": "..",
    "punctuation": "-_~!$&'()*+,;=:@",
    "escaped": '100%25?#[]"<>\\^`{|}',
    "plus": "a+b",
    "emoji": FAMILY,
    "cyrillic": "книги",
    "chinese": "文档",
    "right to left": "ספרים",
    "combining": "e\u0301",
    "documents": "documents",
}
BAD_KEYS = {
    "thirty-three": "k" * 33,
    "thirty-three of two bytes": "é" * 33,
    "thirty-three of four bytes": "\U0001f600" * 33,
    "slash": "a/b",
    "nul": "a\0b",
    "newline": "a\nb",
    "tab": "\t",
    "delete": "a\x7f",
    "second set of controls": "a\x85b",
}
BAD_BYTES = {"not UTF-8": "%FF", "half a surrogate pair": "%ED%A0%80", "overlong": "%C0%AF"}


def rows(table):
    return [pytest.param(value, id=name) for name, value in table.items()]


@pytest.mark.parametrize("key", rows(GOOD_KEYS))
def test_a_key_of_any_characters_is_kept_as_it_was_sent(api, key):
    place = collection_path(key).replace("/.", "/%2E").replace("%2E.", "%2E%2E")
    answer = api.post(place, json=BODY)
    assert answer.status_code == 201, answer.text
    got = api.get(place)
    assert (got.status_code, got.json()["key"], got.json()["id"]) == (200, key, answer.json()["id"])
    assert key in [each["key"] for each in api.get("/api/collections").json()["collections"]]
    said_no(api.post(place, json=BODY), 409)
    assert api.put(f"{place}/documents/d", json={"content": "words"}).status_code == 201
    assert api.get(f"{place}/documents").json()["documents"][0]["key"] == "d"
    said_nothing(api.delete(place))
    said_no(api.get(place), 404)


@pytest.mark.parametrize("key", rows(BAD_KEYS))
def test_a_key_that_can_not_be_is_refused_when_made_and_unknown_otherwise(api, key):
    place = collection_path(key)
    for method in ("POST", "PUT"):
        said_no(api.request(method, place, json=BODY), 400, "Key")
    for method in ("GET", "DELETE"):
        said_no(api.request(method, place), 404)
        said_no(api.request(method, document_path(key, "d")), 404)
    said_no(api.get(f"{place}/documents"), 404)


@pytest.mark.parametrize("key", rows(BAD_KEYS))
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_nothing_is_added_under_a_key_that_can_not_be(api, method, key):
    said_no(api.request(method, document_path(key, "d"), json={"content": "words"}), 400, "Key")


@pytest.mark.parametrize("raw", rows(BAD_BYTES))
def test_a_key_that_is_no_text_names_nothing(api, raw):
    for method in ("POST", "PUT", "GET", "DELETE"):
        answer = api.request(method, f"/api/collections/{raw}", json=BODY if method[0] == "P" else None)
        assert answer.status_code in {400, 404}
        said_no(answer, answer.status_code)


@pytest.mark.parametrize("path", ["/api/collections/", "/api/collections//documents", "/api/collections//documents/d"])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "DELETE"])
def test_an_empty_key_names_nothing(api, method, path):
    answer = api.request(method, path, json=BODY if method in {"POST", "PUT"} else None)
    assert answer.status_code in {400, 404, 405}
    said_no(answer, answer.status_code)


def test_keys_differ_by_case(api):
    key = fresh("Case")
    first, second = (api.post(collection_path(each), json=BODY) for each in (key, key.lower()))
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() != second.json()
    said_no(api.get(collection_path(key.upper())), 404)


def test_what_is_made_is_got_and_listed(api):
    key = fresh()
    answer = api.post(collection_path(key), json={**BODY, "description": "Of the world."})
    assert answer.status_code == 201
    assert list(answer.json()) == ["id"]
    assert is_uuid(answer.json()["id"])
    got = api.get(collection_path(key)).json()
    assert [got[name] for name in ("id", "key", "model", "description")] == [
        answer.json()["id"],
        key,
        EMBEDDING_MODEL,
        "Of the world.",
    ]
    whole = api.get("/api/collections")
    assert (whole.status_code, list(whole.json())) == (200, ["collections"])
    listed = whole.json()["collections"]
    assert got in listed
    assert [each["key"] for each in listed] == sorted(each["key"] for each in listed)


@pytest.mark.parametrize("fields", [{}, {"description": None}, {"description": ""}])
def test_without_a_description_it_is_empty(api, fields):
    key = made(api, **fields)
    assert api.get(collection_path(key)).json()["description"] == ""


@pytest.mark.parametrize("character", ["d", "é", "\U0001f600", "\n"])
def test_a_description_has_at_most_256_characters(api, character):
    key = made(api, description=character * 256)
    assert api.get(collection_path(key)).json()["description"] == character * 256
    said_no(api.post(collection_path(fresh()), json={**BODY, "description": character * 257}), 400, "description")
    said_no(api.put(collection_path(key), json={**BODY, "description": character * 257}), 400, "description")
    assert api.get(collection_path(key)).json()["description"] == character * 256


@pytest.mark.parametrize(
    ("body", "status", "named"),
    [
        pytest.param({}, 400, "model", id="no model"),
        pytest.param({"description": "d"}, 400, "model", id="description only"),
        pytest.param({"model": None}, 400, "model", id="null"),
        pytest.param({"model": 1}, 400, "model", id="number"),
        pytest.param({"model": ["a"]}, 400, "model", id="array"),
        pytest.param({"model": WRITER}, 400, "model", id="chat model"),
        pytest.param({"model": "nobody-knows-me"}, 404, "nobody-knows-me", id="unknown model"),
        pytest.param({"model": EMBEDDING_MODEL.upper()}, 404, EMBEDDING_MODEL.upper(), id="other case"),
        pytest.param({**BODY, "description": 1}, 400, "description", id="description a number"),
        pytest.param({**BODY, "description": True}, 400, "description", id="description a boolean"),
        pytest.param({**BODY, "description": ["d"]}, 400, "description", id="description an array"),
        pytest.param({**BODY, "description": {"a": 1}}, 400, "description", id="description an object"),
        pytest.param({**BODY, "retrieval": "best"}, 400, "retrieval", id="unknown retrieval"),
        pytest.param({**BODY, "retrieval": "Hybrid"}, 400, "retrieval", id="retrieval in other case"),
        pytest.param({**BODY, "key": "k"}, 400, "key", id="unknown field"),
        pytest.param({**BODY, "Description": "d"}, 400, "Description", id="field in other case"),
    ],
)
def test_what_a_new_collection_may_not_be(api, body, status, named):
    key = fresh()
    for method in ("POST", "PUT"):
        said_no(api.request(method, collection_path(key), json=body), status, named)
    said_no(api.get(collection_path(key)), 404)


def test_a_model_without_a_name_is_refused(api):
    answer = api.post(collection_path(fresh()), json={"model": ""})
    assert answer.status_code in {400, 404}
    said_no(answer, answer.status_code, "model")


@pytest.mark.parametrize("retrieval", ["hybrid", "vector", "keyword"])
def test_the_retrieval_setting_is_kept(api, retrieval):
    key = made(api, retrieval=retrieval)
    assert api.get(collection_path(key)).json()["retrieval"] == retrieval


def test_hybrid_is_the_default(api):
    assert api.get(collection_path(made(api))).json()["retrieval"] == "hybrid"


def test_post_makes_only_what_is_not_there(api):
    key = made(api, {"d": "words"}, description="first")
    before = api.get(collection_path(key)).json()
    said_no(api.post(collection_path(key), json={**BODY, "description": "second"}), 409, key)
    said_no(api.post(collection_path(key), json={"model": FAR_VECTORS}), 409, key)
    assert api.get(collection_path(key)).json() == before
    assert len(api.get(f"{collection_path(key)}/documents").json()["documents"]) == 1


def test_put_makes_and_then_changes_the_description_only(api):
    key = fresh()
    first = api.put(collection_path(key), json={**BODY, "description": "first"})
    assert first.status_code == 201
    assert api.put(document_path(key, "d"), json={"content": "words"}).status_code == 201
    again = api.put(collection_path(key), json={**BODY, "description": "second"})
    assert (again.status_code, again.json()) == (200, first.json())
    assert api.get(collection_path(key)).json()["description"] == "second"
    assert len(api.get(f"{collection_path(key)}/documents").json()["documents"]) == 1


def test_put_with_another_model_is_a_conflict(api):
    key = made(api, description="first")
    said_no(api.put(collection_path(key), json={"model": FAR_VECTORS, "description": "second"}), 409)
    got = api.get(collection_path(key)).json()
    assert (got["model"], got["description"]) == (EMBEDDING_MODEL, "first")


def test_delete_leaves_nothing(api):
    key = made(api, {"d": "The ferry leaves at nine."})
    before = api.get(collection_path(key)).json()["id"]
    said_nothing(api.delete(collection_path(key)))
    said_no(api.delete(collection_path(key)), 404, key)
    for method, path, body in (
        ("GET", collection_path(key), None),
        ("GET", document_path(key, "d"), None),
        ("GET", f"{collection_path(key)}/documents", None),
        ("PUT", document_path(key, "d"), {"content": "words"}),
        ("POST", document_path(key, "e"), {"content": "words"}),
        ("DELETE", document_path(key, "d"), None),
        ("POST", f"{collection_path(key)}/search", {"query": "ferry"}),
        ("POST", "/api/chat", {"model": WRITER, "input": "ferry", "use_documents_from": key}),
    ):
        said_no(api.request(method, path, json=body), 404, key)
    assert key not in [each["key"] for each in api.get("/api/collections").json()["collections"]]
    again = api.post(collection_path(key), json=BODY)
    assert again.status_code == 201
    assert again.json()["id"] != before
    assert api.get(f"{collection_path(key)}/documents").json() == {"documents": []}
    found = api.post(f"{collection_path(key)}/search", json={"query": "ferry"}).json()
    assert (found["sources"], found["citations"]) == ([], [])
