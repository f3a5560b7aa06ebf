"""`POST /api/chat` of a real server with the real small model: the contract's shapes and figures, and answers over
documents.
"""

import json
import uuid
from collections.abc import Iterator
from typing import Any

import httpx2
import jsonschema_rs
import pytest
from tests.callers import calling
from tests.server_inside import free, until, working
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server, StartServer

from narthex.core.keys import Grants, NewKey
from narthex.http.openapi_answers import SCHEMAS
from narthex.http.openapi_native import SCHEMAS as NATIVE

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.timeout(180)

SHORT = "{{Context}}\n\nAnswer in one short sentence: {{UserInput}}"
"""The small model comes to an end with this."""
SKY = "The sky is blue because of Rayleigh scattering."
CATS = "Cats purr when they are content."


def chat(http: httpx2.Client, **fields: Any) -> httpx2.Response:
    body = {"model": CHAT_MODEL, "input": "Say hello.", "temperature": 0} | fields
    return http.post("/api/chat", json={name: value for name, value in body.items() if value is not ...})


def told(http: httpx2.Client, **fields: Any) -> Any:
    answer = chat(http, **fields)
    assert answer.status_code == 200, answer.text
    validator("NativeChat").validate(answer.json())
    return answer.json()


def validator(name: str) -> Any:
    schemas = {"components": {"schemas": SCHEMAS | NATIVE}, "$ref": f"#/components/schemas/{name}"}
    return jsonschema_rs.Draft202012Validator(schemas)


def error(answer: httpx2.Response) -> str:
    assert set(answer.json()) == {"error"}, answer.text
    text = answer.json()["error"]
    assert isinstance(text, str)
    return text


def make_shelf(http: httpx2.Client, **documents: str) -> str:
    key = f"t-{uuid.uuid4().hex[:12]}"
    http.post(f"/api/collections/{key}", json={"model": EMBEDDING_MODEL}).raise_for_status()
    for name, content in documents.items():
        http.put(f"/api/collections/{key}/documents/{name}", json={"content": content}).raise_for_status()
    return key


@pytest.fixture(scope="module")
def shelf(http: httpx2.Client) -> Iterator[str]:
    key = make_shelf(http, sky=SKY, cats=CATS)
    yield key
    http.delete(f"/api/collections/{key}")


def over(key: str, **fields: Any) -> dict[str, Any]:
    return {"input": "Why is the sky blue?", "use_documents_from": key, "rag_prompt": SHORT, **fields}


# --- without documents -----------------------------------------------------------------------------------------------


def test_an_answer_has_the_contract_s_shape(http: httpx2.Client) -> None:
    answer = told(http)
    assert list(answer)[:3] == ["model", "created_at", "message"]
    assert (answer["model"], answer["sources"], answer["citations"]) == (CHAT_MODEL, [], [])
    assert answer["created_at"].endswith("Z")
    assert answer["message"]
    usage = answer["usage"]
    assert str(uuid.UUID(usage["apiKeyID"])) == usage["apiKeyID"]
    assert (usage["chatModel"], usage["embeddingModel"]) == (f"local/{CHAT_MODEL}", None)
    assert usage["documentStore"] is None
    inference = usage["inference"]
    assert inference["approxImageInputTokens"] == inference["approxContextTokens"] == 0
    assert inference["inputTokens"] > 10
    assert inference["outputTokens"] > 0


def test_the_older_path_is_the_same(http: httpx2.Client) -> None:
    body = {"model": CHAT_MODEL, "input": "Say hello.", "temperature": 0}
    assert http.post("/api/text", json=body).json()["message"] == told(http)["message"]


def test_v1_gives_the_same_answer_to_the_same_conversation(http: httpx2.Client) -> None:
    """C11: one way for all surfaces."""
    said = [["My name is Zoe.", "Hello Zoe!"]]
    answer = told(http, input="Say hello.", system_prompt="Be brief.", chat_history=said)
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": said[0][0]},
        {"role": "assistant", "content": said[0][1]},
        {"role": "user", "content": "Say hello."},
    ]
    body = {"model": CHAT_MODEL, "messages": messages, "temperature": 0}
    other = http.post("/v1/chat/completions", json=body).json()
    assert other["choices"][0]["message"]["content"] == answer["message"]
    assert other["usage"]["prompt_tokens"] == answer["usage"]["inference"]["inputTokens"]


def test_an_empty_system_prompt_sends_none(http: httpx2.Client) -> None:
    counts = {}
    for name, prompt in (("default", ...), ("none", ""), ("own", "Be brief.")):
        counts[name] = told(http, system_prompt=prompt)["usage"]["inference"]
    assert counts["none"]["approxSystemTokens"] == 0
    assert counts["default"]["approxSystemTokens"] > counts["own"]["approxSystemTokens"] > 0


def test_null_is_as_not_sent(http: httpx2.Client) -> None:
    names = ("chat_history", "use_documents_from", "n_documents", "image", "system_prompt", "rag_prompt", "top_p")
    assert told(http, **dict.fromkeys(names), stream=None, explain=None)["message"] == told(http)["message"]


@pytest.mark.parametrize("history", [[], [["a", "b"]] * 10, [["", ""]]])
def test_histories(http: httpx2.Client, history: Any) -> None:
    told(http, chat_history=history, input="Say hello.")


def test_what_only_documents_have_is_named_as_ignored(http: httpx2.Client) -> None:
    answer = chat(http, n_documents=3, explain=True)
    assert answer.headers["x-narthex-ignored"] == "n_documents, explain"
    assert "explain" not in answer.json()


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"model": ...}, 400, "model"),
        ({"input": ...}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": None}, 400, "input"),
        ({"model": "nobody"}, 404, "nobody"),
        ({"model": EMBEDDING_MODEL}, 400, "not a model for chat"),
        ({"temperature": -0.1}, 400, "temperature"),
        ({"temperature": 2.1}, 400, "temperature"),
        ({"temperature": "1"}, 400, "temperature"),
        ({"temperature": True}, 400, "temperature"),
        ({"top_p": 1.01}, 400, "top_p"),
        ({"top_p": -1}, 400, "top_p"),
        ({"frequency_penalty": 2.01}, 400, "frequency_penalty"),
        ({"presence_penalty": -2.01}, 400, "presence_penalty"),
        ({"chat_history": [["a", "b"]] * 11}, 400, "chat_history"),
        ({"chat_history": [["a"]]}, 400, "chat_history[0]"),
        ({"chat_history": [["a", "b", "c"]]}, 400, "chat_history[0]"),
        ({"chat_history": [["a", 1]]}, 400, "chat_history[0][1]"),
        ({"chat_history": ["a"]}, 400, "chat_history[0]"),
        ({"rag_prompt": SHORT}, 400, "rag_prompt"),
        ({"documents": ["a"]}, 400, "documents"),
        ({"memory_strategy": {"type": "last_k"}}, 400, "memory_strategy.type"),
        ({"memory_strategy": {"name": "last_k", "k": 0}}, 400, "memory_strategy.k"),
        ({"token_budget": 5}, 400, "5 tokens"),
        ({"n": 2}, 400, "'n'"),
        ({"max_tokens": 5, "Model": "x"}, 400, "Did you mean 'model'"),
        ({"image": "...KVyj//Z"}, 400, "data URL"),
        ({"image": "https://example.org/a.png"}, 400, "data URL"),
        ({"image": "data:image/png;base64,@@@@"}, 400, "base64"),
        ({"image": "data:image/png;base64,"}, 400, "no data"),
        ({"image": "data:text/html;base64,aGk="}, 400, "data URL"),
        ({"image": "data:image/png;base64,aGVsbG8="}, 400, "can't read images"),
        ({"input": "a " * 20000}, 400, "at most 32768 characters"),
    ],
)
def test_what_is_wrong_is_named(http: httpx2.Client, fields: Any, status: int, word: str) -> None:
    answer = chat(http, **fields)
    assert answer.status_code == status, answer.text
    assert word in error(answer)


# --- over documents --------------------------------------------------------------------------------------------------


def test_an_answer_over_documents_tells_its_sources(http: httpx2.Client, shelf: str) -> None:
    """C3, C4, C15, C18: the documents are used because the caller says so, and the answer says which."""
    answer = told(http, **over(shelf))
    assert "Rayleigh" in answer["message"]
    assert answer["sources"] == ["sky", "cats"]
    assert [each["number"] for each in answer["citations"]] == [1, 2]
    best = answer["citations"][0]
    assert (best["documentKey"], best["chunkIndex"], best["quote"]) == ("sky", 0, SKY)
    content = http.get(f"/api/collections/{shelf}/documents/sky", params={"content": "true"}).json()["content"]
    assert content[best["start"] : best["end"]] == best["quote"]
    usage = answer["usage"]
    assert usage["embeddingModel"] == EMBEDDING_MODEL
    store = usage["documentStore"]
    assert (store["chunks"], store["chunkSizeSum"]) == (2, len(SKY) + len(CATS))
    assert store["embeddingTokens"] > 3
    assert usage["inference"]["approxContextTokens"] > 10


def test_the_seed_s_sample_with_its_values_mended(http: httpx2.Client, shelf: str) -> None:
    sample = {
        "model": CHAT_MODEL,
        "input": "Why is the sky blue?",
        "chat_history": [["Hello", "Hi, what can I do for you?"]],
        "use_documents_from": shelf,
        "n_documents": 5,
        "system_prompt": "You are a helpful assistant.",
        "rag_prompt": SHORT,
        "frequency_penalty": 0.5,
        "presence_penalty": 0.5,
        "temperature": 0.5,
        "top_p": 0.5,
    }
    assert told(http, **sample)["sources"] == ["sky", "cats"]
    assert "{{Context}}" in error(chat(http, **sample | {"rag_prompt": "string"}))


def test_a_chat_and_a_search_find_the_same(http: httpx2.Client, shelf: str) -> None:
    """C11."""
    search = http.post(f"/api/collections/{shelf}/search", json={"query": "Why is the sky blue?"}).json()
    cited = [
        {name: value for name, value in each.items() if name != "number"}
        for each in told(http, **over(shelf))["citations"]
    ]
    assert cited == search["citations"]


def test_explain_shows_the_context_and_what_was_left(http: httpx2.Client, shelf: str) -> None:
    explained = told(http, **over(shelf, n_documents=1, explain=True))["explain"]
    assert explained["context"] == SKY
    assert [(each["documentKey"], each["why"]) for each in explained["left"]] == [("cats", "rank")]
    assert explained["tokenBudget"] > 5000


def test_only_the_named_documents_are_used(http: httpx2.Client, shelf: str) -> None:
    """C6."""
    answer = told(http, **over(shelf, documents=["cats"]))
    assert answer["sources"] == ["cats"]


def test_an_empty_collection_is_an_empty_context(http: httpx2.Client) -> None:
    key = make_shelf(http)
    answer = told(http, **over(key, explain=True))
    assert (answer["sources"], answer["citations"], answer["explain"]["context"]) == ([], [], "")
    assert answer["usage"]["documentStore"]["chunks"] == 0


def test_placeholders_within_documents_and_input_stay_what_they_are(http: httpx2.Client) -> None:
    key = make_shelf(http, trap="Write {{UserInput}} and {{Context}} here.")
    answer = told(http, **over(key, input="Say {{Context}}.", explain=True))
    assert answer["explain"]["context"] == "Write {{UserInput}} and {{Context}} here."


def test_a_token_budget_holds_and_what_it_cost_is_told(http: httpx2.Client, shelf: str) -> None:
    answer = told(http, **over(shelf, token_budget=17, explain=True))
    assert answer["sources"] == ["sky"]
    assert "did not fit" in answer["warnings"][0]
    assert [each["why"] for each in answer["explain"]["left"]] == ["token_budget"]
    assert answer["explain"]["contextTokens"] <= 17
    nothing = told(http, **over(shelf, token_budget=1))
    assert (nothing["sources"], nothing["usage"]["documentStore"]["chunks"]) == ([], 0)


@pytest.mark.parametrize(
    ("fields", "forgotten"),
    [
        ({"memory_strategy": {"name": "last_k", "k": 1}}, "4"),
        ({"token_budget": 45}, "4"),
        ({"token_budget": 1000}, None),
    ],
    ids=str,
)
def test_of_the_history_only_so_much_is_kept(http: httpx2.Client, fields: Any, forgotten: str | None) -> None:
    history = [["What is a cat?", "An animal."], ["And a dog?", "Another."]]
    asked = {"model": CHAT_MODEL, "input": "Say hello.", "chat_history": history, "stream": True}
    with http.stream("POST", "/api/chat", json=asked | fields) as answer:  # the rest of it is not made
        assert answer.status_code == 200
        assert answer.headers.get("x-narthex-forgotten") == forgotten
        assert "x-narthex-ignored" not in answer.headers


def test_over_documents_the_budget_is_theirs_and_the_history_stays(http: httpx2.Client, shelf: str) -> None:
    history = [["What is a cat?", "An animal."], ["And a dog?", "Another."]]
    answer = chat(http, **over(shelf, token_budget=17, chat_history=history))
    assert answer.json()["sources"] == ["sky"]
    assert "x-narthex-forgotten" not in answer.headers
    strategy = {"name": "last_k", "k": 3}
    answer = chat(http, **over(shelf, token_budget=17, chat_history=history, memory_strategy=strategy))
    assert (answer.json()["sources"], answer.headers["x-narthex-forgotten"]) == (["sky"], "2")


def test_a_stream_says_the_same_as_the_whole_answer(http: httpx2.Client, shelf: str) -> None:
    whole = told(http, **over(shelf))
    with http.stream(
        "POST", "/api/chat", json={"model": CHAT_MODEL, "temperature": 0, "stream": True} | over(shelf)
    ) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]
    check = validator("NativeChatEvent")
    for event in events:
        check.validate(event)
    *pieces, last = events
    assert "".join(piece["message"] for piece in pieces) == whole["message"]
    assert last["done"] is True
    assert (last["sources"], last["citations"]) == (whole["sources"], whole["citations"])
    assert last["usage"]["inference"]["outputTokens"] == whole["usage"]["inference"]["outputTokens"]


def test_what_a_stream_can_t_begin_is_a_status(http: httpx2.Client) -> None:
    answer = chat(http, stream=True, use_documents_from="nobody's")
    assert answer.status_code == 404
    assert error(answer) == "There is no collection 'nobody's'."


@pytest.mark.parametrize(
    ("fields", "status", "word"),
    [
        ({"use_documents_from": "nobody's"}, 404, "nobody's"),
        ({"use_documents_from": "a/b"}, 404, "a/b"),
        ({"use_documents_from": ""}, 400, "use_documents_from"),
        ({"n_documents": 0}, 400, "n_documents"),
        ({"n_documents": 51}, 400, "n_documents"),
        ({"n_documents": 1.5}, 400, "n_documents"),
        ({"rag_prompt": "{{Context}}"}, 400, "{{UserInput}}"),
        ({"rag_prompt": "{{UserInput}} {{context}}"}, 400, "{{Context}}"),
        ({"token_budget": 0}, 400, "token_budget"),
        ({"documents": []}, 400, "documents"),
        ({"explain": "yes"}, 400, "explain"),
    ],
)
def test_what_is_wrong_about_documents_is_named(
    http: httpx2.Client, shelf: str, fields: Any, status: int, word: str
) -> None:
    answer = chat(http, **over(shelf) | fields)
    assert answer.status_code == status, answer.text
    assert word in error(answer)


@pytest.mark.parametrize("n", [1, 50])
def test_the_bounds_of_n_documents_are_taken(http: httpx2.Client, shelf: str, n: int) -> None:
    assert len(told(http, **over(shelf, n_documents=n))["citations"]) == min(n, 2)


# --- who may ---------------------------------------------------------------------------------------------------------


def test_other_accounts_and_keys_without_the_grant_get_nothing(server: Server, shelf: str) -> None:
    other = server.key(name=f"o-{uuid.uuid4()}", account=f"o-{uuid.uuid4()}")
    with server.http(other) as http:
        answer = chat(http, **over(shelf))
        assert answer.status_code == 404
        assert error(answer) == f"There is no collection '{shelf}'."
    for surfaces, status in ((("chat",), 403), (("documents",), 403), (("chat", "documents"), 200)):
        with server.http(server.key(name=f"k-{uuid.uuid4()}", surfaces=surfaces)) as http:
            assert chat(http, **over(shelf)).status_code == status


def test_the_embedding_model_is_asked_with_the_caller_s_own_grants(server: Server, shelf: str) -> None:
    assert Grants().collections == NewKey(name="x").grants.collections == ()
    with server.http(server.key(name=f"k-{uuid.uuid4()}", models=(CHAT_MODEL,))) as http:
        answer = chat(http, **over(shelf))
        assert answer.status_code == 404
        assert EMBEDDING_MODEL in error(answer)


# --- the life of a request -------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("streams", [True, False])
async def test_a_caller_who_leaves_frees_the_engine(server: Server, shelf: str, streams: bool) -> None:
    endless = over(
        shelf, rag_prompt="{{Context}} {{UserInput}} Write the word 'row' for ever: row, row, row, row, row,"
    )
    body = {"model": CHAT_MODEL, "temperature": 0, "stream": streams} | endless
    async with calling(server, "/api/chat", body) as caller:
        if streams:
            await caller.until(b"message")
        else:
            await until(lambda: _is_working(server), within_s=60)
        caller.leave()
        await until(lambda: free(server))


async def _is_working(server: Server) -> bool:
    return await working(server) > 0


def test_documents_are_served_through_reloads(server: Server, http: httpx2.Client, shelf: str) -> None:
    for number in range(4):
        http.put(f"/api/collections/{shelf}/documents/cats", json={"content": f"{CATS} {number}"}).raise_for_status()
        assert http.post("/admin/reload").status_code == 200
        found = http.post(f"/api/collections/{shelf}/search", json={"query": "cats", "n": 1}).json()
        assert found["citations"][0]["quote"] == f"{CATS} {number}"
    http.put(f"/api/collections/{shelf}/documents/cats", json={"content": CATS}).raise_for_status()


def test_a_small_window_takes_fewer_chunks_and_says_so(
    start_server: StartServer, shallow_model: dict[str, Any]
) -> None:
    """C12: the budget comes from the window that is served; no context is cut off in silence."""
    engine = {"default": None, "models": {CHAT_MODEL: shallow_model | {"context": 384}}}
    with start_server({"engine": engine}, models=(EMBEDDING_MODEL,)) as server, server.http() as http:
        [row] = [each for each in http.get("/api/models").json()["data"] if each["id"] == CHAT_MODEL]
        assert (row["contextSize"], row["maxInputCharacters"]) == (384, 1536)
        words = ["bread", "water", "stone", "glass", "paper"]
        key = make_shelf(http, **{word: f"About {word}. " * 25 for word in words})
        answer = told(http, **over(key, input="What is bread?", system_prompt="", explain=True))
        assert 1 <= len(answer["citations"]) < 5
        assert answer["sources"][0] == "bread"
        assert "did not fit" in answer["warnings"][0]
        assert "token_budget" in {each["why"] for each in answer["explain"]["left"]}
        # Such letters are a token for every two: the estimate is too low, and the model has the last word.
        dense = make_shelf(http, **{f"d{number}": "xqzjvkwp" * 28 + str(number) for number in range(4)})
        answer = told(http, **over(dense, input="xqzjvkwp?", system_prompt=""))
        assert 1 <= len(answer["citations"]) < 4
        assert answer["usage"]["inference"]["inputTokens"] < 384


def test_the_list_of_models_tells_what_each_takes(http: httpx2.Client) -> None:
    listed = http.get("/api/models").json()
    validator("NativeModelList").validate(listed)
    rows = {row["id"]: row for row in listed["data"]}
    assert rows[CHAT_MODEL]["type"] == "chat"
    assert rows[CHAT_MODEL]["vision"] is None
    expected = {"dimensions": 384, "maxDocumentSize": 1048576, "maxChunkSize": 1536, "maxChunkTokens": 512}
    assert rows[EMBEDDING_MODEL].items() >= (expected | {"type": "embedding", "maxChunkCount": 1024}).items()
