"""The published document against the running server: what it says is so."""

import re
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server

from narthex.http.openapi import OPERATIONS

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.timeout(180), pytest.mark.patient]

TOKENS = 4
COLLECTION, SHELF = "/api/collections/{key}", "shelf"
NATIVE = ("/api/chat", "/api/text")
"""Nothing in such a request limits its answer, so no model is asked: `test_native_chat` looks at the answers."""
MODELS = {
    **dict.fromkeys(NATIVE, "nobody"),
    "/v1/chat/completions": CHAT_MODEL,
    "/v1/completions": CHAT_MODEL,
    "/v4/beta/chat/completions": CHAT_MODEL,
    "/v4/beta/completions": CHAT_MODEL,
    "/v1/embeddings": EMBEDDING_MODEL,
    COLLECTION: EMBEDDING_MODEL,
}
ELSEWHERE = {"/v1/images/generations", "/v1/audio/speech", *NATIVE}
"""Answered elsewhere, and so not here; `test_images` and `test_speech` look at those answers."""
NEVER_INVALID = ("GET", "/v1/images/files/{name}")
"""Any text is a name, and nothing else is asked for: not even a key."""
# What a model can't honour, and which fields don't go together, no schema tells.
NOT_TOLD = [positive_data_acceptance]
FEW = settings(
    max_examples=12,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)


def _small(case: Any) -> None:
    """Spare the engine: known models, short answers. What is invalid stays so."""
    body = case.body
    if not isinstance(body, dict) or (model := MODELS.get(case.operation.path)) is None:
        return
    if isinstance(body.get("model"), str) and body["model"]:
        body["model"] = model
    if model == CHAT_MODEL:
        body.setdefault("max_tokens", TOKENS)
        for name, most in (("max_tokens", TOKENS), ("max_completion_tokens", TOKENS), ("n", 2)):
            if isinstance(body.get(name), int | float) and body[name] > most and body[name] == int(body[name]):
                body[name] = most
        if body["max_tokens"] is None:
            body["max_tokens"] = TOKENS


def _shelved(case: Any) -> None:
    """What is in collections is looked for in one that is there."""
    if case.operation.path.startswith(f"{COLLECTION}/"):
        case.path_parameters["key"] = SHELF


def _honoured(case: Any) -> None:
    """Leave only what embedded models honour, so that most calls come through."""
    schema = case.operation.definition.raw["requestBody"]["content"]["application/json"]["schema"]
    for name in set(case.body) - set(schema["required"]):
        if "Depends" in schema["properties"][name].get("description", ""):
            del case.body[name]


def _key(server: Server) -> dict[str, str]:
    return {"Authorization": f"Bearer {server.admin_key}"}


@pytest.fixture(scope="module")
def document(shallow_server: Server) -> Any:
    with shallow_server.http() as client:
        client.put(f"/api/collections/{SHELF}", json={"model": EMBEDDING_MODEL}).raise_for_status()
        client.put(f"/api/collections/{SHELF}/documents/page", json={"content": "A page."}).raise_for_status()
    return schemathesis.openapi.from_url(f"{shallow_server.url}/openapi.json", headers=_key(shallow_server))


def _cases() -> list[tuple[str, str, GenerationMode]]:
    """Every operation with valid input and, where it takes any, with invalid input."""
    valid = [(method, path, GenerationMode.POSITIVE) for method, path in OPERATIONS]
    takes_input = [key for key, operation in OPERATIONS.items() if operation.body is not None or "{" in key[1]]
    return valid + [(*key, GenerationMode.NEGATIVE) for key in takes_input if key != NEVER_INVALID]


@pytest.mark.parametrize(("method", "path", "mode"), _cases())
def test_every_answer_is_as_described(
    method: str, path: str, mode: GenerationMode, *, document: Any, shallow_server: Server
) -> None:
    statuses = set()

    @FEW
    @given(case=document[path][method].as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        _small(case)
        if mode is GenerationMode.POSITIVE:
            _shelved(case)
            if path in MODELS and isinstance(case.body, dict):
                _honoured(case)
        answer = case.call_and_validate(headers=_key(shallow_server), excluded_checks=NOT_TOLD, timeout=60)
        statuses.add(answer.status_code)

    check()
    if mode is GenerationMode.POSITIVE and "{" not in path and path not in ELSEWHERE:
        assert 200 in statuses, "no call came through, so no answer was looked at"


def test_every_route_is_described(shallow_server: Server) -> None:
    """And every description is of a route: the table of the running server, and the one of the document, agree."""
    with shallow_server.http() as client:
        paths = client.get("/openapi.json").json()["paths"]
    described = {(method.upper(), path) for path, methods in paths.items() for method in methods}
    assert described == set(OPERATIONS)


def test_the_page_lists_every_operation_and_loads_nothing(shallow_server: Server) -> None:
    with shallow_server.http() as client:
        page = client.get("/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("default-src 'none'")
    for method, path in OPERATIONS:
        assert f"<code>{method} {path}</code>" in page.text
    assert not re.search(r"(src|action|url)\s*[=(]|<script|<link|https?://", page.text)
