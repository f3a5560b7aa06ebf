"""Requests for guided output on every surface, and what became of them."""

import json
from collections.abc import Callable
from typing import Any, NamedTuple

import httpx2
from tests.server_process import CHAT_MODEL

Verdict = Callable[[str], bool]


class Case(NamedTuple):
    """One constraint by its kind, and who judges whole texts and beginnings."""

    kind: str
    value: Any
    whole: Verdict
    begun: Verdict


class Told(NamedTuple):
    """What became of one request."""

    status: int
    text: str
    finish: str | None
    error: Any


def body_of(path: str, case: Case, way: str) -> dict[str, Any]:
    """A request for a constraint."""
    said = {"prompt": "For example: "} if path.endswith("/completions") and "chat" not in path else {
        "messages": [{"role": "user", "content": "Give me an example."}]
    }  # fmt: skip
    if way == "response_format":
        form = {"type": "json_schema", "json_schema": {"name": "it", "schema": case.value}}
        return {"model": CHAT_MODEL, **said, "response_format": form}
    if way == "guided":
        return {"model": CHAT_MODEL, **said, f"guided_{case.kind}": case.value}
    return {"model": CHAT_MODEL, **said, "structured_outputs": {case.kind: case.value}}


async def told(client: httpx2.AsyncClient, path: str, body: dict[str, Any]) -> Told:
    """The text of an answer, its finish and its status; streamed if so asked for."""
    answer = await client.post(path, json=body)
    if answer.status_code != 200 or not body.get("stream"):
        parsed = answer.json()
        if answer.status_code != 200:
            return Told(answer.status_code, "", None, parsed)
        choice = parsed["choices"][0]
        return Told(200, _said(choice), choice["finish_reason"], None)
    lines = [line[6:] for line in answer.text.split("\n") if line.startswith("data: ")]
    if "/v1/" in path:
        assert lines.pop().strip() == "[DONE]"
    text, finish, error = "", None, None
    for event in map(json.loads, lines):
        error = event.get("error", error)
        for choice in event.get("choices", ()):
            text += _said(choice)
            finish = choice["finish_reason"] or finish
    return Told(200, text, finish, error)


def _said(choice: dict[str, Any]) -> str:
    piece = choice.get("message") or choice.get("delta") or {}
    return piece.get("content") or choice.get("text") or ""


PATHS = ("/v1/chat/completions", "/v1/completions", "/v4/beta/chat/completions", "/v4/beta/completions")
