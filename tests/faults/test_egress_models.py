"""Images on their way through a whole worker: who fetches them, and who is never asked."""

import base64
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.raw_asgi import Caller

from narthex.app.worker import open_worker
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.routing.route import Named
from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import END, HANG, Reply, ScriptedUpstream, head, response, sse, stream_head
from narthex.upstream.egress import Egress

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(64))
DATA = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
IMAGE = Reply(response(PNG, headers=("content-type: image/png",)))
SAID = Reply(
    stream_head(),
    sse(b'{"choices": [{"index": 0, "delta": {"content": "A dot."}, "finish_reason": "stop"}]}', b"[DONE]"),
    END,
)
SAID_BY_CLAUDE = Reply(
    stream_head(),
    sse(
        b'{"type": "message_start", "message": {"usage": {"input_tokens": 1, "output_tokens": 1}}}',
        b'{"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}',
        b'{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "A dot."}}',
        b'{"type": "content_block_stop", "index": 0}',
        b'{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 3}}',
        b'{"type": "message_stop"}',
    ),
    END,
)

Ask = Callable[..., Coroutine[Any, Any, Caller]]


@asynccontextmanager
async def worker(folder: Path, egress: Egress, **providers: tuple[str, str]) -> AsyncIterator[Ask]:
    """A worker with the model `theirs` at these providers (each a type and an address); ask it about images."""
    control = await open_control(folder / "control.db", clock=lambda: 0)
    made = await control.keys.ensure_admin()
    await control.aclose()
    assert made is not None
    key = made[1].reveal()
    settings = WorkerSettings(
        name="worker-0",
        data_dir=str(folder),
        run_dir=str(folder),
        models=(),
        names={"theirs": Named(deployments=tuple(f"{name}/big" for name in providers))},
        providers={name: RemoteProvider(type=type_, base_url=url) for name, (type_, url) in providers.items()},
        egress=egress,
    )
    async with open_worker(settings) as running:

        async def ask(*urls: str, **fields: Any) -> Caller:
            parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
            messages = [{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}]
            body = json.dumps({"model": "theirs", "messages": messages} | fields).encode()
            return await Caller(body, path="/v1/chat/completions", headers={"x-api-key": key}).call(running.application)

        yield ask


def allowing(*servers: ScriptedUpstream, **settings: Any) -> Egress:
    return Egress(allow=tuple(f"127.0.0.1:{server.port}" for server in servers), **settings)


@pytest.mark.parametrize(
    "type_", ["openai", "openai-compatible", "vllm", "ollama", "llama.cpp", "lm-studio", "gemini", "narthex"]
)
@pytest.mark.parametrize("streams", [True, False])
async def test_a_server_on_this_host_gets_data_and_never_the_address(tmp_path: Path, type_: str, streams: bool) -> None:
    async with (
        ScriptedUpstream(IMAGE) as store,
        ScriptedUpstream(SAID) as model,
        worker(tmp_path, allowing(store), there=(type_, model.url)) as ask,
    ):
        answer = await ask(f"{store.url}/dot.png", stream=streams)
    assert answer.status == 200
    assert b"A dot." in answer.body
    (request,) = model.requests
    assert store.url.encode() not in request.body
    content = json.loads(request.body)["messages"][0]["content"]
    assert content[1]["image_url"]["url"] == DATA
    (fetched,) = store.requests
    assert set(fetched.headers) == {"host", "accept", "accept-encoding", "user-agent", "connection"}


async def test_another_format_gets_data_too(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(IMAGE) as store,
        ScriptedUpstream(SAID_BY_CLAUDE) as model,
        worker(tmp_path, allowing(store), claude=("anthropic", model.url)) as ask,
    ):
        answer = await ask(f"{store.url}/dot.png")
    assert answer.status == 200
    (_, block) = json.loads(model.requests[0].body)["messages"][0]["content"]
    assert block["source"] == {"type": "base64", "media_type": "image/png", "data": DATA.partition(",")[2]}
    assert len(store.requests) == 1


@pytest.mark.parametrize(
    "url",
    [
        "http://169.254.169.254/latest/meta-data/iam/security-credentials/",
        "http://[::ffff:169.254.169.254]/",
        "http://127.0.0.1/",
        "http://localhost/",
        "http://2852039166/",
        "http://10.0.0.1/",
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize("type_", ["openai", "vllm"])
async def test_what_is_refused_reaches_nobody(tmp_path: Path, url: str, type_: str) -> None:
    async with (
        ScriptedUpstream(SAID) as model,
        worker(tmp_path, Egress(), there=(type_, model.url), spare=(type_, model.url)) as ask,
    ):
        answer = await ask(DATA, url)
        error = answer.json()["error"]
        assert (answer.status, error["code"], error["type"]) == (400, "invalid_image_url", "invalid_request_error")
        assert error["param"] == "messages[0].content[2].image_url.url"
        assert url not in error["message"]
        assert not model.peers
        assert (await ask(DATA)).status == 200, "it does not count against the server"


async def test_refusals_do_not_tell_what_there_is(tmp_path: Path) -> None:
    """The same words for an address that listens elsewhere, one that does not, and a name that leads inside."""
    async with (
        ScriptedUpstream(IMAGE) as inside,
        ScriptedUpstream(SAID) as model,
        worker(tmp_path, Egress(allow=(f"127.0.0.1:{inside.port}",)), there=("openai", model.url)) as ask,
    ):
        urls = ["http://127.0.0.1/", "http://localhost/", "http://127.0.0.2/", "http://10.255.255.1/"]
        told = {(await ask(url)).json()["error"]["message"] for url in urls}
        assert len(told) == 1
        assert not inside.requests


async def test_choices_that_are_asked_for_side_by_side_share_one_fetch(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(IMAGE) as store,
        ScriptedUpstream(SAID) as model,
        worker(tmp_path, allowing(store), there=("ollama", model.url)) as ask,
    ):
        answer = await ask(store.url, store.url, n=3)
    assert len(answer.json()["choices"]) == 3
    assert (len(model.requests), len(store.requests)) == (3, 1)


async def test_the_next_server_gets_the_image_as_well(tmp_path: Path) -> None:
    broken = Reply(response(b"{}", status=500))
    async with (
        ScriptedUpstream(IMAGE) as store,
        ScriptedUpstream(broken) as first,
        ScriptedUpstream(SAID) as second,
        worker(tmp_path, allowing(store), one=("openai", first.url), two=("vllm", second.url)) as ask,
    ):
        assert (await ask(store.url)).status == 200
    for server in (first, second):
        assert json.loads(server.requests[0].body)["messages"][0]["content"][1]["image_url"]["url"] == DATA


async def test_too_much_in_sum_is_refused(tmp_path: Path) -> None:
    large = Reply(response(PNG + bytes(18_000_000), headers=("content-type: image/png",)))
    async with (
        ScriptedUpstream(large) as store,
        ScriptedUpstream(SAID) as model,
        worker(tmp_path, allowing(store), there=("openai", model.url)) as ask,
    ):
        answer = await ask(*(f"{store.url}/{number}" for number in range(3)))
    assert "too large together" in answer.json()["error"]["message"]
    assert not model.peers


async def test_fetching_may_be_off(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(IMAGE) as store,
        ScriptedUpstream(SAID) as model,
        worker(tmp_path, allowing(store, images="refuse"), there=("openai", model.url)) as ask,
    ):
        answer = await ask(store.url)
        assert (answer.status, answer.json()["error"]["code"]) == (400, "invalid_image_url")
        assert (await ask(DATA)).status == 200
    assert not store.requests


async def test_who_leaves_while_an_image_is_fetched_leaves_nothing_running(tmp_path: Path) -> None:
    slow = Reply(head("content-type: image/png", "content-length: 99") + PNG, HANG)
    async with (
        ScriptedUpstream(slow) as store,
        ScriptedUpstream(SAID) as model,
        worker(tmp_path, allowing(store, timeout_s=0.3), there=("openai", model.url)) as ask,
    ):
        answer = await ask(store.url)
        assert "longer than 0.3 s" in answer.json()["error"]["message"]
        await store.peers[0].closed.wait()
        assert not model.peers
