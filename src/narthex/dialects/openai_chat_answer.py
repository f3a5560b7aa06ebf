"""`/v1/chat/completions`: writing answers, whole and as a stream. Source: contract sections 1.3 and 1.4.

A stream is, per choice: the role, deltas, the finish reason; then the usage if asked for, then `[DONE]`.

Rule 1: what is said of the whole answer (id, model, time, tier) is said alike in every chunk, whoever wrote the chunk.
Rule 2: the role is told once for each choice, also where a server repeats it or leaves it out.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from narthex.core.chat import ChatRequest
from narthex.core.errors import NarthexError
from narthex.core.fold import FoldedCall, FoldedChoice, folded
from narthex.core.ports import Call
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    FinishReason,
    Frame,
    OfNoChoice,
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

_ROLE = b'{"role":"assistant","content":"","refusal":null}'
_ROLE_OF_CALLS = b'{"role":"assistant","content":null,"refusal":null}'

_THEIRS = ("usage", "service_tier", "obfuscation", "x_groq")
"""Fields of a provider's chunks that are left out, or replaced by ours. Usage stands in the last one too."""

_CHOICES = b'"choices":'
_TEXT = b'"content":"'
_IN_CHOICES = re.compile(rb'"(?:role|reasoning|usage)"').search
"""Those that are told anew, or left out."""

_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw])
_raw_maps = msgspec.json.Decoder(list[dict[str, msgspec.Raw]])
_any = msgspec.json.Decoder().decode


DEFAULT_TIER = "default"
_TWO_TIERS = "thyris"
"""The profile that knows but two tiers in answers: scale and default (contract 2)."""


def service_tier(call: Call, *, told: str = DEFAULT_TIER) -> str | None:
    """The tier that was used, None where the caller named none. `told`: what a provider told.

    Without credits every tier is served as the default one (contract 11).
    """
    request = call.request
    if not isinstance(request, ChatRequest) or request.service_tier is None:
        return None
    if call.principal.key.profile == _TWO_TIERS and told != "scale":
        return DEFAULT_TIER
    return told


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


def _entries(choice: FoldedChoice, *, asked: bool) -> Sequence[TokenLogprob] | None:
    """Those of a choice; an answer without a word has none, which is not null where they were asked for."""
    silent = not (choice.text or choice.calls or choice.refusal or choice.reasoning)
    return () if asked and silent else choice.logprobs


# --- whole ---------------------------------------------------------------------------------------------------------


def _call_object(call: FoldedCall) -> dict[str, Any]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _finish(reason: FinishReason, *, older: bool) -> FinishReason:
    """With `functions` in the request a call is told in the older form (contract 11)."""
    return "function_call" if older and reason == "tool_calls" else reason


def _message(choice: FoldedChoice, *, older: bool) -> dict[str, Any]:
    text, refusal = "".join(choice.text), "".join(choice.refusal)
    calls = [choice.calls[number] for number in sorted(choice.calls)]
    message: dict[str, Any] = {
        "role": "assistant",
        "content": text or (None if calls or refusal else ""),
        "refusal": refusal or None,
        "annotations": [],
    }
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
    if (tier := service_tier(call)) is not None:
        answer["service_tier"] = tier
    answer["system_fingerprint"] = call.fingerprint
    return answer


# --- as a stream ---------------------------------------------------------------------------------------------------


class ChatStream:
    """Writes chunks. What is the same in all of them is encoded once."""

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
        self._edits: dict[str, msgspec.Raw] | None = None
        self._begun: set[int] = set()
        self._choices = request.sampling.n
        self._their_head = self._their_tail = self._our_head = self._our_start = self._our_end = b""
        self._around = _Around(b"", b"")
        self._our_tail = b',"usage":null}\n\n' if self._with_usage else b"}\n\n"
        self._head = self._written_head({"system_fingerprint": call.fingerprint}, tier=service_tier(call))
        self._tail = b'],"usage":null}\n\n' if self._with_usage else b"]}\n\n"
        self._order = OrderCheck()
        self._unannounced: set[int] = set()
        self._usage: Usage | None = None

    def encode(self, frame: Frame) -> bytes:
        """The chunks of a frame; a frame of this very format is passed on with our identity in it."""
        self._usage = frame.usage or self._usage
        if frame.format == FORMAT:
            text = self._around.text_of(frame.data)
            return self._relay(frame) if text is None else b"%b%b%b" % (self._our_start, text, self._our_end)
        if self._edits is None:  # what follows frames that were passed on is checked by whoever made it follow
            self._order.feed(frame.events)
        return b"".join(map(self._chunks, frame.events))

    def end(self) -> bytes:
        """The usage, if it was asked for, and the end mark."""
        if self._edits is None:  # of what is passed on the provider's decoder checks the order
            self._order.end()
        if not self._with_usage:
            return DONE
        usage = encode(usage_object(self._usage or Usage(prompt_tokens=0)))
        return self._head + b'],"usage":' + usage + b"}\n\n" + DONE

    def error(self, error: NarthexError) -> bytes:
        """The error as an event; no end mark follows it (contract 1.4)."""
        return sse.encode(error_body(error))

    def _written_head(self, rest: Mapping[str, Any], *, tier: str | None) -> bytes:
        head = self._identity | dict(rest) | ({} if tier is None else {"service_tier": tier})
        return b"data: " + encode(head)[:-1] + b',"choices":['

    def _relay(self, frame: Frame) -> bytes:
        data = frame.data
        if self._their_head and data.startswith(self._their_head) and data.endswith(self._their_tail):
            choices = data[len(self._their_head) : -len(self._their_tail)]
            if _is_plain(choices):  # nearly all: what stands around the choices is the same every time
                return b"%b%b%b" % (self._our_head, choices, self._our_tail)
        return self._relay_slowly(frame)

    def _relay_slowly(self, frame: Frame) -> bytes:
        chunk = _raw_map.decode(frame.data)
        if not bytes(chunk.get("choices", b"")).strip(b"[] \t\r\n"):
            return b""  # their usage; ours follows at the end
        if self._edits is None:
            self._edits = self._edits_after(chunk)
        for name in _THEIRS:
            chunk.pop(name, None)
        if len(self._begun) < self._choices or _IN_CHOICES(chunk["choices"]) is not None:
            chunk["choices"] = self._retold(chunk["choices"])
            return sse.encode(encode(chunk | self._edits))
        chunk |= self._edits
        self._remember(frame.data, chunk)
        return sse.encode(encode(chunk))

    def _remember(self, data: bytes, chunk: Mapping[str, msgspec.Raw]) -> None:
        """What stands before and after the choices in their chunks, and is to stand there in ours."""
        head, mark, rest = data.partition(_CHOICES)
        before, choices, after = rest.partition(bytes(chunk["choices"]))
        if before.strip() or not choices or _CHOICES in rest:  # it is another name, deeper within
            return
        ours = encode({name: raw for name, raw in chunk.items() if name not in {"choices", "usage"}})
        if b"\n" not in ours and b"\r" not in ours:
            self._their_head, self._their_tail = head + mark + before, after
            self._our_head = b"data: " + ours[:-1] + b"," + _CHOICES
            self._remember_text(choices)

    def _remember_text(self, choices: bytes) -> None:
        """What stands around the text of their chunks, and is to stand around it in ours."""
        start, mark, rest = choices.partition(_TEXT)
        text, quote, end = rest.partition(b'"')
        if mark and quote and not text.endswith(b"\\") and _is_plain(choices):
            end = quote + end
            self._around = _Around(self._their_head + start + mark, end + self._their_tail)
            self._our_start, self._our_end = self._our_head + start + mark, end + self._our_tail

    def _edits_after(self, first: Mapping[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
        """What replaces a provider's fields in every chunk; the usage chunk is written alike."""
        told = {name: _any(first[name]) for name in ("system_fingerprint", "service_tier") if name in first}
        tier = service_tier(self._call, told=str(told.pop("service_tier", None) or DEFAULT_TIER))
        self._head = self._written_head(told, tier=tier)
        edits = self._identity | ({} if tier is None else {"service_tier": tier})
        edits |= {"usage": None} if self._with_usage else {}
        return {name: msgspec.Raw(encode(value)) for name, value in edits.items()}

    def _retold(self, choices: msgspec.Raw) -> msgspec.Raw:
        """The role once, thoughts by the name that they have in whole answers too, and no usage."""
        entries = _raw_maps.decode(choices)
        for entry in entries:
            entry.pop("usage", None)
            delta = _any(entry.get("delta", b"{}"))
            if not isinstance(delta, dict):
                continue
            index = _any(entry.get("index", b"0"))
            if index in self._begun:
                delta.pop("role", None)
            else:
                self._begun.add(index)
                delta = {"role": "assistant"} | {name: value for name, value in delta.items() if name != "role"}
            if (thought := delta.pop("reasoning", None)) and not delta.get("reasoning_content"):
                delta["reasoning_content"] = thought
            entry["delta"] = msgspec.Raw(encode(delta))
        return msgspec.Raw(encode(entries))

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
        role = _ROLE_OF_CALLS if isinstance(event, ToolCallDelta) else _ROLE
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
            case RefusalDelta(choice, text):
                return self._written(choice, encode({"refusal": text}))
            case _:
                return b""

    def _written(self, choice: int, delta: bytes, *, logprobs: bytes = b"null", finish: bytes = b"null") -> bytes:
        return b'%b{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head, choice, delta, logprobs, finish, self._tail,
        )  # fmt: skip


class _Around:
    """What stands around the text of nearly all chunks. A chunk that has just this around anything without a quote, and
    is JSON, has the same members with another text.
    """

    __slots__ = ("_end", "_least", "_start")

    def __init__(self, start: bytes, end: bytes) -> None:
        """Both empty: nothing is known yet."""
        self._start = start
        self._end = end
        self._least = len(start) + len(end)

    def text_of(self, data: bytes) -> bytes | None:
        """The text of such a chunk, as it is written; None for any other chunk."""
        if not self._least or not data.startswith(self._start) or not data.endswith(self._end):
            return None
        text = data[len(self._start) : -len(self._end)]
        # A backslash at its end would take the quote behind it into the text.
        known = len(data) >= self._least and b'"' not in text and not text.endswith(b"\\")
        return text if known else None


def _is_plain(choices: bytes) -> bool:
    """Whether this is one list of choices and nothing after it, in one line, with nothing to be told anew.

    Where a list ends within it, it is looked at closely. A quote within a text has a backslash before it, so no text is
    taken for a name.
    """
    return (
        choices[-1:] == b"]"
        and len(choices) > len(b"[{}]")
        and b"]," not in choices
        and b"] " not in choices
        and b"]\t" not in choices
        and b"\n" not in choices
        and b"\r" not in choices
        and b'"role"' not in choices
        and b'"reasoning"' not in choices
        and b'"usage"' not in choices
    )


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
