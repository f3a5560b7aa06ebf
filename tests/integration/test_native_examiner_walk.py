"""The native API as a new user walks through it: every operation of it once, in order, on the embedded models."""

import base64

import pytest
from tests.images import PNG
from tests.native_calls import (
    collection_path,
    document_path,
    fresh,
    is_time,
    is_uuid,
    said_no,
    said_nothing,
)
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient

FERRY = "The ferry to the island leaves at nine o'clock from the old harbour."
CATS = "Cats sleep for most of the day and hunt at night."


def chat(api, text="Say yes.", **fields):
    return api.post("/api/chat", json={"model": CHAT_MODEL, "input": text, "temperature": 0, **fields})


def test_every_operation_in_order(server):
    with server.http() as api:
        key = fresh("my-collection")[:32]
        models = {each["id"]: each for each in api.get("/api/models").json()["data"]}
        assert {models[CHAT_MODEL]["type"], models[EMBEDDING_MODEL]["type"]} == {"chat", "embedding"}

        made = api.post(collection_path(key), json={"model": EMBEDDING_MODEL, "description": "About the world."})
        assert made.status_code == 201
        assert list(made.json()) == ["id"]
        got = api.get(collection_path(key))
        assert got.status_code == 200
        wanted = {"id": made.json()["id"], "key": key, "model": EMBEDDING_MODEL, "description": "About the world."}
        assert got.json() | wanted == got.json()
        assert got.json() in api.get("/api/collections").json()["collections"]

        body = {"description": "A document about the world", "content": FERRY, "chunkSize": 1536}
        stored = api.post(document_path(key, "ferry"), json=body)
        assert stored.status_code == 201
        usage = stored.json()["usage"]
        assert is_uuid(stored.json()["documentId"])
        assert usage["documentStore"] | {"chunks": 1, "chunkSizeSum": len(FERRY)} == usage["documentStore"]
        assert api.put(document_path(key, "cats"), json={"content": CATS}).status_code == 201
        assert api.put(document_path(key, "cats"), json={"content": CATS + " Mice fear them."}).status_code == 200

        answer = chat(
            api,
            "From where does the ferry leave?",
            use_documents_from=key,
            n_documents=1,
            rag_prompt="{{Context}}\n{{UserInput}} Answer in one word.",
            system_prompt="Be brief.",
            chat_history=[["Hello!", "Hi."]],
            top_p=0.5,
            frequency_penalty=0.5,
            presence_penalty=0.5,
        )
        assert answer.status_code == 200, answer.text
        said = answer.json()
        assert (said["model"], said["sources"]) == (CHAT_MODEL, ["ferry"])
        assert is_time(said["created_at"])
        assert isinstance(said["message"], str)
        assert said["message"]
        assert said["usage"]["apiKeyID"] == usage["apiKeyID"]
        assert said["usage"]["embeddingModel"] == EMBEDDING_MODEL
        assert said["usage"]["documentStore"]["chunks"] == 1
        counted = said["usage"]["inference"]
        assert counted["inputTokens"] > counted["approxContextTokens"] > 0
        assert counted["outputTokens"] > 0

        said_nothing(api.delete(document_path(key, "ferry")))
        said_no(api.delete(document_path(key, "ferry")), 404, "ferry")
        said_nothing(api.delete(collection_path(key)))
        said_no(api.get(collection_path(key)), 404, key)
        said_no(chat(api, use_documents_from=key), 404, key)


def test_a_chat_without_documents_under_its_older_name(server):
    with server.http() as api:
        answer = api.post(
            "/api/text",
            json={"model": CHAT_MODEL, "input": "What is 1 + 1?", "system_prompt": "Be brief.", "temperature": 0},
        )
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert said["message"]
    assert said["sources"] == []
    assert (said["usage"]["documentStore"], said["usage"]["embeddingModel"]) == (None, None)


def test_a_model_that_reads_text_only_says_so_and_refuses_images(server):
    picture = "data:image/png;base64," + base64.b64encode(PNG).decode()
    with server.http() as api:
        row = next(each for each in api.get("/api/models").json()["data"] if each["id"] == CHAT_MODEL)
        assert row["vision"] is None
        said_no(chat(api, image=picture), 400, "image")
        too_long = "a " * (row["maxInputCharacters"] // 2) + "a"
        assert len(too_long) == row["maxInputCharacters"] + 1
        said_no(chat(api, too_long), 400, "input")


def test_a_prompt_that_is_longer_than_the_window_is_refused(server):
    """The longest input that the model takes, and a history that leaves no room for it."""
    with server.http() as api:
        row = next(each for each in api.get("/api/models").json()["data"] if each["id"] == CHAT_MODEL)
        words = "12 " * (row["maxInputCharacters"] // 3)
        said_no(chat(api, words, chat_history=[[words, words]]), 400)
