"""Scale's own client, unmodified: towards a running server, and before scripted upstreams."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import scale_gp
from scale_gp import AsyncSGPClient
from tests.raw_asgi import Caller
from tests.scale_calls import CALLS, HELLO, Server, plain, refused
from tests.scripted_gateway import DONE, ROLE, Gateway, chunk, gateway
from tests.scripted_gateway import refused as refusing
from tests.server_process import CHAT_MODEL
from tests.server_process import Server as Running

from narthex.http.worker import RemoteProvider
from narthex.routing.route import Rules
from narthex.testing.scripted import END, Reply, ScriptedUpstream, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.patient

CHAT, TEXT = "/v4/beta/chat/completions", "/v4/beta/completions"
CANARY = "sk-canary-of-a-vendor"


@pytest.fixture(scope="module")
def asked(shallow_server: Running) -> Server:
    """The server whose chat model says nonsense, as Scale's client sees it."""
    return Server(shallow_server.url, shallow_server.admin_key, CHAT_MODEL)


@pytest.mark.parametrize("name", CALLS)
def test_a_call(name: str, asked: Server) -> None:
    CALLS[name](asked)


def test_keys_of_vendors_and_accounts_change_nothing_and_are_not_logged(asked: Server, shallow_server: Running) -> None:
    with asked.client(**{"x-openai-api-key": CANARY, "x-selected-account-id": CANARY}) as client:
        fields: Any = {"model": asked.model, "messages": HELLO, "max_tokens": 1}
        assert client.beta.chat.completions.create(**fields).choices
        with pytest.raises(scale_gp.BadRequestError):
            client.beta.chat.completions.create(**fields, temperature=9)
    assert CANARY not in shallow_server.log_file.read_text(errors="replace")


def test_a_key_without_the_grant_is_told_so(asked: Server, shallow_server: Running) -> None:
    poor = Server(asked.url, shallow_server.key(surfaces=("embeddings",), name="no chats for Scale"), asked.model)
    assert refused(scale_gp.PermissionDeniedError, poor.chat).body["error"]["code"] == "insufficient_permissions"
    assert refused(scale_gp.PermissionDeniedError, poor.text)


# --- errors, on every path -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "key", "status"),
    [
        ("GET", "/v4", True, 404),
        ("POST", "/v4/", True, 404),
        ("POST", "/v4/beta/chat", True, 404),
        ("POST", f"{CHAT}/", True, 404),
        ("GET", CHAT, True, 405),
        ("DELETE", TEXT, True, 405),
        ("POST", CHAT, False, 401),
        ("POST", TEXT, False, 401),
    ],
)
def test_errors_have_a_text_and_an_object(
    method: str, path: str, key: bool, status: int, shallow_http: httpx2.Client
) -> None:
    headers = {} if key else {"authorization": "Bearer wrong"}
    answer = shallow_http.request(method, path, headers=headers, json={})
    assert answer.status_code == status
    _check(answer.json())
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "text/plain", 415),
        (b" " * (16 * 1024 * 1024 + 1), "application/json", 413),
    ],
    ids=["no JSON", "an array", "another type", "too large"],
)
def test_so_have_those_for_bodies(body: bytes, media: str, status: int, shallow_http: httpx2.Client) -> None:
    answer = shallow_http.post(CHAT, content=body, headers={"content-type": media})
    assert answer.status_code == status
    _check(answer.json())


def _check(body: dict[str, Any]) -> None:
    assert sorted(body) == ["detail", "error"]
    assert sorted(body["error"]) == ["code", "message", "param", "type"]
    assert body["detail"] == body["error"]["message"] != ""


# --- before servers elsewhere ----------------------------------------------------------------------------------------


def _saying(*words: str, more: tuple[bytes, ...] = (chunk(finish="stop"), DONE)) -> Reply:
    return Reply(stream_head(), sse(ROLE, *map(chunk, words), *more), END)


def client(through: Gateway) -> AsyncSGPClient:
    """Scale's client, right before an application."""
    http = httpx.AsyncClient(transport=httpx.ASGITransport(through._application))
    return AsyncSGPClient(base_url="http://localhost", api_key=through._key, max_retries=0, http_client=http)


async def _ask(through: Gateway, **fields: Any) -> Any:
    async with client(through) as asking:
        asked: Any = {"model": "m", "messages": HELLO, **fields}
        return await asking.beta.chat.completions.create(**asked)


async def _stream(through: Gateway, **fields: Any) -> AsyncIterator[str]:
    async with client(through) as asking:
        asked: Any = {"model": "m", "messages": HELLO, **fields}
        async for each in await asking.beta.chat.completions.create(stream=True, **asked):
            yield plain(each.choices[0])["delta"].get("content") or ""


async def _heard(through: Gateway, into: list[str]) -> None:
    async for each in _stream(through):
        into.append(each)  # noqa: PERF401 - what came before an error is to be seen


@pytest.mark.anyio
async def test_a_stream_is_passed_on_to_its_end(tmp_path: Path) -> None:
    async with ScriptedUpstream(_saying("Hel", "lo")) as upstream, gateway(tmp_path, {"one": upstream.url}) as through:
        said = [each async for each in _stream(through)]
        raw = await through.ask(path=CHAT, stream=True)
    assert "".join(said) == "Hello"
    assert raw.status == 200
    assert DONE not in raw.body


@pytest.mark.anyio
async def test_a_stream_that_breaks_ends_with_an_exception(tmp_path: Path) -> None:
    said: list[str] = []
    async with (
        ScriptedUpstream(_saying("Hel", more=())) as upstream,
        gateway(tmp_path, {"one": upstream.url}, rules=Rules(attempts=1)) as through,
    ):
        with pytest.raises(scale_gp.APIStatusError) as raised:
            await _heard(through, said)
    assert "".join(said) == "Hel"
    body: Any = raised.value.body
    _check(body)
    assert body["error"]["code"] == "upstream_error"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, scale_gp.BadRequestError),
        (401, scale_gp.InternalServerError),  # our credentials are nothing that the caller could mend
        (429, scale_gp.RateLimitError),
        (500, scale_gp.InternalServerError),
    ],
)
async def test_errors_of_servers_elsewhere(status: int, kind: type[Exception], tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(refusing(status)) as upstream,
        gateway(tmp_path, {"one": upstream.url}, rules=Rules(attempts=1)) as through,
    ):
        with pytest.raises(kind) as raised:
            await _ask(through)
    assert isinstance(raised.value, scale_gp.APIStatusError)
    _check(raised.value.body)  # type: ignore[arg-type]


TOOL = {"type": "function", "function": {"name": "look"}, "cache_control": {"type": "ephemeral"}}
IMAGE = {"url": "iVBORw0KGgo=", "media_type": "image/png"}
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}", "type": "function"}}
TALK = [
    {"role": "user", "content": {"type": "image_url", "image_url": IMAGE}, "tool_calls": [], "function_call": None},
    {"role": "assistant", "content": None, "refusal": None, "audio": None, "function_call": None, "tool_calls": [CALL]},
    {"role": "tool", "content": "4", "tool_call_id": "c"},
]


async def _sent(tmp_path: Path, kind: str, reply: Reply, **fields: Any) -> tuple[dict[str, Any], Caller]:
    """What a server of some kind is asked, and the answer."""
    async with ScriptedUpstream(reply) as upstream:
        provider = RemoteProvider(type=kind, base_url=upstream.url)
        async with gateway(tmp_path, {"one": provider}) as through:
            caller = through.asking(path=CHAT, **fields)
            caller.scope["headers"].append((b"x-openai-api-key", CANARY.encode()))
            answer = await through.call(caller)
        (request,) = upstream.requests
    assert CANARY not in str(request.headers)
    return json.loads(request.body), answer


@pytest.mark.anyio
async def test_servers_of_openais_format_are_sent_that_format(tmp_path: Path) -> None:
    fields = {"messages": TALK, "tools": [TOOL], "seed": -1, "stream": True}
    sent, answer = await _sent(tmp_path, "openai", _saying("Hi"), **fields)
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    call = CALL | {"function": {"name": "look", "arguments": "{}"}}
    assert sent["messages"] == [
        {"role": "user", "content": [image]},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "content": "4", "tool_call_id": "c"},
    ]
    assert sent["tools"] == [{"type": "function", "function": {"name": "look"}}]
    assert "seed" not in sent
    assert answer.status == 200
    assert answer.headers["x-narthex-ignored"] == "tools.cache_control"


@pytest.mark.anyio
async def test_anthropic_is_told_of_marks_and_types(tmp_path: Path) -> None:
    events = (
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    )
    reply = Reply(stream_head(), sse(*(json.dumps(each).encode() for each in events)), END)
    sent, answer = await _sent(tmp_path, "anthropic", reply, messages=TALK, tools=[TOOL])
    assert sent["tools"][0]["cache_control"] == {"type": "ephemeral"}
    source = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}
    assert sent["messages"][0]["content"] == [{"type": "image", "source": source}]
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"
    assert "x-narthex-ignored" not in answer.headers


@pytest.mark.anyio
async def test_text_completions_elsewhere_are_asked_by_the_usual_names(tmp_path: Path) -> None:
    line = {"choices": [{"index": 0, "text": "Hi", "finish_reason": "stop", "logprobs": None}]}
    async with ScriptedUpstream(Reply(stream_head(), sse(json.dumps(line).encode(), DONE), END)) as upstream:
        async with gateway(tmp_path, {"one": upstream.url}) as through, client(through) as asking:
            fields: Any = {"model": "m", "prompt": "Once", "stop_sequences": ["."], "max_new_tokens": 9}
            answer: Any = await asking.beta.completions.create(**fields, return_token_log_probs=True)
        (request,) = upstream.requests
    assert json.loads(request.body) == {
        "model": "model", "prompt": "Once", "stop": ["."], "max_tokens": 9, "logprobs": 0,
    }  # fmt: skip
    assert answer.choices[0].text == "Hi"
