"""What stands in the query of a native request is honoured, or refused by its name, like the fields of its body."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.native_calls import collection_path, document_path, fresh, said_no
from tests.server_process import EMBEDDING_MODEL, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.patient


def operations(http: httpx2.Client) -> Iterator[tuple[str, str, list[str]]]:
    """Method, path, and the names that may stand in the query, of everything that is told of collections."""
    paths: dict[str, Any] = http.get("/openapi.json").json()["paths"]
    for path, methods in paths.items():
        if path.startswith("/api/collections"):
            for method, operation in methods.items():
                named = [each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"]
                yield method.upper(), path, named


def test_a_name_that_nobody_reads_is_refused(shallow_http: httpx2.Client) -> None:
    found = list(operations(shallow_http))
    assert len(found) > 15
    for method, path, named in found:
        place = path.replace("{", "no-").replace("}", "")
        said_no(shallow_http.request(method, place, params={"zzz": "1"}), 400, "Unknown parameter: 'zzz'.")
        for name in named:
            meant = shallow_http.request(method, place, params={name.upper(): "1"})
            said_no(meant, 400, f"Did you mean '{name}'?")
            known = shallow_http.request(method, place, params={name: "1"})
            assert "Unknown parameter" not in known.text, (method, path, name)


def test_a_lenient_key_is_told_what_was_ignored(shallow_server: Server) -> None:
    key = fresh("queries")[:32]
    with shallow_server.http(shallow_server.key(strict=False, name="lenient queries")) as http:
        made = http.post(collection_path(key), params={"zzz": "1"}, json={"model": EMBEDDING_MODEL, "colour": "red"})
        assert made.status_code == 201, made.text
        assert made.headers.get_list("x-narthex-ignored") == ["zzz", "colour"]
        listed = http.get(f"{collection_path(key)}/documents", params={"limit": "1"})
        assert (listed.status_code, listed.headers["x-narthex-ignored"]) == (200, "limit")
        assert "x-narthex-ignored" not in http.get(collection_path(key)).headers


def test_only_so_many_words_ask_for_something_or_not(shallow_http: httpx2.Client) -> None:
    key = fresh("flags")[:32]
    shallow_http.post(collection_path(key), json={"model": EMBEDDING_MODEL}).raise_for_status()
    for value, status in {"true": 200, "1": 200, "": 200, "false": 200, "0": 200, "no": 400, "True": 400}.items():
        assert shallow_http.get(f"{collection_path(key)}/jobs", params={"open": value}).status_code == status, value


def test_a_weight_without_anything_to_weigh_is_named(shallow_http: httpx2.Client) -> None:
    key = fresh("weights")[:32]
    shallow_http.post(collection_path(key), json={"model": EMBEDDING_MODEL}).raise_for_status()
    shallow_http.put(document_path(key, "d"), json={"content": "The ferry leaves at nine."}).raise_for_status()
    for retrieval, told in {"hybrid": None, "vector": "weight", "keyword": "weight"}.items():
        body = {"query": "ferry", "retrieval": retrieval, "weight": 0.3}
        answer = shallow_http.post(f"{collection_path(key)}/search", json=body)
        assert (answer.status_code, answer.headers.get("x-narthex-ignored")) == (200, told), retrieval
