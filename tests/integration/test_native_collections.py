"""`/api/collections` of a real server: every operation, the figures of the contract, and who sees what."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.patient

MODEL = {"model": EMBEDDING_MODEL}


def at(key: str, *more: str) -> str:
    return "/".join(("/api/collections", *(quote(part, safe="") for part in (key, *more))))


def error(answer: httpx2.Response) -> str:
    assert set(answer.json()) == {"error"}, answer.text
    text = answer.json()["error"]
    assert isinstance(text, str)
    return text


@pytest.fixture
def key(http: httpx2.Client) -> Iterator[str]:
    """Of a collection that no other test has; deleted afterwards."""
    name = f"c-{uuid.uuid4().hex[:12]}"
    yield name
    http.delete(at(name))


def test_the_life_of_a_collection(http: httpx2.Client, key: str) -> None:
    made = http.post(at(key), json=MODEL | {"description": "A collection of documents about the world."})
    assert made.status_code == 201
    assert set(made.json()) == {"id"}
    assert str(uuid.UUID(made.json()["id"])) == made.json()["id"]
    described = {
        "id": made.json()["id"],
        "key": key,
        "model": EMBEDDING_MODEL,
        "description": "A collection of documents about the world.",
        "retrieval": "hybrid",
        "weight": 0.5,
    }
    assert http.get(at(key)).json() == described
    assert described in http.get("/api/collections").json()["collections"]
    deleted = http.delete(at(key))
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert not {"content-length", "content-type", "transfer-encoding"} & set(deleted.headers)
    assert http.get(at(key)).status_code == 404
    assert http.delete(at(key)).status_code == 404


def test_post_only_makes_and_put_makes_or_changes(http: httpx2.Client, key: str) -> None:
    first = http.put(at(key), json=MODEL)
    assert first.status_code == 201
    assert http.get(at(key)).json()["description"] == ""
    again = http.post(at(key), json=MODEL)
    assert again.status_code == 409
    assert key in error(again)
    changed = http.put(at(key), json=MODEL | {"description": "new"})
    assert (changed.status_code, changed.json()) == (200, first.json())
    assert http.get(at(key)).json()["description"] == "new"


def test_how_a_collection_is_searched_can_be_changed_at_any_time(http: httpx2.Client, key: str) -> None:
    """Hybrid search does not hang on a choice that was made once and for all."""
    http.put(at(key), json=MODEL | {"retrieval": "vector", "weight": 0.9}).raise_for_status()
    assert http.get(at(key)).json()["retrieval"] == "vector"
    http.put(at(key), json=MODEL | {"retrieval": "hybrid"}).raise_for_status()
    found = http.get(at(key)).json()
    assert (found["retrieval"], found["weight"]) == ("hybrid", 0.9)


def test_another_model_is_refused(http: httpx2.Client, key: str) -> None:
    http.put(at(key), json=MODEL).raise_for_status()
    for model in ("another", CHAT_MODEL):
        answer = http.put(at(key), json={"model": model})
        assert answer.status_code == 409
        assert "must not mix" in error(answer)


def test_many_at_once_make_one(server: Server, key: str) -> None:
    async def race() -> list[httpx2.Response]:
        headers = {"x-api-key": server.admin_key}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
            posts = [client.post(at(key), json=MODEL) for _ in range(8)]
            puts = [client.put(at(key), json=MODEL) for _ in range(4)]
            return list(await asyncio.gather(*posts, *puts))

    answers = asyncio.run(race())
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(201) == 1, statuses
    assert set(statuses[:8]) <= {201, 409}
    assert set(statuses[8:]) <= {200, 201}
    assert len({answer.json()["id"] for answer in answers if answer.status_code < 300}) == 1


@pytest.mark.parametrize(
    "name", ["a" * 32, "中" * 32, "with space", "%2F", "a.b_c-d", "ÄÖÜ", "?x=1", "#", "...", "🙂", "+", ";", "'\"\\"]
)
def test_any_character_but_few_may_stand_in_a_key(http: httpx2.Client, name: str) -> None:
    assert http.post(at(name), json=MODEL).status_code == 201
    try:
        assert http.get(at(name)).json()["key"] == name
        assert http.put(at(name, "documents", name), json={"content": "a"}).status_code == 201
        assert http.get(at(name, "documents", name)).json()["key"] == name
    finally:
        assert http.delete(at(name)).status_code == 204


@pytest.mark.parametrize("name", ["a" * 33, "中" * 33, "a/b", "a\nb", "\x7f", "a\x00"])
def test_an_impossible_key_is_refused_where_it_is_made_and_elsewhere_unknown(http: httpx2.Client, name: str) -> None:
    for method in ("POST", "PUT"):
        answer = http.request(method, at(name), json=MODEL)
        assert answer.status_code == 400, answer.text
        assert "32 characters" in error(answer)
    for method in ("GET", "DELETE"):
        assert http.request(method, at(name)).status_code == 404
    assert http.get(at(name) + "/documents").status_code == 404
    assert http.post(at(name) + "/search", json={"query": "x"}).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({}, 400, "model"),
        ({"model": 1}, 400, "model"),
        ({"model": ""}, 400, "model"),
        ({"model": "nobody"}, 404, "nobody"),
        ({"model": CHAT_MODEL}, 400, "no embeddings"),
        (MODEL | {"description": "x" * 257}, 400, "256"),
        (MODEL | {"description": 1}, 400, "description"),
        (MODEL | {"retrieval": "magic"}, 400, "retrieval"),
        (MODEL | {"weight": 1.1}, 400, "weight"),
        (MODEL | {"colour": "blue", "size": 1}, 400, "colour"),
        (MODEL | {"Model": "x"}, 400, "Did you mean 'model'"),
    ],
)
def test_what_is_wrong_is_named(http: httpx2.Client, key: str, body: Any, status: int, word: str) -> None:
    for method in ("POST", "PUT"):
        answer = http.request(method, at(key), json=body)
        assert answer.status_code == status, answer.text
        assert word in error(answer)
    assert http.get(at(key)).status_code == 404


def test_the_longest_description_is_kept(http: httpx2.Client, key: str) -> None:
    http.post(at(key), json=MODEL | {"description": "ü" * 256}).raise_for_status()
    assert http.get(at(key)).json()["description"] == "ü" * 256


def test_null_is_as_not_sent(http: httpx2.Client, key: str) -> None:
    body = MODEL | {"description": None, "retrieval": None, "weight": None}
    assert http.post(at(key), json=body).status_code == 201


def test_a_lenient_key_hears_what_was_ignored(server: Server, key: str) -> None:
    with server.http(server.key(name=f"lenient-{key}", strict=False)) as client:
        answer = client.post(at(key), json=MODEL | {"colour": "blue"})
        assert (answer.status_code, answer.headers["x-narthex-ignored"]) == (201, "colour")


def test_every_error_below_api_is_a_text(server: Server, http: httpx2.Client) -> None:
    with httpx2.Client(base_url=server.url) as nobody:
        answer = nobody.get("/api/collections")
        assert answer.status_code == 401
        assert "API key" in error(answer)
        both = {"authorization": f"Bearer {server.admin_key}", "x-api-key": "nx-another"}
        assert nobody.get("/api/collections", headers=both).status_code == 401
        assert nobody.get("/api/collections", headers={"x-api-key": server.admin_key}).status_code == 200
    with server.http(server.key(name=f"mute-{uuid.uuid4()}", surfaces=("models",))) as mute:
        answer = mute.get("/api/collections")
        assert answer.status_code == 403
        error(answer)
    for method, path, status in (
        ("GET", "/api/nothing", 404),
        ("GET", "/api/", 404),
        ("PATCH", "/api/collections", 405),
        ("GET", "/api/chat", 405),
    ):
        answer = http.request(method, path)
        assert answer.status_code == status
        error(answer)
    for content, headers, status in (
        (b"<a/>", {"content-type": "text/xml"}, 415),
        (b"{", {"content-type": "application/json"}, 400),
        (b'{"model":"a","model":"b"}', {"content-type": "application/json"}, 400),
        (b" " * (16 * 1024 * 1024 + 1), {"content-type": "application/json"}, 413),
    ):
        answer = http.post(at("x"), content=content, headers=headers)
        assert answer.status_code == status
        error(answer)


def test_a_collection_belongs_to_one_account(server: Server, http: httpx2.Client, key: str) -> None:
    http.post(at(key), json=MODEL).raise_for_status()
    http.put(at(key, "documents", "d"), json={"content": "The password is swordfish."}).raise_for_status()
    with server.http(server.key(name=f"other-{key}", account=f"other-{key}")) as other:
        assert other.get("/api/collections").json() == {"collections": []}
        for method, path, body in (
            ("GET", at(key), None),
            ("DELETE", at(key), None),
            ("GET", at(key, "documents"), None),
            ("GET", at(key, "documents", "d"), None),
            ("PUT", at(key, "documents", "d"), {"content": "x"}),
            ("DELETE", at(key, "documents", "d"), None),
            ("POST", at(key, "search"), {"query": "password"}),
        ):
            answer = other.request(method, path, json=body)
            assert answer.status_code == 404, (method, path)
            assert error(answer) == f"There is no collection '{key}'."
        assert other.post(at(key), json=MODEL).status_code == 201
        assert other.get(at(key, "documents")).json() == {"documents": []}
        found = other.post(at(key, "search"), json={"query": "password"}).json()
        assert found["citations"] == []
        assert other.delete(at(key)).status_code == 204
    assert len(http.get(at(key, "documents")).json()["documents"]) == 1


def test_an_answer_never_comes_from_another_collection(http: httpx2.Client, key: str) -> None:
    """Two collections of one account, with the same document keys and the same words."""
    other = f"{key}-b"
    try:
        for name, word in ((key, "apricot"), (other, "walnut")):
            http.put(at(name), json=MODEL).raise_for_status()
            for number in range(5):
                body = {"content": f"The secret fruit number {number} is {word}."}
                http.put(at(name, "documents", f"d{number}"), json=body).raise_for_status()
        for name, word in ((key, "apricot"), (other, "walnut")):
            for query in ("apricot", "walnut", "secret fruit"):
                found = http.post(at(name, "search"), json={"query": query, "n": 50}).json()["citations"]
                assert len(found) == 5
                assert all(word in each["quote"] for each in found)
    finally:
        http.delete(at(other))


def test_a_grant_for_some_collections_hides_the_others(server: Server, http: httpx2.Client, key: str) -> None:
    from tests.server_process import _created  # noqa: PLC0415

    from narthex.core.keys import Grants, NewKey  # noqa: PLC0415

    http.post(at(key), json=MODEL).raise_for_status()
    grants = Grants(surfaces=frozenset({"documents"}), models=("*",), collections=("mine-*",))
    secret = asyncio.run(_created(server.data, NewKey(name=f"some-{key}", grants=grants)))
    with server.http(secret) as some:
        assert some.get("/api/collections").json() == {"collections": []}
        assert some.get(at(key)).status_code == 404
        assert some.delete(at(key)).status_code == 404
        assert some.post(at("yours"), json=MODEL).status_code == 403
        mine = f"mine-{key}"
        assert some.post(at(mine), json=MODEL).status_code == 201
        assert [each["key"] for each in some.get("/api/collections").json()["collections"]] == [mine]
        assert some.delete(at(mine)).status_code == 204
