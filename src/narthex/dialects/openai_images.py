"""`/v1/images/generations`. Source: contract sections 1.8, 5.4, 6 and 11.

Streams use named events and have no end mark; each image is told by one `completed`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.errors import NarthexError
from narthex.core.fold import folded
from narthex.core.images import ImagesRequest, ResponseFormat, is_gpt_image
from narthex.core.ports import Call, Decoded, Surface
from narthex.core.stream import Event, Frame, ImagePartial, ImageReady, ImageTraits, OrderCheck, Usage
from narthex.dialects.body import Form
from narthex.dialects.fields import BOOLEAN, STRING, Field, choice, integer, invalid, missing, string
from narthex.dialects.openai_errors import error_body
from narthex.dialects.sampling import SEED_RANGE
from narthex.wire import sse
from narthex.wire.json import encode

DEFAULT_MODEL = "dall-e-2"
LONGEST_PROMPT = 32_000  # characters
LONGEST_PROMPTS: Mapping[str, int] = {"dall-e-2": 1000, "dall-e-3": 4000}
"""By model, where it is less."""
STEP = "image_generation.partial_image"
DONE = "image_generation.completed"

_SIZE = string(pattern="(auto|[1-9][0-9]{0,4}[x*][1-9][0-9]{0,4})")
SIZE = Field(lambda value, path: _SIZE.parse(value, path).replace("*", "x"), _SIZE.schema)
SAMPLERS = ("Euler", "Euler a", "Heun", "DPM++ 2M Karras", "DPM++ SDE Karras", "DDIM")

FIELDS: dict[str, Field] = {
    "prompt": string(shortest=1, longest=LONGEST_PROMPT),
    "model": string(shortest=1),
    "n": integer(1, 10),
    "quality": choice("standard", "hd", "low", "medium", "high", "auto"),
    "response_format": choice("url", "b64_json"),
    "size": SIZE,
    "style": choice("vivid", "natural"),
    "background": choice("transparent", "opaque", "auto"),
    "output_format": choice("png", "jpeg", "webp"),
    "output_compression": integer(0, 100),
    "moderation": choice("low", "auto"),
    "stream": BOOLEAN,
    "partial_images": integer(0, 3),
    "user": STRING,
}
REQUIRED = ("prompt",)
SIBLINGS: dict[str, Field] = {
    "negative_prompt": STRING,
    "steps": integer(1, 50),
    "sampler": choice(*SAMPLERS),
    "seed": integer(-SEED_RANGE, SEED_RANGE),
}
FORM = Form("images", FIELDS, REQUIRED, extensions=SIBLINGS)

_MODEL_NEEDED = frozenset(("ionos", "oxy"))
"""Profiles whose document knows no default model."""


class ImagesDialect:
    """The OpenAI-compatible surface that makes images."""

    surface: Surface = "images"

    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """Read and check a request; see `Dialect.decode`."""
        read = FORM.read(body, profile=profile, strict=strict)
        fields = read.fields
        if "model" not in fields and profile in _MODEL_NEEDED:
            raise missing("model")
        model = fields.get("model", DEFAULT_MODEL)
        _check_prompt(fields["prompt"], model)
        _check_stream(fields, profile)
        _check_output(fields)
        sent = read.sent
        if "size" in fields:
            sent = sent | {"size": msgspec.Raw(encode(fields["size"]))}
        chosen = ("n", "size", "quality", "background", "output_format", "stream", "partial_images")
        request = ImagesRequest(
            model=model,
            prompt=fields["prompt"],
            response_format=_response_format(fields, model),
            fields=fields,
            sent=sent,
            **{name: fields[name] for name in chosen if name in fields},
        )
        return Decoded(request, read.ignored)

    def encoder(self, call: Call, *, created: int) -> "ImagesStream":
        """Write the answer as a stream."""
        return ImagesStream(call, created=created)

    def encode_answer(self, call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
        """Write the answer whole."""
        fold = folded(frames)
        answer: dict[str, Any] = {"created": created, "data": [_image(image) for image in fold.images]}
        told = fold.images[-1].traits if fold.images else ImageTraits()
        answer |= {name: value for name, value in msgspec.structs.asdict(told).items() if value is not None}
        if fold.usage is not None:
            answer["usage"] = _usage(fold.usage) | {"output_tokens_details": _output_details(fold.usage)}
        return encode(answer)


class ImagesStream:
    """Writes the stream of one call."""

    def __init__(self, call: Call, *, created: int) -> None:
        request = call.request
        assert isinstance(request, ImagesRequest)  # noqa: S101 - the surface decides the type
        self._request = request
        self._created = created
        self._order = OrderCheck()

    def encode(self, frame: Frame) -> bytes:
        """The events of a frame's images, drawn in part or whole."""
        self._order.feed(frame.events)
        return b"".join(map(self._event, frame.events))

    def alike(self, frame: Frame) -> None:
        """See `StreamEncoder`: nothing is written as it came."""

    def end(self) -> bytes:
        """Nothing: the stream just ends."""
        self._order.end()
        return b""

    def error(self, error: NarthexError) -> bytes:
        """The error as an event; nothing follows it."""
        return sse.encode(error_body(error), b"error")

    def _event(self, event: Event) -> bytes:
        match event:
            case ImagePartial():
                return self._written(STEP, event.b64, event.traits, partial_image_index=event.index)
            case ImageReady():
                usage = _usage(event.usage or Usage(prompt_tokens=0))
                return self._written(DONE, event.b64, event.traits, usage=usage)
            case _:
                return b""

    def _written(self, name: str, b64: str, traits: ImageTraits, **more: Any) -> bytes:
        asked = self._request
        content = {
            "type": name,
            "b64_json": b64,
            "created_at": self._created,
            "size": traits.size or asked.size,
            "quality": traits.quality or asked.quality,
            "background": traits.background or asked.background,
            "output_format": traits.output_format or asked.output_format,
            **more,
        }
        return sse.encode(encode(content), name.encode())


# --- what goes together --------------------------------------------------------------------------------------------


def _check_prompt(prompt: str, model: str) -> None:
    most = LONGEST_PROMPTS.get(model, LONGEST_PROMPT)
    string(longest=most).parse(prompt, "prompt")


def _check_stream(fields: Mapping[str, Any], profile: str) -> None:
    if not fields.get("stream"):
        if fields.get("partial_images"):
            raise invalid("partial_images", "it needs 'stream'.")
        return
    if fields.get("response_format") == "url":
        raise invalid("response_format", "streams carry the image itself. Expected 'b64_json' with 'stream'.")
    if profile == "oxy" and fields.get("n", 1) > 1:
        raise invalid("n", "it must be 1 with 'stream'.")


def _check_output(fields: Mapping[str, Any]) -> None:
    output = fields.get("output_format", "png")
    if output == "jpeg" and fields.get("background") == "transparent":
        raise invalid("background", "'transparent' needs the output format 'png' or 'webp'.")
    if output == "png" and fields.get("output_compression", 100) < 100:
        raise invalid("output_compression", "less than 100 needs the output format 'jpeg' or 'webp'.")


def _response_format(fields: Mapping[str, Any], model: str) -> ResponseFormat:
    chosen: ResponseFormat | None = fields.get("response_format")
    if chosen is None:
        return "b64_json" if fields.get("stream") or is_gpt_image(model) else "url"
    return chosen


# --- the answer ----------------------------------------------------------------------------------------------------


def _image(image: ImageReady) -> dict[str, str]:
    content = {"url": image.url} if image.url else {"b64_json": image.b64}
    return content if image.revised_prompt is None else content | {"revised_prompt": image.revised_prompt}


def _usage(usage: Usage) -> dict[str, Any]:
    images = usage.prompt_image_tokens
    return {
        "input_tokens": usage.prompt_tokens,
        "output_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "input_tokens_details": {"text_tokens": usage.prompt_tokens - images, "image_tokens": images},
    }


def _output_details(usage: Usage) -> dict[str, int]:
    images = usage.completion_image_tokens
    return {"text_tokens": usage.completion_tokens - images, "image_tokens": images}
