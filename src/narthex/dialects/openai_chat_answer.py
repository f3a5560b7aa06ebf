"""`/v1/chat/completions`: writing answers, whole and as a stream. Source: contract sections 1.3 and 1.4.

A stream is, per choice: the role, deltas, the finish reason; then the usage if asked for, then `[DONE]`.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from narthex.core.chat import ChatRequest
from narthex.core.errors import NarthexError
from narthex.core.fold import Fold, FoldedCall, FoldedChoice
from narthex.core.ports import Call
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    Frame,
    OrderCheck,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from narthex.dialects.openai_errors import error_body
from narthex.wire import sse
from narthex.wire.json import encode

FORMAT = "openai.chat"
DONE = b"data: [DONE]\n\n"

_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw])


def service_tier(request: ChatRequest) -> str | None:
    """The tier that was used: without credits every tier is served as the default one (contract 11)."""
    return None if request.service_tier is None else "default"


def usage_object(usage: Usage) -> dict[str, Any]:
    """The `usage` of an answer."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": 0,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
    }


def _logprob(entry: TokenLogprob) -> dict[str, Any]:
    return {
        "token": entry.token,
        "logprob": entry.logprob,
        "bytes": None if entry.bytes_ is None else list(entry.bytes_),
    }


def logprobs_object(entries: Sequence[TokenLogprob] | None) -> dict[str, Any] | None:
    """The `logprobs` of a choice or a chunk; null when none were asked for."""
    if entries is None:
        return None
    content = [_logprob(entry) | {"top_logprobs": [_logprob(rival) for rival in entry.top]} for entry in entries]
    return {"content": content, "refusal": None}


# --- whole ---------------------------------------------------------------------------------------------------------


def _call_object(call: FoldedCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _message(choice: FoldedChoice) -> dict[str, Any]:
    text, refusal = "".join(choice.text), "".join(choice.refusal)
    calls = [choice.calls[number] for number in sorted(choice.calls)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text if choice.text or not (calls or refusal) else None,
        "refusal": refusal or None,
        "annotations": [],
    }
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if calls and choice.finish_reason == "function_call":
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [_call_object(call) for call in calls]
    return message


def encode_answer(call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
    """One `chat.completion` object. Raises `OutOfOrder` when the frames are no complete answer."""
    request = call.request
    assert isinstance(request, ChatRequest)  # noqa: S101 - the surface decides the type
    fold = Fold()
    for frame in frames:
        fold.feed(frame.events)
    fold.end()
    answer: dict[str, Any] = {
        "id": f"chatcmpl-{call.id}",
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [
            {
                "index": choice.index,
                "message": _message(choice),
                "logprobs": logprobs_object(choice.logprobs),
                "finish_reason": choice.finish_reason,
            }
            for choice in fold.choices
        ],
        "usage": usage_object(fold.usage or Usage(prompt_tokens=0)),
    }
    if (tier := service_tier(request)) is not None:
        answer["service_tier"] = tier
    answer["system_fingerprint"] = call.fingerprint
    return encode(answer)


# --- as a stream ---------------------------------------------------------------------------------------------------


class ChatStream:
    """Writes chunks. What is the same in all of them is encoded once."""

    def __init__(self, call: Call, *, created: int) -> None:
        request = call.request
        assert isinstance(request, ChatRequest)  # noqa: S101 - the surface decides the type
        head: dict[str, Any] = {
            "id": f"chatcmpl-{call.id}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": request.model,
            "system_fingerprint": call.fingerprint,
        }
        if (tier := service_tier(request)) is not None:
            head["service_tier"] = tier
        self._identity = {name: encode(head[name]) for name in ("id", "model")}
        self._with_usage = request.stream_options.include_usage
        self._head = b"data: " + encode(head)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"
        self._order = OrderCheck()
        self._usage: Usage | None = None

    def encode(self, frame: Frame) -> bytes:
        """The chunks of a frame; a frame of this very format is passed on with our id and model in it."""
        self._usage = frame.usage or self._usage
        if frame.format == FORMAT:
            return self._relay(frame)
        self._order.feed(frame.events)
        return b"".join(map(self._chunk, frame.events))

    def end(self) -> bytes:
        """The usage, if it was asked for, and the end mark."""
        self._order.end()
        if not self._with_usage:
            return DONE
        usage = encode(usage_object(self._usage or Usage(prompt_tokens=0)))
        return self._head + b'],"usage":' + usage + b"}\n\n" + DONE

    def error(self, error: NarthexError) -> bytes:
        """The error as an event; no end mark follows it (contract 1.4)."""
        return sse.encode(error_body(error))

    def _relay(self, frame: Frame) -> bytes:
        chunk = _raw_map.decode(frame.data)
        if bytes(chunk.get("choices", b"[]")) == b"[]":
            return b""  # their usage; ours follows at the end
        edits = {name: msgspec.Raw(value) for name, value in self._identity.items()}
        chunk.pop("usage", None)
        if self._with_usage:
            edits["usage"] = msgspec.Raw(b"null")
        return sse.encode(encode(chunk | edits))

    def _chunk(self, event: Event) -> bytes:
        match event:
            case TextDelta(choice, text, None):  # nearly all of them: spare the objects
                return self._written(choice, b'{"content":' + encode(text) + b"}")
            case TextDelta(choice, text, logprobs):
                return self._written(choice, encode({"content": text}), logprobs=encode(logprobs_object(logprobs)))
            case ChoiceStarted(choice):
                return self._written(choice, b'{"role":"assistant","content":"","refusal":null}')
            case ChoiceFinished(choice, reason):
                return self._written(choice, b"{}", finish=encode(reason))
            case ReasoningDelta() | RefusalDelta() | ToolCallDelta():
                return self._written(event.choice, encode(_rare_delta(event)))
            case _:
                return b""

    def _written(self, choice: int, delta: bytes, *, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head, choice, delta, logprobs, finish, self._tail,
        )  # fmt: skip


def _rare_delta(event: ReasoningDelta | RefusalDelta | ToolCallDelta) -> dict[str, Any]:
    match event:
        case ReasoningDelta(_, text):
            return {"reasoning_content": text}
        case RefusalDelta(_, text):
            return {"refusal": text}
        case ToolCallDelta(name=None):
            return {"tool_calls": [{"index": event.call, "function": {"arguments": event.arguments}}]}
        case ToolCallDelta():
            function = {"name": event.name, "arguments": event.arguments}
            return {"tool_calls": [{"index": event.call, "id": event.id, "type": "function", "function": function}]}
