"""`/v1/images/generations`."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from tests.images import PNG, b64

from narthex.core.errors import UpstreamTimeout
from narthex.core.images import ImagesRequest
from narthex.core.ports import Call, Decoded
from narthex.core.stream import (
    Frame,
    ImagePartial,
    ImageReady,
    ImageTraits,
    OutOfOrder,
    TextDelta,
    Usage,
    UsageReported,
)
from narthex.dialects.openai_images import ImagesDialect

Refuse = Callable[..., tuple[str | None, str | None]]
Decode = Callable[..., Decoded]
MakeCall = Callable[..., Call]
DIALECT = ImagesDialect()
USED = Usage(prompt_tokens=11, completion_tokens=7, prompt_image_tokens=1, completion_image_tokens=6)
TRAITS = ImageTraits(size="1024x1024", quality="low", background="opaque", output_format="webp")


def request_of(decoded: Decoded) -> ImagesRequest:
    assert isinstance(decoded.request, ImagesRequest)
    return decoded.request


# --- requests --------------------------------------------------------------------------------------------------------


def test_a_least_request_has_the_contracts_defaults(decode: Decode) -> None:
    request = request_of(decode("images", {"n": None, "size": None, "stream": None}))
    assert request == ImagesRequest(
        model="m", prompt="A cat", n=1, size="auto", quality="auto", background="auto", output_format="png",
        response_format="url", stream=False, partial_images=0, fields=request.fields, sent=request.sent,
    )  # fmt: skip
    assert set(request.fields) == set(request.sent) == {"model", "prompt"}


def test_everything_that_is_sent_is_read_and_kept(decode: Decode) -> None:
    sent = {
        "n": 2, "quality": "high", "response_format": "b64_json", "size": "1536x1024", "style": "natural",
        "background": "transparent", "output_format": "webp", "output_compression": 50, "moderation": "low",
        "stream": True, "partial_images": 3, "user": "u",
    }  # fmt: skip
    request = request_of(decode("images", sent))
    assert dict(request.fields) == sent | {"model": "m", "prompt": "A cat"}
    assert {name: msgspec.json.decode(raw) for name, raw in request.sent.items()} == dict(request.fields)
    assert (request.n, request.quality, request.size, request.background) == (2, "high", "1536x1024", "transparent")
    assert (request.output_format, request.stream, request.partial_images) == ("webp", True, 3)


@pytest.mark.parametrize("size", ["1024*1024", "1024x1024"])
def test_sizes_go_on_with_an_x(size: str, decode: Decode) -> None:
    request = request_of(decode("images", {"size": size}))
    assert (request.size, request.fields["size"], bytes(request.sent["size"])) == (
        "1024x1024",
        "1024x1024",
        b'"1024x1024"',
    )


@pytest.mark.parametrize(
    ("model", "fields", "chosen"),
    [
        ("m", {}, "url"),
        ("dall-e-3", {}, "url"),
        ("gpt-image-1", {}, "b64_json"),
        ("gpt-image-1", {"response_format": "url"}, "url"),
        ("m", {"response_format": "b64_json"}, "b64_json"),
        ("m", {"stream": True}, "b64_json"),
        ("m", {"stream": False}, "url"),
    ],
)
def test_how_images_are_answered_where_nothing_is_said(
    model: str, fields: dict[str, Any], chosen: str, decode: Decode
) -> None:
    assert request_of(decode("images", fields | {"model": model})).response_format == chosen


@pytest.mark.parametrize("profile", ["openai", "thyris"])
@pytest.mark.parametrize("fields", [{"model": None}])
def test_the_documents_default_model(profile: str, fields: dict[str, Any], decode: Decode) -> None:
    request = request_of(decode("images", fields, profile=profile))
    assert (request.model, "model" in request.fields) == ("dall-e-2", False)


@pytest.mark.parametrize("profile", ["ionos", "oxy"])
def test_profiles_that_know_no_default_model(profile: str, refuse: Refuse) -> None:
    assert refuse("images", {"model": None}, profile=profile) == ("missing_required_parameter", "model")


def test_the_defaults_of_a_profile(decode: Decode) -> None:
    request = request_of(decode("images", {}, profile="ionos"))
    assert (request.size, request.response_format) == ("1024x1024", "b64_json")
    assert bytes(request.sent["size"]) == b'"1024x1024"'
    request = request_of(decode("images", {"size": "1792*1024", "response_format": "url"}, profile="ionos"))
    assert (request.size, request.response_format) == ("1792x1024", "url")
    request = request_of(decode("images", {"size": "1024x1792"}, profile="ionos"))
    assert (request.size, request.response_format) == ("1024x1792", "b64_json")


def test_the_fields_that_two_profiles_do_not_have(decode: Decode, refuse: Refuse) -> None:
    fields = {"negative_prompt": "dogs", "steps": 50, "sampler": "DDIM", "seed": -(2**63)}
    for profile in ("openai", "oxy"):
        request = request_of(decode("images", fields | {"n": 4}, profile=profile))
        assert request.fields.items() >= fields.items()
    for name, value in fields.items():
        for profile in ("thyris", "ionos"):
            assert refuse("images", {name: value}, profile=profile) == ("unknown_parameter", name)


def test_a_lenient_key_lets_unknown_fields_pass(decode: Decode) -> None:
    assert decode("images", {"zzz": 1}, strict=False).ignored == ("zzz",)


@pytest.mark.parametrize(
    ("fields", "refused"),
    [
        ({"prompt": ""}, ("invalid_value", "prompt")),
        ({"prompt": "x" * 32_001}, ("string_above_max_length", "prompt")),
        ({"prompt": "x" * 1001, "model": "dall-e-2"}, ("string_above_max_length", "prompt")),
        ({"prompt": "x" * 4001, "model": "dall-e-3"}, ("string_above_max_length", "prompt")),
        ({"size": "1024X1024"}, ("invalid_value", "size")),
        ({"partial_images": 1}, ("invalid_value", "partial_images")),
        ({"partial_images": 0}, (None, None)),
        ({"stream": True, "response_format": "url"}, ("invalid_value", "response_format")),
        ({"stream": True, "response_format": "b64_json"}, (None, None)),
        ({"background": "transparent", "output_format": "jpeg"}, ("invalid_value", "background")),
        ({"background": "transparent"}, (None, None)),
        ({"output_compression": 99}, ("invalid_value", "output_compression")),
        ({"output_compression": 100}, (None, None)),
        ({"output_compression": 0, "output_format": "jpeg"}, (None, None)),
        ({"stream": True, "n": 2}, (None, None)),
    ],
)
def test_what_goes_together(fields: dict[str, Any], refused: tuple[str | None, str | None], refuse: Refuse) -> None:
    assert refuse("images", fields) == refused


def test_one_profile_streams_one_image(refuse: Refuse) -> None:
    assert refuse("images", {"stream": True, "n": 2}, profile="oxy") == ("invalid_value", "n")
    assert refuse("images", {"stream": True, "n": 1}, profile="oxy") == (None, None)


# --- answers ---------------------------------------------------------------------------------------------------------


def test_an_answer_with_all_that_was_told(make_call: MakeCall) -> None:
    images = (ImageReady(b64=b64(PNG), traits=TRAITS, revised_prompt="A black cat"), ImageReady(url="http://h/i.png"))
    frames = [Frame.of(images[0]), Frame.of(msgspec.structs.replace(images[1], traits=TRAITS))]
    frames.append(Frame.of(UsageReported(USED)))
    assert json.loads(DIALECT.encode_answer(make_call("images"), frames, created=7)) == {
        "created": 7,
        "data": [{"b64_json": b64(PNG), "revised_prompt": "A black cat"}, {"url": "http://h/i.png"}],
        "size": "1024x1024",
        "quality": "low",
        "background": "opaque",
        "output_format": "webp",
        "usage": {
            "input_tokens": 11,
            "output_tokens": 7,
            "total_tokens": 18,
            "input_tokens_details": {"text_tokens": 10, "image_tokens": 1},
            "output_tokens_details": {"text_tokens": 1, "image_tokens": 6},
        },
    }


def test_an_answer_does_not_say_what_nobody_told(make_call: MakeCall) -> None:
    answer = json.loads(DIALECT.encode_answer(make_call("images"), [Frame.of(ImageReady(b64=b64(PNG)))], created=7))
    assert answer == {"created": 7, "data": [{"b64_json": b64(PNG)}]}


@pytest.mark.parametrize("frames", [[], [Frame.of(ImagePartial(index=0, b64=b64(PNG)))]])
def test_no_image_is_no_answer(frames: list[Frame], make_call: MakeCall) -> None:
    with pytest.raises(OutOfOrder):
        DIALECT.encode_answer(make_call("images"), frames, created=7)
    encoder = DIALECT.encoder(make_call("images", {"stream": True}), created=7)
    for frame in frames:
        encoder.encode(frame)
    with pytest.raises(OutOfOrder):
        encoder.end()


# --- streams ---------------------------------------------------------------------------------------------------------


def written(data: bytes) -> tuple[str, dict[str, Any]]:
    name, content, rest = data.decode().split("\n", 2)
    assert rest == "\n"
    return name.removeprefix("event: "), json.loads(content.removeprefix("data: "))


def test_a_stream_of_named_events(make_call: MakeCall) -> None:
    encoder = DIALECT.encoder(make_call("images", {"stream": True, "partial_images": 1}), created=7)
    traits = {"size": "1024x1024", "quality": "low", "background": "opaque", "output_format": "webp"}
    name, content = written(encoder.encode(Frame.of(ImagePartial(index=0, b64=b64(b"half"), traits=TRAITS))))
    head = {"type": name, "b64_json": b64(b"half"), "created_at": 7}
    assert (name, content) == ("image_generation.partial_image", head | traits | {"partial_image_index": 0})
    name, content = written(encoder.encode(Frame.of(ImageReady(b64=b64(PNG), traits=TRAITS, usage=USED))))
    usage = {
        "input_tokens": 11,
        "output_tokens": 7,
        "total_tokens": 18,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 1},
    }
    head = {"type": name, "b64_json": b64(PNG), "created_at": 7}
    assert (name, content) == ("image_generation.completed", head | traits | {"usage": usage})
    assert encoder.encode(Frame.of(UsageReported(USED))) == b""
    assert encoder.end() == b""


def test_what_a_server_does_not_tell_is_what_was_asked_for(make_call: MakeCall) -> None:
    asked = {"size": "512x512", "quality": "high", "background": "opaque", "output_format": "jpeg"}
    for fields, told in ((asked, asked), ({}, dict.fromkeys(asked, "auto") | {"output_format": "png"})):
        encoder = DIALECT.encoder(make_call("images", fields | {"stream": True}), created=7)
        _, content = written(encoder.encode(Frame.of(ImageReady(b64=b64(PNG)))))
        assert content.items() >= told.items()
        assert content["usage"]["total_tokens"] == 0


def test_a_stream_that_breaks_says_so(make_call: MakeCall) -> None:
    encoder = DIALECT.encoder(make_call("images", {"stream": True}), created=7)
    name, content = written(encoder.error(UpstreamTimeout()))
    assert (name, content["error"]["code"]) == ("error", "timeout")


def test_text_is_no_part_of_a_stream_of_images(make_call: MakeCall) -> None:
    encoder = DIALECT.encoder(make_call("images", {"stream": True}), created=7)
    with pytest.raises(OutOfOrder):
        encoder.encode(Frame.of(TextDelta(0, "a")))
