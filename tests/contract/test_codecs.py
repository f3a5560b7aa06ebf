"""What every row of the table of presets has to do, on every surface that it serves."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pytest

from narthex.core.capabilities import Capabilities, Limited, State, Verdict, refusal, state_of
from narthex.core.completions import OTHER_NAMES
from narthex.core.errors import (
    UpstreamCredentials,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from narthex.core.fold import Fold
from narthex.core.ports import Request, Surface
from narthex.core.stream import Event, Frame, OrderCheck
from narthex.core.tools import CACHED
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.dialects.openai_images import ImagesDialect
from narthex.dialects.openai_speech import SpeechDialect
from narthex.dialects.scale_completions import ScaleCompletionsDialect
from narthex.http.capabilities import KNOWN
from narthex.providers.codec import AnyCodec
from narthex.providers.presets import PRESETS, codecs, request_headers
from narthex.providers.traits import ModelTraits

DIALECTS = {
    "chat": ChatDialect(),
    "completions": CompletionsDialect(),
    "embeddings": EmbeddingsDialect(),
    "images": ImagesDialect(),
    "speech": SpeechDialect(),
}
ALSO_KNOWN: dict[Surface, set[str]] = {"chat": {CACHED}, "completions": set(OTHER_NAMES)}
"""What is no field of the surface that the capabilities are listed for."""
BASE: dict[Surface, dict[str, Any]] = {
    "chat": {"model": "ours", "messages": [{"role": "user", "content": "Hi"}]},
    "completions": {"model": "ours", "prompt": "Once"},
    "embeddings": {"model": "ours", "input": "text"},
    "images": {"model": "ours", "prompt": "A red square"},
    "speech": {"model": "ours", "input": "Hi", "voice": "alloy", "stream_format": "sse"},
}
_TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
_MARKED = _TOOL | {"cache_control": {"type": "ephemeral"}}
_SCHEMA = {"name": "a", "schema": {"type": "object", "properties": {}, "additionalProperties": False}}
_SHARED: dict[str, Sequence[Any]] = {
    "frequency_penalty": (0.5, 0),
    "presence_penalty": (0.5, 0),
    "logit_bias": ({"7": -100},),
    "n": (2, 1),
    "seed": (7,),
    "stop": (["END"],),
    "stream_options": ({"include_usage": True},),
    "temperature": (0.5, 1),
    "top_p": (0.5, 1),
    "user": ("me",),
    "max_tokens": (17,),
    "top_k": (4,),
    "min_p": (0.1,),
    "repetition_penalty": (1.1,),
    "length_penalty": (1.2,),
    "stop_token_ids": ([2],),
    "include_stop_str_in_output": (True,),
    "ignore_eos": (True,),
    "min_tokens": (1,),
    "add_special_tokens": (True,),
    "guided_json": ({"type": "object"},),
    "guided_regex": ("a+",),
    "guided_choice": (["a", "b"],),
    "guided_grammar": ('root ::= "a"',),
    "guided_whitespace_pattern": ("[ ]?",),
    "guided_decoding_backend": ("auto",),
    "structured_outputs": ({"regex": "a+"},),
    "echo": (True,),
    "stream": (True,),
}
VALUES: dict[Surface, dict[str, Sequence[Any]]] = {
    "chat": _SHARED
    | {
        "messages": ([{"role": "user", "content": "Ho"}],),
        "model": ("other",),
        "store": (True,),
        "metadata": ({"a": "b"},),
        "logprobs": (True,),
        "top_logprobs": (2,),
        "max_completion_tokens": (18,),
        "modalities": (["text"],),
        "prediction": ({"type": "content", "content": "x"},),
        "audio": ({"voice": "alloy", "format": "wav"},),
        "response_format": ({"type": "json_schema", "json_schema": _SCHEMA}, {"type": "json_object"}),
        "service_tier": ("flex", "default"),
        "tools": ([_TOOL],),
        "tool_choice": ("required", "none"),
        "parallel_tool_calls": (False,),
        "functions": ([{"name": "add"}],),
        "function_call": ({"name": "add"}, "none"),
        "reasoning_effort": ("low",),
        "verbosity": ("low",),
        "web_search_options": ({},),
        "safety_identifier": ("me",),
        "prompt_cache_key": ("k",),
        "prompt_cache_retention": ("24h",),
        "prompt_cache_options": ({"mode": "implicit"},),
        "moderation": ({"model": "omni"},),
        "add_generation_prompt": (True,),
        "continue_final_message": (False,),
        "chat_template": ("{{ messages }}",),
        "chat_template_kwargs": ({"enable_thinking": False},),
        CACHED: ([_MARKED],),
    },
    "completions": _SHARED
    | {
        "model": ("other",),
        "prompt": ("Twice",),
        "best_of": (2,),
        "logprobs": (2,),
        "suffix": ("end",),
        "max_completion_tokens": (18,),
        "max_new_tokens": (18,),
        "return_token_log_probs": (True,),
        "stop_sequences": (["END"],),
        "top_logprobs": (2,),
    },
    "embeddings": {
        "model": ("other",),
        "input": (["a", "b"],),
        "encoding_format": ("base64", "float"),
        "dimensions": (2,),
        "user": ("me",),
    },
    "images": {
        "prompt": ("A blue circle",),
        "model": ("gpt-image-1",),
        "n": (2,),
        "quality": ("high",),
        "size": ("1024x1024",),
        "style": ("vivid",),
        "background": ("opaque",),
        "output_format": ("webp",),
        "output_compression": (50,),
        "moderation": ("low",),
        "stream": (True,),
        "partial_images": (1,),
        "negative_prompt": ("rain",),
        "steps": (20,),
        "sampler": ("Euler",),
        "seed": (7,),
        "user": ("me",),
        "response_format": ("b64_json",),
    },
    "speech": {
        "model": ("other",),
        "input": ("Hello",),
        "voice": ("coral",),
        "response_format": ("opus",),
        "speed": (2,),
        "instructions": ("Whisper.",),
        "stream_format": ("audio",),
    },
}
"""Values of every field that some row honours, the usual one first and one that passes nearly everywhere last."""
WITH: dict[tuple[Surface, str], dict[str, Any]] = {
    ("chat", "top_logprobs"): {"logprobs": True},
    ("chat", "tool_choice"): {"tools": [_TOOL]},
    ("chat", "parallel_tool_calls"): {"tools": [_TOOL]},
    ("chat", "function_call"): {"functions": [{"name": "add"}]},
    ("chat", "stream_options"): {"stream": True},
    ("chat", CACHED): {"tools": [_TOOL]},
    ("completions", "top_logprobs"): {"return_token_log_probs": True},
    ("completions", "stream_options"): {"stream": True},
    ("chat", "guided_whitespace_pattern"): {"guided_json": {"type": "object"}},
    ("completions", "guided_whitespace_pattern"): {"guided_json": {"type": "object"}},
    ("images", "output_compression"): {"output_format": "webp", "model": "gpt-image-1"},
    ("images", "partial_images"): {"stream": True},
}
"""What else a request must hold for a field to mean something."""
OF_OUR_ANSWER = {"stream", "stream_options"}
"""What the server answers is always a stream with usage where there are streams at all."""

_ROWS = [
    pytest.param(preset.traits, surface, name, id=f"{name}-{surface}")
    for name, preset in PRESETS.items()
    for surface in preset.surfaces
]
every_row = pytest.mark.parametrize(("traits", "surface", "name"), _ROWS)


def made(name: str, surface: Surface, traits: ModelTraits) -> AnyCodec:
    return codecs(PRESETS[name], traits)[surface]


def decoded(surface: Surface, **fields: Any) -> Request:
    if CACHED in fields:  # a caller says so in the tools
        fields["tools"] = fields.pop(CACHED)
    body = json.dumps(BASE[surface] | fields).encode()
    profile = "oxy" if surface == "images" else "openai"  # it has the most fields of images
    named_otherwise = surface == "completions" and not ALSO_KNOWN[surface].isdisjoint(fields)
    dialect = ScaleCompletionsDialect() if named_otherwise else DIALECTS[surface]
    return dialect.decode(body, profile=profile, strict=True).request


def requests(surface: Surface, honoured: Capabilities) -> Iterator[tuple[str, Request]]:
    """A request for each field that a row honours, with a value that it takes."""
    for name in honoured:
        if name not in VALUES[surface]:
            raise AssertionError(f"there is no value of '{name}' to try")
        for value in VALUES[surface][name]:
            request = decoded(surface, **WITH.get((surface, name), {}), **{name: value})
            if passes(name, request, honoured):
                yield name, request
                break
        else:
            raise AssertionError(f"no value of '{name}' passes")


def passes(name: str, request: Request, honoured: Capabilities) -> bool:
    rule = honoured[name]
    if not isinstance(rule, Limited):
        return True
    try:
        rule.check(request.fields[name])
    except Verdict:
        return False
    return True


# --- requests --------------------------------------------------------------------------------------------------------


@every_row
def test_it_honours_only_what_the_dialects_know(traits: ModelTraits, surface: Surface, name: str) -> None:
    honoured = made(name, surface, traits).capabilities()
    assert set(honoured) <= set(KNOWN[surface]) | ALSO_KNOWN.get(surface, set())
    assert set(BASE[surface]) <= set(honoured)


@every_row
def test_the_plain_request_is_always_honoured(traits: ModelTraits, surface: Surface, name: str) -> None:
    codec, request = made(name, surface, traits), decoded(surface)
    assert refusal(request.fields, codec.capabilities(), model="m") is None
    body = json.loads(codec.build(request, model="theirs"))
    assert body["model"] == "theirs"
    always = name in {"anthropic", "llama.cpp", "lm-studio"} and surface in {"chat", "completions"}
    assert body.get("stream", False) is always
    if surface in {"chat", "completions"}:
        assert json.loads(codec.build(decoded(surface, stream=True), model="theirs"))["stream"] is True
    assert codec.path.startswith("/")


@every_row
def test_who_goes_on_with_an_answer_is_sent_its_beginning(traits: ModelTraits, surface: Surface, name: str) -> None:
    codec, request = made(name, surface, msgspec.structs.replace(traits, prefill=True)), decoded(surface)
    if surface not in {"chat", "completions"}:
        assert not codec.continues(request)
        return
    begun = msgspec.structs.replace(request, begun="Once upon")
    assert codec.continues(begun)
    assert b"Once upon" in codec.build(begun, model="theirs")
    assert b"Once upon" not in codec.build(request, model="theirs")


@every_row
def test_every_field_it_honours_reaches_the_body_in_some_form(traits: ModelTraits, surface: Surface, name: str) -> None:
    codec = made(name, surface, traits)
    honoured = codec.capabilities()
    for field, request in requests(surface, honoured):
        body = json.loads(codec.build(request, model="theirs"))
        without = {"model", "messages", "prompt", "input"} | set(WITH.get((surface, field), {}))
        plain = decoded(surface, **WITH.get((surface, field), {}))
        unlike = body != json.loads(codec.build(plain, model="theirs"))
        if state_of(field, honoured) is State.NATIVE and field not in OF_OUR_ANSWER:
            assert field in body or unlike, field
        if state_of(field, honoured) is State.NO_EFFECT:
            assert not unlike, field
        if field not in without and field in body:
            assert state_of(field, honoured) is not State.REFUSED, field


@every_row
def test_a_field_that_a_model_refuses_is_refused(traits: ModelTraits, surface: Surface, name: str) -> None:
    narrower = made(name, surface, ModelTraits(refused=frozenset(("user", "stop")))).capabilities()
    assert not {"user", "stop"} & set(narrower)


def test_keys_are_sent_as_each_wants_them() -> None:
    for preset in PRESETS.values():
        assert request_headers(preset, None) == dict(preset.headers)
        sent = request_headers(preset, "sk-canary")
        assert sent[preset.key_header] in {"sk-canary", "Bearer sk-canary"}
        assert preset.base_url is None or preset.base_url.startswith(("https://", "http://127.0.0.1:"))


def test_names_stand_in_order() -> None:
    assert list(PRESETS) == sorted(PRESETS)


# --- answers ---------------------------------------------------------------------------------------------------------


def _sse(*payloads: Any, name: bool = False) -> bytes:
    head = (lambda each: f"event: {each['type']}\n") if name else (lambda _: "")
    return "".join(f"{head(each)}data: {json.dumps(each)}\n\n" for each in payloads).encode()


def _chunk(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


_USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ANSWERS = {
    "/chat/completions": _sse(
        _chunk({"role": "assistant", "content": ""}),
        _chunk({"content": "Grüß 😀"}),
        _chunk({}, "stop"),
        {"choices": [], "usage": _USED},
    )
    + b"data: [DONE]\n\n",
    "/completions": _sse(
        {"choices": [{"index": 0, "text": "Grüß 😀", "finish_reason": None}]},
        {"choices": [{"index": 0, "text": "", "finish_reason": "length"}]},
        {"choices": [], "usage": _USED},
    )
    + b"data: [DONE]\n\n",
    "/embeddings": json.dumps({"data": [{"index": 0, "embedding": [0.6, 0.8]}], "usage": _USED}).encode(),
    "/images/generations": json.dumps({"data": [{"b64_json": "iVBORw0KGgo="}]}).encode(),
    "/audio/speech": _sse(
        {"type": "speech.audio.delta", "audio": "AAEC"},
        {"type": "speech.audio.done", "usage": {"input_tokens": 3, "output_tokens": 2, "total_tokens": 5}},
    ),
    "/messages": _sse(
        {"type": "message_start", "message": {"usage": {"input_tokens": 3, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Grüß 😀"}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
        name=True,
    ),
}
"""An answer to the plain request, by path."""


def frames(codec: AnyCodec, request: Request, pieces: Sequence[bytes]) -> list[Frame]:
    decoder = codec.decoder(request)
    return [*(frame for piece in pieces for frame in decoder.feed(piece)), *decoder.end()]


def events(found: Sequence[Frame]) -> list[Event]:
    return [event for frame in found for event in frame.events]


@every_row
def test_an_answer_whole_bytewise_and_cut_everywhere(traits: ModelTraits, surface: Surface, name: str) -> None:
    codec, request = made(name, surface, traits), decoded(surface)
    answer = ANSWERS[codec.path]
    whole = events(frames(codec, request, [answer]))
    order, fold = OrderCheck(), Fold()
    order.feed(whole)
    order.end()
    fold.feed(whole)
    fold.end()
    assert surface not in {"chat", "completions"} or "".join(fold.choices[0].text) == "Grüß 😀"
    assert surface == "images" or (fold.usage is not None and fold.usage.prompt_tokens == 3)
    assert events(frames(codec, request, [answer[i : i + 1] for i in range(len(answer))])) == whole
    for cut in range(len(answer)):
        assert events(frames(codec, request, [answer[:cut], answer[cut:]])) == whole


DOCUMENTS = {
    "/chat/completions": json.dumps(
        {
            "choices": [
                {"index": 0, "message": {"role": "assistant", "content": "Grüß 😀"}, "finish_reason": "stop"},
            ],
            "usage": _USED,
        }
    ).encode(),
    "/completions": json.dumps(
        {"choices": [{"index": 0, "text": "Grüß 😀", "finish_reason": "stop"}], "usage": _USED}
    ).encode(),
}
"""The same as documents, by path, for rows that ask for one."""


@every_row
def test_a_document_whole_bytewise_and_cut_everywhere(traits: ModelTraits, surface: Surface, name: str) -> None:
    codec, request = made(name, surface, traits), decoded(surface)
    if codec.path not in DOCUMENTS or json.loads(codec.build(request, model="theirs")).get("stream"):
        return
    answer = DOCUMENTS[codec.path]
    whole = events(frames(codec, request, [answer]))
    fold = Fold()
    fold.feed(whole)
    fold.end()
    assert "".join(fold.choices[0].text) == "Grüß 😀"
    assert fold.usage is not None
    assert (fold.usage.prompt_tokens, fold.usage.completion_tokens) == (3, 2)
    assert events(frames(codec, request, [answer[i : i + 1] for i in range(len(answer))])) == whole
    for cut in range(len(answer)):
        assert events(frames(codec, request, [answer[:cut], answer[cut:]])) == whole
        with pytest.raises(UpstreamProtocolError):
            frames(codec, request, [answer[:cut]])
    with pytest.raises(UpstreamUnavailable):
        frames(codec, request, [b'{"error":{"message":"sk-canary","type":"server_error"}}'])


@every_row
def test_an_answer_read_at_once_is_what_its_decoder_makes_of_it(
    traits: ModelTraits, surface: Surface, name: str
) -> None:
    codec, request = made(name, surface, traits), decoded(surface)
    streams = json.loads(codec.build(request, model="theirs")).get("stream")
    for body in (ANSWERS[codec.path], DOCUMENTS.get(codec.path, b""), b" " + DOCUMENTS.get(codec.path, b""), b"{", b""):
        try:
            slowly = frames(codec, request, [body])
        except UpstreamProtocolError:
            with pytest.raises(UpstreamProtocolError):
                codec.read(request, body)
            continue
        found = codec.read(request, body)
        assert (found is not None) is (len(slowly) == 1)
        if found is not None:
            assert (found.events, found.usage, found.format) == (slowly[0].events, slowly[0].usage, slowly[0].format)
    if codec.path in DOCUMENTS and not streams:
        assert codec.read(request, DOCUMENTS[codec.path]) is not None


@every_row
def test_an_answer_that_is_cut_or_none_is_an_error(traits: ModelTraits, surface: Surface, name: str) -> None:
    codec, request = made(name, surface, traits), decoded(surface)
    for body in (b"", ANSWERS[codec.path][:30], b"<html>no</html>"):
        with pytest.raises(UpstreamProtocolError):
            frames(codec, request, [body])


CLASSES: dict[int, type[UpstreamError]] = {
    400: UpstreamRejected,
    401: UpstreamCredentials,
    403: UpstreamCredentials,
    404: UpstreamRejected,
    408: UpstreamTimeout,
    413: UpstreamRejected,
    429: UpstreamRateLimited,
    500: UpstreamUnavailable,
    503: UpstreamUnavailable,
}


@every_row
@pytest.mark.parametrize("status", CLASSES)
def test_an_error_is_of_the_class_of_its_status(traits: ModelTraits, surface: Surface, name: str, status: int) -> None:
    codec = made(name, surface, traits)
    told = json.dumps({"error": {"message": "No sk-canary.", "type": "t", "param": None, "code": None}}).encode()
    for body in (told, b"<html><h1>No</h1></html>", b"", b"\xff"):
        error = codec.parse_error(status, [(b"retry-after", b"7")], body)
        assert type(error) is CLASSES[status]
        assert status in {400, 404, 413} or "sk-canary" not in error.message
    limited = codec.parse_error(429, [(b"retry-after", b"7")], b"")
    assert limited.retry_after_s == 7
