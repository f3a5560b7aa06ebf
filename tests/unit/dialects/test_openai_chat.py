"""`/v1/chat/completions`, requests: every field at its bounds and of every wrong type; what may stand together."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from narthex.core.chat import ChatRequest, StreamOptions
from narthex.core.errors import InvalidRequest
from narthex.core.ports import Decoded
from narthex.dialects.openai_chat import FIELDS, ChatDialect

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]

SAMPLES: dict[str, Any] = {
    "boolean": True, "integer": 3, "decimal": 0.5, "string": "x", "array": [], "object": {},
}  # fmt: skip
KINDS: dict[str, set[str]] = {
    "model": {"string"}, "messages": {"array"}, "store": {"boolean"}, "metadata": {"object"},
    "frequency_penalty": {"integer", "decimal"}, "presence_penalty": {"integer", "decimal"}, "logit_bias": {"object"},
    "logprobs": {"boolean"}, "top_logprobs": {"integer"}, "max_tokens": {"integer"},
    "max_completion_tokens": {"integer"}, "n": {"integer"}, "modalities": {"array"}, "prediction": {"object"},
    "audio": {"object"}, "response_format": {"object"}, "seed": {"integer"}, "service_tier": {"string"},
    "stop": {"string", "array"}, "stream": {"boolean"}, "stream_options": {"object"},
    "temperature": {"integer", "decimal"}, "top_p": {"integer", "decimal"}, "tools": {"array"},
    "tool_choice": {"string", "object"}, "parallel_tool_calls": {"boolean"}, "user": {"string"},
    "function_call": {"string", "object"}, "functions": {"array"}, "reasoning_effort": {"string"},
    "verbosity": {"string"}, "web_search_options": {"object"}, "safety_identifier": {"string"},
    "prompt_cache_key": {"string"}, "prompt_cache_retention": {"string"}, "prompt_cache_options": {"object"},
    "moderation": {"object"},
}  # fmt: skip


def test_the_table_holds_every_field() -> None:
    assert KINDS.keys() == FIELDS.keys()


@pytest.mark.parametrize("field", KINDS)
@pytest.mark.parametrize("kind", SAMPLES)
def test_a_wrong_type_is_told(field: str, kind: str, refuse: Refuse) -> None:
    expected = ("invalid_type", field)
    assert (refuse("chat", {field: SAMPLES[kind]}) == expected) is (kind not in KINDS[field])


@pytest.mark.parametrize("field", sorted(KINDS.keys() - {"model", "messages"}))
def test_null_is_as_absent(field: str, decode: Decode) -> None:
    request = decode("chat", {field: None}).request
    assert request.fields.keys() == request.sent.keys() == {"model", "messages"}


@pytest.mark.parametrize("field", ["model", "messages"])
def test_required_fields_are_required(field: str, refuse: Refuse) -> None:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    del body[field]
    with pytest.raises(InvalidRequest) as caught:
        ChatDialect().decode(json.dumps(body).encode(), profile="openai", strict=True)
    assert (caught.value.code, caught.value.param) == ("missing_required_parameter", field)
    assert refuse("chat", {field: None}) == ("invalid_type", field)


SEED = 9_223_372_036_854_776_000
BOUNDS: list[tuple[str, Any, str | None]] = [
    *[(field, value, None) for field in ("frequency_penalty", "presence_penalty") for value in (-2, -2.0, 0, 1.5, 2)],
    *[(field, -2.1, "decimal_below_min_value") for field in ("frequency_penalty", "presence_penalty")],
    *[(field, 2.1, "decimal_above_max_value") for field in ("frequency_penalty", "presence_penalty")],
    ("temperature", -0.1, "decimal_below_min_value"), ("temperature", 0, None), ("temperature", 2, None),
    ("temperature", 2.1, "decimal_above_max_value"), ("temperature", "1", "invalid_type"),
    ("temperature", True, "invalid_type"), ("temperature", 10**18, "decimal_above_max_value"),
    ("top_p", 0, None), ("top_p", 1, None), ("top_p", -1, None), ("top_p", -1.0, None),
    ("top_p", -0.5, "decimal_below_min_value"), ("top_p", 1.01, "decimal_above_max_value"),
    ("n", 0, "integer_below_min_value"), ("n", 1, None), ("n", 1.0, None), ("n", 128, None),
    ("n", 129, "integer_above_max_value"), ("n", 1.5, "invalid_type"), ("n", 10**30, "integer_above_max_value"),
    ("max_tokens", 0, "integer_below_min_value"), ("max_tokens", 1, None), ("max_tokens", 2**63 - 1, None),
    ("max_tokens", 1e300, "integer_above_max_value"), ("max_tokens", -1e300, "integer_below_min_value"),
    ("max_completion_tokens", 0, "integer_below_min_value"), ("max_completion_tokens", 1, None),
    ("seed", SEED, None), ("seed", -SEED, None), ("seed", SEED + 1, "integer_above_max_value"), ("seed", -1, None),
    ("seed", -SEED - 1, "integer_below_min_value"), ("seed", 10**30, "integer_above_max_value"),
    ("stop", "a", None), ("stop", ["a", "b", "c", "d"], None), ("stop", [], None),
    ("stop", ["a", "b", "c", "d", "e"], "array_above_max_length"), ("stop", "", "invalid_value"),
    ("model", "", "invalid_value"),
    ("service_tier", "auto", None), ("service_tier", "fast", None), ("service_tier", "Auto", "invalid_value"),
    ("safety_identifier", "s" * 64, None), ("safety_identifier", "s" * 65, "string_above_max_length"),
    ("metadata", {f"k{i}": "v" for i in range(16)}, None), ("metadata", {"k" * 64: "v" * 512}, None),
    ("metadata", {f"k{i}": "v" for i in range(17)}, "object_above_max_properties"),
    ("metadata", {"k" * 65: "v"}, "string_above_max_length"), ("metadata", {}, None),
    ("logit_bias", {"0": -100, "7": 100, "9": 1.0}, None), ("logit_bias", {}, None),
    ("logit_bias", {"a": 1}, "invalid_value"), ("logit_bias", {"-1": 1}, "invalid_value"),
    ("logit_bias", {"²": 1}, "invalid_value"), ("logit_bias", {"": 1}, "invalid_value"),
    ("logit_bias", {"1" * 11: 1}, "invalid_value"),
    ("modalities", ["text"], None), ("modalities", [], "empty_array"),
    ("reasoning_effort", "none", None), ("reasoning_effort", "most", "invalid_value"),
    ("verbosity", "low", None), ("verbosity", "", "invalid_value"),
    ("prediction", {"type": "content", "content": "abc"}, None),
    ("prediction", {"type": "content", "content": [{"type": "text", "text": "a"}]}, None),
    ("prompt_cache_retention", "24h", None), ("prompt_cache_options", {"ttl": "30m", "mode": "explicit"}, None),
    ("moderation", {"model": "m", "policy": {"input": {"mode": "score"}, "output": None}}, None),
    ("web_search_options", {"search_context_size": "low", "user_location": {"type": "approximate",
                                                                             "approximate": {"country": "DE"}}}, None),
    ("web_search_options", {}, None),
    ("audio", {"voice": "alloy", "format": "aac"}, None), ("audio", {"voice": {"id": "v"}, "format": "wav"}, None),
    ("store", False, None), ("parallel_tool_calls", False, None), ("user", "", None),
]  # fmt: skip


@pytest.mark.parametrize(("field", "value", "code"), BOUNDS)
def test_bounds(field: str, value: Any, code: str | None, refuse: Refuse) -> None:
    assert refuse("chat", {field: value}) == (code, field if code else None)


INSIDE: list[tuple[dict[str, Any], str, str]] = [
    ({"stop": ["a", ""]}, "invalid_value", "stop[1]"),
    ({"stop": [1]}, "invalid_type", "stop[0]"),
    ({"stop": [None]}, "invalid_type", "stop[0]"),
    ({"logit_bias": {"5": 101}}, "integer_above_max_value", "logit_bias.5"),
    ({"logit_bias": {"5": -101}}, "integer_below_min_value", "logit_bias.5"),
    ({"logit_bias": {"5": "1"}}, "invalid_type", "logit_bias.5"),
    ({"logit_bias": {"5": 0.5}}, "invalid_type", "logit_bias.5"),
    ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k"),
    ({"metadata": {"k": None}}, "invalid_type", "metadata.k"),
    ({"modalities": ["smell"]}, "invalid_value", "modalities[0]"),
    ({"modalities": ["text", "audio"]}, "missing_required_parameter", "audio"),
    ({"audio": {"voice": "hal", "format": "wav"}}, "invalid_value", "audio.voice"),
    ({"audio": {"voice": 1, "format": "wav"}}, "invalid_type", "audio.voice"),
    ({"audio": {"voice": "alloy"}}, "missing_required_parameter", "audio.format"),
    ({"audio": {"voice": "alloy", "format": "ogg"}}, "invalid_value", "audio.format"),
    ({"prediction": {"content": "a"}}, "missing_required_parameter", "prediction.type"),
    ({"prediction": {"type": "content", "content": []}}, "empty_array", "prediction.content"),
    ({"top_logprobs": 5}, "invalid_value", "top_logprobs"),
    ({"top_logprobs": 0, "logprobs": False}, "invalid_value", "top_logprobs"),
    ({"top_logprobs": 21, "logprobs": True}, "integer_above_max_value", "top_logprobs"),
    ({"top_logprobs": -1, "logprobs": True}, "integer_below_min_value", "top_logprobs"),
    ({"stream_options": {}}, "invalid_value", "stream_options"),
    ({"stream_options": {}, "stream": False}, "invalid_value", "stream_options"),
    ({"stream_options": {"include": True}, "stream": True}, "unknown_parameter", "stream_options.include"),
    ({"stream_options": {"include_usage": 1}, "stream": True}, "invalid_type", "stream_options.include_usage"),
    ({"moderation": {}}, "missing_required_parameter", "moderation.model"),
    ({"prompt_cache_options": {"TTL": "30m"}}, "unknown_parameter", "prompt_cache_options.TTL"),
]  # fmt: skip


@pytest.mark.parametrize(("fields", "code", "param"), INSIDE)
def test_what_is_wrong_inside_is_told_with_its_path(fields: Any, code: str, param: str, refuse: Refuse) -> None:
    assert refuse("chat", fields) == (code, param)


@pytest.mark.parametrize(
    "fields",
    [
        {"top_logprobs": 0, "logprobs": True},
        {"top_logprobs": 20, "logprobs": True},
        {"stream_options": None, "stream": False},
        {"stream_options": {"include_usage": None, "include_obfuscation": False}, "stream": True},
        {"modalities": ["text", "audio"], "audio": {"voice": "verse", "format": "pcm16"}},
        {"best_of": 3, "top_k": -1, "guided_json": {"type": "object"}, "chat_template": "x", "suffix": None},
    ],
)
def test_what_may_stand_together(fields: dict[str, Any], refuse: Refuse) -> None:
    assert refuse("chat", fields) == (None, None)


@pytest.mark.parametrize(
    "calls",
    [
        {"tools": [{"type": "function", "function": {"name": "f"}}], "tool_choice": "none"},
        {"functions": [{"name": "f"}], "function_call": "none"},
    ],
    ids=["tools", "functions"],
)
def test_the_best_is_chosen_where_nothing_is_called(calls: dict[str, Any], refuse: Refuse) -> None:
    assert refuse("chat", {"best_of": 2, **calls}) == (None, None)
    *_, choice = calls
    assert refuse("chat", {"best_of": 2, **calls, choice: "auto"}) == ("invalid_value", "best_of")


def test_a_request_is_read_whole(decode: Decode) -> None:
    fields = {
        "temperature": 1, "top_p": 0.5, "frequency_penalty": -1, "presence_penalty": 1, "seed": 7, "stop": "end",
        "n": 2, "max_tokens": 5, "max_completion_tokens": 9, "stream": True, "stream_options": {"include_usage": True},
        "service_tier": "flex",
    }  # fmt: skip
    request = decode("chat", fields).request
    assert isinstance(request, ChatRequest)
    assert request.sampling.max_tokens == 9
    assert request.sampling.stop == ("end",)
    assert (request.sampling.temperature, request.sampling.top_p, request.sampling.seed) == (1.0, 0.5, 7)
    assert (request.sampling.frequency_penalty, request.sampling.presence_penalty, request.sampling.n) == (-1, 1, 2)
    assert request.stream
    assert request.stream_options == StreamOptions(include_usage=True)
    assert request.service_tier == "flex"
    assert {name: json.loads(bytes(raw)) for name, raw in request.sent.items()} == {
        "model": "m", "messages": [{"role": "user", "content": "Hi"}], **fields,
    }  # fmt: skip


def test_the_older_limit_counts_alone(decode: Decode) -> None:
    assert decode("chat", {"max_tokens": 5, "max_completion_tokens": None}).request.sampling.max_tokens == 5
    assert decode("chat", {}).request.sampling.max_tokens is None


@pytest.mark.parametrize("fields", [{"top_p": -1}, {"top_p": -1.0}, {"stop": []}])
def test_a_value_that_means_not_used_is_as_absent(fields: dict[str, Any], decode: Decode) -> None:
    request = decode("chat", fields).request
    assert request.fields.keys() == request.sent.keys() == {"model", "messages"}


# --- unknown fields ------------------------------------------------------------------------------------------------


def test_an_unknown_field_is_refused_or_named(refuse: Refuse, decode: Decode) -> None:
    assert refuse("chat", {"colour": 1, "size": 2}) == ("unknown_parameter", "colour")
    decoded = decode("chat", {"colour": 1, "size": None}, strict=False)
    assert decoded.ignored == ("colour", "size")
    assert decoded.request.fields.keys() == decoded.request.sent.keys() == {"model", "messages"}


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("field", ["Temperature", "MAX_TOKENS", "Guided_json", "\u017ftream"])
def test_a_name_that_differs_by_case_is_always_refused(field: str, strict: bool, refuse: Refuse) -> None:
    assert refuse("chat", {"colour": 1, field: 1}, strict=strict) == ("unknown_parameter", field)


def test_a_lenient_key_does_not_get_any_number_of_fields_ignored(refuse: Refuse) -> None:
    many = {f"field{i}": 1 for i in range(101)}
    assert refuse("chat", many, strict=False) == ("unknown_parameter", "field100")
    del many["field100"]
    assert refuse("chat", many, strict=False) == (None, None)
    code, param = refuse("chat", {"f" * 1000: 1}, strict=False)
    assert (code, len(param or "")) == ("unknown_parameter", 200)


def test_a_body_that_is_no_json_has_no_code() -> None:
    for body in (b"", b"{", b"[]", b"null", b'"a"', b"\xff"):
        with pytest.raises(InvalidRequest) as caught:
            ChatDialect().decode(body, profile="openai", strict=True)
        assert (caught.value.code, caught.value.param, caught.value.status) == (None, None, 400)
