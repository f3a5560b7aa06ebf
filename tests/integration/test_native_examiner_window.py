"""A context that is larger than the model's window: the best chunks are kept, and only if none fits it is refused."""

import pytest
from tests.native_calls import document_path, made, said_no
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

WINDOW = 512
PROMPT = "{{Context}}\nSay yes. {{UserInput}}"


def chat(api, shelf, **fields):
    body = {"model": CHAT_MODEL, "input": "Which boat sails to Utopia?", "use_documents_from": shelf}
    return api.post("/api/chat", json={**body, "system_prompt": "", "temperature": 0, **fields})


@pytest.fixture(scope="module")
def api(start_server):
    with start_server({"engine": {"context": WINDOW}}) as server, server.http() as client:
        yield client


def test_what_does_not_fit_is_left_out_from_its_end(api):
    """Twelve chunks of about a hundred tokens each."""
    row = next(each for each in api.get("/api/models").json()["data"] if each["id"] == CHAT_MODEL)
    assert row["contextSize"] == WINDOW
    shelf = made(api)
    for number in range(12):
        text = f"Boat {number} sails to harbour {number}. " + "It takes on water, fuel and food before. " * 8
        assert api.post(document_path(shelf, f"d{number}"), json={"content": text}).status_code == 201
    best = "The boat to Utopia sails at noon. " + "Nobody has ever come back from there yet. " * 8
    assert api.post(document_path(shelf, "utopia"), json={"content": best}).status_code == 201
    answer = chat(api, shelf, n_documents=13, rag_prompt=PROMPT, explain=True)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["sources"][0] == "utopia"
    assert 1 <= len(said["sources"]) < 13
    assert said["usage"]["inference"]["inputTokens"] < WINDOW
    assert len(said["citations"]) == len(said["sources"])
    left = [each["documentKey"] for each in said["explain"]["left"]]
    assert not set(left) & set(said["sources"])
    context = said["explain"]["context"]
    assert "Utopia" in context
    for number in range(12):
        assert (f"Boat {number} sails" in context) is (f"d{number}" in said["sources"])


def test_where_not_even_one_fits_it_is_refused(api):
    shelf = made(api, {"d": "a1 b2 c3 d4 " * 120})
    said_no(chat(api, shelf, rag_prompt=PROMPT), 400)
    shelf = made(api, {"d": "The boat to Utopia sails at noon."})
    said_no(chat(api, shelf, rag_prompt="x7 y8 " * 400 + PROMPT), 400)
