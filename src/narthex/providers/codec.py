"""What every codec here is. The deployments that use them say the same of what they take. No I/O."""

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar

from narthex.core.capabilities import Capabilities
from narthex.core.errors import NarthexError, UpstreamError
from narthex.core.ports import Request
from narthex.core.stream import Frame

_Kind = TypeVar("_Kind", bound=Request)


class AnswerDecoder(Protocol):
    """See `Decoder` of the deployments."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that `data` completes."""
        ...

    def end(self) -> Iterator[Frame]:
        """The last frames."""
        ...


class AnyCodec(Protocol):
    """See `Codec` of the deployments."""

    path: str

    def build(self, request: Request, *, model: str) -> bytes:
        """The body to send."""
        ...

    def decoder(self, request: Request) -> AnswerDecoder:
        """A decoder of the answer to it."""
        ...

    def read(self, request: Request, body: bytes) -> Frame | None:
        """What its decoder makes of a whole answer to it, if that is a single frame of output.

        None, or an error as of a decoder: something else.
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


class _Decodes(Protocol):
    def decoder(self, request: Request) -> AnswerDecoder: ...


class UsualCodec:
    """What most codecs do alike: a whole answer is read by the decoder, and no beginning of one can be gone on with."""

    def read(self: _Decodes, request: Request, body: bytes) -> Frame | None:
        """See `AnyCodec.read`."""
        return only_frame(self.decoder(request), body)

    def continues(self, request: Request) -> bool:
        """See `AnyCodec.continues`."""
        return False


def only_frame(decoder: AnswerDecoder, body: bytes) -> Frame | None:
    """See `AnyCodec.read`."""
    frames = [*decoder.feed(body), *decoder.end()]
    return frames[0] if len(frames) == 1 and frames[0].has_output else None


def of_kind(request: Request, kind: type[_Kind]) -> _Kind:
    """The request of a codec's own kind.

    Raises:
        NarthexError: it is for another surface.
    """
    if not isinstance(request, kind):
        raise NarthexError(f"this codec takes a {kind.__name__}")
    return request
