"""A server that answers whatever a provider's row sends it, in that provider's own format, and remembers what it heard.

It does what its request asks for, as far as an answer can show that: as many choices, a call where one is required,
JSON where a format is, pieces where a stream is.
"""

import asyncio
import base64
import contextlib
import json
import struct
from collections.abc import Iterator
from typing import Any, Self

import httptools
import msgspec

HANGS = "HANG"
"""What a message says that is never answered."""
CALLS = "CALL"
"""What a message says that is answered with two calls."""
USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(24)).decode()
ANSWER_TOOL = "answer_in_json"

Body = dict[str, Any]


class Heard(msgspec.Struct, kw_only=True):
    """One request. `headers` with lower-case names."""

    target: str
    headers: dict[str, str]
    body: Body


class Vendors:
    """Every vendor's server at once, on a free port of this host."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self._transports: set[asyncio.Transport] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.get_running_loop().create_server(lambda: _Connection(self), "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for transport in tuple(self._transports):
            transport.abort()
        await self._server.wait_closed()

    def opened(self, transport: asyncio.Transport) -> None:
        self._transports.add(transport)

    def closed(self, transport: asyncio.Transport) -> None:
        self._transports.discard(transport)


class _Connection(asyncio.Protocol):
    def __init__(self, vendors: Vendors) -> None:
        self._vendors = vendors
        self._parser = httptools.HttpRequestParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._vendors.opened(transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._vendors.closed(self._transport)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_message_begin(self) -> None:
        self._target, self._headers, self._body = "", dict[str, str](), b""

    def on_url(self, url: bytes) -> None:
        self._target += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers[name.decode().lower()] = value.decode()

    def on_body(self, data: bytes) -> None:
        self._body += data

    def on_message_complete(self) -> None:
        heard = Heard(target=self._target, headers=self._headers, body=json.loads(self._body))
        self._vendors.heard.append(heard)
        with contextlib.suppress(_Silence):
            kind, content = answer(heard.target, heard.body)
            head = f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {len(content)}\r\n\r\n"
            self._transport.write(head.encode() + content)


class _Silence(Exception):
    """Nothing is to be answered."""


# --- answers ---------------------------------------------------------------------------------------------------------


def answer(target: str, body: Body) -> tuple[str, bytes]:
    """The content's type and the content."""
    if HANGS in json.dumps(body):
        raise _Silence
    for end, make in _BY_PATH.items():
        if target.endswith(end):
            return make(body)
    raise AssertionError(target)


def _json(document: Any) -> tuple[str, bytes]:
    return "application/json", json.dumps(document).encode()


def _events(*payloads: Any, named: bool = False, done: bool = True) -> tuple[str, bytes]:
    lines = [f"event: {each['type']}\n" if named else "" for each in payloads]
    told = "".join(f"{line}data: {json.dumps(each)}\n\n" for line, each in zip(lines, payloads, strict=True))
    return "text/event-stream", (told + ("data: [DONE]\n\n" if done else "")).encode()


def _text(body: Body) -> str:
    """What the answer has to say to have the form that is asked for, by whichever vendor's field."""
    format_ = body.get("response_format") or body.get("output_config", {}).get("format") or {}
    schema = format_.get("json_schema", {}).get("schema") or format_.get("schema") or {}
    guided = {name.removeprefix("guided_"): value for name, value in body.items() if name.startswith("guided_")}
    within = guided | body.get("structured_outputs", {})
    if "choice" in schema.get("properties", {}):
        return json.dumps({"choice": schema["properties"]["choice"]["enum"][0]})
    if format_.get("type", "text") != "text" or body.get("json_schema") or {"json", "json_object"} & within.keys():
        return '{"a": "b"}'
    if (pattern := body.get("regex") or within.get("regex")) is not None:
        return "12" if pattern.startswith("[") else "yes"
    return "yes" if {"choice", "grammar"} & within.keys() or "ebnf" in body else "Hi"


def _calls(body: Body) -> list[str]:
    """The names of the functions that are called."""
    named = [each["function"]["name"] for each in body.get("tools", ()) if each.get("type") == "function"]
    chosen = body.get("tool_choice", "auto")
    if isinstance(chosen, dict) and chosen["type"] == "function":
        return [chosen["function"]["name"]]
    if isinstance(chosen, dict) or chosen == "required":
        return named[:1]
    return named * 2 if CALLS in json.dumps(body["messages"]) and named and chosen != "none" else []


def _chat(body: Body) -> tuple[str, bytes]:
    if "audio" in body.get("modalities", ()):
        return _spoken(body)
    made: list[Body] = [
        {
            "index": place,
            "id": f"call_{place}",
            "type": "function",
            "function": {"name": name, "arguments": '{"a": "b"}'},
        }
        for place, name in enumerate(_calls(body))
    ]
    chosen = body.get("tool_choice")
    if isinstance(chosen, dict) and chosen["type"] == "custom":
        made = [
            {"index": 0, "id": "call_0", "type": "custom", "custom": {"name": chosen["custom"]["name"], "input": "a"}}
        ]
    message: Body = {"role": "assistant", "content": None if made else _text(body)}
    finish = "tool_calls" if made else "stop"
    if made:
        message["tool_calls"] = made
    if isinstance(body.get("function_call"), dict):
        message = {"role": "assistant", "function_call": {"name": body["function_call"]["name"], "arguments": "{}"}}
        finish = "function_call"
    told = {"service_tier": "scale"} if "service_tier" in body else {}
    numbers = range(body.get("n", 1))
    if body.get("stream"):
        chunks = [
            {"id": "x", "choices": [{"index": number, "delta": message, "finish_reason": finish}]} | told
            for number in numbers
        ]
        return _events(*chunks, {"id": "x", "choices": [], "usage": USED} | told)
    choices = [{"index": number, "message": message, "finish_reason": finish} for number in numbers]
    return _json({"id": "x", "object": "chat.completion", "created": 1, "choices": choices, "usage": USED} | told)


def _spoken(body: Body) -> tuple[str, bytes]:
    audio = {"id": "audio_1", "transcript": "Hi", "data": "AAEC", "expires_at": 1}
    if body.get("stream"):
        delta = {"role": "assistant", "audio": audio}
        chunk = {"id": "x", "choices": [{"index": 0, "delta": delta, "finish_reason": "stop"}]}
        return _events(chunk, {"id": "x", "choices": [], "usage": USED})
    message = {"role": "assistant", "content": None, "audio": audio}
    return _json({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": USED})


def _prompts(body: Body) -> int:
    prompt = body["prompt"]
    return len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1


def _completions(body: Body) -> tuple[str, bytes]:
    text = _text(body)
    logprobs = {"tokens": [text], "token_logprobs": [-0.5], "top_logprobs": [{text: -0.5}], "text_offset": [0]}
    choices = [
        {"index": number, "text": text, "finish_reason": "stop"}
        | ({"logprobs": logprobs} if body.get("logprobs") is not None else {})
        for number in range(_prompts(body) * body.get("n", 1))
    ]
    if body.get("stream"):
        return _events({"id": "x", "choices": choices}, {"id": "x", "choices": [], "usage": USED})
    return _json({"id": "x", "object": "text_completion", "created": 1, "choices": choices, "usage": USED})


def _embeddings(body: Body) -> tuple[str, bytes]:
    numbers = [0.5] * (body.get("dimensions") or body.get("output_dimension") or 4)
    given = body["input"]
    count = len(given) if isinstance(given, list) and not isinstance(given[0], int) else 1
    packed = base64.b64encode(struct.pack(f"<{len(numbers)}f", *numbers)).decode()
    told = packed if body.get("encoding_format") == "base64" else numbers
    return _json({"data": [{"index": index, "embedding": told} for index in range(count)], "usage": USED})


def _images(body: Body) -> tuple[str, bytes]:
    used = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    if body.get("stream"):
        partial = [{"type": "image_generation.partial_image", "b64_json": PNG, "partial_image_index": 0}]
        done = {"type": "image_generation.completed", "b64_json": PNG, "usage": used}
        return _events(*(partial if body.get("partial_images") else []), done, named=True, done=False)
    return _json({"created": 1, "data": [{"b64_json": PNG}] * body.get("n", 1), "usage": used})


def _speech(body: Body) -> tuple[str, bytes]:
    if body.get("stream_format") != "sse":
        return "audio/mpeg", b"sound"
    used = {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}
    delta = {"type": "speech.audio.delta", "audio": "AAEC"}
    return _events(delta, {"type": "speech.audio.done", "usage": used}, named=True, done=False)


def _messages(body: Body) -> tuple[str, bytes]:
    """As Anthropic answers."""
    blocks = [{"type": "tool_use", "id": f"toolu_{place}", "name": name} for place, name in enumerate(_uses(body))]
    reason = "tool_use" if blocks else "end_turn"
    return _events(
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        *(event for place, block in enumerate(blocks or [{"type": "text"}]) for event in _block(place, block, body)),
        {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
        named=True,
        done=False,
    )


def _uses(body: Body) -> list[str]:
    named = [each["name"] for each in body.get("tools", ())]
    chosen = body.get("tool_choice", {"type": "auto"})
    if chosen["type"] == "tool":
        return [chosen["name"]]
    if chosen["type"] == "any":
        return named[:1]
    return named * 2 if CALLS in json.dumps(body["messages"]) and chosen["type"] == "auto" else []


def _block(place: int, block: Body, body: Body) -> Iterator[Body]:
    if block["type"] == "text":
        delta = {"type": "text_delta", "text": _text(body)}
        yield {"type": "content_block_start", "index": place, "content_block": {"type": "text", "text": ""}}
    else:
        answered = next((tool["input_schema"] for tool in body["tools"] if tool["name"] == block["name"]), {})
        chooses = "choice" in answered.get("properties", {})
        given = {"choice": answered["properties"]["choice"]["enum"][0]} if chooses else {"a": "b"}
        delta = {"type": "input_json_delta", "partial_json": json.dumps(given)}
        yield {"type": "content_block_start", "index": place, "content_block": block | {"input": {}}}
    yield {"type": "content_block_delta", "index": place, "delta": delta}
    yield {"type": "content_block_stop", "index": place}


_BY_PATH = {
    "/chat/completions": _chat,
    "/completions": _completions,
    "/embeddings": _embeddings,
    "/images/generations": _images,
    "/audio/speech": _speech,
    "/messages": _messages,
}
