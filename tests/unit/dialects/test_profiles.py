"""Profiles: what they refuse, what they fill in, and what they leave alone."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.keys import PROFILES as NAMES
from narthex.core.ports import Decoded
from narthex.dialects import openai_chat
from narthex.dialects.profiles import PROFILES

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]
MARK = "prompt_cache_breakpoint"
UNKNOWN, VALUE, TYPE = "unknown_parameter", "invalid_value", "invalid_type"


def tool(kind: str = "function") -> dict[str, Any]:
    return {"type": kind, kind: {"name": "f"}}


def message(role: str, content: Any = "a") -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content}]}


FILE = {"type": "file", "file": {"file_id": "f"}}
SCHEMA = {"response_format": {"type": "json_schema", "json_schema": {"name": "s"}}}
CACHED = tool() | {"cache_control": {"type": "ephemeral"}}
CUSTOM_CALL = {
    "role": "assistant", "tool_calls": [{"id": "c", "type": "custom", "custom": {"name": "f", "input": ""}}]
}  # fmt: skip
FUNCTION_CALL = {
    "role": "assistant", "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]
}  # fmt: skip
MARKED = {"type": "text", "text": "a", "prompt_cache_breakpoint": {"mode": "explicit"}}
TYPED_IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA", "media_type": "image/png"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [tool()]}}


def test_there_is_a_row_for_each_profile_that_a_key_may_have() -> None:
    assert set(PROFILES) == set(NAMES)


def test_rows_name_only_fields_that_there_are() -> None:
    known = openai_chat.FIELDS.keys()
    for surfaces in PROFILES.values():
        row = surfaces.get("chat")
        if row is not None:
            assert known >= (row.only or set()) | row.refused | row.narrower.keys() | row.defaults.keys() | row.unless


REFUSED: list[tuple[str, str, dict[str, Any], str, str]] = [
    # thyris: the 29 fields of its document, with the values of its time
    ("thyris", "chat", {"reasoning_effort": "low"}, UNKNOWN, "reasoning_effort"),
    ("thyris", "chat", {"verbosity": "low"}, UNKNOWN, "verbosity"),
    ("thyris", "chat", {"safety_identifier": "s"}, UNKNOWN, "safety_identifier"),
    ("thyris", "chat", {"guided_json": {}}, UNKNOWN, "guided_json"),
    ("thyris", "chat", message("developer"), VALUE, "messages[0].role"),
    ("thyris", "chat", message("user", [{"type": "text", "text": "a"}, FILE]), VALUE, "messages[0].content[1].type"),
    ("thyris", "chat", message("user", FILE), VALUE, "messages[0].content.type"),
    ("thyris", "chat", {"tools": [tool("custom")]}, VALUE, "tools[0].type"),
    ("thyris", "chat", {"messages": [CUSTOM_CALL]}, VALUE, "messages[0].tool_calls[0].type"),
    ("thyris", "chat", {"tools": [CACHED]}, UNKNOWN, "tools[0].cache_control"),
    ("thyris", "chat", message("user", [MARKED]), UNKNOWN, "messages[0].content[0].prompt_cache_breakpoint"),
    ("thyris", "chat", message("user", TYPED_IMAGE), UNKNOWN, "messages[0].content.image_url.media_type"),
    ("thyris", "chat", {"tools": [tool()], "tool_choice": ALLOWED}, VALUE, "tool_choice.type"),
    ("thyris", "chat", {"service_tier": "flex"}, VALUE, "service_tier"),
    ("thyris", "chat", {"service_tier": "scale"}, VALUE, "service_tier"),
    ("thyris", "chat", {"audio": {"voice": "alloy", "format": "aac"}}, VALUE, "audio.format"),
    ("thyris", "chat", {"audio": {"voice": {"id": "v"}, "format": "wav"}}, TYPE, "audio.voice"),
    ("thyris", "chat", {"stream": True, "stream_options": {"include_obfuscation": True}}, UNKNOWN,
     "stream_options.include_obfuscation"),
    ("thyris", "chat", {"top_p": -1}, "decimal_below_min_value", "top_p"),
    # ionos
    ("ionos", "chat", {"stop": "a"}, TYPE, "stop"),
    ("ionos", "completions", {"stop": "a"}, TYPE, "stop"),
    ("ionos", "completions", {"prompt": ["a"]}, TYPE, "prompt"),
    ("ionos", "completions", {"prompt": [1]}, TYPE, "prompt"),
    ("ionos", "completions", {"prompt": [[1]]}, TYPE, "prompt"),
    ("ionos", "embeddings", {"input": [1]}, TYPE, "input[0]"),
    ("ionos", "embeddings", {"input": [[1]]}, TYPE, "input[0]"),
    # oxy
    ("oxy", "chat", {"n": 3}, "integer_above_max_value", "n"),
    ("oxy", "completions", {"n": 3}, "integer_above_max_value", "n"),
    ("oxy", "chat", {"logprobs": True, "top_logprobs": 6}, "integer_above_max_value", "top_logprobs"),
    ("oxy", "chat", {"tools": [tool()], "tool_choice": "required"}, VALUE, "tool_choice"),
    ("oxy", "chat", {"tools": [tool()], "tool_choice": ALLOWED}, VALUE, "tool_choice.type"),
    ("oxy", "chat", {"tools": [tool("custom")]}, VALUE, "tools[0].type"),
    ("oxy", "chat", {"messages": [CUSTOM_CALL]}, VALUE, "messages[0].tool_calls[0].type"),
    ("oxy", "chat", SCHEMA, VALUE, "response_format.type"),
    ("oxy", "chat", message("developer"), VALUE, "messages[0].role"),
    ("oxy", "chat", {"top_p": -1}, "decimal_below_min_value", "top_p"),
    ("oxy", "chat", {"stream": True, "stream_options": {}}, UNKNOWN, "stream_options"),
    ("oxy", "chat", {"max_completion_tokens": 5}, UNKNOWN, "max_completion_tokens"),
    ("oxy", "chat", {"parallel_tool_calls": True}, UNKNOWN, "parallel_tool_calls"),
    ("oxy", "chat", {"service_tier": "auto"}, UNKNOWN, "service_tier"),
    ("oxy", "chat", {"store": False}, UNKNOWN, "store"),
    ("oxy", "chat", {"metadata": {}}, UNKNOWN, "metadata"),
    ("oxy", "chat", {"modalities": ["text"]}, UNKNOWN, "modalities"),
    ("oxy", "chat", {"audio": {"voice": "alloy", "format": "wav"}}, UNKNOWN, "audio"),
    ("oxy", "chat", {"prediction": {"type": "content", "content": "a"}}, UNKNOWN, "prediction"),
]  # fmt: skip


@pytest.mark.parametrize(("profile", "surface", "fields", "code", "param"), REFUSED)
def test_a_profile_refuses_what_everybody_else_may_send(
    profile: str, surface: str, fields: dict[str, Any], code: str, param: str, refuse: Refuse
) -> None:
    assert refuse(surface, fields, profile=profile) == (code, param)
    assert refuse(surface, fields, profile=profile, strict=False) == (code, param)
    assert refuse(surface, fields) == (None, None)


TAKEN: list[tuple[str, str, dict[str, Any]]] = [
    ("thyris", "chat", {
        "store": True, "metadata": {"a": "b"}, "frequency_penalty": 0, "presence_penalty": 0, "logit_bias": {"1": 2},
        "logprobs": True, "top_logprobs": 20, "max_tokens": 1, "max_completion_tokens": 1, "n": 128,
        "modalities": ["text", "audio"], "prediction": {"type": "content", "content": "a"},
        "audio": {"voice": "verse", "format": "pcm16"}, "seed": 1, "service_tier": "default", "stop": "a",
        "stream": True, "stream_options": {"include_usage": True}, "temperature": 2, "top_p": 1, "tools": [tool()],
        "tool_choice": "required", "parallel_tool_calls": True, "user": "u",
    } | SCHEMA),
    ("thyris", "chat", {"functions": [{"name": "f"}], "function_call": "auto"}),
    ("thyris", "chat", {"tools": [tool()], "tool_choice": tool()}),
    ("thyris", "chat", {"reasoning_effort": None}),
    ("thyris", "chat", message("user", [{"type": "image_url", "image_url": {"url": "u"}}])),
    ("thyris", "chat", {"messages": [{"role": "assistant", "content": None, "refusal": "no", "annotations": []}]}),
    ("thyris", "chat", {"messages": [FUNCTION_CALL, {"role": "user", "content": [MARKED | {MARK: None}]}]}),
    ("thyris", "completions", {"suffix": "x"}),
    ("ionos", "chat", {"stop": [], "top_p": -1, "n": 5, "stream_options": None} | SCHEMA),
    ("ionos", "completions", {"prompt": "a", "stop": ["a"], "top_p": -1}),
    ("ionos", "completions", {"prompt": None}),
    ("ionos", "embeddings", {"input": ["a", "b"], "encoding_format": "base64"}),
    ("ionos", "embeddings", {"input": "a"}),
    ("oxy", "chat", {"n": 2, "logprobs": True, "top_logprobs": 5, "tools": [tool()], "tool_choice": "auto"}),
    ("oxy", "chat", {"response_format": {"type": "json_object"}, "tools": [tool()], "tool_choice": tool(), "n": None}),
    ("oxy", "chat", {"max_completion_tokens": None, "stop": "a", "max_tokens": 5, "top_p": 0}),
    ("oxy", "chat", message("user", FILE)),
    ("oxy", "embeddings", {"input": [1], "dimensions": 5}),
]  # fmt: skip


@pytest.mark.parametrize(("profile", "surface", "fields"), TAKEN)
def test_a_profile_takes_what_its_document_has(
    profile: str, surface: str, fields: dict[str, Any], refuse: Refuse
) -> None:
    assert refuse(surface, fields, profile=profile) == (None, None)


@pytest.mark.parametrize(
    ("fields", "limit", "forwarded"),
    [
        ({}, 16, {"max_tokens": 16}),
        ({"max_tokens": None, "max_completion_tokens": None}, 16, {"max_tokens": 16}),
        ({"max_tokens": 5}, 5, {"max_tokens": 5}),
        ({"max_completion_tokens": 7}, 7, {"max_completion_tokens": 7}),
        ({"max_tokens": 5, "max_completion_tokens": 7}, 7, {"max_tokens": 5, "max_completion_tokens": 7}),
    ],
)
def test_a_default_never_competes_with_what_was_sent(
    fields: dict[str, Any], limit: int, forwarded: dict[str, int], decode: Decode
) -> None:
    request = decode("chat", fields, profile="ionos").request
    assert request.sampling.max_tokens == limit
    limits = {name: json.loads(bytes(raw)) for name, raw in request.sent.items() if name.startswith("max")}
    assert limits == forwarded
    assert request.fields.keys() == request.sent.keys()


@pytest.mark.parametrize("profile", ["openai", "thyris", "oxy"])
def test_others_have_no_limit_of_their_own(profile: str, decode: Decode) -> None:
    assert decode("chat", {}, profile=profile).request.sampling.max_tokens is None
    assert decode("completions", {}, profile=profile).request.sampling.max_tokens == 16
