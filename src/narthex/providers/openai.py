"""OpenAI's chat format as a provider speaks it: its streams to frames. No I/O.

Source: contract sections 1.2 to 1.4.

Each chunk is glanced at once (which choices, whether finished, usage, error: some 0.5 µs) and decoded only if somebody
asks for its events.

Rule 1: a stream ends well when every choice has finished, `[DONE]` or not; anything else raises.
Rule 2: what the whole answer used is told once, in a frame of its own at the end, wherever the server put it (some
repeat it in every chunk, some send it with the last delta).
"""

import binascii
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache, partial
from typing import Any, get_args

import msgspec

from narthex.core.errors import UpstreamProtocolError
from narthex.core.stream import (
    AudioDelta,
    ChoiceFinished,
    ChoiceStarted,
    Event,
    FinishReason,
    Frame,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from narthex.providers.openai_errors import stream_error
from narthex.wire import sse
from narthex.wire.json import UNREADABLE

FORMAT = "openai.chat"
PATH = "/chat/completions"

FINISH_REASONS: Mapping[str, FinishReason] = {reason: reason for reason in get_args(FinishReason)} | {
    "eos": "stop",
    "eos_token": "stop",
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "tool_use": "tool_calls",
}
"""Finish reasons that servers send, by the contract's name for each."""


# --- the wire, as far as we read it --------------------------------------------------------------------------------


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None
    audio_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None
    audio_tokens: int | None = None
    accepted_prediction_tokens: int | None = None
    rejected_prediction_tokens: int | None = None


class WireUsage(msgspec.Struct):
    """`usage`, as servers write it."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class ChoiceGlance(msgspec.Struct, gc=False):
    """What every request needs to know of a choice."""

    index: int = 0
    finish_reason: str | None = None


class _Glance(msgspec.Struct):
    choices: list[ChoiceGlance] | None = None
    usage: WireUsage | None = None
    error: Any = None


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    index: int | None = None
    id: str | None = None
    function: _Function = msgspec.field(default_factory=_Function)


class _Part(msgspec.Struct):
    """Of a content that is no text: some servers write what the model thinks there."""

    text: str | None = None
    thinking: "str | list[_Part] | None" = None


class _Audio(msgspec.Struct):
    id: str | None = None
    transcript: str | None = None
    data: str | None = None
    expires_at: int | None = None


class Delta(msgspec.Struct):
    """More of a choice; or all of it, as the `message` of a whole answer."""

    content: str | list[_Part] | None = None
    refusal: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_ToolCall] | None = None
    function_call: _Function | None = None
    audio: Any = None


class _Logprob(msgspec.Struct):
    token: str
    logprob: float
    bytes: list[int] | None = None
    top_logprobs: list["_Logprob"] | None = None


class Logprobs(msgspec.Struct):
    """Of the tokens in a delta."""

    content: list[_Logprob] | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    delta: Delta = msgspec.field(default_factory=Delta)
    logprobs: Logprobs | None = None
    finish_reason: str | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice] = []


_NO_PROMPT_DETAILS, _NO_COMPLETION_DETAILS, _NO_AUDIO = _PromptDetails(), _CompletionDetails(), _Audio()

_glance = msgspec.json.Decoder(_Glance).decode
_chunk = msgspec.json.Decoder(_Chunk).decode
_any = msgspec.json.Decoder().decode


# --- from the wire to frames ---------------------------------------------------------------------------------------


class ChatDecoder:
    """Decodes one answer. `choices`: how many were asked for, and so have to finish."""

    def __init__(self, *, choices: int = 1) -> None:
        self._sse = sse.SseDecoder()
        self._choices = choices
        self._started: set[int] = set()
        self._finished: set[int] = set()
        self._usage: Usage | None = None
        self._done = False

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with `data`; go through all of them.

        Raises:
            UpstreamError: the server reported an error, after the frames that came before it.
            UpstreamProtocolError: what it sent can't be read.
        """
        alone = self._sse.alone(data)
        if alone is None or self._done:
            return self._frames(() if self._done else self._sse.feed(data))
        frame = self._next(alone)  # nearly all come one by one
        return iter(()) if frame is None else iter((frame,))

    def _frames(self, events: Iterable[sse.Event]) -> Iterator[Frame]:
        for event in events:
            if self._done:
                return
            if (frame := self._next(event.data)) is not None:
                yield frame

    def end(self) -> Iterator[Frame]:
        """The body has ended: the last frame, with the usage, if there was any.

        Raises:
            UpstreamProtocolError: the answer is not complete.
        """
        if len(self._finished) < self._choices or self._started != self._finished:
            raise UpstreamProtocolError("The model's server ended its answer before it was complete.")
        if self._usage is not None:
            yield Frame.of(UsageReported(self._usage))

    def _next(self, data: bytes) -> Frame | None:
        if data == b"[DONE]":
            self._done = True
            return None
        try:
            if not data.isascii():
                data.decode()  # a frame may be passed on without being decoded: it must be sound
            glance = _glance(data)
        except UNREADABLE as error:
            raise UpstreamProtocolError from error
        live = glance.choices or []
        if glance.error is None and glance.usage is None and len(live) == 1:
            index = live[0].index
            if not live[0].finish_reason and index in self._started and index not in self._finished:
                return Frame(FORMAT, data, decode=_going_on(index), goes_on=True)  # nearly all are such
        if glance.error:
            raise stream_error(glance.error)
        if glance.usage is not None:
            self._usage = usage_of(glance.usage)
        if self._finished:
            live = [choice for choice in live if choice.index not in self._finished]
        if not live:  # usage alone, a keep-alive, or an afterthought to a finished choice
            return None
        return self._frame_of(data, live)

    def _frame_of(self, data: bytes, live: list[ChoiceGlance]) -> Frame:
        starts: list[int] = []
        ends = False
        foreign = False
        for choice in live:
            if choice.index not in self._started:
                self._started.add(choice.index)
                starts.append(choice.index)
            if choice.finish_reason:
                if choice.finish_reason not in FINISH_REASONS:
                    raise UpstreamProtocolError("The model's server broke off its answer.")
                self._finished.add(choice.index)
                ends = True
                foreign |= FINISH_REASONS[choice.finish_reason] != choice.finish_reason
        if foreign:
            data = with_our_reasons(data)
        read = frozenset(choice.index for choice in live)
        return Frame(FORMAT, data, decode=partial(_events, starts=tuple(starts), read=read), finishes=ends)


@lru_cache(256)
def _going_on(choice: int) -> Callable[[bytes], tuple[Event, ...]]:
    """Decodes a chunk of one choice that has begun already."""
    return partial(_events, starts=(), read=frozenset((choice,)))


def with_our_reasons(data: bytes) -> bytes:
    """The same with finish reasons by the contract's names. `data` was read before."""
    chunk = _any(data)
    for choice in chunk["choices"]:
        if reason := choice.get("finish_reason"):
            choice["finish_reason"] = FINISH_REASONS.get(reason, reason)
    return msgspec.json.encode(chunk)


def usage_of(usage: WireUsage) -> Usage:
    """The same as the core knows it."""
    prompt = usage.prompt_tokens_details or _NO_PROMPT_DETAILS
    completion = usage.completion_tokens_details or _NO_COMPLETION_DETAILS
    return Usage(
        prompt_tokens=usage.prompt_tokens or 0,
        completion_tokens=usage.completion_tokens or 0,
        cached_tokens=prompt.cached_tokens or 0,
        reasoning_tokens=completion.reasoning_tokens or 0,
        accepted_prediction_tokens=completion.accepted_prediction_tokens or 0,
        rejected_prediction_tokens=completion.rejected_prediction_tokens or 0,
        prompt_audio_tokens=prompt.audio_tokens or 0,
        completion_audio_tokens=completion.audio_tokens or 0,
    )


# --- from a frame to events ----------------------------------------------------------------------------------------


def _events(data: bytes, *, starts: tuple[int, ...], read: frozenset[int]) -> tuple[Event, ...]:
    """The events of one chunk. `starts`: choices that begin in it; `read`: those that had not finished before it."""
    try:
        chunk = _chunk(data)
    except UNREADABLE as error:
        raise UpstreamProtocolError from error
    events: list[Event] = [ChoiceStarted(choice) for choice in starts]
    for choice in chunk.choices:
        if choice.index in read:
            events.extend(deltas(choice.index, choice.delta, choice.logprobs))
            if choice.finish_reason:
                events.append(ChoiceFinished(choice.index, FINISH_REASONS[choice.finish_reason]))
    return tuple(events)


def deltas(choice: int, delta: Delta, logprobs: Logprobs | None) -> Iterator[Event]:
    """The events of a delta."""
    parts = delta.content if isinstance(delta.content, list) else ()
    text = delta.content if isinstance(delta.content, str) else _joined(parts)
    if thought := delta.reasoning_content or delta.reasoning or "".join(map(_thought, parts)):
        yield ReasoningDelta(choice, thought)
    entries = _token_logprobs(logprobs.content) if logprobs is not None and logprobs.content else None
    if text or entries:
        yield TextDelta(choice, text, entries)
    if delta.audio is not None and (audio := _audio(choice, delta.audio)) is not None:
        yield audio
    if delta.refusal:
        yield RefusalDelta(choice, delta.refusal)
    for position, call in enumerate(delta.tool_calls or ()):
        yield ToolCallDelta(
            choice=choice,
            call=position if call.index is None else call.index,
            id=call.id or None,
            name=call.function.name or None,
            arguments=call.function.arguments or "",
        )
    if (function := delta.function_call) is not None:
        yield ToolCallDelta(choice=choice, call=0, name=function.name or None, arguments=function.arguments or "")


def _audio(choice: int, told: Any) -> AudioDelta | None:
    """None: it is something else that a server tells under this name, and passed on as such."""
    try:
        audio = msgspec.convert(told, _Audio)
        data = binascii.a2b_base64(audio.data or "", strict_mode=True)
    except ValueError:  # which msgspec's own error is
        return None
    if audio == _NO_AUDIO:
        return None
    return AudioDelta(
        choice=choice, id=audio.id, transcript=audio.transcript or "", data=data, expires_at=audio.expires_at
    )


def _joined(parts: Iterable[_Part]) -> str:
    return "".join(part.text or "" for part in parts)


def _thought(part: _Part) -> str:
    return _joined(part.thinking) if isinstance(part.thinking, list) else part.thinking or ""


def _token_logprobs(entries: Iterable[_Logprob]) -> tuple[TokenLogprob, ...]:
    return tuple(
        TokenLogprob(
            token=entry.token,
            logprob=entry.logprob,
            bytes_=_byte_string(entry.bytes),
            top=_token_logprobs(entry.top_logprobs or ()),
        )
        for entry in entries
    )


def _byte_string(values: list[int] | None) -> bytes | None:
    try:
        return None if values is None else bytes(values)
    except ValueError as error:
        raise UpstreamProtocolError from error
