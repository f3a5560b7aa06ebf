"""OpenAI's image format as a provider speaks it."""

import json
from typing import Any

import pytest
from tests.images import PNG, TRAITS, USED, WEBP, b64, event

from narthex.core.capabilities import State, refusal
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import (
    NarthexError,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from narthex.core.images import ImagesRequest
from narthex.core.stream import Event, ImagePartial, ImageReady, ImageTraits, OrderCheck, Usage, UsageReported
from narthex.dialects.openai_images import FIELDS, SIBLINGS, ImagesDialect
from narthex.providers import openai_images
from narthex.providers.openai_images import OpenAIImages
from narthex.providers.openai_rows import native

CODEC = OpenAIImages()
TOLD = ImageTraits(**TRAITS)
READ = Usage(prompt_tokens=11, completion_tokens=7, prompt_image_tokens=1, completion_image_tokens=7)


def request(**fields: Any) -> ImagesRequest:
    body = json.dumps({"model": "m", "prompt": "A cat"} | fields).encode()
    found = ImagesDialect().decode(body, profile="oxy", strict=True).request
    assert isinstance(found, ImagesRequest)
    return found


def read(asked: ImagesRequest, *pieces: bytes) -> list[Event]:
    """All events of an answer, held against the order of events."""
    decoder = CODEC.decoder(asked)
    frames = [frame for piece in pieces for frame in decoder.feed(piece)]
    events = [event for frame in [*frames, *decoder.end()] for event in frame.events]
    order = OrderCheck()
    order.feed(events)
    order.end()
    return events


def answer(*images: Any, **more: Any) -> bytes:
    return json.dumps({"created": 1, "data": list(images)} | more).encode()


# --- the request -----------------------------------------------------------------------------------------------------


def test_honours_every_field_but_those_of_other_servers() -> None:
    honoured = CODEC.capabilities()
    assert set(honoured) == set(FIELDS)
    assert honoured["response_format"] is State.EMULATED
    for name in SIBLINGS:
        refused = refusal({name: 1}, honoured, model="m")
        assert refused is not None
        assert refused.param == name
    wider = OpenAIImages(honoured={**honoured, **native(*SIBLINGS)}).capabilities()
    assert set(wider) == {*FIELDS, *SIBLINGS}
    assert refusal(dict.fromkeys(SIBLINGS, 1), wider, model="m") is None


def test_sends_what_was_sent_and_asks_for_the_image_itself() -> None:
    asked = request(size="1024*1024", n=2, steps=5, response_format="url")
    assert json.loads(CODEC.build(asked, model="theirs")) == {
        "model": "theirs", "prompt": "A cat", "size": "1024x1024", "n": 2, "steps": 5, "response_format": "b64_json",
    }  # fmt: skip


@pytest.mark.parametrize("fields", [{}, {"response_format": "url"}, {"response_format": "b64_json"}])
def test_one_family_of_models_is_not_asked_for_a_form(fields: dict[str, Any]) -> None:
    assert json.loads(CODEC.build(request(**fields), model="gpt-image-1")) == {
        "model": "gpt-image-1",
        "prompt": "A cat",
    }


def test_is_asked_for_nothing_else() -> None:
    other = EmbeddingsRequest(model="m", fields={}, sent={})
    for ask in (lambda: CODEC.build(other, model="m"), lambda: CODEC.decoder(other)):
        with pytest.raises(NarthexError):
            ask()
    assert CODEC.path == "/images/generations"


def test_refusals_are_passed_on() -> None:
    body = b'{"error": {"message": "No.", "param": "prompt", "code": "content_policy_violation"}}'
    error = CODEC.parse_error(400, [], body)
    assert isinstance(error, UpstreamRejected)
    assert (error.message, error.param, error.code) == ("No.", "prompt", "content_policy_violation")


# --- answers in one piece --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 10_000])
def test_an_answer_in_any_pieces(cut: int) -> None:
    images = ({"b64_json": b64(PNG), "revised_prompt": "A black cat"}, {"b64_json": b64(WEBP), "url": None})
    data = answer(*images, usage=USED, **TRAITS)
    events = read(request(n=2), *(data[at : at + cut] for at in range(0, len(data), cut)))
    assert events == [
        ImageReady(b64=b64(PNG), revised_prompt="A black cat", traits=TOLD),
        ImageReady(b64=b64(WEBP), traits=TOLD),
        UsageReported(READ),
    ]


def test_an_answer_that_tells_nothing_more() -> None:
    assert read(request(), answer({"b64_json": b64(PNG)}, size="", error=None)) == [ImageReady(b64=b64(PNG))]


@pytest.mark.parametrize(
    ("used", "usage"),
    [
        ({}, Usage(prompt_tokens=0)),
        ({"input_tokens": 5, "output_tokens": None}, Usage(prompt_tokens=5)),
        (
            {"input_tokens": 5, "output_tokens": 9, "output_tokens_details": {"image_tokens": 8, "text_tokens": 1}},
            Usage(prompt_tokens=5, completion_tokens=9, completion_image_tokens=8),
        ),
        (
            {"input_tokens": 5, "output_tokens": 9, "input_tokens_details": {"image_tokens": 99}},
            Usage(prompt_tokens=5, completion_tokens=9, prompt_image_tokens=5, completion_image_tokens=9),
        ),
    ],
)
def test_usage_is_read_as_far_as_it_goes(used: dict[str, Any], usage: Usage) -> None:
    assert read(request(), answer({"b64_json": b64(PNG)}, usage=used))[-1] == UsageReported(usage)


def test_an_address_that_holds_the_image_is_read() -> None:
    assert read(request(), answer({"url": f"data:image/png;base64,{b64(PNG)}"})) == [ImageReady(b64=b64(PNG))]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"data": 1}',
        b"{}",
        b'{"data": null}',
        answer(),
        answer({"b64_json": b64(PNG)}, {"b64_json": b64(PNG)}),
        answer({}),
        answer({"b64_json": ""}),
        answer({"b64_json": "a"}),
        answer({"b64_json": "a*bc"}),
        answer({"b64_json": "abcde"}),
        answer({"b64_json": "a==="}),
        answer({"b64_json": "===="}),
        answer({"b64_json": "ab==ab=="}),
        answer({"b64_json": "ab\ncd\nef"}),
        answer({"b64_json": "äbcd"}),
        answer({"b64_json": 1}),
        answer({"url": "https://elsewhere.example/i.png"}),
        answer({"url": "http://127.0.0.1/i.png"}),
        answer({"url": "data:image/png,x"}),
        answer({"b64_json": b64(PNG)}, usage=[]),
        b"[" * 100_000,
        b'{"data": [{"b64_json": "\xff"}]}',
    ],
)
def test_what_is_no_answer_is_none(body: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        read(request(), body)


def test_an_answer_without_end_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_images, "MAX_ANSWER_BYTES", 10)
    decoder = CODEC.decoder(request())
    assert list(decoder.feed(b"x" * 10)) == []
    with pytest.raises(UpstreamProtocolError, match="too long"):
        list(decoder.feed(b"x"))


def test_an_error_with_a_good_status_is_an_error() -> None:
    with pytest.raises(UpstreamRateLimited):
        read(request(), b'{"error": {"message": "Slow down.", "type": "requests"}}')


# --- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 50, 10_000])
def test_a_stream_in_any_pieces(cut: int) -> None:
    data = event("partial_image", b"half", partial_image_index=0) + b": ping\n\n"
    data += event("partial_image", b"more", partial_image_index=1) + event("completed", PNG, usage=USED)
    events = read(request(stream=True, partial_images=2), *(data[at : at + cut] for at in range(0, len(data), cut)))
    assert events == [
        ImagePartial(index=0, b64=b64(b"half"), traits=TOLD),
        ImagePartial(index=1, b64=b64(b"more"), traits=TOLD),
        ImageReady(b64=b64(PNG), traits=TOLD, usage=READ),
        UsageReported(READ),
    ]


def stream_of(n: int) -> ImagesRequest:
    body = json.dumps({"model": "m", "prompt": "A cat", "stream": True, "n": n}).encode()
    found = ImagesDialect().decode(body, profile="openai", strict=True).request
    assert isinstance(found, ImagesRequest)
    return found


def test_the_usage_of_several_images_is_their_sum() -> None:
    events = read(
        stream_of(3), event("completed", PNG, usage=USED), event("completed", WEBP), event("completed", PNG, usage=USED)
    )
    assert [event.b64 for event in events if isinstance(event, ImageReady)] == [b64(PNG), b64(WEBP), b64(PNG)]
    assert events[-1] == UsageReported(
        Usage(prompt_tokens=22, completion_tokens=14, prompt_image_tokens=2, completion_image_tokens=14)
    )


def test_parts_without_a_number_are_counted() -> None:
    data = event("partial_image", b"a") + event("partial_image", b"b") + event("completed", PNG)
    events = read(stream_of(2), data + event("partial_image", b"c") + event("completed", PNG) + b"data: [DONE]\n\n")
    assert [event.index for event in events if isinstance(event, ImagePartial)] == [0, 1, 0]


def test_events_of_other_kinds_are_skipped() -> None:
    assert len(read(stream_of(1), event("queued", b"x"), b"data: {}\n\n", event("completed", PNG))) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        event("partial_image", b"half"),
        event("completed", PNG)[:-5],
        event("completed", PNG) * 2,
        event("completed", b""),
        b"event: image_generation.completed\ndata: nonsense\n\n",
        b'data: {"type": "image_generation.completed"}\n\n',
        b'data: {"type": "image_generation.completed", "b64_json": "a"}\n\n',
    ],
)
def test_what_is_no_whole_stream_is_none(data: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        read(stream_of(1), data)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"type": "server_error", "message": "x"}, UpstreamUnavailable),
        ({"code": "rate_limit_exceeded"}, UpstreamRateLimited),
    ],
)
def test_errors_within_a_stream(error: dict[str, Any], kind: type[UpstreamError]) -> None:
    decoder = CODEC.decoder(stream_of(1))
    data = event("partial_image", b"half") + b"event: error\ndata: " + json.dumps({"error": error}).encode() + b"\n\n"
    frames = decoder.feed(data)
    assert next(frames).has_output
    with pytest.raises(kind):
        next(frames)
