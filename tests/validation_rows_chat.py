"""Rows of the fields that only chat has, tools and messages excepted. Source: contract sections 1.2, 9 and 11."""

from collections.abc import Iterator
from typing import Any

from tests.validation_rows import (
    ABSENT,
    ANY,
    CHAT,
    EMPTY,
    HIGH_INT,
    LONG_TEXT,
    LOW_INT,
    MISSING,
    TYPE,
    UNKNOWN,
    UNSUPPORTED,
    UNSUPPORTED_VALUE,
    VALUE,
    Row,
)

SOUND = {"voice": "alloy", "format": "wav"}


def _booleans() -> Iterator[Row]:
    for name in ("store", "logprobs", "parallel_tool_calls"):
        yield from CHAT.bad(name, TYPE, 0, "false", "")
        yield from CHAT.types(name, "boolean")
        yield from CHAT.optional(name)
        yield from CHAT.ok(name, False)
    yield from CHAT.ok("logprobs", True)
    yield from CHAT.ok("parallel_tool_calls", True)
    yield from CHAT.ok("store", True)


def _logprobs() -> Iterator[Row]:
    name = "top_logprobs"
    yield from CHAT.ok(name, 0, 1, 20, None, ABSENT, 2.0, logprobs=True)
    yield from CHAT.ok(name, 2, logprobs=True, stream=True)
    yield from CHAT.ok(name, None, logprobs=False)
    yield from CHAT.bad(name, HIGH_INT, 21, 10**6, logprobs=True)
    yield from CHAT.bad(name, LOW_INT, -1, -2, logprobs=True)
    yield from CHAT.types(name, "integer", logprobs=True)
    for logprobs in (ABSENT, None, False):
        yield from CHAT.bad(name, VALUE, 0, 1, 20, logprobs=logprobs)
    yield from CHAT.optional(name)


def _metadata() -> Iterator[Row]:
    name = "metadata"
    yield from CHAT.ok(name, {}, {"a": "b"}, {"": ""}, {"k" * 64: "v" * 512}, {"é" * 64: "☃" * 512})
    yield from CHAT.ok(name, {f"k{i}": "v" for i in range(16)})
    yield from CHAT.bad(name, ANY, {f"k{i}": "v" for i in range(17)}, {f"k{i}": "v" for i in range(1000)})
    yield from CHAT.bad(name, LONG_TEXT, {"k" * 65: "v"}, {"é" * 65: "v"}, {"k" * 10_000: "v"}, param=name)
    yield from CHAT.bad(name, LONG_TEXT, {"k": "v" * 513}, {"k": "é" * 513}, param="metadata.k")
    yield from CHAT.bad(name, TYPE, *({"k": x} for x in (1, 1.5, True, None, ["v"], {"a": "b"})), param="metadata.k")
    yield from CHAT.types(name, "object")
    yield from CHAT.optional(name)


def _texts() -> Iterator[Row]:
    for name in ("safety_identifier", "prompt_cache_key"):
        yield from CHAT.ok(name, "", "a", "x" * 64, "☃" * 64)
        yield from CHAT.types(name, "text")
        yield from CHAT.optional(name)
    yield from CHAT.bad("safety_identifier", LONG_TEXT, "x" * 65, "☃" * 65, "x" * 10_000)
    yield from CHAT.ok("prompt_cache_key", "x" * 1000)


def _choices() -> Iterator[Row]:
    efforts = ("none", "minimal", "low", "medium", "high", "xhigh", "max")
    for name, values, code in (
        ("service_tier", ("auto", "default", "flex", "scale", "priority", "fast"), None),
        ("reasoning_effort", efforts, UNSUPPORTED),
        ("verbosity", ("low", "medium", "high"), UNSUPPORTED),
        ("prompt_cache_retention", ("in_memory", "24h"), None),
    ):
        if code is None:
            yield from CHAT.ok(name, *values)
        else:
            yield from CHAT.bad(name, code, *values)
        yield from CHAT.bad(name, VALUE, "", "gold", values[-1].upper(), f"{values[0]} ", f" {values[0]}")
        yield from CHAT.types(name, "text")
        yield from CHAT.optional(name)


def _cache_options() -> Iterator[Row]:
    name = "prompt_cache_options"
    yield from CHAT.ok(name, {}, {"ttl": "30m"}, {"mode": "implicit"}, {"mode": "explicit", "ttl": "30m"})
    yield from CHAT.ok(name, {"ttl": None, "mode": None})
    yield from CHAT.each(name, [
        ({"ttl": "1h"}, VALUE, ".ttl"), ({"ttl": 30}, TYPE, ".ttl"),
        ({"mode": "auto"}, VALUE, ".mode"), ({"mode": True}, TYPE, ".mode"), ({"zzz": 1}, UNKNOWN, ".zzz"),
    ])  # fmt: skip
    yield from CHAT.types(name, "object")
    yield from CHAT.optional(name)


def _modalities() -> Iterator[Row]:
    name = "modalities"
    yield from CHAT.ok(name, ["text"])
    yield from CHAT.bad(name, UNSUPPORTED_VALUE, ["audio"], ["text", "audio"], ["audio", "text"], audio=SOUND)
    yield from CHAT.bad(name, MISSING, ["audio"], ["text", "audio"], param="audio")
    yield from CHAT.bad(name, MISSING, ["audio"], param="audio", audio=None)
    yield from CHAT.each(name, [
        ([], EMPTY, ""), (["video"], VALUE, "[0]"), (["text", "video"], VALUE, "[1]"), (["Text"], VALUE, "[0]"),
        ([1], TYPE, "[0]"), ([None], TYPE, "[0]"), (["text", ["text"]], TYPE, "[1]"),
    ])  # fmt: skip
    yield from CHAT.types(name, "array")
    yield from CHAT.optional(name)


def _audio() -> Iterator[Row]:
    name = "audio"
    for voice in ("alloy", "ash", "ballad", "coral", "echo", "sage", "shimmer", "verse", {"id": "v"}):
        yield from CHAT.ok(name, SOUND | {"voice": voice})
    for kind in ("aac", "mp3", "flac", "opus", "pcm16"):
        yield from CHAT.ok(name, SOUND | {"format": kind})
    yield from CHAT.ok(name, SOUND, modalities=["text"])
    yield from CHAT.each(name, [
        ({}, MISSING, ".voice"), ({"voice": "alloy"}, MISSING, ".format"), ({"format": "wav"}, MISSING, ".voice"),
        (SOUND | {"voice": "nova"}, VALUE, ".voice"), (SOUND | {"voice": 1}, TYPE, ".voice"),
        (SOUND | {"voice": None}, TYPE, ".voice"), (SOUND | {"voice": {}}, MISSING, ".voice.id"),
        (SOUND | {"voice": {"id": 1}}, TYPE, ".voice.id"), (SOUND | {"format": "ogg"}, VALUE, ".format"),
        (SOUND | {"format": "WAV"}, VALUE, ".format"), (SOUND | {"format": 1}, TYPE, ".format"),
        (SOUND | {"format": None}, TYPE, ".format"), (SOUND | {"zzz": 1}, UNKNOWN, ".zzz"),
    ])  # fmt: skip
    yield from CHAT.types(name, "object")
    yield from CHAT.optional(name)


def _prediction() -> Iterator[Row]:
    name = "prediction"

    def content(value: Any) -> dict[str, Any]:
        return {"type": "content", "content": value}

    yield from CHAT.ok(name, content("a"), content([{"type": "text", "text": "a"}]))
    yield from CHAT.each(name, [
        ({}, MISSING, ".type"), ({"type": "content"}, MISSING, ".content"), ({"content": "a"}, MISSING, ".type"),
        ({"type": "text", "content": "a"}, VALUE, ".type"), ({"type": 1, "content": "a"}, TYPE, ".type"),
        (content(1), TYPE, ".content"), (content(None), TYPE, ".content"), (content([]), EMPTY, ".content"),
        (content({}), TYPE, ".content"), (content(["a"]), TYPE, ".content[0]"),
        (content([{"type": "text"}]), MISSING, ".content[0].text"),
        (content([{"text": "a"}]), MISSING, ".content[0].type"),
        (content([{"type": "image_url", "text": "a"}]), VALUE, ".content[0].type"),
        (content([{"type": "text", "text": 1}]), TYPE, ".content[0].text"),
        (content("a") | {"zzz": 1}, UNKNOWN, ".zzz"),
    ])  # fmt: skip
    yield from CHAT.types(name, "object")
    yield from CHAT.optional(name)


def _search() -> Iterator[Row]:
    name, where = "web_search_options", "user_location"
    place = {"type": "approximate", "approximate": {"country": "DE", "city": "Berlin"}}
    yield from CHAT.bad(name, UNSUPPORTED, {}, {"search_context_size": "low"}, {where: place}, {where: None})
    yield from CHAT.each(name, [
        ({"search_context_size": "huge"}, VALUE, ".search_context_size"),
        ({"search_context_size": 1}, TYPE, ".search_context_size"), ({where: {}}, MISSING, ".user_location.type"),
        ({where: {"type": "approximate"}}, MISSING, ".user_location.approximate"),
        ({where: place | {"type": "exact"}}, VALUE, ".user_location.type"), ({where: "Berlin"}, TYPE, ".user_location"),
        ({where: place | {"approximate": {"city": 1}}}, TYPE, ".user_location.approximate.city"),
        ({where: place | {"approximate": {"zip": "1"}}}, UNKNOWN, ".user_location.approximate.zip"),
        ({"zzz": 1}, UNKNOWN, ".zzz"),
    ])  # fmt: skip
    yield from CHAT.types(name, "object")
    yield from CHAT.optional(name)


def _moderation() -> Iterator[Row]:
    name, model = "moderation", {"model": "m"}
    yield from CHAT.bad(name, UNSUPPORTED, model, model | {"policy": {"input": {"mode": "block"}}})
    yield from CHAT.each(name, [
        ({}, MISSING, ".model"), ({"model": None}, TYPE, ".model"), ({"model": 1}, TYPE, ".model"),
        (model | {"policy": "block"}, TYPE, ".policy"),
        (model | {"policy": {"input": {"mode": "x"}}}, VALUE, ".policy.input.mode"),
        (model | {"policy": {"output": {"mode": 1}}}, TYPE, ".policy.output.mode"),
        (model | {"policy": {"both": {}}}, UNKNOWN, ".policy.both"), (model | {"zzz": 1}, UNKNOWN, ".zzz"),
    ])  # fmt: skip
    yield from CHAT.types(name, "object")
    yield from CHAT.optional(name)


def _response_format() -> Iterator[Row]:
    name, at = "response_format", ".json_schema"
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "additionalProperties": False}

    def formed(**fields: Any) -> dict[str, Any]:
        fields = {"name": "s", "schema": schema} | fields
        return {"type": "json_schema", "json_schema": {k: v for k, v in fields.items() if v is not ABSENT}}

    yield from CHAT.ok(name, {"type": "text"}, {"type": "json_object"}, formed(), formed(schema=ABSENT))
    yield from CHAT.ok(name, {"type": "json_object"}, formed(), stream=True)
    yield from CHAT.ok(name, formed(name="x" * 64), formed(name="aZ_-09"), formed(description="d"))
    yield from CHAT.ok(name, *(formed(strict=strict) for strict in (True, False, None)), formed(description=None))
    yield from CHAT.each(name, [
        ({}, MISSING, ".type"), ({"type": "json"}, VALUE, ".type"), ({"type": "TEXT"}, VALUE, ".type"),
        ({"type": 1}, TYPE, ".type"), ({"type": ["text"]}, TYPE, ".type"), ({"type": None}, ANY, ".type"),
        ({"type": "text", "zzz": 1}, UNKNOWN, ".zzz"), ({"type": "json_object", "json_schema": {}}, UNKNOWN, at),
        ({"type": "json_schema"}, MISSING, at), ({"type": "json_schema", "json_schema": None}, TYPE, at),
        ({"type": "json_schema", "json_schema": "s"}, TYPE, at),
        ({"type": "json_schema", "schema": {}}, UNKNOWN, ".schema"),
        (formed(name=ABSENT), MISSING, f"{at}.name"), (formed(name=None), TYPE, f"{at}.name"),
        (formed(name=1), TYPE, f"{at}.name"), (formed(name=True), TYPE, f"{at}.name"),
        (formed(name=""), VALUE, f"{at}.name"), (formed(name="x" * 65), LONG_TEXT, f"{at}.name"),
        *((formed(name=odd), VALUE, f"{at}.name") for odd in ("a b", "a.b", "é", "a/b", "a\n", " a")),
        *((formed(schema=odd), TYPE, f"{at}.schema") for odd in ("{}", 1, True, [], [{}])),
        *((formed(strict=odd), TYPE, f"{at}.strict") for odd in (1, 0, "true", [], {})),
        *((formed(description=odd), TYPE, f"{at}.description") for odd in (1, True, [], {})),
        (formed(zzz=1), UNKNOWN, f"{at}.zzz"), (formed(Strict=True), UNKNOWN, f"{at}.Strict"),
    ])  # fmt: skip
    yield from CHAT.types(name, "object")
    yield from CHAT.optional(name)


def _foreign() -> Iterator[Row]:
    """Fields of the older endpoint, and one that few engines have; what asks for nothing passes."""
    yield from CHAT.ok("best_of", 1, None)
    yield from CHAT.ok("echo", False, None)
    yield from CHAT.bad("prompt", UNKNOWN, "a")
    yield from CHAT.bad("suffix", UNSUPPORTED, "a")
    yield from CHAT.ok("suffix", "", None)


def rows() -> Iterator[Row]:
    for part in (
        _booleans, _logprobs, _metadata, _texts, _choices, _cache_options, _modalities, _audio, _prediction, _search,
        _moderation, _response_format, _foreign,
    ):  # fmt: skip
        yield from part()
