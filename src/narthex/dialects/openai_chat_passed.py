"""`/v1/chat/completions`: whole answers of providers that speak this very format, passed on. Source: contract 1.3.

Rule: what the contract names is told as in any other answer of ours; what it does not name stays as it came, but for
members of a message: callers send messages back as they got them, and nobody could take those.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from msgspec import UNSET

from narthex.core.ports import Call
from narthex.core.stream import Frame, OneText, Usage
from narthex.dialects.openai_chat_answer import answer_object, service_tier, usage_object, usage_written
from narthex.wire.json import UNREADABLE, encode

FORMAT = "openai.chat.whole"

_OURS = ("usage", "service_tier", "x_groq")
"""Members of an answer that are left out, or replaced by ours."""
_OPTIONAL = ("reasoning_content", "reasoning", "tool_calls", "function_call")
"""Members of a message that ours has only if there is something in them."""
_OF_MESSAGES = frozenset(("role", "content", "refusal", "annotations", "audio", *_OPTIONAL))
_NOTHING = frozenset((b"null", b'""', b"[]"))

_NULL = msgspec.Raw(b"null")
_FIRST = msgspec.Raw(b"0")
_ROLE = msgspec.Raw(b'"assistant"')
_NO_ANNOTATIONS = msgspec.Raw(b"[]")

_raw_map = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_raw_map_or_null = msgspec.json.Decoder(dict[str, msgspec.Raw] | None).decode
_raw_maps = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_any = msgspec.json.Decoder().decode


class _Named(msgspec.Struct):
    name: str


class _Function(_Named):
    arguments: str


class _FunctionCall(msgspec.Struct, tag_field="type", tag="function"):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    function: _Function


class _CustomCall(msgspec.Struct, tag_field="type", tag="custom"):
    id: Annotated[str, msgspec.Meta(min_length=1)]
    custom: _Named


_sound_calls = msgspec.json.Decoder(list[_FunctionCall | _CustomCall]).decode


_PLAIN = (
    b'{"id":"chatcmpl-%b","object":"chat.completion","created":%d,"model":%b,"choices":[{"index":0,"message":'
    b'{"role":"assistant","content":%b,"refusal":null,"annotations":[]},"logprobs":null,"finish_reason":"%b"}],"usage":%b}'
)
_NO_USAGE = Usage(prompt_tokens=0)


def is_passed_on(call: Call, frames: Sequence[Frame]) -> bool:
    """Whether an answer can be. With `functions` in the request calls are told in the older form."""
    return len(frames) == 1 and frames[0].format == FORMAT and "functions" not in call.request.fields


def passed_on(call: Call, frame: Frame, *, created: int) -> bytes:
    """The same answer with our identity in it, and with all that the contract promises."""
    if frame.alone is not None and "logprobs" not in call.request.fields:
        return _plainly(call, frame.alone, frame.usage or _NO_USAGE, created=created)
    answer = _raw_map(frame.data)
    told = _any(answer.get("service_tier", _NULL))
    for name in _OURS:
        answer.pop(name, None)
    ours: dict[str, Any] = {
        "id": f"chatcmpl-{call.id}",
        "object": "chat.completion",
        "created": created,
        "model": call.request.model,
        "choices": _written(call, frame, _raw_maps(answer["choices"])),
        "usage": usage_object(frame.usage or _NO_USAGE),
    }
    tier = service_tier(call, told=told)
    if tier is not None:
        ours["service_tier"] = tier
    return encode({**answer, **ours})


def _plainly(call: Call, answer: OneText, usage: Usage, *, created: int) -> bytes:
    """The same of one text, its message with what it always has."""
    request = call.request
    rest = usage_written(usage)
    if (tier := service_tier(call, told=answer.service_tier)) is not None:
        rest += b',"service_tier":' + encode(tier)
    if answer.system_fingerprint is not UNSET:
        rest += b',"system_fingerprint":%b' % answer.system_fingerprint
    return _PLAIN % (
        call.id.encode(), created, encode(request.model), answer.content, answer.finish_reason.encode(), rest,
    )  # fmt: skip


def _written(call: Call, frame: Frame, choices: Sequence[dict[str, msgspec.Raw]]) -> Sequence[dict[str, Any]]:
    """Choices as they are told."""
    messages = [_message(choice) for choice in choices]
    if len(choices) == 1 and "logprobs" not in call.request.fields and _is_plain(choices[0], messages[0]):
        return [{**choices[0], "message": messages[0]}]
    return _told_anew(choices, messages, answer_object(call, (frame,), created=0)["choices"])


def _message(choice: dict[str, msgspec.Raw]) -> dict[str, msgspec.Raw]:
    """The message of a choice, with what it always has and without what has nothing in it."""
    choice.setdefault("index", _FIRST)
    choice.setdefault("logprobs", _NULL)
    theirs = _raw_map_or_null(choice.get("message", _NULL)) or {}
    message = {name: raw for name, raw in theirs.items() if name in _OF_MESSAGES}
    message["role"] = _ROLE
    for name in _OPTIONAL:
        if name in message and _is_nothing(message[name]):
            del message[name]
    if _is_nothing(message.get("refusal", _NULL)):
        message["refusal"] = _NULL
    if _is_nothing(message.get("annotations", _NULL)):
        message["annotations"] = _NO_ANNOTATIONS
    return message


def _is_nothing(raw: msgspec.Raw) -> bool:
    return bytes(raw) in _NOTHING


def _is_text(content: msgspec.Raw) -> bool:
    written = bytes(content)
    return written.startswith(b'"') and len(written) > 2


def _is_plain(choice: dict[str, msgspec.Raw], message: dict[str, msgspec.Raw]) -> bool:
    """Text and nothing else: there is nothing to tell otherwise than they do."""
    return (
        _is_text(message.get("content", _NULL))
        and not any(name in message for name in _OPTIONAL[1:])
        and _is_nothing(choice["logprobs"])
    )


def _told_anew(
    theirs: Sequence[dict[str, msgspec.Raw]],
    messages: Sequence[dict[str, msgspec.Raw]],
    ours: Sequence[dict[str, Any]],
) -> list[dict[str, Any]]:
    """Choices in their order, with what the contract names as `ours` has it. `messages`: of their choices."""
    pairs = sorted(zip(theirs, messages, strict=True), key=lambda pair: int(_any(pair[0]["index"])))
    return [
        {**choice, **own, "message": _completed(message, own["message"])}
        for (choice, message), own in zip(pairs, ours, strict=True)
    ]


def _completed(message: dict[str, msgspec.Raw], own: dict[str, Any]) -> dict[str, Any]:
    """Their calls stay if they are whole: there are kinds of them that we know nothing of. Annotations always stay."""
    kept = {name: raw for name, raw in message.items() if name not in _OPTIONAL}
    calls = message.get("tool_calls")
    if calls is not None and "tool_calls" in own and _are_sound(calls):
        own = own | {"tool_calls": calls}
    if "audio" in message:
        own = own | {"audio": message["audio"]}
    return {**kept, **own, "annotations": message["annotations"]}


def _are_sound(calls: msgspec.Raw) -> bool:
    try:
        _sound_calls(calls)
    except UNREADABLE:
        return False
    return True
