"""Every range, type, combination and limit of the contract, as one table of requests to a real server."""

import json
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests import (
    validation_rows_bodies,
    validation_rows_chat,
    validation_rows_messages,
    validation_rows_sampling,
    validation_rows_scale,
    validation_rows_text,
    validation_rows_tools,
)
from tests.server_process import Server
from tests.validation_rows import ANY, CHAT, TEXT, WITHIN, Row

from narthex.dialects import openai_chat, openai_completions, openai_embeddings, scale_chat, scale_completions
from narthex.dialects.body import Form

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

ROWS: list[Row] = [
    *validation_rows_sampling.rows(),
    *validation_rows_chat.rows(),
    *validation_rows_tools.rows(),
    *validation_rows_messages.rows(),
    *validation_rows_text.rows(),
    *validation_rows_bodies.rows(),
    *validation_rows_scale.rows(),
]
OBJECTS = {
    "/v1/chat/completions": "chat.completion",
    "/v1/completions": "text_completion",
    "/v1/embeddings": "list",
    "/v4/beta/chat/completions": "chat.completion",
    "/v4/beta/completions": "text_completion",
}
SCALE = "/v4/"


def _own(form: Form, usual: Form) -> set[str]:
    """The fields of a surface that its twin has not, or not so."""
    return {name for name, field in form.known.items() if usual.known.get(name) is not field}


KNOWN = {
    "/v1/chat/completions": openai_chat.FORM.known,
    "/v1/completions": openai_completions.FORM.known,
    "/v1/embeddings": openai_embeddings.FIELDS,
    "/v4/beta/chat/completions": _own(scale_chat.FORM, openai_chat.FORM),
    "/v4/beta/completions": _own(scale_completions.FORM, openai_completions.FORM),
}
PROFILES = ("openai", "thyris", "ionos", "oxy")


@pytest.fixture(scope="module")
def callers(shallow_server: Server) -> Iterator[dict[str, httpx2.Client]]:
    """A client with a key of each profile, and one with a lenient key."""
    clients = {profile: shallow_server.http(shallow_server.key(profile=profile, name=profile)) for profile in PROFILES}
    clients["lenient"] = shallow_server.http(shallow_server.key(strict=False, name="lenient"))
    yield clients
    for client in clients.values():
        client.close()


def post(client: httpx2.Client, row: Row) -> httpx2.Response:
    return client.post(row.path, content=row.body, headers={"content-type": row.content_type})


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_each_row(callers: dict[str, httpx2.Client], row: Row) -> None:
    answer = post(callers[row.key], row)
    assert answer.status_code == row.status, answer.text[:1000]
    assert answer.headers["x-request-id"].startswith("req_")
    if row.status == 200:
        _check_answer(answer, row)
    else:
        _check_error(answer, row)


def _check_error(answer: httpx2.Response, row: Row) -> None:
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert list(body) == (["detail", "error"] if row.path.startswith(SCALE) else ["error"])
    assert body.get("detail", body["error"]["message"]) == body["error"]["message"]
    error = body["error"]
    assert sorted(error) == ["code", "message", "param", "type"]
    assert error["type"] == "invalid_request_error"
    assert isinstance(error["message"], str)
    assert 0 < len(error["message"]) < 1000
    if row.code == ANY:
        assert error["code"] is None or isinstance(error["code"], str)
    else:
        assert error["code"] == row.code, error
    if row.param == ANY:
        assert error["param"] is None or isinstance(error["param"], str)
    elif row.param is not None and row.param.endswith(WITHIN):
        assert (error["param"] or "").startswith(row.param.removesuffix(WITHIN)), error
    else:
        assert error["param"] == row.param, error


def _check_answer(answer: httpx2.Response, row: Row) -> None:
    asked = json.loads(row.body)
    if asked.get("stream") is True and row.path != "/v1/embeddings":
        assert answer.headers["content-type"].startswith("text/event-stream")
        events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line]
        assert row.path.startswith(SCALE) or events.pop() == "[DONE]"
        chunks = [json.loads(event) for event in events]
        assert not [chunk for chunk in chunks if "error" in chunk]
        finished = [choice for chunk in chunks for choice in chunk["choices"] if choice["finish_reason"]]
        assert len(finished) == _choices(asked)
        return
    body = answer.json()
    assert body["object"] == OBJECTS[row.path]
    if row.path == "/v1/embeddings":
        assert [each["index"] for each in body["data"]] == list(range(_inputs(asked["input"])))
    else:
        assert [each["index"] for each in body["choices"]] == list(range(_choices(asked)))


def _choices(asked: dict[str, Any]) -> int:
    return int((asked.get("n") or 1) * _inputs(asked.get("prompt")))


def _inputs(value: Any) -> int:
    return len(value) if isinstance(value, list) and not isinstance(value[0], int | float) else 1


def test_of_two_limits_the_newer_wins(callers: dict[str, httpx2.Client]) -> None:
    for limits, used in (((4, 2), 2), ((2, 4), 4), ((None, 3), 3), ((3, None), 3)):
        body = CHAT.body(max_tokens=limits[0], max_completion_tokens=limits[1], temperature=0)
        answer = callers["openai"].post(CHAT.path, content=body, headers={"content-type": "application/json"})
        assert answer.json()["usage"]["completion_tokens"] == used


def test_default_limits(callers: dict[str, httpx2.Client]) -> None:
    """16 for text completions, and for the chats of one profile where neither limit is set."""
    for key, surface, name, most in (
        ("openai", TEXT, "max_tokens", 16),
        ("ionos", CHAT, "max_tokens", 16),
        ("ionos", CHAT, "max_completion_tokens", 16),
    ):
        prompt = [{"role": "user", "content": "Count from one to a hundred."}] if surface is CHAT else "1 2 3 4 5 6"
        asked = {"messages" if surface is CHAT else "prompt": prompt, "max_tokens": None, "temperature": 0}
        for value, used in ((None, most), (most + 4, most + 4)):
            answer = callers[key].post(
                surface.path,
                content=surface.body(**asked | {name: value}),
                headers={"content-type": "application/json"},
            )
            body = answer.json()
            assert body["usage"]["completion_tokens"] == used, body
            assert body["choices"][0]["finish_reason"] == "length"


def test_no_field_is_forgotten() -> None:
    """Every field that a surface knows has rows: with null, with values that are taken or refused."""
    for path, known in KNOWN.items():
        for name in known:
            mine = [(row, json.loads(row.body)) for row in ROWS if (row.path, row.field) == (path, name)]
            assert [row for row, body in mine if body.get(name, 0) is None], f"{path} {name}"
            assert [row for row, body in mine if body.get(name) is not None], f"{path} {name}"


def test_how_many_rows_there_are(record_property: Any) -> None:
    by_path = {path: sum(row.path == path for row in ROWS) for path in OBJECTS}
    record_property("rows", len(ROWS))
    print(f"\n{len(ROWS)} rows:", ", ".join(f"{path} {count}" for path, count in by_path.items()))
    assert len(ROWS) >= 500
    assert len({str(row) for row in ROWS}) == len(ROWS)
