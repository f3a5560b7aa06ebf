"""From a model's name to the deployment that answers; nothing is sent on before its first output (the commit point).

Source: ARCHITECTURE D3 and D4.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import NoReturn

import msgspec

from narthex.core import capabilities
from narthex.core.errors import InvalidRequest, ModelNotFound, NarthexError, UpstreamTimeout
from narthex.core.models import ModelCard
from narthex.core.ports import Call, Deployment, Opened, Stream
from narthex.core.stream import Frame

ANY = "*"
"""The name that stands for every model that has no row of its own."""


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """A public model: its card, and the deployments that may answer, in order of preference.

    `exists` tells whether it is still there: a local model can be deleted while we serve.
    """

    card: ModelCard
    deployments: tuple[Deployment, ...]
    exists: Callable[[], bool] = lambda: True


class Router:
    """Opens calls on deployments. `routes` is one snapshot: it is never changed, only replaced."""

    def __init__(self, routes: Mapping[str, Route], *, total_s: float) -> None:
        self.routes = routes
        self._total_s = total_s

    def route(self, model: str) -> Route:
        """The row of a name.

        Raises:
            ModelNotFound: there is none.
        """
        route = self.routes.get(model) or self.routes.get(ANY)
        if route is None or not route.exists():
            raise ModelNotFound.named(model)
        return route

    def open(self, call: Call) -> Opened:
        """The `Handler` at the end of all policies. The whole request has `total_s` seconds."""
        return self._open(call)

    @asynccontextmanager
    async def _open(self, call: Call) -> AsyncIterator[Stream]:
        deadline = asyncio.get_running_loop().time() + self._total_s
        last: NarthexError | None = None
        committed = False
        for deployment in self._able(call):
            call.deployment, call.fingerprint = deployment.name, deployment.fingerprint
            try:
                async with asyncio.timeout_at(deadline), deployment.open(call) as frames:
                    held = await _first_output(frames)
                    stream = _committed(held, frames)
                    committed = True
                    try:
                        yield stream
                    finally:
                        await stream.aclose()
                    return
            except TimeoutError:
                raise UpstreamTimeout(f"The request took longer than {self._total_s:g} s.") from None
            except NarthexError as error:
                if not error.retryable or committed:
                    raise
                last = error
        _give_up(last)

    def _able(self, call: Call) -> Sequence[Deployment]:
        """The deployments that can honour the call.

        Raises:
            UnsupportedParameter: there is none; names the field that stands in the way of the first.
            InvalidRequest: the model does not serve this surface at all.
        """
        route = self.route(call.request.model)
        able, refusals = [], []
        for deployment in route.deployments:
            honoured = deployment.capabilities(call.surface)
            if honoured is None:
                continue
            refusal = capabilities.refusal(call.request.fields, honoured, model=call.request.model)
            if refusal is None:
                able.append(deployment)
            else:
                refusals.append(refusal)
        if not able and refusals:
            raise refusals[0]
        if not able:
            message = f"The model '{call.request.model}' is not a model for {call.surface}."
            raise InvalidRequest(message, param="model", code="unsupported_value")
        honoured = able[0].capabilities(call.surface) or {}
        call.ignored += capabilities.without_effect(call.request.fields, honoured)
        return able


def _give_up(last: NarthexError | None) -> NoReturn:
    if last is None:
        raise NarthexError("no deployment was tried")
    raise last


async def _first_output(frames: Stream) -> list[Frame]:
    """The frames up to the first that a caller would see; before it the attempt can still be replaced."""
    held: list[Frame] = []
    async for frame in frames:
        held.append(frame)
        if frame.has_output:
            break
    return held


async def _committed(held: list[Frame], frames: Stream) -> AsyncGenerator[Frame, None]:
    for frame in held:
        yield frame
    async for frame in frames:
        yield frame
