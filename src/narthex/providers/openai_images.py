"""OpenAI's image format as a provider speaks it: requests to it, and its answers, whole or streamed, to frames. No I/O.

Source: contract sections 1.8 and 5.4.

Rule: the image always comes as data. An answer that only says where it lies is refused: we follow no address that a
server names.
"""

import string
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from narthex.core.capabilities import Capabilities, State
from narthex.core.errors import UpstreamError, UpstreamProtocolError
from narthex.core.images import ImagesRequest, is_gpt_image
from narthex.core.ports import Request
from narthex.core.stream import Frame, ImagePartial, ImageReady, ImageTraits, Usage, UsageReported
from narthex.providers.codec import UsualCodec, of_kind
from narthex.providers.openai_errors import parse_error, stream_error
from narthex.providers.whole import Document
from narthex.wire.json import UNREADABLE
from narthex.wire.sse import SseDecoder

PATH = "/images/generations"
MAX_ANSWER_BYTES = 256 * 1024 * 1024
MAX_EVENT_BYTES = 64 * 1024 * 1024

HONOURED: Capabilities = dict.fromkeys(
    (
        "prompt", "model", "n", "quality", "size", "style", "background", "output_format", "output_compression",
        "moderation", "stream", "partial_images", "user",
    ),
    State.NATIVE,
) | {"response_format": State.EMULATED}  # fmt: skip
"""What OpenAI's own servers honour; `response_format` is ours, whatever the model knows of it."""


class OpenAIImages(UsualCodec):
    """See `Codec`. `honoured`: by the server."""

    path = PATH

    def __init__(self, *, honoured: Capabilities = HONOURED) -> None:
        self._honoured = honoured

    def build(self, request: Request, *, model: str) -> bytes:
        """See `Codec.build`."""
        body: dict[str, Any] = {**of_kind(request, ImagesRequest).sent, "model": model}
        body.pop("response_format", None)
        if not is_gpt_image(model):
            body["response_format"] = "b64_json"
        return msgspec.json.encode(body)

    def decoder(self, request: Request) -> "WholeDecoder | StreamDecoder":
        """See `Codec.decoder`."""
        images = of_kind(request, ImagesRequest)
        return StreamDecoder(images=images.n) if images.stream else WholeDecoder(images=images.n)

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """See `Codec.parse_error`."""
        return parse_error(status, list(headers), body)

    def capabilities(self) -> Capabilities:
        """See `Codec.capabilities`."""
        return self._honoured


# --- the wire, as far as we read it --------------------------------------------------------------------------------


class _Details(msgspec.Struct):
    image_tokens: int | None = None


class _Usage(msgspec.Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class _Traits(msgspec.Struct, kw_only=True):
    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None
    usage: _Usage | None = None
    error: Any = None

    def told(self) -> ImageTraits:
        return ImageTraits(
            size=self.size or None,
            quality=self.quality or None,
            background=self.background or None,
            output_format=self.output_format or None,
        )


class _Image(msgspec.Struct):
    b64_json: str | None = None
    url: str | None = None
    revised_prompt: str | None = None


class _Answer(_Traits, kw_only=True):
    data: list[_Image] | None = None


class _Event(_Traits, kw_only=True):
    type: str = ""
    b64_json: str | None = None
    partial_image_index: int | None = None


_ALPHABET = (string.ascii_letters + string.digits + "+/").encode()

_answer = msgspec.json.Decoder(_Answer).decode
_event = msgspec.json.Decoder(_Event).decode


def _image(b64: str | None, url: str | None = None) -> str:
    """An image in base64, as it came: it is large, and most often passed on as it is."""
    if not b64 and url is not None and url.startswith("data:"):
        b64 = url.partition(";base64,")[2]
    if not b64:
        raise UpstreamProtocolError("The model's server answered without the image itself.")
    if not _is_base64(b64):
        raise UpstreamProtocolError("The model's server sent an image that can't be read.")
    return b64


def _is_base64(text: str) -> bool:
    """A tenth of the time that decoding takes."""
    if not text.isascii() or len(text) % 4:
        return False
    content = text.encode().removesuffix(b"=").removesuffix(b"=")
    return not content.translate(None, _ALPHABET)


def _read(usage: _Usage) -> Usage:
    """Output that is not told apart is the image."""
    prompt, output = usage.input_tokens or 0, usage.output_tokens or 0
    of_prompt, of_output = usage.input_tokens_details or _Details(), usage.output_tokens_details or _Details()
    drawn = output if of_output.image_tokens is None else of_output.image_tokens
    return Usage(
        prompt_tokens=prompt,
        completion_tokens=output,
        prompt_image_tokens=min(of_prompt.image_tokens or 0, prompt),
        completion_image_tokens=min(drawn, output),
    )


def _sum(one: Usage | None, other: Usage) -> Usage:
    if one is None:
        return other
    return Usage(
        prompt_tokens=one.prompt_tokens + other.prompt_tokens,
        completion_tokens=one.completion_tokens + other.completion_tokens,
        prompt_image_tokens=one.prompt_image_tokens + other.prompt_image_tokens,
        completion_image_tokens=one.completion_image_tokens + other.completion_image_tokens,
    )


# --- from the wire to frames ---------------------------------------------------------------------------------------


class WholeDecoder(Document):
    """Decodes an answer that comes as one JSON document. `images`: how many were asked for, and so have to come."""

    def __init__(self, *, images: int) -> None:
        self._images = images
        super().__init__(limit_bytes=MAX_ANSWER_BYTES)

    def end(self) -> Iterator[Frame]:
        """A frame for each image, then the usage, if there was any.

        Raises:
            UpstreamProtocolError: it can't be read, or has not as many images as were asked for.
        """
        try:
            answer = _answer(self.whole())
        except UNREADABLE as error:
            raise UpstreamProtocolError from error
        if answer.error:
            raise stream_error(answer.error)
        images = answer.data or []
        if len(images) != self._images:
            raise UpstreamProtocolError(f"The model's server made {len(images)} images instead of {self._images}.")
        ready = [
            ImageReady(
                b64=_image(image.b64_json, image.url),
                revised_prompt=image.revised_prompt,
                traits=answer.told(),
            )
            for image in images
        ]
        for image in ready:
            yield Frame.of(image)
        if answer.usage is not None:
            yield Frame.of(UsageReported(_read(answer.usage)))


class StreamDecoder:
    """Decodes a stream of named events. `images` as for `WholeDecoder`. Events of other types are skipped."""

    def __init__(self, *, images: int) -> None:
        self._sse = SseDecoder(MAX_EVENT_BYTES)
        self._images = images
        self._ready = 0
        self._partials = 0
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with `data`; go through all of them.

        Raises:
            UpstreamError: the server reported an error, after the frames that came before it.
            UpstreamProtocolError: what it sent can't be read.
        """
        for event in self._sse.feed(data):
            if event.data != b"[DONE]" and (frame := self._frame(event.data)) is not None:
                yield frame

    def end(self) -> Iterator[Frame]:
        """The body has ended: the last frame, with the usage of all images, if there was any.

        Raises:
            UpstreamProtocolError: there were not as many images as were asked for.
        """
        if self._ready != self._images:
            raise UpstreamProtocolError(f"The model's server made {self._ready} images instead of {self._images}.")
        if self._usage is not None:
            yield Frame.of(UsageReported(self._usage))

    def _frame(self, data: bytes) -> Frame | None:
        try:
            event = _event(data)
        except UNREADABLE as error:
            raise UpstreamProtocolError from error
        if event.error:
            raise stream_error(event.error)
        if event.type == "image_generation.partial_image":
            index = self._partials if event.partial_image_index is None else event.partial_image_index
            self._partials = index + 1
            return Frame.of(ImagePartial(index=index, b64=_image(event.b64_json), traits=event.told()))
        if event.type == "image_generation.completed":
            return Frame.of(self._completed(event))
        return None

    def _completed(self, event: _Event) -> ImageReady:
        self._ready += 1
        self._partials = 0
        if self._ready > self._images:
            raise UpstreamProtocolError(
                f"The model's server made more images than the {self._images} it was asked for."
            )
        usage = None if event.usage is None else _read(event.usage)
        if usage is not None:
            self._usage = _sum(self._usage, usage)
        return ImageReady(b64=_image(event.b64_json), traits=event.told(), usage=usage)
