"""Secrets stay secret: a key is in no log line, no error, no counter, no command line, no file that others may read."""

import asyncio
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.callers import CHAT, EMBEDDINGS, Answer, ask, chat, connected, embedding
from tests.server_inside import ENGINE, children, kill, ready, run_dir
from tests.server_process import Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

WRONG = "sk-canary-3f1c9a7be5d24086"
SHORT = "hunter2"


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server() as running:
        yield running


async def sent(server: Server, method: str, path: str, *headers: tuple[str, str], body: bytes = b"") -> Answer:
    async with connected(server) as caller:
        await caller.send(method, path, body=body, headers=dict(headers))
        return await caller.end()


def said(answer: Answer) -> str:
    return json.dumps(answer.headers) + answer.body.decode()


async def test_a_key_is_never_repeated(server: Server) -> None:
    key = await asyncio.to_thread(server.key, name="canary")
    good, json_type = ("authorization", f"Bearer {key}"), ("content-type", "application/json")
    answers = [
        await ask(server, CHAT, chat("Hello", max_tokens=2), key=key),
        await sent(server, "GET", "/v1/models", ("x-api-key", key)),
        await sent(server, "GET", f"/v1/models?api_key={key}&key={WRONG}", good),
        await sent(server, "GET", f"/nowhere?api_key={key}", good),
        await sent(server, "POST", CHAT, good, json_type, body=b'{"api_key": "%b"}' % key.encode()),
        await sent(server, "POST", CHAT, good, json_type, body=b'{"messages": "%b' % key.encode()),
        await sent(server, "POST", EMBEDDINGS, good, json_type, body=json.dumps(embedding(key)).encode()),
        await sent(server, "PUT", CHAT, good),
        await sent(server, "POST", CHAT, good, ("content-type", "text/plain"), body=key.encode()),
    ]
    for token in (WRONG, SHORT):
        for header in (("authorization", f"Bearer {token}"), ("x-api-key", token), ("authorization", f"Basic {token}")):
            refused = await sent(server, "GET", f"/v1/models?token={token}", header)
            assert refused.status == 401
            answers.append(refused)
    answers.append(await sent(server, "GET", "/v1/models", ("authorization", f"Bearer {WRONG}"), ("x-api-key", key)))
    await kill(server, ENGINE)  # what its end logs, too
    await ready(server, ENGINE)
    answers.append(await ask(server, CHAT, chat(key, max_tokens=2), key=key))
    answers.append(await ask(server, "/metrics"))
    answers.append(await ask(server, "/readyz"))
    log = server.log_file.read_text()
    for secret in (key, WRONG, SHORT, server.admin_key):
        assert secret not in log
        for answer in answers:
            assert secret not in said(answer), answer.status
    assert sum(line["event"] == "request" for line in server.log_lines()) >= len(answers)


async def test_what_callers_write_is_not_logged(server: Server) -> None:
    for body in (chat("my-private-words", max_tokens=2), embedding("my-private-words"), chat("my-private-words", n=-1)):
        await ask(server, EMBEDDINGS if "input" in body else CHAT, body)
    log = server.log_file.read_text()
    assert "my-private-words" not in log


async def test_files_and_sockets_are_for_this_user_only(server: Server) -> None:
    assert (await ask(server, CHAT, chat("Hello", max_tokens=2))).status == 200  # the sandbox runs
    assert (server.data / "admin.key").stat().st_mode & 0o777 == 0o600
    run = run_dir(server)
    assert run.stat().st_mode & 0o777 == 0o700
    sockets = list(run.glob("*.sock"))
    assert len(sockets) >= 5
    for file in (*sockets, *server.data.glob("control.db*"), server.data / "lock"):
        assert file.stat().st_mode & 0o077 == 0, file.name


async def test_no_process_shows_a_key(server: Server) -> None:
    pids = [child.pid for child in (await children(server)).values() if child.pid] + [server.pid]
    for process in pids:
        for name in ("cmdline", "environ"):
            file = Path(f"/proc/{process}/{name}")
            if os.access(file, os.R_OK):
                assert server.admin_key.encode() not in file.read_bytes()
