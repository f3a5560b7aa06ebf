"""The stream between providers and dialects: frames, the events they hold, and which event may follow which.

Rule 1: what may follow what stands in ORDER below and nowhere else.
Rule 2: a stream ends well only when something was answered and every choice that began has finished; anything else is
an error and no silent end.
"""

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
from msgspec import UnsetType

FinishReason = Literal["stop", "length", "tool_calls", "content_filter", "function_call"]


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """Tokens of one answer. `completion_tokens` is the sum over its choices; the prompt counts once (contract 1.3)."""

    prompt_tokens: int
    completion_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    prompt_image_tokens: int = 0
    completion_image_tokens: int = 0
    prompt_audio_tokens: int = 0
    completion_audio_tokens: int = 0

    @property
    def total_tokens(self) -> int:
        """Prompt and completion together."""
        return self.prompt_tokens + self.completion_tokens


class UsageGoingOn(Usage, frozen=True, kw_only=True):
    """Of an attempt that went on with an answer: `begun_tokens` of its prompt's are what there was of that."""

    begun_tokens: int


class TokenLogprob(msgspec.Struct, frozen=True, kw_only=True):
    r"""A chosen token with its log probability and its rivals, best first.

    `token`: its text; bytes that are no whole characters are written as `\xf0\x9f`. `logprob`: None of the first token
    of an echoed prompt, which nothing comes before. `bytes_`: None of control tokens, which are no text.
    """

    token: str
    logprob: float | None
    bytes_: bytes | None = None
    top: tuple["TokenLogprob", ...] = ()

    @property
    def data(self) -> bytes:
        """What it adds to a text."""
        return self.token.encode() if self.bytes_ is None else self.bytes_


class ChoiceStarted(msgspec.Struct, frozen=True):
    """A choice begins; sent once for each, before anything else of it."""

    choice: int


class TextDelta(msgspec.Struct, frozen=True):
    """More text of a choice."""

    choice: int
    text: str
    logprobs: tuple[TokenLogprob, ...] | None = None


class ReasoningDelta(msgspec.Struct, frozen=True):
    """More of what the model thinks before it answers."""

    choice: int
    text: str


class RefusalDelta(msgspec.Struct, frozen=True):
    """More of a refusal's text."""

    choice: int
    text: str


class ToolCallDelta(msgspec.Struct, frozen=True, kw_only=True):
    """A tool call begins (`id` and `name` set) or its arguments grow."""

    choice: int
    call: int
    id: str | None = None
    name: str | None = None
    arguments: str = ""


class AudioDelta(msgspec.Struct, frozen=True, kw_only=True):
    """More of a choice that is spoken: first its `id`, then what is said and how it sounds, at last until when the id
    may be named (unix seconds). Transcript and sound need not keep step. A sound that is told whole may come `encoded`,
    as JSON, in base64 and quotes, in place of its `data`: it is long, and was encoded while it was made.
    """

    choice: int
    id: str | None = None
    transcript: str = ""
    data: bytes = b""
    encoded: bytes = b""
    expires_at: int | None = None


class ChoiceFinished(msgspec.Struct, frozen=True):
    """A choice has ended, and why."""

    choice: int
    reason: FinishReason


class UsageReported(msgspec.Struct, frozen=True):
    """What the whole answer used; the last event of a stream."""

    usage: Usage


class EmbeddingsReady(msgspec.Struct, frozen=True):
    """All vectors of an embeddings call, each `dimensions` float32 little-endian values, in the order of the inputs."""

    vectors: tuple[bytes, ...]


class SoundDelta(msgspec.Struct, frozen=True):
    """More of a sound, in the format that was asked for."""

    data: bytes


class ImageTraits(msgspec.Struct, frozen=True, kw_only=True):
    """What a server says of an image that it made, in the words of the request's fields; None where it says nothing."""

    size: str | None = None
    quality: str | None = None
    background: str | None = None
    output_format: str | None = None


class ImagePartial(msgspec.Struct, frozen=True, kw_only=True):
    """An image as far as it is drawn, in base64; `index` counts these from 0."""

    index: int
    b64: str
    traits: ImageTraits = ImageTraits()


class ImageReady(msgspec.Struct, frozen=True, kw_only=True):
    """One image, whole: in base64, or where we keep it (`url`, and then nothing in base64).

    `usage`: of this image alone, where a stream tells it.
    """

    b64: str = ""
    url: str = ""
    revised_prompt: str | None = None
    traits: ImageTraits = ImageTraits()
    usage: Usage | None = None


Event = (
    ChoiceStarted
    | TextDelta
    | ReasoningDelta
    | RefusalDelta
    | ToolCallDelta
    | AudioDelta
    | ChoiceFinished
    | UsageReported
    | EmbeddingsReady
    | ImagePartial
    | ImageReady
    | SoundDelta
)
Delta = TextDelta | ReasoningDelta | RefusalDelta | ToolCallDelta | AudioDelta
OfAChoice = ChoiceStarted | Delta | ChoiceFinished
OfNoChoice = UsageReported | EmbeddingsReady | ImagePartial | ImageReady | SoundDelta

_DELTAS: tuple[type[Any], ...] = (TextDelta, ReasoningDelta, RefusalDelta, ToolCallDelta, AudioDelta)
_WHILE_RUNNING: tuple[type[Any], ...] = (
    ChoiceStarted,
    *_DELTAS,
    ChoiceFinished,
    EmbeddingsReady,
    ImagePartial,
    ImageReady,
    SoundDelta,
)

ORDER: dict[str, dict[type[Any], str]] = {
    # of one choice
    "idle": {ChoiceStarted: "open"},
    "open": dict.fromkeys(_DELTAS, "open") | {ChoiceFinished: "finished"},
    "finished": {},
    # of the whole stream
    "running": dict.fromkeys(_WHILE_RUNNING, "running") | {UsageReported: "reported"},
    "reported": {},
}


def one_of(event: OfAChoice, number: int, *, count: int) -> Event:
    """An event of a prompt's only choice as that of its choice `number`, of `count` that stand together."""
    return msgspec.structs.replace(event, choice=event.choice * count + number)


class OutOfOrder(Exception):
    """An event came where ORDER does not allow it, or the stream ended too early."""


class OrderCheck:
    """Holds a stream against ORDER. Used by every test of a stream, and on streams that come from outside."""

    def __init__(self) -> None:
        self._stream = "running"
        self._choices: dict[int, str] = {}
        self._answered = False

    def feed(self, events: Iterable[Event]) -> None:
        """Check the next events.

        Raises:
            OutOfOrder: at the first that may not follow.
        """
        for event in events:
            self._stream = self._next(self._stream, event)
            if isinstance(event, UsageReported | ImagePartial):  # neither is an answer
                continue
            self._answered = True
            if not isinstance(event, OfNoChoice):
                self._choices[event.choice] = self._next(self._choices.get(event.choice, "idle"), event)

    def end(self) -> None:
        """Check that the stream may end here.

        Raises:
            OutOfOrder: a choice is still open, or nothing was answered.
        """
        if not self._answered:
            raise OutOfOrder("the stream ended without an answer")
        if unfinished := [choice for choice, state in self._choices.items() if state != "finished"]:
            raise OutOfOrder(f"the stream ended while choices {unfinished} were open")

    @staticmethod
    def _next(state: str, event: Event) -> str:
        try:
            return ORDER[state][type(event)]
        except KeyError:
            raise OutOfOrder(f"{type(event).__name__} may not come in state {state!r}") from None


class OneText(msgspec.Struct, frozen=True, gc=False):
    """What there is to tell of an answer that is one text and nothing else: as it was written, but for the reason."""

    content: msgspec.Raw
    finish_reason: FinishReason
    service_tier: Any
    system_fingerprint: msgspec.Raw | UnsetType
    """Unset: the server told none."""


class Frame:
    """One complete wire frame of a provider, with the two facts that every request needs; decoded on demand.

    `format` names the wire format of `data` (e.g. "openai.chat"); a dialect of the same format may pass it on. A frame
    made by a driver has no wire form: `format` is "" and its events are given. `billed`: what the servers behind it
    counted, where that is not what the caller is told of (`usage`). `goes_on`: one choice that has begun goes on, and
    nothing else is said; whoever decoded it would decode the next frame the same without it. `alone`: what there is to
    tell of it, where it is a whole answer that is one text.
    """

    __slots__ = ("_decode", "_events", "alone", "billed", "data", "finishes", "format", "goes_on", "usage")

    def __init__(
        self,
        format: str = "",  # noqa: A002 - the field's own name
        data: bytes = b"",
        *,
        events: tuple[Event, ...] | None = None,
        decode: Callable[[bytes], tuple[Event, ...]] | None = None,
        finishes: bool = False,
        goes_on: bool = False,
        usage: Usage | None = None,
        billed: Usage | None = None,
    ) -> None:
        self.format = format
        self.data = data
        self.finishes = finishes
        self.goes_on = goes_on
        self.usage = usage
        self.billed = billed
        self.alone: OneText | None = None
        self._events = events
        self._decode = decode

    @classmethod
    def of(cls, *events: Event, billed: Usage | None = None) -> "Frame":
        """A frame without a wire form."""
        usage = next((event.usage for event in events if isinstance(event, UsageReported)), None)
        finishes = any(isinstance(event, ChoiceFinished) for event in events)
        return cls(events=events, finishes=finishes, usage=usage, billed=billed)

    @property
    def events(self) -> tuple[Event, ...]:
        """The canonical events of this frame, decoded when first asked for.

        Raises:
            UpstreamProtocolError: the frame can't be read.
        """
        if self._events is None:
            self._events = self._decode(self.data) if self._decode is not None else ()
        return self._events

    @property
    def has_output(self) -> bool:
        """Whether this frame carries something a caller would see: before that an attempt may still be replaced."""
        return self.finishes or any(not isinstance(event, ChoiceStarted) for event in self.events)


class Splice(msgspec.Struct, frozen=True):
    """What stands before and after a text in a frame's data, and in the event that a dialect writes for that frame.

    All with the text's quotes. It holds for every frame whose data is the same around another JSON string, for as long
    as nothing is written but such frames.
    """

    theirs: tuple[bytes, bytes]
    ours: tuple[bytes, bytes]


class Pulse:
    """How an answer goes on: how many pieces of it were told, and when the last was, as a time of the loop."""

    __slots__ = ("last_s", "pieces")

    def __init__(self) -> None:
        self.last_s = 0.0
        self.pieces = 0
