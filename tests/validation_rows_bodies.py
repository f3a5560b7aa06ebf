"""Rows of whole bodies, and of callers who have a profile or are lenient. Source: contract 1.9, 2, 5, 6, 8.2 and 11."""

from collections.abc import Iterator
from typing import Any

from tests.validation_rows import (
    ABSENT,
    ANY,
    CHAT,
    EMBED,
    HELLO,
    HIGH,
    HIGH_INT,
    LOW,
    LOW_INT,
    TEXT,
    TYPE,
    UNKNOWN,
    UNSUPPORTED,
    VALUE,
    WITHIN,
    Row,
    Surface,
)
from tests.validation_rows_tools import allowed, named, tool

MOST_BYTES = 16 * 1024 * 1024


def _padded(surface: Surface, size: int) -> bytes:
    body = surface.body()
    return body[:-1] + b" " * (size - len(body)) + b"}"


def _bodies(surface: Surface) -> Iterator[Row]:
    body = surface.body()
    for case, wrong in {
        "empty": b"", "blank": b" \n", "a word": b"hello", "cut": body[:-1], "cut in a name": body[:5], "null": b"null",
        "array": b"[" + body + b"]", "text": b'"a"', "number": b"1", "boolean": b"true", "two": body + body,
        "rest": body + b"x", "single quotes": body.replace(b'"', b"'"), "comma at the end": body[:-1] + b",}",
        "comment": b"/* a */" + body, "UTF-16": body.decode().encode("utf-16"),
        "not UTF-8": body[:-1] + b',"user":"\xff"}',
        "cut UTF-8": body[:-1] + b',"user":"\xe2\x98"}', "control character": body[:-1] + b',"user":"\x01"}',
        "NaN": body[:-1] + b',"user":NaN}', "leading zero": body[:-1] + b',"user":01}', "zero byte": body + b"\x00",
        "bad escape": body[:-1] + b',"user":"\\x41"}', "form": b"model=a&messages=b",
    }.items():  # fmt: skip
        yield surface.raw(case, wrong)
    yield surface.raw("same name twice", body[:-1] + b',"user":"a","user":"a"}', code=ANY, param="user")
    yield surface.raw("same name twice, escaped", body[:-1] + b',"user":"a","us\\u0065r":"b"}', code=ANY, param="user")
    yield surface.raw(
        "deep array", body[:-1] + b',"user":' + b"[" * 100_000 + b"]" * 100_000 + b"}", code=ANY, param=ANY
    )
    yield surface.raw(
        "deep object", body[:-1] + b',"user":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001, code=ANY, param=ANY
    )
    yield surface.raw("lone surrogate", body[:-1] + b',"user":"\\ud800"}', code=ANY, param=ANY)
    yield surface.raw("number past every float", body[:-1] + b',"user":1e999}', code=ANY, param=ANY)
    yield surface.raw("white space", b" \r\n\t" + body + b"\n", status=200)
    yield surface.raw("escaped name", body.replace(b'"model"', b'"\\u006dodel"'), status=200)
    yield surface.raw("largest", _padded(surface, MOST_BYTES), status=200)
    yield surface.raw("too large", _padded(surface, MOST_BYTES + 1), status=413, code="request_too_large")
    for media in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=a",
        "application/xml",
    ):
        yield surface.raw(media, body, status=415, code="unsupported_media_type", content_type=media)
    for media in ("application/json; charset=utf-8", "Application/JSON"):
        yield surface.raw(media, body, status=200, content_type=media)


def _samples() -> Iterator[Row]:
    """Published sample requests: as they are where they contradict their own text, and mended."""
    user = "user-1234"
    first = {
        "store": False, "metadata": {}, "frequency_penalty": 0, "logit_bias": None, "logprobs": False,
        "top_logprobs": 20,
        "max_tokens": 0, "max_completion_tokens": 0, "n": 1, "presence_penalty": 0, "seed": -9223372036854776000,
        "service_tier": "auto", "stop": None, "stream": False, "stream_options": None, "temperature": 1, "top_p": 1,
        "tool_choice": "none", "parallel_tool_calls": True,
    }  # fmt: skip
    mended = {"logprobs": True, "max_tokens": 1, "max_completion_tokens": 1}
    for key in ("openai", "thyris"):
        chat = CHAT.of(key)
        yield from chat.bad("user", ANY, user, param=ANY, **first)
        yield from chat.bad("user", VALUE, user, param="top_logprobs", **first | mended | {"logprobs": False})
        yield from chat.bad("user", LOW_INT, user, param="max_tokens", **first | mended | {"max_tokens": 0})
        yield from chat.ok("user", user, **first | mended)
    third = {"temperature": 0.7, "top_p": 0.9, "n": 1, "stream": False, "stop": [], "max_tokens": 1, "logit_bias": {}}
    for key in ("openai", "ionos"):
        yield from CHAT.of(key).ok("user", "user-123", presence_penalty=0, frequency_penalty=0, **third)
        yield from TEXT.of(key).ok("user", "user-123", presence_penalty=0, frequency_penalty=0, **third)


def _thyris() -> Iterator[Row]:
    chat = CHAT.of("thyris")
    for name, value in {
        "reasoning_effort": "low", "verbosity": "low", "web_search_options": {}, "safety_identifier": "a",
        "prompt_cache_key": "a", "prompt_cache_retention": "24h", "prompt_cache_options": {},
        "moderation": {"model": "m"},
        "top_k": 5, "best_of": 1, "guided_regex": "a", "zzz": 1,
    }.items():  # fmt: skip
        yield from chat.bad(name, UNKNOWN, value)
    yield from chat.ok("reasoning_effort", None)
    yield from chat.bad("messages", VALUE, [{"role": "developer", "content": "a"}], param="messages[0].role")
    file = {"role": "user", "content": [{"type": "file", "file": {"file_id": "f"}}]}
    yield from chat.bad("messages", VALUE, [file], param="messages[0].content[0].type")
    yield from chat.ok("messages", [{"role": "system", "content": "a"}, *HELLO])
    yield from chat.ok("top_p", 0, 1)
    yield from chat.bad("top_p", LOW, -1)
    yield from chat.ok("service_tier", "auto", "default", None)
    yield from chat.bad("service_tier", VALUE, "scale", "flex", "priority", "fast")
    options = "stream_options"
    yield from chat.ok(options, {"include_usage": True}, stream=True)
    yield from chat.bad(
        options, UNKNOWN, {"include_obfuscation": False}, param=f"{options}.include_obfuscation", stream=True
    )
    custom = {"type": "custom", "custom": {"name": "f"}}
    yield from chat.bad("tools", VALUE, [custom], param="tools[0].type")
    yield from chat.ok("tools", [tool()])
    yield from chat.ok("tool_choice", "none", "auto", "required", named("f"), tools=[tool()])
    yield from chat.bad("tool_choice", VALUE, allowed(named("f")), param="tool_choice.type", tools=[tool()])
    yield from chat.ok("audio", {"voice": "alloy", "format": "wav"})
    yield from chat.bad("audio", VALUE, {"voice": "alloy", "format": "aac"}, param="audio.format")
    yield from chat.bad("audio", TYPE, {"voice": {"id": "v"}, "format": "wav"}, param="audio.voice")
    yield from chat.ok("n", 128, temperature=0)


def _ionos() -> Iterator[Row]:
    chat, text, embed = CHAT.of("ionos"), TEXT.of("ionos"), EMBED.of("ionos")
    for surface in (chat, text):
        yield from surface.ok("stop", [], ["a"], ["a", "b", "c", "d"], None, ABSENT)
        yield from surface.bad("stop", TYPE, "a")
        yield from surface.ok("top_p", -1, 0.5, 1)
        yield from surface.bad("top_p", LOW, -0.5)
        yield from surface.bad("top_p", HIGH, 1.1)
        yield from surface.ok("max_tokens", ABSENT, None, 17)
    yield from chat.ok("max_completion_tokens", 17, max_tokens=ABSENT)
    yield from text.ok("prompt", "a")
    yield from text.bad("prompt", TYPE, ["a"], [5], [[5]])
    yield from embed.ok("input", "a", ["a", "b"])
    yield from embed.bad("input", TYPE, [5], [[5]], param=f"input{WITHIN}")
    yield from chat.ok("messages", [{"role": "developer", "content": "a"}, *HELLO])
    yield from chat.ok("tool_choice", "required", tools=[tool()])


def _oxy() -> Iterator[Row]:
    chat, text = CHAT.of("oxy"), TEXT.of("oxy")
    for surface in (chat, text):
        yield from surface.ok("n", 1, 2)
        yield from surface.bad("n", HIGH_INT, 3, 128, 129)
        yield from surface.bad("n", LOW_INT, 0)
    yield from chat.ok("top_logprobs", 0, 5, logprobs=True)
    yield from chat.bad("top_logprobs", HIGH_INT, 6, 20, 21, logprobs=True)
    yield from chat.ok("tool_choice", "none", "auto", named("f"), tools=[tool()])
    yield from chat.bad("tool_choice", VALUE, "required", tools=[tool()])
    yield from chat.bad("tool_choice", VALUE, allowed(named("f")), param="tool_choice.type", tools=[tool()])
    yield from chat.bad("tools", VALUE, [{"type": "custom", "custom": {"name": "f"}}], param="tools[0].type")
    yield from chat.ok("response_format", {"type": "text"}, {"type": "json_object"})
    schema = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}
    yield from chat.bad("response_format", VALUE, schema, param="response_format.type")
    yield from chat.bad("messages", VALUE, [{"role": "developer", "content": "a"}], param="messages[0].role")
    absent: dict[str, Any] = {
        "stream_options": {"include_usage": True}, "max_completion_tokens": 1, "parallel_tool_calls": True,
        "service_tier": "auto", "store": False, "metadata": {}, "modalities": ["text"],
        "audio": {"voice": "alloy", "format": "wav"}, "prediction": {"type": "content", "content": "a"},
    }  # fmt: skip
    for name, value in absent.items():
        yield from chat.bad(name, ANY, value, stream=True)
        yield from chat.ok(name, None)
    yield from chat.ok("functions", [{"name": "f"}], function_call="auto")


def _lenient() -> Iterator[Row]:
    """Only unknown names pass; everything that is known is checked as ever."""
    for surface, dropped in ((CHAT, "input"), (TEXT, "messages"), (EMBED, "stream")):
        lenient = surface.of("lenient")
        yield from lenient.ok(dropped, 1, None, {"a": [1]})
        yield from lenient.ok("zzz", 1)
        yield from lenient.bad("Model", UNKNOWN, "a")
        yield from lenient.bad("uSER", UNKNOWN, "a")
        yield from lenient.bad("model", TYPE, 1)
        yield from lenient.bad("user", TYPE, 1, zzz=1)
    yield from CHAT.of("lenient").bad("early_stopping", UNSUPPORTED, True)
    yield from CHAT.of("lenient").bad("messages", UNKNOWN, [HELLO[0] | {"zzz": 1}], param="messages[0].zzz")


def rows() -> Iterator[Row]:
    for surface in (CHAT, TEXT, EMBED):
        yield from _bodies(surface)
    for part in (_samples, _thyris, _ionos, _oxy, _lenient):
        yield from part()
