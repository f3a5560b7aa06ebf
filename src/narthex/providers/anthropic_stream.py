"""Anthropic's streams to frames. No I/O.

Source: the Messages API's page on streaming. An answer is a row of content blocks, each begun, grown and ended.

Rule 1: a stream ends well when its stop reason was told, `message_stop` or not; anything else raises.
Rule 2: what the answer used is told once, in a frame of its own at the end: the counts are cumulative and come twice.
Rule 3: events, blocks and deltas of unknown types are skipped, as the API asks of its clients.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from narthex.core.errors import UpstreamProtocolError
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    FinishReason,
    Frame,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)
from narthex.providers.anthropic_errors import stream_error
from narthex.wire.json import UNREADABLE
from narthex.wire.sse import SseDecoder

_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
"""The contract's names of their stop reasons."""


# --- the wire, as far as we read it --------------------------------------------------------------------------------


class _OutputDetails(msgspec.Struct):
    thinking_tokens: int | None = None


class _Usage(msgspec.Struct):
    """Counts so far; those that are absent have not changed."""

    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None
    output_tokens_details: _OutputDetails | None = None


class _Message(msgspec.Struct):
    usage: _Usage | None = None


class _Block(msgspec.Struct):
    type: str = ""
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Any = None


class _Delta(msgspec.Struct):
    type: str = ""
    text: str = ""
    thinking: str = ""
    partial_json: str = ""
    stop_reason: str | None = None


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_event = msgspec.json.Decoder(_Event).decode


class _OpenCall(msgspec.Struct):
    """A `tool_use` block that has not ended. `input`: what it began with; `begun`: some of its arguments were told."""

    call: int
    input: Any
    begun: bool = False


# --- from the wire to frames ---------------------------------------------------------------------------------------


class MessagesDecoder:
    """Decodes one answer.

    `answer_is_call`: the text of the answer is the input of the tool that the model had to call, the first one; what it
    says beside that is told only if there is no call. `older`: calls are told of as `function_call`.
    """

    def __init__(self, *, answer_is_call: bool = False, older: bool = False) -> None:
        self._sse = SseDecoder()
        self._answer_is_call = answer_is_call
        self._older = older
        self._started = False
        self._finished = False
        self._done = False
        self._calls = 0
        self._open_calls: dict[int, _OpenCall] = {}
        self._beside: list[str] = []
        self._inputs: tuple[int, ...] = (0, 0, 0)  # fresh, written to the cache, read from it
        self._usage: Usage | None = None

    def feed(self, data: bytes) -> Iterator[Frame]:
        """The frames that are complete with `data`; go through all of them.

        Raises:
            UpstreamError: the server reported an error, after the frames that came before it.
            UpstreamProtocolError: what it sent can't be read.
        """
        for event in self._sse.feed(data):
            if self._done:
                return
            if events := tuple(self._read(event.data)):
                yield Frame.of(*events)

    def end(self) -> Iterator[Frame]:
        """The body has ended: the last frame, with the usage, if there was any.

        Raises:
            UpstreamProtocolError: the answer is not complete.
        """
        if not self._finished:
            raise UpstreamProtocolError("The model's server ended its answer before it was complete.")
        if self._usage is not None:
            yield Frame.of(UsageReported(self._usage))

    def _read(self, data: bytes) -> Iterator[Event]:
        try:
            event = _event(data)
        except UNREADABLE as error:
            raise UpstreamProtocolError from error
        match event.type:
            case "error":
                raise stream_error(event.error)
            case "message_start":
                yield from self._start(event.message or _Message())
            case "content_block_start" | "content_block_delta" | "content_block_stop" if not self._finished:
                yield from self._block(event)
            case "message_delta":
                yield from self._message_delta(event)
            case "message_stop":
                self._done = True
            case _:
                pass  # a ping, or rule 3

    def _start(self, message: _Message) -> Iterator[Event]:
        if self._started:
            raise UpstreamProtocolError
        self._started = True
        self._count(message.usage)
        yield ChoiceStarted(0)

    def _block(self, event: _Event) -> Iterator[Event]:
        if not self._started:
            raise UpstreamProtocolError
        if event.type == "content_block_stop":
            return self._close(event.index)
        if event.type == "content_block_start":
            return self._open(event.index, event.content_block or _Block())
        return self._grow(event.index, event.delta or _Delta())

    def _open(self, index: int, block: _Block) -> Iterator[Event]:
        match block.type:
            case "text" if block.text:
                yield from self._text(block.text)
            case "thinking" if block.thinking:
                yield ReasoningDelta(0, block.thinking)
            case "tool_use" if not (self._answer_is_call and self._calls):
                self._open_calls[index] = _OpenCall(self._calls, block.input)
                if not self._answer_is_call:
                    yield ToolCallDelta(choice=0, call=self._calls, id=block.id, name=block.name)
                self._calls += 1
            case _:
                pass

    def _grow(self, index: int, delta: _Delta) -> Iterator[Event]:
        match delta.type:
            case "text_delta" if delta.text:
                yield from self._text(delta.text)
            case "thinking_delta" if delta.thinking:
                yield ReasoningDelta(0, delta.thinking)
            case "input_json_delta" if delta.partial_json and index in self._open_calls:  # else a tool of the server's
                self._open_calls[index].begun = True
                yield self._arguments(self._open_calls[index], delta.partial_json)
            case _:
                pass

    def _text(self, text: str) -> Iterator[Event]:
        if self._answer_is_call:
            self._beside.append(text)
        else:
            yield TextDelta(0, text)

    def _close(self, index: int) -> Iterator[Event]:
        call = self._open_calls.pop(index, None)
        if call is not None and not call.begun:  # without a parameter there is no delta, or all came at the beginning
            yield self._arguments(call, msgspec.json.encode(call.input or {}).decode())

    def _arguments(self, call: _OpenCall, json: str) -> Event:
        if self._answer_is_call:
            return TextDelta(0, json)
        return ToolCallDelta(choice=0, call=call.call, arguments=json)

    def _message_delta(self, event: _Event) -> Iterator[Event]:
        self._count(event.usage)
        reason = event.delta.stop_reason if event.delta is not None else None
        if reason is None or self._finished:
            return
        if not self._started or reason not in _FINISH:
            raise UpstreamProtocolError("The model's server broke off its answer.")
        if reason != "max_tokens":  # a call that was cut has no whole arguments to make up for
            for index in tuple(self._open_calls):
                yield from self._close(index)
        if self._beside and not self._calls:
            yield TextDelta(0, "".join(self._beside))
        self._finished = True
        yield ChoiceFinished(0, self._finish_reason(_FINISH[reason]))

    def _finish_reason(self, reason: FinishReason) -> FinishReason:
        if reason != "tool_calls":
            return reason
        if self._answer_is_call:
            return "stop"
        return "function_call" if self._older else reason

    def _count(self, usage: _Usage | None) -> None:
        if usage is None:
            return
        before = self._usage or Usage(prompt_tokens=0)
        details = usage.output_tokens_details or _OutputDetails()
        inputs = (usage.input_tokens, usage.cache_creation_input_tokens, usage.cache_read_input_tokens)
        self._inputs = tuple(
            known if count is None else count for known, count in zip(self._inputs, inputs, strict=True)
        )
        self._usage = Usage(
            prompt_tokens=sum(self._inputs),
            completion_tokens=before.completion_tokens if usage.output_tokens is None else usage.output_tokens,
            cached_tokens=self._inputs[2],
            reasoning_tokens=before.reasoning_tokens if details.thinking_tokens is None else details.thinking_tokens,
        )
