"""The seams: what the parts may ask of each other. Whoever implements one is chosen in `app` and nowhere else."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Literal, Protocol

import msgspec

from narthex.core.attempts import Attempt
from narthex.core.capabilities import Capabilities
from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.constrained import Constraint
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import NarthexError
from narthex.core.grounding import Grounded
from narthex.core.images import ImagesRequest
from narthex.core.keys import Principal
from narthex.core.speech import SpeechRequest
from narthex.core.stream import Frame, Pulse, Splice

Request = ChatRequest | CompletionRequest | EmbeddingsRequest | ImagesRequest | SpeechRequest
Surface = Literal["chat", "completions", "embeddings", "images", "speech"]

Stream = AsyncIterator[Frame]
Opened = AbstractAsyncContextManager[Stream]
"""A stream is opened with `async with`; leaving the block stops all work for it, whoever leaves and why."""


OnAnswer = Callable[[Frame | None], None]
"""Is told, once, of an answer that came whole, in one frame; None: it did not, and is to be waited for."""


class Prompt(AbstractAsyncContextManager[Stream]):
    """An `Opened` that may be asked before anybody waits for it: nearly all answers come whole, and soon."""

    __slots__ = ()

    @abstractmethod
    def ask(self, told: OnAnswer) -> bool:
        """Ask now, if that takes no waiting; `told` hears of it later. Whether it was asked.

        The block can still be entered, unless `told` has the answer: then it has ended.
        """

    @abstractmethod
    def hush(self, held: Sequence[Frame] = (), error: Exception | None = None) -> None:
        """Tell nothing any more: the block will be entered. It begins with `held`, and fails with `error`, if given."""

    @abstractmethod
    def stream(self, sink: "Sink", pulse: Pulse, stopped: Callable[[], None]) -> bool:
        """Ask now, if that takes no waiting, and give the sink what goes on with the answer, as it comes. Whether it
        was asked. `stopped` is called once, in a later turn of the loop, when there is more to say than that.
        """

    @abstractmethod
    def rest(self) -> Sequence[Frame] | None:
        """After that: what follows up to the answer's end, if it is here and well; the block has ended then. None: the
        block is to be entered.
        """


class Sink(Protocol):
    """Where what goes on with an answer is written in the very callback that brings it, if nobody has to wait for that.

    Both ways of giving it something tell whether it takes more; else wait for the reader before you give it more.
    """

    def take(self, frame: Frame) -> bool:
        """Write a frame that neither finishes a choice nor tells the usage."""
        ...

    def alike(self, frame: Frame) -> Splice | None:
        """How the frames are written that differ from the one it has just taken in nothing but a text; None: each has
        to be looked at.
        """
        ...

    def pass_on(self, chunk: bytes) -> bool:
        """Send events that were written by a splice, as HTTP's chunks."""
        ...


class Relaying:
    """A stream that can give a sink what goes on with the answer, as it comes, where nobody is to look at it."""

    __slots__ = ()

    async def hand_over(self, sink: Sink, pulse: Pulse) -> None:
        """Until something else comes, or the sink takes no more; `anext` tells what that is, and raises what it may.

        Raises:
            NarthexError: what was given can't be read.
        """


class Call:
    """One request on its way through the policies: what was asked, by whom, and what the answer must tell.

    `ignored` names the fields that had no effect; `forgotten` counts messages that were left out, as was asked for.
    `deployment`, `fingerprint` and `attempts` (in their order, with the one under way) are set by the router, and so is
    `paced`: clocks run on single pieces of the answer, so it has to be generated piece by piece even if the caller gets
    it whole. `grounded`: what documents gave, where they were asked.
    """

    __slots__ = (
        "_on_behalf", "attempts", "deployment", "fingerprint", "forgotten", "grounded", "id", "ignored", "paced",
        "principal", "request", "started_s", "surface",
    )  # fmt: skip

    def __init__(
        self,
        request: Request,
        *,
        id: str,  # noqa: A002 - the field's own name
        surface: Surface,
        principal: Principal,
        started_s: float,
    ) -> None:
        self.id = id
        self.surface = surface
        self.principal = principal
        self.request = request
        self.started_s = started_s
        self.ignored: list[str] = []
        self.paced = False
        self.attempts: tuple[Attempt, ...] = ()
        self.deployment = ""
        self.fingerprint: str | None = None
        self.grounded: Grounded | None = None
        self.forgotten = 0
        self._on_behalf: Call | None = None

    def asking(self, request: Request) -> "Call":
        """The same call for something else, with an account of its own."""
        other = Call(request, id=self.id, surface=self.surface, principal=self.principal, started_s=self.started_s)
        other.paced = self.paced
        other.forgotten = self.forgotten
        other._on_behalf = self
        return other

    def ignore(self, name: str) -> None:
        """Name what turned out to have no effect; so it is told of the calls on whose behalf this one asks, too."""
        self.ignored.append(name)
        if self._on_behalf is not None:
            self._on_behalf.ignore(name)

    def forget(self, number: int) -> None:
        """Tell how many messages are left out; so it is told of the calls on whose behalf this one asks, too."""
        self.forgotten = number
        if self._on_behalf is not None:
            self._on_behalf.forget(number)


Handler = Callable[[Call], Opened]
Policy = Callable[[Call, Handler], Opened]


class Clocks(msgspec.Struct, frozen=True, kw_only=True):
    """How long a deployment may take, in seconds: until the first output, and between frames. None: as long as asked.

    What a server sends to keep a connection alive is no frame, and resets no clock.
    """

    first_token_s: float | None = None
    idle_s: float | None = None


NO_CLOCKS = Clocks()


class Deployment(Protocol):
    """One place that can answer for a model."""

    @property
    def name(self) -> str:
        """`provider/model`, as logs and metrics show it."""
        ...

    @property
    def clocks(self) -> Clocks:
        """The limits that its provider sets; the router keeps them."""
        ...

    @property
    def fingerprint(self) -> str | None:
        """`system_fingerprint` of its answers; stable until engine, model file or defaults change (contract Q30)."""
        ...

    def capabilities(self, surface: Surface) -> Capabilities | None:
        """What it honours on a surface; None where it doesn't serve that surface at all."""
        ...

    def continues(self, call: Call) -> bool:
        """Whether it can go on with the beginning of an answer, which the call's request has (`ChatRequest.begun`)."""
        ...

    def open(self, call: Call) -> Opened:
        """Begin to answer. Raises `NarthexError` before the first frame, or between frames; never a foreign error."""
        ...


class StreamEncoder(Protocol):
    """Writes one answer as a stream, in a dialect's wire form."""

    def encode(self, frame: Frame) -> bytes:
        """The bytes of one frame; may be empty."""
        ...

    def alike(self, frame: Frame) -> Splice | None:
        """See `Sink.alike`; of the frame that was encoded last."""
        ...

    def end(self) -> bytes:
        """What comes after the last frame. Raises `OutOfOrder` when a choice has not finished."""
        ...

    def error(self, error: NarthexError) -> bytes:
        """An error after the stream has begun; nothing follows it."""
        ...


class Decoded(msgspec.Struct, frozen=True):
    """A request as a dialect read it, and the unknown fields that a lenient key let pass."""

    request: Request
    ignored: tuple[str, ...] = ()


class Dialect(Protocol):
    """One API surface as a caller sees it. Pure: bytes in, bytes out."""

    surface: Surface

    def decode(self, body: bytes, *, profile: str, strict: bool) -> Decoded:
        """The canonical request of a body; in any thread. Raises `RequestError` naming the field at fault."""
        ...

    def encoder(self, call: Call, *, created: int) -> StreamEncoder:
        """Writes the answer to one call as a stream."""
        ...

    def encode_answer(self, call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
        """The whole answer as one body. Raises `OutOfOrder` when the frames are no complete answer."""
        ...


class Templates(Protocol):
    """Renders chat templates, somewhere safe."""

    async def render(self, template: str, variables: Mapping[str, Any]) -> str:
        """The rendered text. Raises `InvalidRequest` for what the template refuses, `EngineUnavailable` past limits."""
        ...

    async def render_brought(self, template: str, variables: Mapping[str, Any], *, most_chars: int) -> str:
        """The same of a template that a request brings: whatever it does, it does to nobody else.

        Raises:
            InvalidRequest: it can't be rendered, or not within limits; `param` is the template's field.
            EngineUnavailable: nothing renders now.
        """
        ...


class Grammars(Protocol):
    """Compiles what output is constrained by and checks finished texts by it, somewhere safe."""

    def of(self, owner: str) -> "Grammars":
        """The same for one owner, by any name. Owners take turns: none waits for all that another asks for."""
        ...

    async def rule(self, schema: bytes, *, path: str) -> str:
        """The right-hand side of a llguidance Lark rule for exactly the JSON texts of a schema, in one layout.

        `schema`: JSON text. `path`: where it stands in the request, e.g. `tools[2].function.parameters`.

        Raises:
            InvalidRequest: it is malformed, beyond the limits, or can't be held; `param`: `path` and the place in it.
            EngineUnavailable: the compiler can't be asked now.
        """
        ...

    async def fault(self, schema: bytes, text: str) -> str | None:
        """Why a finished text is not valid by a schema, in short and with the place; None if it is.

        Raises:
            InvalidRequest: the schema itself can't be read, or the check took too long.
            EngineUnavailable: the compiler can't be asked now.
        """
        ...

    async def rule_of(self, constraint: Constraint) -> str:
        """The right-hand side of a rule for texts of a constraint, and none but those.

        Further rules, whose names begin with `form_`, may follow it on lines of their own.

        Raises:
            InvalidRequest: as `rule`; the place is only named within schemas.
            EngineUnavailable: as `rule`.
        """
        ...

    async def fault_of(self, constraint: Constraint, text: str, *, cut: bool = False) -> str | None:
        """Why a finished text is not what a constraint asks for, in short; None if it is.

        `cut`: it only has to be the beginning of that, as the constraint's rule has it.

        Raises:
            RequestError: as `fault`.
        """
        ...


class Intake(Protocol):
    """Takes a body as it comes. `last_s`: when it last took something, as a time of the loop."""

    running: bool
    """Whether it takes what comes; once stopped it never does again."""

    @property
    def last_s(self) -> float:
        """When something of use came last, as a time of the loop."""
        ...

    def passes(self, piece: bytes) -> bytes:
        """Pass on what it can of a piece that came in; what is left has to be read."""
        ...

    def feed(self, body: bytes, piece: bytes) -> None:
        """Take what a piece brought of the body."""
        ...

    def stop(self) -> None:
        """Something has come, or happened, that is not for it."""
        ...


class Exchange(Protocol):
    """An answer of an upstream, from its head on."""

    status: int

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """With names in lower case."""
        ...

    def receive(self) -> Awaitable[bytes]:
        """The body's next bytes; b"" at its end. Raises `UpstreamError`."""
        ...

    def divert(self, intake: Intake | None) -> None:
        """Have the body fed to it until one of them has enough of that; `receive` goes on from there. None: no more."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body, as it comes. Raises `UpstreamError`."""
        ...

    async def read(self) -> bytes:
        """The whole body. Raises `UpstreamError`."""
        ...


class Send(Protocol):
    """Sends one request to an upstream; leaving the block before the body's end hangs up."""

    def __call__(
        self, method: str, path: str, body: bytes | None = None, *, headers: Sequence[tuple[str, str]] = ()
    ) -> AbstractAsyncContextManager[Exchange]:
        """Raises `UpstreamError` when there is no answer."""
        ...


Connect = Callable[[str], Send]
"""Makes connections to an address (`http://host:port`, `https://…`, `unix:/path`); whoever hands it out closes them."""

Ensure = Callable[[str], Awaitable[None]]
"""Waits until a child of the given name is ready. Raises `EngineError` when it can't be."""
