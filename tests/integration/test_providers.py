"""Providers as a worker uses them: what a server elsewhere receives, and what the caller gets of its answer."""

import base64
import json
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from tests.raw_asgi import Caller

from narthex.app.worker import open_worker
from narthex.http.worker import RemoteProvider, WorkerSettings
from narthex.providers.presets import PRESETS
from narthex.providers.traits import ModelTraits
from narthex.routing.route import Named
from narthex.storage.sqlite.control import open_control
from narthex.testing.scripted import END, Received, Reply, ScriptedUpstream, response, sse, stream_head

pytestmark = pytest.mark.anyio

KEY = "sk-canary"
HELLO = [{"role": "user", "content": "Hello"}]
FUNCTION = {"name": "add", "parameters": {"type": "object", "properties": {}}}

Ask = Callable[[str, dict[str, Any]], Any]


@asynccontextmanager
async def asking(
    folder: Path, reply: Reply, type_: str, traits: ModelTraits | None = None, *, trusts_templates: bool = False
) -> AsyncIterator[tuple[Ask, list[Received]]]:
    """A worker with the model `theirs` at a server that answers so; ask it, and see what the server received."""
    control = await open_control(folder / "control.db", clock=lambda: 0)
    made = await control.keys.ensure_admin()
    await control.aclose()
    assert made is not None
    key = made[1].reveal()
    async with ScriptedUpstream(reply) as upstream:
        provider = RemoteProvider(
            type=type_, base_url=upstream.url, api_key=KEY, models={} if traits is None else {"big": traits}
        )
        settings = WorkerSettings(
            name="worker-0",
            data_dir=str(folder),
            run_dir=str(folder),
            models=(),
            names={"theirs": Named(deployments=("there/big",), trusts_templates=trusts_templates)},
            providers={"there": provider},
        )

        async with open_worker(settings) as worker:

            async def ask(path: str, fields: dict[str, Any]) -> Caller:
                body = json.dumps({"model": "theirs"} | fields).encode()
                return await Caller(body, path=path, headers={"x-api-key": key}).call(worker.application)

            yield ask, upstream.requests


def stream(*chunks: dict[str, Any]) -> Reply:
    return Reply(stream_head(), sse(*(json.dumps(each).encode() for each in chunks), b"[DONE]"), END)


def said(text: str) -> Reply:
    return stream({"choices": [{"index": 0, "delta": {"content": text}, "finish_reason": "stop"}]})


def whole(document: Any) -> Reply:
    return Reply(response(json.dumps(document).encode()))


@pytest.mark.parametrize(
    ("type_", "header", "value"),
    [("openai", "authorization", "Bearer sk-canary"), ("azure", "api-key", "sk-canary")],
)
async def test_the_key_is_sent_as_the_server_wants_it(tmp_path: Path, type_: str, header: str, value: str) -> None:
    async with asking(tmp_path, said("Hi"), type_) as (ask, received):
        answer = await ask("/v1/chat/completions", {"messages": HELLO})
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"
    assert received[0].headers[header] == value
    assert received[0].target.endswith("/chat/completions")


async def test_a_model_s_own_traits_are_heeded(tmp_path: Path) -> None:
    traits = ModelTraits(max_tokens_field="max_tokens", refused=frozenset(("seed",)))
    async with asking(tmp_path, said("Hi"), "openai", traits) as (ask, received):
        refused = await ask("/v1/chat/completions", {"messages": HELLO, "seed": 7})
        assert (refused.status, refused.json()["error"]["param"]) == (400, "seed")
        assert (await ask("/v1/chat/completions", {"messages": HELLO, "max_completion_tokens": 5})).status == 200
    (request,) = received
    assert json.loads(request.body)["max_tokens"] == 5


@pytest.mark.parametrize("streams", [True, False])
async def test_functions_go_as_tools_and_come_back_as_functions(tmp_path: Path, streams: bool) -> None:
    call = {"index": 0, "id": "c0", "type": "function", "function": {"name": "add", "arguments": "{}"}}
    reply = stream(
        {"choices": [{"index": 0, "delta": {"role": "assistant", "tool_calls": [call]}}]},
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
    )
    fields = {"messages": HELLO, "functions": [FUNCTION], "function_call": {"name": "add"}, "stream": streams}
    async with asking(tmp_path, reply, "groq") as (ask, received):
        answer = await ask("/v1/chat/completions", fields)
    body = json.loads(received[0].body)
    assert body["tools"] == [{"type": "function", "function": FUNCTION}]
    assert body["tool_choice"] == {"type": "function", "function": {"name": "add"}}
    if streams:
        assert b'"function_call":{"name":"add","arguments":"{}"}' in answer.body
        assert b'"finish_reason":"function_call"' in answer.body
        assert b"tool_calls" not in answer.body
    else:
        choice = answer.json()["choices"][0]
        assert choice["message"]["function_call"] == {"name": "add", "arguments": "{}"}
        assert choice["finish_reason"] == "function_call"


@pytest.mark.parametrize("streams", [True, False])
async def test_completions_of_several_prompts(tmp_path: Path, streams: bool) -> None:
    logprobs = {"tokens": ["A"], "token_logprobs": [-0.5], "top_logprobs": [{"A": -0.5}], "text_offset": [0]}
    reply = stream(
        {"choices": [{"index": 1, "text": "B", "finish_reason": "stop"}]},
        {"choices": [{"index": 0, "text": "A", "logprobs": logprobs, "finish_reason": "length"}]},
        {"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 2}},
    )
    async with asking(tmp_path, reply, "openai") as (ask, _):
        answer = await ask("/v1/completions", {"prompt": ["a", "b"], "logprobs": 1, "stream": streams})
    if streams:
        assert answer.body.count(b'"text":"A"') == 1
        assert answer.body.endswith(b"data: [DONE]\n\n")
    else:
        choices = answer.json()["choices"]
        assert [(each["index"], each["text"], each["finish_reason"]) for each in choices] == [
            (0, "A", "length"),
            (1, "B", "stop"),
        ]
        assert choices[0]["logprobs"] == logprobs
        assert answer.json()["usage"]["total_tokens"] == 4


async def test_a_greedy_request_for_two_is_asked_once_of_vllm(tmp_path: Path) -> None:
    async with asking(tmp_path, said("Hi"), "vllm") as (ask, received):
        answer = await ask("/v1/chat/completions", {"messages": HELLO, "n": 2, "temperature": 0})
    assert [each["message"]["content"] for each in answer.json()["choices"]] == ["Hi", "Hi"]
    assert "n" not in json.loads(received[0].body)


async def test_guided_fields_reach_vllm_by_today_s_name(tmp_path: Path) -> None:
    async with asking(tmp_path, said("yes"), "vllm") as (ask, received):
        fields = {"messages": HELLO, "guided_choice": ["yes", "no"], "guided_decoding_backend": "auto"}
        answer = await ask("/v1/chat/completions", fields)
        both = await ask("/v1/chat/completions", fields | {"guided_regex": "a"})
    assert answer.headers["x-narthex-ignored"] == "guided_decoding_backend"
    assert json.loads(received[0].body)["structured_outputs"] == {"choice": ["yes", "no"]}
    assert (both.status, both.json()["error"]["param"], len(received)) == (400, "guided_regex", 1)


async def test_guided_fields_reach_sglang_by_its_names(tmp_path: Path) -> None:
    async with asking(tmp_path, said("yes"), "sglang") as (ask, received):
        answer = await ask("/v1/chat/completions", {"messages": HELLO, "guided_choice": ["yes", "no"], "min_tokens": 1})
        refused = await ask("/v1/chat/completions", {"messages": HELLO, "chat_template": "x"})
    sent = json.loads(received[0].body)
    assert (answer.status, sent["regex"], sent["min_tokens"], "guided_choice" in sent) == (200, "(yes|no)", 1, False)
    assert (refused.status, refused.json()["error"]["param"], len(received)) == (400, "chat_template", 1)


@pytest.mark.parametrize("stream", [True, False])
async def test_a_template_reaches_vllm_where_the_model_is_trusted_with_it(tmp_path: Path, stream: bool) -> None:
    begun = [*HELLO, {"role": "assistant", "content": "He"}]
    fields = {"chat_template": "{{ messages }}", "chat_template_kwargs": {"a": 1}, "min_tokens": 2, "stream": stream}
    async with asking(tmp_path, said("Hi"), "vllm", trusts_templates=True) as (ask, received):
        answer = await ask("/v1/chat/completions", {"messages": begun, "continue_final_message": True, **fields})
        hidden = await ask("/v1/chat/completions", {"messages": HELLO, "chat_template_kwargs": {"chat_template": "x"}})
    sent = json.loads(received[0].body)
    assert (answer.status, {name: sent[name] for name in fields}) == (200, fields | {"stream": sent["stream"]})
    assert (sent["continue_final_message"], sent["add_generation_prompt"], sent["messages"]) == (True, False, begun)
    assert (hidden.json()["error"]["param"], len(received)) == ("chat_template_kwargs.chat_template", 1)


@pytest.mark.parametrize("wanted", ["float", "base64"])
@pytest.mark.parametrize("sent", ["numbers", "text"])
async def test_embeddings_in_either_form_from_either(tmp_path: Path, wanted: str, sent: str) -> None:
    data = struct.pack("<2f", 0.5, -0.25)
    text = base64.b64encode(data).decode()
    rows = [{"index": 0, "embedding": text if sent == "text" else [0.5, -0.25]}]
    reply = whole({"data": rows, "usage": {"prompt_tokens": 3, "total_tokens": 3}})
    async with asking(tmp_path, reply, "openai") as (ask, received):
        answer = await ask("/v1/embeddings", {"input": "text", "encoding_format": wanted})
    assert answer.json()["data"][0]["embedding"] == (text if wanted == "base64" else [0.5, -0.25])
    assert answer.json()["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    assert json.loads(received[0].body)["encoding_format"] == "base64"


async def test_anthropic_s_messages(tmp_path: Path) -> None:
    chunks = [
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]
    reply = Reply(stream_head(), sse(*(json.dumps(each).encode() for each in chunks)), END)
    async with asking(tmp_path, reply, "anthropic") as (ask, received):
        answer = await ask("/v1/chat/completions", {"messages": HELLO})
    assert answer.json()["choices"][0]["message"]["content"] == "Hi"
    sent = received[0].headers
    assert (sent["x-api-key"], sent["anthropic-version"]) == (KEY, "2023-06-01")
    assert json.loads(received[0].body)["max_tokens"] == 4096


async def test_every_type_makes_a_deployment(tmp_path: Path) -> None:
    for type_ in PRESETS:
        folder = tmp_path / type_
        folder.mkdir()
        async with asking(folder, said("Hi"), type_) as (ask, received):
            refused = await ask("/v1/chat/completions", {"messages": HELLO, "chat_template": "x"})
            assert (refused.status, refused.json()["error"]["param"], received) == (400, "chat_template", [])


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v4/beta/chat/completions"])
@pytest.mark.parametrize(
    "fields", [{"guided_choice": ["yes", "no"]}, {"structured_outputs": {"choice": ["yes", "no"]}}]
)
async def test_a_choice_is_asked_for_as_a_schema_and_told_bare(
    tmp_path: Path, path: str, fields: dict[str, Any], *, streams: bool
) -> None:
    async with asking(tmp_path, said('{"choice": "no"}'), "groq") as (ask, received):
        answer = await ask(path, {"messages": HELLO, "stream": streams, "max_tokens": 3, **fields})
        other = await ask(path, {"messages": HELLO, "guided_regex": "a"})
    body = json.loads(received[0].body)
    schema = body["response_format"]["json_schema"]["schema"]
    assert schema["properties"] == {"choice": {"type": "string", "enum": ["yes", "no"]}}
    assert not fields.keys() & body.keys()
    assert answer.status == 200
    if streams:
        assert b'"content":"no"' in answer.body
        assert b'\\"' not in answer.body
    else:
        assert answer.json()["choices"][0]["message"]["content"] == "no"
    assert (other.status, other.json()["error"]["param"], len(received)) == (400, "guided_regex", 1)
