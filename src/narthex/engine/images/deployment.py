"""An image model of this server as a deployment of `/v1/images/generations`."""

import binascii
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from narthex.core.capabilities import Capabilities, Limited, State, Verdict
from narthex.core.deployments import Local
from narthex.core.errors import EngineUnavailable
from narthex.core.images import ImagesRequest
from narthex.core.ports import Call, Ensure, Opened, Stream
from narthex.core.stream import Event, Frame, ImagePartial, ImageReady, ImageTraits, Usage, UsageReported
from narthex.engine.images.draw import Accepted, DrawCall, Drawing, Drawn, Painter


def _opaque(value: Any) -> None:
    if value == "transparent":
        raise Verdict("background", "Images that are made here have no transparent parts.")


IMAGES: Capabilities = {
    **dict.fromkeys(
        (
            "prompt", "model", "n", "size", "quality", "output_format", "output_compression", "stream",
            "partial_images", "negative_prompt", "steps", "sampler", "seed",
        ),
        State.NATIVE,
    ),
    "response_format": State.EMULATED,
    "background": Limited(limits="opaque only", check=_opaque),
    "moderation": State.NO_EFFECT,
    "user": State.NO_EFFECT,
}  # fmt: skip
"""What every image model here honours; `style` is refused."""


class ImagesDeployment(Local):
    """Answers with one model's process, which is started when it isn't there."""

    def __init__(self, model: str, painter: Painter, *, child: str, ensure: Ensure) -> None:
        super().__init__(model, surface="images", honoured=IMAGES)
        self._painter = painter
        self._child = child
        self._ensure = ensure

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        request = call.request
        assert isinstance(request, ImagesRequest)  # noqa: S101 - the router asks for no other surface
        asked = _draw_call(request, key=call.principal.key.id)
        async with AsyncExitStack() as stack:
            try:
                drawing = await stack.enter_async_context(self._painter.draw(asked))
            except EngineUnavailable:
                await self._ensure(self._child)
                drawing = await stack.enter_async_context(self._painter.draw(asked))
            yield _frames(request, drawing)


def _draw_call(request: ImagesRequest, *, key: str) -> DrawCall:
    fields = request.fields
    return DrawCall(
        job=0,
        key=key,
        prompt=request.prompt,
        negative=fields.get("negative_prompt", ""),
        size=request.size,
        n=request.n,
        steps=fields.get("steps"),
        quality=request.quality,
        sampler=fields.get("sampler"),
        seed=fields.get("seed"),
        partials=request.partial_images,
        output=fields.get("output_format", "png"),
        compression=fields.get("output_compression", 100),
    )


async def _frames(request: ImagesRequest, drawing: Drawing) -> AsyncIterator[Frame]:
    traits = _traits(request, drawing.accepted)
    usage = Usage(prompt_tokens=drawing.accepted.tokens)
    told: Usage | None = usage  # each image of a stream tells its usage, and the prompt counts once
    async for drawn in drawing.images:
        yield Frame.of(_event(drawn, traits, told))
        if drawn.partial is None:
            told = None
    yield Frame.of(UsageReported(usage))


def _event(drawn: Drawn, traits: ImageTraits, usage: Usage | None) -> Event:
    b64 = binascii.b2a_base64(drawn.data, newline=False).decode()
    if drawn.partial is not None:
        return ImagePartial(index=drawn.partial, b64=b64, traits=traits)
    return ImageReady(b64=b64, traits=traits, usage=usage)


def _traits(request: ImagesRequest, accepted: Accepted) -> ImageTraits:
    return ImageTraits(
        size=accepted.size,
        quality=request.quality,
        background="opaque",
        output_format=request.output_format,
    )
