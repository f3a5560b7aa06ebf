"""Documents and chats over them while the models' servers fail, and while a collection's model changes.

Both models are scripted upstreams, so that this also shows any provider to do.
"""

import asyncio
import base64
import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tests.callers import Answer, ask, calling
from tests.served_gateway import bodies, config, gateway, refusing, saying, serving, streaming, whole
from tests.server_process import EMBEDDING_MODEL, Server, StartServer

from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import Reply

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

NAMES = ("put", "replace", "chat", "stream", "image", "other")
"""Of embedding and chat models, one pair for each test: upstreams `<name>e` and `<name>c`."""
TEXT = "The sky is blue."


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("u")


@pytest.fixture(scope="module")
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    providers = {f"{name}{kind}": "openai-compatible" for name in NAMES for kind in "ec"}
    models = [{"name": name, "deployments": [f"{name}/x"], "retry": {"attempts": 1}} for name in providers]
    with gateway(start_server, config(folder, providers, models)) as server:
        yield server


def vectors(*numbers: float, of: int = 3) -> Reply:
    """An answer with a vector for each number."""
    data = [
        {"index": at, "embedding": base64.b64encode(struct.pack(f"<{of}f", number, *[1.0] * (of - 1))).decode()}
        for at, number in enumerate(numbers)
    ]
    return whole({"object": "list", "data": data, "model": "x", "usage": {"prompt_tokens": 5, "total_tokens": 5}})


async def api(server: Server, method: str, path: str, body: dict[str, Any] | None = None) -> Answer:
    return await ask(server, f"/api/{path}", body, method=method)


async def shelf(server: Server, name: str) -> str:
    made = await api(server, "POST", f"collections/{name}", {"model": f"{name}e"})
    assert made.status == 201, made
    return f"collections/{name}"


async def test_vectors_come_from_any_provider(server: Server, folder: Path) -> None:
    async with serving(folder, "pute", vectors(1), vectors(1), vectors(1)) as upstream:
        path = await shelf(server, "put")
        stored = await api(server, "PUT", f"{path}/documents/d", {"content": TEXT})
        assert stored.status == 201
        assert stored.json["usage"]["documentStore"]["embeddingTokens"] == 5
        found = await api(server, "POST", f"{path}/search", {"query": "blue?"})
        assert found.json["sources"] == ["d"]
        assert found.json["citations"][0]["scores"]["vector"] == pytest.approx(1, abs=1e-5)
    assert [body["input"] for body in bodies(upstream)] == [["probe"], [TEXT], ["blue?"]]


async def test_a_replacement_that_fails_leaves_what_there_was(server: Server, folder: Path) -> None:
    """C23: neither half a new document nor none at all."""
    failures = [refusing(500), refusing(429), vectors(1, of=4), vectors(1, 2)]
    async with serving(folder, "replacee", vectors(1), vectors(1), *failures, vectors(1)):
        path = await shelf(server, "replace")
        first = await api(server, "PUT", f"{path}/documents/d", {"content": TEXT})
        for status in (502, 429, 409, 502):
            failed = await api(server, "PUT", f"{path}/documents/d", {"content": "Another text."})
            assert failed.status == status, failed
            assert isinstance(failed.json["error"], str)
            kept = await api(server, "GET", f"{path}/documents/d?content=true")
            assert (kept.json["id"], kept.json["content"]) == (first.json["documentId"], TEXT)
        found = await api(server, "POST", f"{path}/search", {"query": "blue?"})
        assert [each["quote"] for each in found.json["citations"]] == [TEXT]


async def test_a_model_whose_server_is_away_makes_no_collection(server: Server) -> None:
    failed = await api(server, "POST", "collections/other", {"model": "othere"})
    assert failed.status == 502
    assert (await api(server, "GET", "collections/other")).status == 404


async def test_a_chat_is_answered_by_any_provider_over_documents(server: Server, folder: Path) -> None:
    async with (
        serving(folder, "chate", vectors(1), vectors(1), vectors(1)),
        serving(folder, "chatc", whole(_said("It is blue [1]."))) as upstream,
    ):
        path = await shelf(server, "chat")
        await api(server, "PUT", f"{path}/documents/d", {"content": TEXT})
        body = {"model": "chatc", "input": "Why?", "use_documents_from": "chat", "temperature": 0.5}
        told = await api(server, "POST", "chat", body)
        assert told.status == 200, told
        assert (told.json["message"], told.json["sources"]) == ("It is blue [1].", ["d"])
        assert told.json["usage"]["chatModel"] == "chatc/x"
    [asked] = bodies(upstream)
    assert asked["temperature"] == 0.5
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert f"<context>\n[1] d\n{TEXT}\n</context>" in asked["messages"][1]["content"]
    assert not {"input", "use_documents_from", "n_documents"} & asked.keys()


async def test_an_image_goes_to_a_model_that_sees(server: Server, folder: Path) -> None:
    image = "data:image/png;base64," + base64.b64encode(b"image").decode()
    async with serving(folder, "imagec", whole(_said("A cat."))) as upstream:
        told = await api(server, "POST", "chat", {"model": "imagec", "input": "What is it?", "image": image})
        assert told.json["message"] == "A cat."
        assert told.json["usage"]["inference"]["approxImageInputTokens"] > 0
    [asked] = bodies(upstream)
    assert asked["messages"][1]["content"] == [
        {"type": "text", "text": "What is it?"},
        {"type": "image_url", "image_url": {"url": image}},
    ]


async def test_a_stream_that_breaks_ends_with_a_text(server: Server, folder: Path) -> None:
    broken = streaming(_chunk("Half "), json.dumps({"error": {"message": "x", "type": "server_error"}}).encode())
    async with serving(folder, "streamc", broken, saying("All", " of it.")):
        body = {"model": "streamc", "input": "Hi", "stream": True}
        failed = await api(server, "POST", "chat", body)
        events = [json.loads(each) for each in failed.data]
        assert events[0] == {"message": "Half "}
        assert set(events[-1]) == {"error"}
        assert isinstance(events[-1]["error"], str)
        good = await api(server, "POST", "chat", body)
        events = [json.loads(each) for each in good.data]
        assert "".join(each["message"] for each in events[:-1]) == "All of it."
        assert events[-1]["done"] is True


async def test_a_model_that_changed_under_its_name_is_a_clear_error(start_server: StartServer) -> None:
    """C22: no search mixes the vectors of two models."""
    with start_server({"engine": {"default": None}}, models=(EMBEDDING_MODEL,)) as server:
        await api(server, "POST", "collections/k", {"model": EMBEDDING_MODEL})
        await api(server, "PUT", "collections/k/documents/d", {"content": TEXT})
        await _pretend(server, digest="another")
        for method, path, body in (
            ("POST", "search", {"query": "blue"}),
            ("PUT", "documents/d", {"content": "Other text."}),
        ):
            answer = await api(server, method, f"collections/k/{path}", body)
            assert answer.status == 409, answer
            assert "model" in answer.json["error"]
        assert (await api(server, "GET", "collections/k")).status == 200


async def test_a_caller_who_leaves_while_a_document_is_embedded_leaves_nothing(start_server: StartServer) -> None:
    with start_server({"engine": {"default": None}}, models=(EMBEDDING_MODEL,)) as server:
        await api(server, "POST", "collections/k", {"model": EMBEDDING_MODEL})
        words = " ".join(f"word{number}" for number in range(40_000))
        body = {"content": words[: 500 * 1024], "chunkSize": 1000}
        async with calling(server, "/api/collections/k/documents/d", body, method="PUT") as caller:
            await asyncio.sleep(0)
            caller.leave()
        small = await api(server, "PUT", "collections/k/documents/e", {"content": TEXT})
        assert small.status == 201
        listed = await api(server, "GET", "collections/k/documents")
        assert [each["key"] for each in listed.json["documents"]] == ["e"]


async def _pretend(server: Server, *, digest: str) -> None:
    """As if the collection had been made with other weights."""
    control = await open_control(server.data / "control.db", clock=lambda: 0, create=False)
    try:
        [account_id] = {key.account_id for key in await control.keys.list()}
        found = await control.collections.get(account_id, "k")
        assert found is not None
        model = msgspec.structs.replace(found.model, digest=digest)
        await control.collections.replace(msgspec.structs.replace(found, model=model))
    finally:
        await control.aclose()


def _said(text: str) -> dict[str, Any]:
    choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
    usage = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": usage}


def _chunk(text: str) -> bytes:
    choice = {"index": 0, "delta": {"role": "assistant", "content": text}, "finish_reason": None}
    return json.dumps(
        {"id": "x", "object": "chat.completion.chunk", "created": 1, "model": "x", "choices": [choice]}
    ).encode()
