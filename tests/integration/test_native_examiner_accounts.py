"""Who sees what: accounts with the same keys, keys without grants, keys with some."""

import json
import random

import pytest
from tests.native_calls import (
    WRITER,
    collection_path,
    document_path,
    fresh,
    key_of,
    made,
    said_no,
    said_nothing,
)
from tests.server_process import EMBEDDING_MODEL

from narthex.core.keys import EVERYTHING, Grants

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.native_fixture"]
pytestmark = pytest.mark.patient

ALL = (EVERYTHING,)
ORDINARY = Grants(surfaces=frozenset(ALL), models=ALL, collections=ALL)
ACCOUNTS, SHELVES, PAGES = 3, ("shelf", "shelf two"), ("page", "страница")
BODY = {"model": EMBEDDING_MODEL}


def keyed(native, grants=ORDINARY, account="default"):
    return native.server.http(key_of(native.server, grants, account=account))


def check_all(caller, expected):
    """What an account sees is what it has put there."""
    listed = caller.get("/api/collections").json()["collections"]
    assert [each["key"] for each in listed] == sorted(expected)
    for shelf in SHELVES:
        if shelf not in expected:
            said_no(caller.get(collection_path(shelf)), 404)
            continue
        got = caller.get(f"{collection_path(shelf)}/documents").json()["documents"]
        assert {each["key"] for each in got} == set(expected[shelf])
        for page, text in expected[shelf].items():
            found = caller.get(document_path(shelf, page), params={"content": "true"}).json()
            assert found["content"] == text
        answer = caller.post(f"{collection_path(shelf)}/search", json={"query": "ferry number", "n": 50}).json()
        assert {each["quote"] for each in answer["citations"]} == set(expected[shelf].values())


def step(chance, caller, expected, text):
    """One random write, and whether its answer is what the account's own past makes it."""
    shelf, page = chance.choice(SHELVES), chance.choice(PAGES)
    there, what = expected.get(shelf), chance.randrange(8)
    if what == 0:
        answer = caller.delete(collection_path(shelf))
        assert answer.status_code == (404 if there is None else 204)
        expected.pop(shelf, None)
    elif what <= 2:
        answer = caller.post(collection_path(shelf), json=BODY)
        assert answer.status_code == (201 if there is None else 409)
        expected.setdefault(shelf, {})
    elif what == 3:
        answer = caller.delete(document_path(shelf, page))
        assert answer.status_code == (204 if page in (there or {}) else 404)
        (there or {}).pop(page, None)
    else:
        method = chance.choice(["POST", "PUT"])
        answer = caller.request(method, document_path(shelf, page), json={"content": text})
        if there is None:
            assert answer.status_code == 404
        elif page in there:
            assert answer.status_code == (409 if method == "POST" else 200)
        else:
            assert answer.status_code == 201
        if answer.is_success and there is not None:
            there[page] = text


@pytest.mark.parametrize("seed", [1, 2])
def test_accounts_with_the_same_keys_see_their_own_only(native, seed):
    chance = random.Random(seed)
    callers = [keyed(native, account=fresh("account")) for _ in range(ACCOUNTS)]
    expected: list[dict[str, dict[str, str]]] = [{} for _ in callers]
    try:
        for number in range(60):
            who = chance.randrange(ACCOUNTS)
            step(chance, callers[who], expected[who], f"Ferry number {number} of account {who}.")
            if number % 12 == 11:
                for caller, own in zip(callers, expected, strict=True):
                    check_all(caller, own)
    finally:
        for caller in callers:
            caller.close()


def test_collections_of_one_account_do_not_mix(api):
    one, two = made(api, {"d": "The ferry leaves at nine."}), made(api, {"d": "Cats hunt at night."})
    for shelf, word in ((one, "ferry"), (two, "Cats")):
        answer = api.post(f"{collection_path(shelf)}/search", json={"query": "ferry and cats", "n": 50}).json()
        assert len(answer["citations"]) == 1
        assert word in answer["citations"][0]["quote"]
    said_nothing(api.delete(document_path(one, "d")))
    assert api.get(document_path(two, "d")).status_code == 200


def test_keys_of_one_account_share_what_they_have(native, api):
    shelf = made(api, {"d": "words"})
    with keyed(native) as other:
        assert other.get(document_path(shelf, "d")).status_code == 200
        assert api.get(collection_path(shelf)).json() == other.get(collection_path(shelf)).json()


def calls(shelf):
    """Every operation on a collection and its documents."""
    place, page = collection_path(shelf), document_path(shelf, "d")
    return [
        ("GET", place, None),
        ("PUT", place, BODY),
        ("POST", place, BODY),
        ("GET", f"{place}/documents", None),
        ("GET", page, None),
        ("POST", page, {"content": "words"}),
        ("PUT", page, {"content": "words"}),
        ("POST", f"{place}/search", {"query": "ferry"}),
        ("DELETE", page, None),
        ("DELETE", place, None),
    ]


def chat_over(shelf):
    return ("POST", "/api/chat", {"model": WRITER, "input": "ferry", "use_documents_from": shelf})


def test_a_key_without_grants_gets_nothing_and_learns_nothing(native, api):
    there, absent = made(api, {"d": "The ferry leaves at nine."}), fresh()
    with keyed(native, Grants()) as nobody:
        for real, made_up in zip([*calls(there), chat_over(there)], [*calls(absent), chat_over(absent)], strict=True):
            answers = [nobody.request(method, path, json=body) for method, path, body in (real, made_up)]
            texts = [
                said_no(answer, 403).replace(key, "") for answer, key in zip(answers, (there, absent), strict=True)
            ]
            assert texts[0] == texts[1]
        for path in ("/api/models", "/api/collections"):
            said_no(nobody.get(path), 403)
        said_no(nobody.post("/api/chat", json={"model": WRITER, "input": "a"}), 403)
    said_no(api.get(collection_path(absent)), 404)
    assert api.get(document_path(there, "d")).status_code == 200


def test_collections_that_are_not_granted_are_as_if_they_were_not_there(native, api):
    hidden, absent = made(api, {"d": "The ferry leaves at nine."}), fresh()
    granted = fresh("mine")
    grants = Grants(surfaces=frozenset(ALL), models=ALL, collections=("mine*",))
    with keyed(native, grants) as some:
        assert some.post(collection_path(granted), json=BODY).status_code == 201
        assert some.post(document_path(granted, "d"), json={"content": "words"}).status_code == 201
        keys = [each["key"] for each in some.get("/api/collections").json()["collections"]]
        assert granted in keys
        assert all(key.startswith("mine") for key in keys)
        for real, made_up in zip([*calls(hidden), chat_over(hidden)], [*calls(absent), chat_over(absent)], strict=True):
            answers = [some.request(method, path, json=body) for method, path, body in (real, made_up)]
            assert answers[0].status_code == answers[1].status_code
            assert answers[0].status_code in {403, 404}
            texts = [each.text.replace(key, "") for each, key in zip(answers, (hidden, absent), strict=True)]
            assert texts[0] == texts[1]
    said_no(api.get(collection_path(absent)), 404)
    assert api.get(document_path(hidden, "d"), params={"content": "true"}).json()["content"].startswith("The ferry")


def test_models_that_are_not_granted_are_unknown(native, api):
    shelf = made(api, {"d": "words"})
    grants = Grants(surfaces=frozenset(ALL), models=(WRITER,), collections=ALL)
    with keyed(native, grants) as some:
        assert [each["id"] for each in some.get("/api/models").json()["data"]] == [WRITER]
        unknown = said_no(some.post(collection_path(fresh()), json={"model": "nobody"}), 404)
        hidden = said_no(some.post(collection_path(fresh()), json=BODY), 404)
        assert unknown.replace("nobody", "") == hidden.replace(EMBEDDING_MODEL, "")
        said_no(some.put(document_path(shelf, "e"), json={"content": "words"}), 404)
        said_no(some.post("/api/chat", json={"model": "teller", "input": "a"}), 404, "teller")
        assert some.post("/api/chat", json={"model": WRITER, "input": "a"}).status_code == 200
    said_no(api.get(document_path(shelf, "e")), 404)


@pytest.mark.parametrize(
    ("surface", "may"), [("chat", "/api/chat"), ("documents", "/api/collections"), ("models", "/api/models")]
)
def test_a_surface_opens_its_own_routes_only(native, surface, may):
    grants = Grants(surfaces=frozenset({surface}), models=ALL, collections=ALL)
    with keyed(native, grants) as some:
        for path in ("/api/chat", "/api/collections", "/api/models"):
            body = {"model": WRITER, "input": "a"}
            answer = some.post(path, json=body) if path == "/api/chat" else some.get(path)
            if path == may:
                assert answer.status_code == 200
            else:
                said_no(answer, 403)


def test_another_accounts_collection_is_no_source(native, api):
    secret_word = "xylophone"
    shelf = made(api, {"d": f"The {secret_word} is hidden."})
    with keyed(native, account=fresh("account")) as other:
        method, path, body = chat_over(shelf)
        answer = other.request(method, path, json=body)
        said_no(answer, 404, shelf)
        assert secret_word not in json.dumps(answer.json())


# --- files and their jobs --------------------------------------------------------------------------------------------


def test_files_and_jobs_are_their_accounts_own(native, api):
    shelf = made(api)
    place = collection_path(shelf)
    sent = api.post(
        f"{place}/files", params={"wait": 60}, files=[("file", ("a.txt", b"The ferry leaves.", "text/plain"))]
    )
    assert sent.status_code == 201, sent.text
    job = sent.json()["jobs"][0]["id"]
    assert api.get(f"{place}/jobs/{job}").status_code == 200
    asked = (("GET", f"{place}/jobs"), ("GET", f"{place}/jobs/{job}"), ("DELETE", f"{place}/jobs/{job}"))
    with keyed(native, account=fresh("account")) as other:
        for method, path in asked:
            said_no(other.request(method, path), 404)
        assert other.post(place, json=BODY).status_code == 201
        assert other.get(f"{place}/jobs").json() == {"jobs": []}
        assert other.get(f"{place}/documents").json() == {"documents": []}
        for method, path in asked[1:]:
            said_no(other.request(method, path), 404)
    with keyed(native, Grants()) as nobody:
        for method, path in asked:
            said_no(nobody.request(method, path), 403)
        said_no(nobody.post(f"{place}/files", files=[("file", ("b.txt", b"words", "text/plain"))]), 403)
    neighbour = made(api)
    said_no(api.get(f"{collection_path(neighbour)}/jobs/{job}"), 404)
    assert api.get(f"{place}/jobs/{job}").json()["state"] == "done"
