"""Streams of the running server against the published document."""

from typing import Any

import pytest
import schemathesis
from tests.server_process import CHAT_MODEL, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.patient


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v1/completions", {"prompt": "Hi"}),
        ("/v4/beta/chat/completions", {"messages": [{"role": "user", "content": "Hi"}]}),
        ("/v4/beta/completions", {"prompt": "Hi"}),
    ],
)
def test_every_event_is_as_described(path: str, body: dict[str, Any], server: Server) -> None:
    key = {"Authorization": f"Bearer {server.admin_key}"}
    document = schemathesis.openapi.from_url(f"{server.url}/openapi.json", headers=key)
    small = {"model": CHAT_MODEL, "max_tokens": 2, "stream": True}
    case = document[path]["POST"].Case(body=small | body, media_type="application/json")
    answer = case.call_and_validate(headers=key, timeout=60)
    assert answer.status_code == 200
    assert answer.headers["content-type"][0].startswith("text/event-stream")
