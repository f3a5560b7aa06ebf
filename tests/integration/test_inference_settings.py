"""What one request says of its memory, its time and its server: what the servers elsewhere get, by the official client.

The settings of `one` and `claude` allow additions, those of `two` none.
"""

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openai import APIError, BadRequestError, InternalServerError
from tests.callers import CHAT, ask
from tests.served_gateway import ROLE, bodies, chunk, client, config, gateway, refusing, saying, serving, text, whole
from tests.server_process import Server, StartServer

from narthex.testing.scripted import HANG, Reply, sse, stream_head

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = [pytest.mark.anyio, pytest.mark.patient]

TALK: list[Any] = [
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Who was first?"},
    {"role": "assistant", "content": "Ada was."},
    {"role": "user", "content": "And then?"},
]
LAST_1 = {"memory_strategy": {"name": "last_k", "k": 1}}
SAID = {"choices": [{"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}]}
CLAUDE = [
    ("message_start", {"message": {"id": "1", "usage": {"input_tokens": 1, "output_tokens": 1}}}),
    ("content_block_start", {"index": 0, "content_block": {"type": "text", "text": ""}}),
    ("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": "Hi"}}),
    ("content_block_stop", {"index": 0}),
    ("message_delta", {"delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 1}}),
    ("message_stop", {}),
]
JSON = {"content-type": "application/json"}
SECRET = "sk-very-secret-0123456789"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="nx-") as name:
        yield Path(name)


@pytest.fixture(scope="module")
def server(start_server: StartServer, folder: Path) -> Iterator[Server]:
    models = [{"name": name, "deployments": [f"{name}/m"]} for name in ("one", "two", "claude")]
    models += [{"name": "both", "deployments": ["two/m", "one/m"], "timeouts": {"total": "5s"}}]
    settings = config(folder, {"one": "vllm", "two": "openai", "claude": "anthropic"}, models)
    for name in ("one", "claude"):
        settings["providers"][name] |= {"extra_params": ["mirostat"], "extra_headers": ["X-Team"]}
    with gateway(start_server, settings) as running:
        yield running


def events(*named: tuple[str, dict[str, Any]]) -> Reply:
    told = b"".join(f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode() for name, data in named)
    return whole_of(told)


def whole_of(told: bytes) -> Reply:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(told)
    return Reply(head, told)


# --- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
async def test_the_last_messages_are_sent_and_not_the_field(stream: bool, *, server: Server, folder: Path) -> None:
    reply = saying("Hi") if stream else whole(SAID)
    async with serving(folder, "two", reply) as upstream:
        answer = await ask(server, CHAT, {"model": "two", "messages": TALK, "stream": stream, **LAST_1})
    assert text(answer) == "Hi"
    assert answer.headers["x-narthex-forgotten"] == "2"
    (sent,) = bodies(upstream)
    assert sent["messages"] == [TALK[0], TALK[3]]
    assert "memory_strategy" not in sent


async def test_another_format_gets_them_too(server: Server, folder: Path) -> None:
    async with serving(folder, "claude", events(*CLAUDE)) as upstream, client(server) as openai:
        raw = await openai.chat.completions.with_raw_response.create(model="claude", messages=TALK, extra_body=LAST_1)
    assert raw.parse().choices[0].message.content == "Hi"
    assert raw.headers["x-narthex-forgotten"] == "2"
    (sent,) = bodies(upstream)
    assert [each["role"] for each in sent["messages"]] == ["user"]
    assert sent["system"][0]["text"] == "Be kind."


async def test_a_budget_of_tokens_after_the_strategy(server: Server, folder: Path) -> None:
    budget = {"memory_strategy": {"name": "last_k", "k": 2}, "token_budget": 30}
    async with serving(folder, "two", whole(SAID)) as upstream, client(server) as openai:
        raw = await openai.chat.completions.with_raw_response.create(model="two", messages=TALK, extra_body=budget)
        roomy = await openai.chat.completions.with_raw_response.create(
            model="two", messages=TALK, extra_body={"token_budget": 5000}
        )
        with pytest.raises(BadRequestError) as caught:
            await openai.chat.completions.create(model="two", messages=TALK, extra_body={"token_budget": 5})
    assert raw.headers["x-narthex-forgotten"] == "2"
    assert "x-narthex-forgotten" not in roomy.headers
    assert [len(sent["messages"]) for sent in bodies(upstream)] == [2, 4]
    assert not any("token_budget" in sent for sent in bodies(upstream))
    assert (caught.value.param, caught.value.code) == ("token_budget", "context_length_exceeded")


async def test_what_was_not_answered_is_not_stored(server: Server, folder: Path) -> None:
    async with serving(folder, "two", whole(SAID)), client(server) as openai:
        for fields in (LAST_1, {"token_budget": 30}):
            made = await openai.chat.completions.create(model="two", messages=TALK, store=True, extra_body=fields)
            kept = await openai.chat.completions.messages.list(made.id)
            assert [each.content for each in kept.data] == ["Be kind.", "And then?"]


# --- time ------------------------------------------------------------------------------------------------------------


async def test_a_request_ends_when_its_caller_said(server: Server, folder: Path) -> None:
    async with serving(folder, "two", Reply(HANG)) as upstream, client(server).with_options(max_retries=2) as openai:
        with pytest.raises(InternalServerError) as caught:
            await openai.chat.completions.create(model="two", messages=TALK, extra_body={"inference_timeout": "0.2"})
        assert (caught.value.status_code, caught.value.param) == (504, "inference_timeout")
        assert "0.2 s" in caught.value.message
        await upstream.peers[0].closed.wait()
        assert len(upstream.peers) == 1  # the client would ask twice more by itself
    lines = [line for line in server.log_lines() if line.get("request_id") == caught.value.request_id]
    assert [(line["event"], line["status"], line["param"]) for line in lines] == [("request", 504, "inference_timeout")]


async def test_a_stream_that_takes_too_long_ends_with_an_error(server: Server, folder: Path) -> None:
    begun = Reply(stream_head(), sse(ROLE, chunk({"content": "Hi"})), HANG)
    async with serving(folder, "two", begun) as upstream, client(server) as openai:
        stream = await openai.chat.completions.create(
            model="two", messages=TALK, stream=True, extra_body={"inference_timeout": 0.5}
        )
        said = []
        with pytest.raises(APIError, match=r"0\.5 s"):  # noqa: PT012 - the stream breaks within
            async for each in stream:
                said += [choice.delta.content for choice in each.choices]
        assert "Hi" in said
        await upstream.peers[0].closed.wait()


@pytest.mark.parametrize(("model", "most"), [("two", 590), ("both", 5)])
async def test_the_limit_is_the_models(model: str, most: int, *, server: Server) -> None:
    async with client(server) as openai:
        with pytest.raises(BadRequestError, match=f"at most {most} s") as caught:
            await openai.chat.completions.create(
                model=model, messages=TALK, extra_body={"inference_timeout": most + 0.5}
            )
    assert (caught.value.param, caught.value.code) == ("inference_timeout", "decimal_above_max_value")


SCALE = "/v4/beta/chat/completions"


async def test_on_scale_s_api_they_are_the_same(server: Server, folder: Path) -> None:
    strategy = {"memory_strategy": {"name": "last_k", "params": {"k": 2}}, "token_budget": 30}
    async with serving(folder, "one", whole(SAID)) as upstream:
        answer = await ask(server, SCALE, {"model": "one", "messages": TALK, **strategy, **ADDED})
    assert (answer.status, answer.headers["x-narthex-forgotten"]) == (200, "2"), answer
    (sent,) = bodies(upstream)
    assert (sent["messages"], sent["mirostat"]) == ([TALK[0], TALK[3]], {"tau": 5})
    assert upstream.requests[0].headers["x-team"] == SECRET


async def test_on_scale_s_api_time_runs_out_in_its_own_words(server: Server, folder: Path) -> None:
    late = {"model": "two", "messages": TALK, "inference_timeout": "0.3"}
    async with serving(folder, "two", Reply(HANG)):
        answer = await ask(server, SCALE, late)
    assert (answer.status, answer.json["error"]["code"]) == (504, "timeout")
    assert answer.json["detail"] == answer.json["error"]["message"]
    begun = Reply(stream_head(), sse(ROLE, chunk({"content": "Hi"})), HANG)
    async with serving(folder, "two", begun):
        answer = await ask(server, SCALE, {**late, "stream": True})
    assert b"event: error" in answer.body
    assert b"0.3 s" in answer.body


# --- additions -------------------------------------------------------------------------------------------------------

ADDED = {"inference_extra_params": {"mirostat": {"tau": 5}}, "inference_extra_headers": {"X-Team": SECRET}}


async def test_additions_that_are_allowed_are_sent(server: Server, folder: Path) -> None:
    replies = {"one": whole(SAID), "claude": events(*CLAUDE)}
    for name, reply in replies.items():
        async with serving(folder, name, reply) as upstream, client(server) as openai:
            await openai.chat.completions.create(model=name, messages=TALK, extra_body=ADDED)
            await openai.chat.completions.create(model=name, messages=TALK)
        added, plain = upstream.requests
        assert json.loads(added.body) == json.loads(plain.body) | {"mirostat": {"tau": 5}}
        assert (added.headers["x-team"], "x-team" in plain.headers) == (SECRET, False)
        assert added.headers | {"content-length": ""} == plain.headers | {"x-team": SECRET, "content-length": ""}


async def test_only_who_can_take_them_is_asked(server: Server, folder: Path) -> None:
    async with (
        serving(folder, "one", whole(SAID)) as one,
        serving(folder, "two", whole(SAID)) as two,
        client(server) as openai,
    ):
        await openai.chat.completions.create(model="both", messages=TALK, extra_body=ADDED)
        await openai.chat.completions.create(model="both", messages=TALK)
    assert (len(one.requests), len(two.requests)) == (1, 1)


@pytest.mark.parametrize(
    ("model", "field", "value", "param"),
    [
        ("two", "inference_extra_params", {"mirostat": 1}, ""),
        ("two", "inference_extra_headers", {"x-team": "a"}, ""),
        ("one", "inference_extra_params", {"other": 1}, ".other"),
        ("one", "inference_extra_headers", {"x-other": "a"}, ".x-other"),
        ("one", "inference_extra_headers", {"authorization": "a"}, ".authorization"),
        ("one", "inference_extra_params", {"messages": []}, ".messages"),
    ],
)
async def test_others_are_refused_by_name(model: str, field: str, value: Any, param: str, *, server: Server) -> None:
    async with client(server) as openai:
        with pytest.raises(BadRequestError) as caught:
            await openai.chat.completions.create(model=model, messages=TALK, extra_body={field: value})
    assert (caught.value.param, caught.value.code) == (field + param, "unsupported_parameter")


async def test_what_was_added_is_in_no_error_and_no_log(server: Server, folder: Path) -> None:
    document = {"error": {"message": f"x-team {SECRET} is not known", "type": "x", "param": None, "code": None}}
    body = json.dumps(document).encode()
    head = b"HTTP/1.1 400 Bad\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body)
    for reply in (Reply(head, body), refusing(500), refusing(401)):
        async with serving(folder, "one", reply), client(server) as openai:
            with pytest.raises(APIError) as caught:
                await openai.chat.completions.create(model="one", messages=TALK, extra_body=ADDED)
        assert SECRET not in str(caught.value)
    assert SECRET not in server.log_file.read_text()


# --- what is nested as deeply as JSON may be -------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    "field",
    ['"tools":[{"type":"function","function":{"name":"f","parameters":%s}}]', '"guided_json":%s'],
    ids=["tools", "guided_json"],
)
async def test_it_is_never_a_fault_of_the_server(stream: bool, field: str, *, server: Server, folder: Path) -> None:
    """Whoever looks at it after the decoder may have less room."""
    said = '{"model":"claude","messages":[{"role":"user","content":"Hi"}],"max_tokens":5,"stream":%s,%s}'
    with server.http() as http:
        for depth in range(960, 990, 2):
            value = '{"a":' * depth + "1" + "}" * depth
            async with serving(folder, "claude", events(*CLAUDE)):
                answer = await asyncio.to_thread(
                    http.post, CHAT, content=said % (json.dumps(stream), field % value), headers=JSON
                )
            assert answer.status_code in {200, 400}, (depth, answer.text)
