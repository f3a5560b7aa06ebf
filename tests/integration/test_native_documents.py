"""`/api/collections/{key}/documents` and `/search` of a real server with the real embedder."""

import asyncio
import uuid
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import pytest
from tests.server_process import EMBEDDING_MODEL, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.patient

MIB = 1024 * 1024
WORLD = "Hello, world! The sky is blue because air scatters short waves more than long ones."
CATS = "Cats purr when they are content. A cat sleeps for most of the day."
PRICES = "The invoice ORA-00942 of March was paid. The rent is 950 euros a month."


class Shelf:
    """One collection."""

    def __init__(self, http: httpx2.Client, key: str) -> None:
        self.http, self.key = http, key
        self.path = f"/api/collections/{key}"

    def at(self, document: str) -> str:
        return f"{self.path}/documents/{quote(document, safe='')}"

    def put(self, document: str, content: str, **more: Any) -> httpx2.Response:
        return self.http.put(self.at(document), json={"content": content, **more})

    def search(self, query: str, **more: Any) -> Any:
        answer = self.http.post(f"{self.path}/search", json={"query": query, **more})
        assert answer.status_code == 200, answer.text
        return answer.json()

    def keys(self, query: str, **more: Any) -> list[str]:
        return [each["documentKey"] for each in self.search(query, **more)["citations"]]


@pytest.fixture
def shelf(http: httpx2.Client) -> Iterator[Shelf]:
    one = Shelf(http, f"d-{uuid.uuid4().hex[:12]}")
    http.post(one.path, json={"model": EMBEDDING_MODEL}).raise_for_status()
    yield one
    http.delete(one.path)


@pytest.fixture
def full(shelf: Shelf) -> Shelf:
    for key, content in (("world", WORLD), ("cats", CATS), ("prices", PRICES)):
        shelf.put(key, content).raise_for_status()
    return shelf


def error(answer: httpx2.Response) -> str:
    assert set(answer.json()) == {"error"}, answer.text
    text = answer.json()["error"]
    assert isinstance(text, str)
    return text


# --- documents -------------------------------------------------------------------------------------------------------


def test_the_sample_of_the_seed(shelf: Shelf) -> None:
    body = {"description": "A document about the world", "content": "Hello, world!", "chunkSize": 1536}
    answer = shelf.http.post(shelf.at("my-document"), json=body)
    assert answer.status_code == 201
    told = answer.json()
    assert set(told) == {"documentId", "usage"}
    assert str(uuid.UUID(told["documentId"])) == told["documentId"]
    assert set(told["usage"]) == {"apiKeyID", "embeddingModel", "documentStore"}
    assert told["usage"]["embeddingModel"] == EMBEDDING_MODEL
    store = told["usage"]["documentStore"]
    assert store | {"duration": 0} == {"embeddingTokens": 6, "chunks": 1, "chunkSizeSum": 13, "duration": 0}
    assert isinstance(store["duration"], int)


def test_the_life_of_a_document(shelf: Shelf) -> None:
    made = shelf.http.post(shelf.at("d"), json={"content": WORLD, "description": "sky"})
    again = shelf.http.post(shelf.at("d"), json={"content": CATS})
    assert again.status_code == 409
    assert "'d'" in error(again)
    found = shelf.http.get(shelf.at("d")).json()
    assert found["id"] == made.json()["documentId"]
    assert (found["key"], found["description"], found["characters"]) == ("d", "sky", len(WORLD))
    assert "content" not in found
    assert shelf.http.get(shelf.at("d"), params={"content": "true"}).json() == found | {"content": WORLD}
    assert shelf.http.get(f"{shelf.path}/documents").json() == {"documents": [found]}
    replaced = shelf.put("d", CATS)
    assert replaced.status_code == 200
    assert replaced.json()["documentId"] != made.json()["documentId"]
    assert shelf.http.get(shelf.at("d"), params={"content": "true"}).json()["content"] == CATS
    deleted = shelf.http.delete(shelf.at("d"))
    assert (deleted.status_code, deleted.content) == (204, b"")
    for method in ("GET", "DELETE"):
        gone = shelf.http.request(method, shelf.at("d"))
        assert gone.status_code == 404
        assert "'d'" in error(gone)


def _without_ids(shelf: Shelf) -> list[dict[str, Any]]:
    listed = shelf.http.get(f"{shelf.path}/documents").json()["documents"]
    return [{name: value for name, value in row.items() if name != "id"} for row in listed]


def test_uploading_again_replaces_and_duplicates_nothing(full: Shelf) -> None:
    """C25; what has not changed is a new version, but is not embedded again."""
    before = _without_ids(full)
    again = full.put("world", WORLD)
    assert again.status_code == 200
    assert again.json()["unchanged"] is True
    assert again.json()["usage"]["documentStore"]["embeddingTokens"] == 0
    assert _without_ids(full) == before
    described = full.put("world", WORLD, description="the sky")
    assert described.json()["documentId"] != again.json()["documentId"]
    now = full.http.get(full.at("world")).json()
    assert (now["id"], now["description"]) == (described.json()["documentId"], "the sky")
    cut_otherwise = full.put("world", WORLD, chunkSize=20)
    assert "unchanged" not in cut_otherwise.json()
    assert len(full.http.get(f"{full.path}/documents").json()["documents"]) == 3


def test_a_deleted_document_is_not_found_any_more(full: Shelf) -> None:
    """C21: not by its vectors and not by its words."""
    assert full.keys("ORA-00942", n=1) == ["prices"]
    full.http.delete(full.at("prices")).raise_for_status()
    for query in ("ORA-00942", "how much is the rent?"):
        assert "prices" not in full.keys(query, n=50)


def test_a_new_version_is_found_and_the_former_is_not(full: Shelf) -> None:
    full.put("world", "Volcanoes are mountains that spit fire.").raise_for_status()
    quotes = [each["quote"] for each in full.search("volcanoes", n=50)["citations"]]
    assert quotes[0].startswith("Volcanoes")
    assert WORLD not in quotes


def test_what_was_answered_is_there_at_once(shelf: Shelf) -> None:
    """C30: nothing says that it is stored and then is not found."""
    for number in range(10):
        shelf.put(f"d{number}", f"Planet number {number} is called Zorb{number}.").raise_for_status()
        assert shelf.keys(f"Zorb{number}", n=1) == [f"d{number}"]


def test_windows_have_exactly_the_size_that_was_asked_for(shelf: Shelf) -> None:
    text = "äöü🙂 " * 50
    stored = shelf.put("d", text, chunkSize=7).json()["usage"]["documentStore"]
    assert (stored["chunks"], stored["chunkSizeSum"]) == (-(-len(text) // 7), len(text))
    found = shelf.search("äöü", n=50)["citations"]
    for each in found:
        assert each["start"] == 7 * each["chunkIndex"]
        assert text[each["start"] : each["end"]] == each["quote"]


def test_structure_cuts_where_the_text_does(shelf: Shelf) -> None:
    text = "# Cats\n\n" + "Cats purr. " * 20 + "\n\n# Dogs\n\n" + "Dogs bark. " * 20
    shelf.put("d", text, mode="structure", chunkSize=250).raise_for_status()
    assert shelf.http.get(shelf.at("d")).json()["mode"] == "structure"
    best = shelf.search("Which animal barks?", n=1)["citations"][0]
    assert text[best["start"] : best["end"]] == best["quote"]
    assert "Dogs" in best["quote"]
    assert "Cats" not in best["quote"]


@pytest.mark.parametrize(
    ("body", "status", "word"),
    [
        ({}, 400, "content"),
        ({"content": ""}, 400, "content"),
        ({"content": " \n\t "}, 400, "white space"),
        ({"content": 1}, 400, "content"),
        ({"content": "a", "chunkSize": 0}, 400, "chunkSize"),
        ({"content": "a", "chunkSize": -1}, 400, "chunkSize"),
        ({"content": "a", "chunkSize": 1537}, 400, "1536"),
        ({"content": "a", "chunkSize": "1"}, 400, "chunkSize"),
        ({"content": "a", "chunkSize": True}, 400, "chunkSize"),
        ({"content": "ab" * 1000, "chunkSize": 1}, 400, "1024 chunks"),
        ({"content": "a", "description": "x" * 257}, 400, "256"),
        ({"content": "a", "mode": "magic"}, 400, "mode"),
        ({"content": "a", "tags": []}, 400, "tags"),
        ({"content": "x" * (MIB + 1)}, 413, "1048576"),
        ({"content": "ü" * (MIB // 2) + "x"}, 413, "1048576"),
    ],
)
def test_what_is_wrong_is_named(shelf: Shelf, body: Any, status: int, word: str) -> None:
    for method in ("POST", "PUT"):
        answer = shelf.http.request(method, shelf.at("d"), json=body)
        assert answer.status_code == status, answer.text
        assert word in error(answer)
    assert shelf.http.get(f"{shelf.path}/documents").json() == {"documents": []}


def test_the_largest_document_is_taken(shelf: Shelf) -> None:
    """A mebibyte, most of it white space, so that little is to be embedded."""
    for text in ("x" + " " * (MIB - 1), "ü" + "\u00a0" * (MIB // 2 - 1)):
        assert len(text.encode()) == MIB
        assert shelf.put("d", text).status_code in {200, 201}
        assert shelf.http.get(shelf.at("d"), params={"content": "true"}).json()["content"] == text


@pytest.mark.parametrize(("name", "status"), [("a" * 64, 201), ("中" * 64, 201), ("a" * 65, 400), ("a/b", 400)])
def test_document_keys(shelf: Shelf, name: str, status: int) -> None:
    answer = shelf.put(name, "a text")
    assert answer.status_code == status, answer.text
    assert shelf.http.get(shelf.at(name)).status_code == (200 if status == 201 else 404)
    assert shelf.http.delete(shelf.at(name)).status_code == (204 if status == 201 else 404)


def test_text_that_the_model_reads_in_part_is_a_warning_and_no_error(shelf: Shelf) -> None:
    text = "字" * 1000 + " needle"
    answer = shelf.put("d", text)
    assert answer.status_code == 201
    [warning] = answer.json()["warnings"]
    assert "512 tokens" in warning
    assert shelf.search("needle", n=1)["citations"][0]["scores"]["bm25"] > 0
    short = shelf.put("e", text, chunkSize=100)
    assert "warnings" not in short.json()


def test_many_posts_at_once_make_one_document(server: Server, shelf: Shelf) -> None:
    async def race() -> list[httpx2.Response]:
        headers = {"x-api-key": server.admin_key}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
            return list(
                await asyncio.gather(
                    *(client.post(shelf.at("d"), json={"content": f"text {number}"}) for number in range(8))
                )
            )

    answers = asyncio.run(race())
    assert sorted(answer.status_code for answer in answers) == [201] + [409] * 7
    [won] = [at for at, answer in enumerate(answers) if answer.status_code == 201]
    found = shelf.http.get(shelf.at("d"), params={"content": "true"}).json()
    assert found["content"] == f"text {won}"
    assert found["id"] == answers[won].json()["documentId"]


# --- search ----------------------------------------------------------------------------------------------------------


def test_nothing_is_found_in_an_empty_collection(shelf: Shelf) -> None:
    found = shelf.search("anything")
    assert (found["sources"], found["citations"], found["warnings"]) == ([], [], [])


def test_citations_can_be_checked(full: Shelf) -> None:
    """C14, C18, C20: a quote stands in the document just where its citation says."""
    found = full.search("Why is the sky blue?", n=3)
    assert found["sources"][0] == "world"
    assert found["usage"]["documentStore"]["chunks"] == len(found["citations"]) == 3
    for each in found["citations"]:
        text = full.http.get(full.at(each["documentKey"]), params={"content": "1"}).json()["content"]
        assert text[each["start"] : each["end"]] == each["quote"]
        assert set(each["scores"]) == {"vector", "bm25", "fused"}
    assert found["sources"] == list(dict.fromkeys(each["documentKey"] for each in found["citations"]))


def test_meaning_and_words_are_both_found(full: Shelf) -> None:
    """C9: an identifier is found by its letters, whatever the model makes of it."""
    assert full.keys("ORA-00942", n=1) == ["prices"]
    assert full.keys("feline animals", n=1) == ["cats"]
    assert full.keys("feline animals", n=1, retrieval="keyword") == []
    for mode in ("hybrid", "vector", "keyword"):
        assert full.keys("Why is the sky blue?", n=1, retrieval=mode) == ["world"]


def test_a_search_can_be_kept_to_some_documents(full: Shelf) -> None:
    """C6, C34: the filter is neither ignored nor does it empty the answer."""
    assert full.keys("Why is the sky blue?", documents=["cats"]) == ["cats"]
    assert set(full.keys("Why is the sky blue?", documents=["cats", "prices"])) == {"cats", "prices"}
    found = full.search("sky", documents=["cats", "nobody"])
    assert found["warnings"] == [f"There is no document 'nobody' in the collection '{full.key}'."]
    assert found["sources"] == ["cats"]


def test_one_document_does_not_crowd_out_the_others(shelf: Shelf) -> None:
    """C5, C7: `n` is of all chunks together; others that are nearly as good have their place."""
    long = " ".join(f"Apples grow on trees in region {number}." for number in range(40))
    shelf.put("apples", long, chunkSize=40).raise_for_status()
    for name in ("orchard", "harvest"):
        shelf.put(name, f"In the {name} apples grow on trees.").raise_for_status()
    found = shelf.keys("Where do apples grow on trees?", n=6)
    assert len(found) == 6
    assert {"orchard", "harvest"} < set(found)
    assert shelf.keys("Where do apples grow on trees?", n=4, per_document=1).count("apples") == 1
    alone = shelf.keys("Where do apples grow on trees?", n=6, documents=["apples"])
    assert alone == ["apples"] * 6


@pytest.mark.parametrize("question", ["Summarise this document.", "What is this about?", "tl;dr", "Worum geht es?"])
def test_a_question_about_the_whole_has_context_too(full: Shelf, question: str) -> None:
    """C1, C2: the nearest chunks are given, however near they are; nothing ends in "no context"."""
    assert len(full.keys(question, n=3)) == 3


def test_explain_tells_what_was_left_and_why(full: Shelf) -> None:
    explained = full.search("Why is the sky blue?", n=1, explain=True)["explain"]
    assert (explained["retrieval"], explained["weight"]) == ("hybrid", 0.5)
    assert "sky" in explained["words"]
    assert {each["why"] for each in explained["left"]} == {"rank"}
    assert {each["documentKey"] for each in explained["left"]} <= {"cats", "prices"}
    assert "explain" not in full.search("Why is the sky blue?")


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({}, "query"),
        ({"query": ""}, "query"),
        ({"query": "a", "input": "b"}, "same"),
        ({"query": "a", "n": 0}, "'n'"),
        ({"query": "a", "n": 51}, "'n'"),
        ({"query": "a", "n_documents": 51}, "n_documents"),
        ({"query": "a", "documents": []}, "documents"),
        ({"query": "a", "documents": ["x"] * 101}, "documents"),
        ({"query": "a", "weight": -0.1}, "weight"),
        ({"query": "a", "explain": "yes"}, "explain"),
        ({"query": "a", "top_k": 3}, "top_k"),
    ],
)
def test_a_search_that_can_t_be_is_refused(shelf: Shelf, body: Any, word: str) -> None:
    answer = shelf.http.post(f"{shelf.path}/search", json=body)
    assert answer.status_code == 400
    assert word in error(answer)


def test_a_long_question_is_searched_by_its_beginning(full: Shelf) -> None:
    found = full.search("Why is the sky blue? " * 300)
    assert found["sources"][0] == "world"
    assert "beginning" in found["warnings"][0]


def test_searches_at_once_hold_nobody_up(server: Server, full: Shelf) -> None:
    async def all_at_once() -> list[httpx2.Response]:
        headers = {"x-api-key": server.admin_key}
        async with httpx2.AsyncClient(base_url=server.url, headers=headers, timeout=60) as client:
            searches = [client.post(f"{full.path}/search", json={"query": f"sky {number}"}) for number in range(8)]
            others = [client.get("/v1/models") for _ in range(8)]
            return list(await asyncio.gather(*searches, *others))

    assert {answer.status_code for answer in asyncio.run(all_at_once())} == {200}


def test_no_log_holds_what_documents_and_questions_say(server: Server, shelf: Shelf) -> None:
    secret = f"plum{uuid.uuid4().hex}"
    shelf.put("d", f"The word is {secret}.", description=secret).raise_for_status()
    shelf.put("e", secret, chunkSize=9999)
    assert shelf.search(f"What is {secret}?", explain=True)["sources"]
    shelf.search("x", documents=[f"unknown {secret}"])
    body = {"model": "nobody", "input": secret, "use_documents_from": shelf.key, "system_prompt": secret}
    assert shelf.http.post("/api/chat", json=body).status_code == 404
    assert secret not in server.log_file.read_text(errors="replace")


@pytest.mark.parametrize(("value", "status"), [("true", 200), ("false", 200), ("yes", 400), ("", 200)])
def test_content_is_asked_for_in_few_words(full: Shelf, value: str, status: int) -> None:
    assert full.http.get(full.at("world"), params={"content": value}).status_code == status
