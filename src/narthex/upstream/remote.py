"""A deployment on somebody else's server: its codec, its connections, and the clocks of a stream.

Source: ARCHITECTURE D4. The clocks run on frames: what a server sends to keep a connection alive resets none of them.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Protocol

import msgspec

from narthex.core.capabilities import Capabilities
from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.errors import UpstreamError, UpstreamTimeout
from narthex.core.ports import Call, Exchange, Opened, Request, Send, Stream, Surface
from narthex.core.stream import Frame
from narthex.ipc.deadline import Deadline


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

    def parse_error(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> UpstreamError:
        """The error that an answer other than 200 stands for."""
        ...

    def continues(self, request: Request) -> bool:
        """Whether it can ask the server to go on with the beginning of an answer that the request has."""
        ...

    def capabilities(self) -> Capabilities:
        """What the server honours."""
        ...


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """How long a deployment may take, in seconds: until the first frame, and between frames. None: as long as asked.

    With a limit for the first frame every answer is asked for as a stream. Of an answer that is not, the second clock
    runs between the pieces in which it arrives.
    """

    first_token_s: float | None = None
    idle_s: float | None = None


class RemoteDeployment:
    """One model on one server."""

    def __init__(self, provider: str, model: str, *, codecs: dict[Surface, Codec], send: Send, clocks: Clocks) -> None:
        self._name = f"{provider}/{model}"
        self._model = model
        self._codecs = codecs
        self._send = send
        self._clocks = clocks
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def name(self) -> str:
        """See `Deployment.name`."""
        return self._name

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
        return self._open(call, self._codecs[call.surface])

    @asynccontextmanager
    async def _open(self, call: Call, codec: Codec) -> AsyncIterator[Stream]:
        loop = self._loop = self._loop or asyncio.get_running_loop()  # kept, because it takes a system call to find
        first_token_s = self._clocks.first_token_s
        request = call.request
        if first_token_s is not None or call.paced:
            request = _as_stream(request)
        body = codec.build(request, model=self._model)
        clock = Deadline(None if first_token_s is None else loop.time() + first_token_s, loop=loop)
        try:
            async with clock, self._send("POST", codec.path, body) as answer:
                if answer.status != 200:
                    raise codec.parse_error(answer.status, answer.headers, await answer.read())
                yield self._frames(answer, codec.decoder(request), _Idle(clock, self._clocks.idle_s, loop))
        except TimeoutError:
            raise UpstreamTimeout from None

    async def _frames(self, answer: Exchange, decoder: Decoder, idle: "_Idle") -> AsyncIterator[Frame]:
        begun = False
        async for data in answer.chunks():
            for frame in decoder.feed(data):
                begun = True
                idle.stop()  # while our caller reads, nobody waits for the server
                yield frame
                idle.start()
            if not begun and data[:1] == b"{":  # a document, which comes in one go once it has begun
                idle.start()
        for frame in decoder.end():
            yield frame


class _Idle:
    """The clock between two frames."""

    __slots__ = ("_clock", "_idle_s", "_now")

    def __init__(self, clock: Deadline, idle_s: float | None, loop: asyncio.AbstractEventLoop) -> None:
        self._clock = clock
        self._idle_s = idle_s
        self._now = loop.time

    def start(self) -> None:
        """Somebody waits for the server."""
        self._clock.set(None if self._idle_s is None else self._now() + self._idle_s)

    def stop(self) -> None:
        """Nobody does."""
        self._clock.set(None)


def _as_stream(request: Request) -> Request:
    """The same, answered piece by piece: of a text that comes whole nobody could say when it began."""
    if isinstance(request, ChatRequest | CompletionRequest) and not request.stream:
        return msgspec.structs.replace(request, stream=True)
    return request
