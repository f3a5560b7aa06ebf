"""Folds a stream's events into one answer, for callers who did not ask for a stream."""

from collections.abc import Iterable
from typing import assert_never

import msgspec

from narthex.core.stream import (
    AudioDelta,
    ChoiceFinished,
    ChoiceStarted,
    EmbeddingsReady,
    Event,
    FinishReason,
    Frame,
    ImagePartial,
    ImageReady,
    OfNoChoice,
    OrderCheck,
    ReasoningDelta,
    RefusalDelta,
    SoundDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    UsageReported,
)


class FoldedCall(msgspec.Struct):
    """One tool call, whole. `pieces` are its arguments as they came."""

    id: str = ""
    name: str = ""
    pieces: list[str] = msgspec.field(default_factory=list)

    @property
    def arguments(self) -> str:
        """The JSON text of its arguments."""
        return "".join(self.pieces)


class FoldedAudio(msgspec.Struct):
    """What a choice sounds like, whole."""

    id: str = ""
    transcript: list[str] = msgspec.field(default_factory=list)
    data: list[bytes] = msgspec.field(default_factory=list)
    encoded: bytes = b""
    expires_at: int = 0


class FoldedChoice(msgspec.Struct):
    """One choice, whole. `logprobs` is None when none were asked for."""

    index: int
    text: list[str] = msgspec.field(default_factory=list)
    reasoning: list[str] = msgspec.field(default_factory=list)
    refusal: list[str] = msgspec.field(default_factory=list)
    calls: dict[int, FoldedCall] = msgspec.field(default_factory=dict)
    audio: FoldedAudio | None = None
    logprobs: list[TokenLogprob] | None = None
    finish_reason: FinishReason = "stop"


class Fold:
    """Takes events in stream order; `choices`, `usage`, `vectors` and `images` are complete after `end`."""

    def __init__(self) -> None:
        self._choices: dict[int, FoldedChoice] = {}
        self._order = OrderCheck()
        self.usage: Usage | None = None
        self.vectors: tuple[bytes, ...] = ()
        self.images: list[ImageReady] = []

    @property
    def choices(self) -> list[FoldedChoice]:
        """By index."""
        return [self._choices[index] for index in sorted(self._choices)]

    def feed(self, events: Iterable[Event]) -> None:
        """Add the next events.

        Raises:
            OutOfOrder: the stream breaks the order table.
        """
        events = tuple(events)
        self._order.feed(events)
        for event in events:
            self._add(event)

    def end(self) -> None:
        """The stream has ended.

        Raises:
            OutOfOrder: a choice has not finished, or nothing came at all.
        """
        self._order.end()

    def _add(self, event: Event) -> None:
        match event:
            case ChoiceStarted(choice):
                self._choices[choice] = FoldedChoice(choice)
            case TextDelta(choice, text, logprobs):
                folded = self._choices[choice]
                folded.text.append(text)
                if logprobs is not None:
                    folded.logprobs = folded.logprobs or []
                    folded.logprobs.extend(logprobs)
            case ReasoningDelta(choice, text):
                self._choices[choice].reasoning.append(text)
            case RefusalDelta(choice, text):
                self._choices[choice].refusal.append(text)
            case ToolCallDelta():
                self._add_call(event)
            case AudioDelta():
                self._add_audio(event)
            case ChoiceFinished(choice, reason):
                self._choices[choice].finish_reason = reason
            case _:
                self._add_whole(event)

    def _add_whole(self, event: OfNoChoice) -> None:
        match event:
            case UsageReported(usage):
                self.usage = usage
            case EmbeddingsReady(vectors):
                self.vectors = vectors
            case ImageReady():
                self.images.append(event)
            case ImagePartial() | SoundDelta():  # the whole image follows; sounds are told as they come
                pass
            case _:
                assert_never(event)

    def _add_call(self, event: ToolCallDelta) -> None:
        call = self._choices[event.choice].calls.setdefault(event.call, FoldedCall())
        call.id = event.id or call.id
        call.name = event.name or call.name
        call.pieces.append(event.arguments)

    def _add_audio(self, event: AudioDelta) -> None:
        choice = self._choices[event.choice]
        audio = choice.audio = choice.audio or FoldedAudio()
        audio.id = event.id or audio.id
        audio.transcript.append(event.transcript)
        audio.data.append(event.data)
        audio.encoded = event.encoded or audio.encoded
        audio.expires_at = event.expires_at or audio.expires_at


def folded(frames: Iterable[Frame]) -> Fold:
    """All frames of one answer as one.

    Raises:
        OutOfOrder: they are no complete answer.
    """
    fold = Fold()
    for frame in frames:
        fold.feed(frame.events)
    fold.end()
    return fold
