"""A deployment on somebody else's server: its codec and its connections. Source: ARCHITECTURE D4."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Any, Protocol

import msgspec
from typing_extensions import override

from narthex.core.capabilities import Capabilities
from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.errors import UpstreamError
from narthex.core.extras import HEADERS, hide
from narthex.core.ports import (
    NO_CLOCKS,
    Call,
    Clocks,
    Exchange,
    OnAnswer,
    Opened,
    Prompt,
    Relaying,
    Request,
    Send,
    Sink,
    Stream,
    Surface,
)
from narthex.core.stream import Frame, Pulse
from narthex.upstream.client import Sending
from narthex.upstream.relay import Relay

LAST_S = 2.0
"""How long to wait for what follows the end of an answer."""


class Decoder(Protocol):
    """Turns the bytes of one answer into frames. Both iterators are to be exhausted."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes. Raises `UpstreamError` for what can't be read and for error events."""
        ...

    def end(self) -> Iterator[Frame]:
        """The last frames. Raises `UpstreamError` when the answer was cut."""
        ...


class Codec(Protocol):
    """One provider's wire format for one surface."""

    path: str

    def build(self, request: Request, *, model: str) -> bytes:
        """The body to send."""
        ...

    def decoder(self, request: Request) -> Decoder:
        """A decoder of the answer to it."""
        ...

    def read(self, request: Request, body: bytes) -> Frame | None:
        """What its decoder makes of a whole answer to it, if that is a single frame of output.

        None, or an error as of the decoder: something else.
        """
        ...

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """The error that an answer other than 200 stands for."""
        ...

    def continues(self, request: Request) -> bool:
        """Whether it can ask the server to go on with the beginning of an answer that the request has."""
        ...

    def capabilities(self) -> Capabilities:
        """What the server honours."""
        ...


class RemoteDeployment:
    """One model on one server."""

    def __init__(
        self, provider: str, model: str, *, codecs: dict[Surface, Codec], send: Send, clocks: Clocks = NO_CLOCKS
    ) -> None:
        """`clocks`: with a limit for the first output every text is asked for as a stream: of one that comes whole
        nobody could say when it began.
        """
        self.name = f"{provider}/{model}"
        self.clocks = clocks
        self._model = model
        self._codecs = codecs
        self._send = send

    @property
    def fingerprint(self) -> str | None:
        """Their own, where they send one, is not ours to vouch for."""
        return None

    def capabilities(self, surface: Surface) -> Capabilities | None:
        """See `Deployment.capabilities`."""
        codec = self._codecs.get(surface)
        return None if codec is None else codec.capabilities()

    def continues(self, call: Call) -> bool:
        """See `Deployment.continues`."""
        codec = self._codecs.get(call.surface)
        return codec is not None and codec.continues(call.request)

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        codec, request = self._codecs[call.surface], call.request
        if call.paced or self.clocks.first_token_s is not None:
            request = _as_stream(request)
        body = codec.build(request, model=self._model)
        added = request.fields.get(HEADERS)
        if added:
            return _Answer(codec, request, self._send("POST", codec.path, body, headers=tuple(added.items())))
        return _Answer(codec, request, self._send("POST", codec.path, body))


class _Answer(Prompt, Relaying):
    """One request to the server: the block has its answer's frames, as its bytes come.

    Once the only choice has finished, nothing but usage and an end mark is to come. Whoever says nothing then, breaks
    off or goes on for ever has answered all the same.
    """

    __slots__ = (
        "_answer",
        "_codec",
        "_decoder",
        "_ended",
        "_exchange",
        "_here",
        "_is_fed",
        "_relay",
        "_request",
        "_told",
        "_until_s",
    )

    def __init__(self, codec: Codec, request: Request, exchange: AbstractAsyncContextManager[Exchange]) -> None:
        self._codec = codec
        self._request = request
        self._exchange = exchange
        self._here: Iterator[Frame] = iter(())
        self._ended = False
        self._until_s: float | None = None
        self._told: OnAnswer | None = None
        self._relay: Relay | None = None
        self._is_fed = False

    @override
    def ask(self, told: OnAnswer) -> bool:
        """See `Prompt`."""
        exchange = self._exchange
        if not isinstance(exchange, Sending) or not exchange.ask(self._heard):
            return False
        self._told = told
        return True

    @override
    def hush(self, held: Sequence[Frame] = (), error: Exception | None = None) -> None:
        """See `Prompt`."""
        self._told = None
        relay, exchange = self._relay, self._exchange
        if relay is None or not isinstance(exchange, Sending):
            return
        exchange.keep()
        relay.stop()
        self._here = _following(held, self._here, relay.rest, error or relay.ended.exception())
        self._relay, self._is_fed = None, True

    @override
    def stream(self, sink: Sink, pulse: Pulse, stopped: Callable[[], None]) -> bool:
        """See `Prompt`."""
        exchange = self._exchange
        if not isinstance(exchange, Sending):
            return False
        self._decoder = self._codec.decoder(self._request)
        relay = Relay(self._decoder, sink, pulse, loop=asyncio.get_running_loop())
        if not exchange.feed(relay):
            return False
        self._relay = relay
        relay.ended.add_done_callback(lambda _: stopped())
        return True

    @override
    def rest(self) -> Sequence[Frame] | None:
        """See `Prompt`."""
        relay, exchange = self._relay, self._exchange
        if relay is None or not isinstance(exchange, Sending) or relay.ended.exception() is not None:
            return None
        body = exchange.last()
        if body is None:
            return None
        frames: list[Frame] = []
        try:
            frames.extend(relay.rest)
            if body:
                frames.extend(self._decoder.feed(body))
            frames.extend(self._decoder.end())
        except Exception as error:  # noqa: BLE001 - raised in the task that waits
            self._here, relay.rest = _following(frames, (), (), error), iter(())  # what came before it is told before
            return None
        exchange.done()
        self._relay = None
        return frames

    def _heard(self, body: bytes | None) -> None:
        told, self._told = self._told, None
        if told is None:
            return
        frame = None if body is None else self._read(body)
        if frame is not None and isinstance(self._exchange, Sending):
            self._exchange.done()
        told(frame)

    def _read(self, body: bytes) -> Frame | None:
        """The only frame of a whole answer; None: it is read again by who waits for it, and learns what is wrong."""
        try:
            return self._codec.read(self._request, body)
        except Exception:  # noqa: BLE001 - see above: it is raised then, where it can be told
            return None

    @override
    async def __aenter__(self) -> Stream:
        answer = self._answer = await self._exchange.__aenter__()
        if answer.status == 200:
            if not self._is_fed:
                self._decoder = self._codec.decoder(self._request)
            return self
        try:
            refusal = self._codec.parse_error(answer.status, answer.headers, await answer.read())
            hide(refusal, self._request.fields)
            error: BaseException = refusal
        except BaseException as other:  # noqa: BLE001 - raised below
            error = other
        await self._exchange.__aexit__(type(error), error, error.__traceback__)
        raise error

    @override
    def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> Coroutine[Any, Any, bool | None]:
        return self._exchange.__aexit__(kind, error, trace)

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        while True:
            for frame in self._here:
                if frame.finishes and not self._ended and _choices(self._request) == 1:
                    self._until_s = asyncio.get_running_loop().time() + LAST_S
                return frame
            if self._ended:
                raise StopAsyncIteration
            if data := await (self._answer.receive() if self._until_s is None else self._last()):
                self._here = self._decoder.feed(data)
            else:
                self._ended = True
                self._here = self._decoder.end()

    @override
    async def hand_over(self, sink: Sink, pulse: Pulse) -> None:
        """See `Relaying`."""
        if self._ended or self._until_s is not None:
            return
        relay = Relay(self._decoder, sink, pulse, loop=asyncio.get_running_loop())
        try:
            relay.take(self._here)
            if relay.running:
                self._answer.divert(relay)
                await relay.ended
        finally:
            self._answer.divert(None)
            self._here = relay.rest

    async def _last(self) -> bytes:
        waiting = self._answer.receive()
        try:
            if isinstance(waiting, asyncio.Future) and waiting.done():  # nearly always: it came with the finish
                data: bytes = waiting.result()
                return data
            async with asyncio.timeout_at(self._until_s):
                return await waiting
        except (UpstreamError, TimeoutError):
            return b""


def _following(
    held: Iterable[Frame], before: Iterable[Frame], rest: Iterable[Frame], error: BaseException | None
) -> Iterator[Frame]:
    """One after the other, and then the error, if any."""
    yield from held
    yield from before
    yield from rest
    if error is not None:
        raise error


def _choices(request: Request) -> int:
    """How many are to finish; 0 where that is nothing to go by."""
    if isinstance(request, ChatRequest):
        return request.sampling.n
    if isinstance(request, CompletionRequest):
        return len(request.prompts) * max(request.sampling.n, request.best_of)
    return 0


def _as_stream(request: Request) -> Request:
    """The same, answered piece by piece."""
    if isinstance(request, ChatRequest | CompletionRequest) and not request.stream:
        return msgspec.structs.replace(request, stream=True)
    return request
