"""OpenAI's chat format as a provider speaks it: an answer that comes as one document, to one frame. No I/O.

Source: contract section 1.3. The document is read whole at its end, while another server may still be asked; its events
are made only if somebody asks for them, since the dialect of the same format passes it on.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, UnsetType

from narthex.core.errors import UpstreamProtocolError
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Event, FinishReason, Frame, OneText, Usage, UsageReported
from narthex.providers.codec import AnswerDecoder
from narthex.providers.openai import (
    FINISH_REASONS,
    Delta,
    Logprobs,
    WireUsage,
    deltas,
    usage_of,
    with_our_reasons,
)
from narthex.providers.openai_errors import stream_error
from narthex.providers.whole import Document
from narthex.wire.json import UNREADABLE

FORMAT = "openai.chat.whole"
LIMIT_BYTES = 64 * 1024 * 1024


class _Choice(msgspec.Struct):
    index: int = 0
    message: Delta | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: WireUsage | None = None
    error: Any = None


_Nothing = Literal[""] | Annotated[list[Any], msgspec.Meta(max_length=0)] | None


class _PlainMessage(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    content: msgspec.Raw
    role: Any = None
    refusal: _Nothing = None
    annotations: _Nothing = None


class _PlainChoice(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    message: _PlainMessage
    finish_reason: FinishReason
    index: Literal[0] = 0
    logprobs: _Nothing = None


class _PlainAnswer(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One text, and what the contract names: nearly all are such. What is ours to say may be anything."""

    id: Any = None
    object: Any = None
    created: Any = None
    model: Any = None
    choices: Annotated[list[_PlainChoice], msgspec.Meta(min_length=1, max_length=1)]
    usage: WireUsage | None = None
    service_tier: Any = None
    system_fingerprint: msgspec.Raw | UnsetType = UNSET


_answer = msgspec.json.Decoder(_Answer).decode
_plain_answer = msgspec.json.Decoder(_PlainAnswer).decode


class WholeChat(Document):
    """Decodes one answer. `choices`: how many were asked for."""

    def __init__(self, *, choices: int = 1) -> None:
        super().__init__(limit_bytes=LIMIT_BYTES)
        self._choices = choices

    def end(self) -> Iterator[Frame]:
        """The answer.

        Raises:
            UpstreamError: the server reported an error in place of an answer.
            UpstreamProtocolError: it can't be read, or is not complete.
        """
        yield read_whole(self.whole(), choices=self._choices)


def read_whole(data: bytes, *, choices: int) -> Frame:
    """The frame of one answer. `choices`: how many were asked for.

    Raises:
        UpstreamError: the server reported an error in place of an answer.
        UpstreamProtocolError: it can't be read, or is not complete.
    """
    try:
        if not data.isascii():
            data.decode()  # what we don't know of it may be passed on without being decoded: it must be sound
        if choices == 1 and (plain := _plain_frame(data)) is not None:
            return plain
        answer = _answer(data)
    except UNREADABLE as error:
        raise UpstreamProtocolError from error
    if answer.error:
        raise stream_error(answer.error)
    found = answer.choices or []
    foreign = False
    for choice in found:
        reason = FINISH_REASONS.get(choice.finish_reason or "")
        if reason is None:
            raise UpstreamProtocolError("The model's server ended its answer before it was complete.")
        foreign |= reason != choice.finish_reason
    if len(found) != choices or (choices > 1 and len({choice.index for choice in found}) != choices):
        raise UpstreamProtocolError("The model's server did not send the choices that it was asked for.")
    if foreign:
        data = with_our_reasons(data)
    usage = None if answer.usage is None else usage_of(answer.usage)
    return Frame(FORMAT, data, decode=partial(_events, found, usage), finishes=True, usage=usage)


def _plain_frame(data: bytes) -> Frame | None:
    """The same of an answer that is one text and nothing else; None: it is more, or less, or no answer."""
    try:
        answer = _plain_answer(data)
    except UNREADABLE:
        return None
    (choice,) = answer.choices
    content = bytes(choice.message.content)
    if not content.startswith(b'"') or len(content) <= 2:
        return None
    usage = None if answer.usage is None else usage_of(answer.usage)
    frame = Frame(FORMAT, data, decode=partial(_plain_events, usage), finishes=True, usage=usage)
    frame.alone = OneText(choice.message.content, choice.finish_reason, answer.service_tier, answer.system_fingerprint)
    return frame


def _plain_events(usage: Usage | None, data: bytes) -> tuple[Event, ...]:
    return _events(_answer(data).choices or (), usage, data)


def _events(choices: Sequence[_Choice], usage: Usage | None, _: bytes) -> tuple[Event, ...]:
    events: list[Event] = []
    for choice in choices:
        events.append(ChoiceStarted(choice.index))
        message = choice.message or Delta()
        for call in message.tool_calls or ():
            call.index = None  # each is one of its own here, whatever numbers a server gives them
        events.extend(deltas(choice.index, message, choice.logprobs))
        events.append(ChoiceFinished(choice.index, FINISH_REASONS[choice.finish_reason or ""]))
    if usage is not None:
        events.append(UsageReported(usage))
    return tuple(events)


class EitherWay:
    """Decodes what was asked for as a document, and what a server streams all the same: `stream` makes its decoder."""

    def __init__(self, whole: AnswerDecoder, stream: Callable[[], AnswerDecoder]) -> None:
        self._whole = whole
        self._stream = stream
        self._chosen: AnswerDecoder | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """See the decoder that fits: a document begins with a brace, if not with white space, which is nobody's."""
        if self._chosen is None:
            data = data.lstrip()
            if not data:
                return iter(())
            self._chosen = self._whole if data.startswith(b"{") else self._stream()
        return self._chosen.feed(data)

    def end(self) -> Iterator[Frame]:
        """See the decoder that fits."""
        return (self._chosen or self._whole).end()
