"""`/v1/chat/completions`: writing answers, whole and as a stream. Source: contract sections 1.3 and 1.4.

A stream is, per choice: the role, deltas, the finish reason; then the usage if asked for, then `[DONE]`.

Rule 1: what is said of the whole answer (id, model, time, tier) is said alike in every chunk, whoever wrote the chunk.
Rule 2: the role is told once for each choice, also where a server repeats it or leaves it out.
"""

import binascii
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import msgspec

from narthex.core.chat import ChatRequest
from narthex.core.deployments import HERE
from narthex.core.errors import NarthexError
from narthex.core.fold import FoldedAudio, FoldedCall, FoldedChoice, folded
from narthex.core.ports import Call
from narthex.core.stream import (
    AudioDelta,
    ChoiceFinished,
    ChoiceStarted,
    Event,
    FinishReason,
    Frame,
    OfNoChoice,
    OrderCheck,
    ReasoningDelta,
    RefusalDelta,
    Splice,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
)
from narthex.core.tiers import DEFAULT_TIER, USED
from narthex.dialects.openai_chat_relay import ChunkRelay, said_of_all
from narthex.dialects.openai_errors import error_body
from narthex.wire import sse
from narthex.wire.json import encode

FORMAT = "openai.chat"
DONE = b"data: [DONE]\n\n"

_ROLE = b'{"role":"assistant","content":"","refusal":null}'
_ROLE_OF_CALLS = b'{"role":"assistant","content":null,"refusal":null}'

_SOUND_BYTES = 48 * 1024  # a multiple of three, so that pieces of base64 can be joined
_USAGE = (
    b'{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
    b'"prompt_tokens_details":{"cached_tokens":%d,"audio_tokens":%d},'
    b'"completion_tokens_details":{"reasoning_tokens":%d,"audio_tokens":%d,'
    b'"accepted_prediction_tokens":%d,"rejected_prediction_tokens":%d}}'
)
_TWO_TIERS = "thyris"
"""The profile that knows but two tiers in answers: scale and default (contract 2)."""


def service_tier(call: Call, *, told: Any = None) -> str | None:
    """The tier that was used, None where the caller named none. `told`: what a provider told, if it did.

    Where it told nothing, and is no model of this server, it was the default one (contract 11).
    """
    request = call.request
    if not isinstance(request, ChatRequest) or request.service_tier is None:
        return None
    used = str(told or (USED[request.service_tier] if call.deployment.startswith(HERE) else DEFAULT_TIER))
    if call.principal.key.profile == _TWO_TIERS and used != "scale":
        return DEFAULT_TIER
    return used


def usage_object(usage: Usage) -> dict[str, Any]:
    """The `usage` of an answer."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.total_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": usage.prompt_audio_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.completion_audio_tokens,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
    }


def usage_written(usage: Usage) -> bytes:
    """The same as JSON."""
    return _USAGE % (
        usage.prompt_tokens, usage.completion_tokens, usage.total_tokens, usage.cached_tokens,
        usage.prompt_audio_tokens, usage.reasoning_tokens, usage.completion_audio_tokens,
        usage.accepted_prediction_tokens, usage.rejected_prediction_tokens,
    )  # fmt: skip


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


def _entries(choice: FoldedChoice, *, asked: bool) -> Sequence[TokenLogprob] | None:
    """Those of a choice; an answer without a word has none, which is not null where they were asked for."""
    silent = not (choice.text or choice.audio or choice.calls or choice.refusal or choice.reasoning)
    return () if asked and silent else choice.logprobs


# --- whole ---------------------------------------------------------------------------------------------------------


def _call_object(call: FoldedCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _audio_object(audio: FoldedAudio) -> dict[str, Any]:
    return {
        "id": audio.id,
        "data": _sound(b"".join(audio.data), audio.encoded),
        "expires_at": audio.expires_at,
        "transcript": "".join(audio.transcript),
    }


def _sound(data: bytes, encoded: bytes) -> msgspec.Raw:
    """A sound in base64, as JSON. A long one leaves others room between its pieces."""
    if encoded:
        return msgspec.Raw(encoded)
    places = range(0, len(data), _SOUND_BYTES)
    pieces = [binascii.b2a_base64(data[at : at + _SOUND_BYTES], newline=False) for at in places]
    return msgspec.Raw(b"".join([b'"', *pieces, b'"']))


def _finish(reason: FinishReason, *, older: bool) -> FinishReason:
    """With `functions` in the request a call is told in the older form (contract 11)."""
    return "function_call" if older and reason == "tool_calls" else reason


def _message(choice: FoldedChoice, *, older: bool) -> dict[str, Any]:
    text, refusal = "".join(choice.text), "".join(choice.refusal)
    calls = [choice.calls[number] for number in sorted(choice.calls)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if calls or refusal or choice.audio else ""),
        "refusal": refusal or None,
        "annotations": [],
    }
    if choice.audio is not None:
        message["audio"] = _audio_object(choice.audio)
    if choice.reasoning:
        message["reasoning_content"] = "".join(choice.reasoning)
    if calls and (older or choice.finish_reason == "function_call"):
        message["function_call"] = {"name": calls[0].name, "arguments": calls[0].arguments}
    elif calls:
        message["tool_calls"] = [_call_object(call) for call in calls]
    return message


def encode_answer(call: Call, frames: Sequence[Frame], *, created: int) -> bytes:
    """One `chat.completion` object. Raises `OutOfOrder` when the frames are no complete answer."""
    return encode(answer_object(call, frames, created=created))


def answer_object(call: Call, frames: Sequence[Frame], *, created: int) -> dict[str, Any]:
    """The same, not yet written."""
    request = call.request
    assert isinstance(request, ChatRequest)  # noqa: S101 - the surface decides the type
    fold = folded(frames)
    older = "functions" in request.fields
    answer: dict[str, Any] = {
        "id": f"chatcmpl-{call.id}",
        "object": "chat.completion",
        "created": created,
        "model": request.model,
        "choices": [
            {
                "index": choice.index,
                "message": _message(choice, older=older),
                "logprobs": logprobs_object(_entries(choice, asked=request.sampling.logprobs is not None)),
                "finish_reason": _finish(choice.finish_reason, older=older),
            }
            for choice in fold.choices
        ],
        "usage": usage_object(fold.usage or Usage(prompt_tokens=0)),
    }
    told = said_of_all(frames[0].data) if frames[0].format == FORMAT else {}
    if (tier := service_tier(call, told=told.get("service_tier"))) is not None:
        answer["service_tier"] = tier
    answer["system_fingerprint"] = told.get("system_fingerprint", call.fingerprint)
    return answer


# --- as a stream ---------------------------------------------------------------------------------------------------


class ChatStream:
    """Writes chunks. What is the same in all of them is encoded once."""

    mark = DONE
    """What a stream ends with."""

    def __init__(self, call: Call, *, created: int) -> None:
        request = call.request
        assert isinstance(request, ChatRequest)  # noqa: S101 - the surface decides the type
        self._call = call
        self._identity: dict[str, Any] = {
            "id": f"chatcmpl-{call.id}",
            "object": "chat.completion.chunk",
            "created": created,
            "model": request.model,
        }
        self._with_usage = request.stream_options.include_usage
        self._older = "functions" in request.fields
        edits = partial(_edits, call, self._identity)
        self._relay = ChunkRelay(edits, choices=request.sampling.n, with_usage=self._with_usage)
        self._heads: tuple[Any, bytes] | None = None
        self._tail = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"
        self._order = OrderCheck()
        self._unannounced: set[int] = set()
        self._usage: Usage | None = None

    def encode(self, frame: Frame) -> bytes:
        """The chunks of a frame; a frame of this very format is passed on with our identity in it."""
        self._usage = frame.usage or self._usage
        if frame.format == FORMAT:
            return self._relay.passed_on(frame.data)
        if not self._relay.has_begun:  # what follows frames that were passed on is checked by whoever made it follow
            self._order.feed(frame.events)
        return b"".join(map(self._chunks, frame.events))

    def alike(self, frame: Frame) -> Splice | None:
        """See `StreamEncoder`: chunks that are passed on with another text."""
        return self._relay.splice(frame.data) if frame.format == FORMAT else None

    def end(self) -> bytes:
        """The usage, if it was asked for, and the end mark."""
        if not self._relay.has_begun:  # of what is passed on the provider's decoder checks the order
            self._order.end()
        if not self._with_usage:
            return self.mark
        usage = encode(usage_object(self._usage or Usage(prompt_tokens=0)))
        return self._head + b'],"usage":' + usage + b"}\n\n" + self.mark

    def error(self, error: NarthexError) -> bytes:
        """The error as an event; no end mark follows it (contract 1.4)."""
        return sse.encode(error_body(error))

    @property
    def _head(self) -> bytes:
        """What our chunks begin with; as those that were passed on before, if any were."""
        told = self._relay.of_all
        if self._heads is None or self._heads[0] is not told:
            of_all = {"system_fingerprint": self._call.fingerprint} if told is None else told
            edits = _edits(self._call, self._identity, of_all)
            head = self._identity | {name: of_all[name] for name in of_all if name != "service_tier"} | edits
            self._heads = told, b"data: " + encode(head)[:-1] + b',"choices":['
        return self._heads[1]

    def _chunks(self, event: Event) -> bytes:
        """The chunk of an event; before the first one of a choice its role, which tells whether text is to come."""
        if isinstance(event, ChoiceStarted):
            self._unannounced.add(event.choice)
            return b""
        if not self._unannounced or isinstance(event, OfNoChoice):
            return self._chunk(event)
        if event.choice not in self._unannounced:
            return self._chunk(event)
        self._unannounced.remove(event.choice)
        role = _ROLE_OF_CALLS if isinstance(event, ToolCallDelta | AudioDelta) else _ROLE
        return self._written(event.choice, role) + self._chunk(event)

    def _chunk(self, event: Event) -> bytes:
        match event:
            case TextDelta(choice, text, None):  # nearly all of them: spare the objects
                return self._written(choice, b'{"content":' + encode(text) + b"}")
            case TextDelta(choice, text, logprobs):
                return self._written(choice, encode({"content": text}), logprobs=encode(logprobs_object(logprobs)))
            case ChoiceFinished(choice, reason):
                return self._written(choice, b"{}", finish=encode(_finish(reason, older=self._older)))
            case ToolCallDelta():
                return self._written(event.choice, encode(_call_delta(event, older=self._older)))
            case ReasoningDelta(choice, text):
                return self._written(choice, encode({"reasoning_content": text}))
            case AudioDelta():
                return self._written(event.choice, encode({"audio": _audio_delta(event)}))
            case RefusalDelta(choice, text):
                return self._written(choice, encode({"refusal": text}))
            case _:
                return b""

    def _written(self, choice: int, delta: bytes, *, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head, choice, delta, logprobs, finish, self._tail,
        )  # fmt: skip


def _edits(call: Call, identity: Mapping[str, Any], of_all: Mapping[str, Any]) -> dict[str, Any]:
    """What is ours to say in every chunk, of an answer of which a provider says `of_all`."""
    tier = service_tier(call, told=of_all.get("service_tier"))
    return {**identity, **({} if tier is None else {"service_tier": tier})}


def _audio_delta(event: AudioDelta) -> dict[str, Any]:
    told: dict[str, Any] = {} if event.id is None else {"id": event.id}
    if event.transcript:
        told["transcript"] = event.transcript
    if event.data or event.encoded:
        told["data"] = _sound(event.data, event.encoded)
    return told if event.expires_at is None else told | {"expires_at": event.expires_at}


def _call_delta(event: ToolCallDelta, *, older: bool) -> dict[str, Any]:
    function = (
        {"arguments": event.arguments} if event.name is None else {"name": event.name, "arguments": event.arguments}
    )
    if older:
        return {"function_call": function}
    call: dict[str, Any] = {"index": event.call}
    if event.id is not None or event.name is not None:  # the call begins
        call |= {"id": event.id, "type": "function"}
    return {"tool_calls": [call | {"function": function}]}
