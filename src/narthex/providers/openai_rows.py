"""What servers of OpenAI's format honour, as differences to OpenAI itself: the pieces that rows are made of. No I/O.

Rule 1: only native fields are sent as the caller wrote them; what has no effect or asks for nothing stays here, since
many servers refuse a field that they don't know whatever its value.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from narthex.core.capabilities import Capabilities, Limited, Rule, State, Verdict, state_of
from narthex.core.ports import Request
from narthex.core.tools import CACHED
from narthex.providers.traits import ModelTraits

Rules = dict[str, Rule]
"""Capabilities in the making."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """One server's kind on one surface.

    `honoured`: its capabilities. `renamed`: our name of a field to the server's. `constant`: members of every body.
    `asks_usage`: usage is asked for by `stream_options`; without, the server tells it unasked and knows no such field.
    `continues`: how a trailing assistant message is marked as one to continue, if it has to be.
    `repeats`: it begins its answer with the message that it continues.
    `relays`: its chunks may be passed on as they are; without, they are told anew (see `Retold`).
    `whole`: it may be asked for an answer as one document; without, always for a stream, because it goes on working for
    a caller who has left.
    `own_members`: whether it takes back what only answers hold, `reasoning_content` and `annotations`.
    """

    honoured: Capabilities
    renamed: Mapping[str, str] = {}
    constant: Mapping[str, Any] = {}
    asks_usage: bool = True
    continues: str = ""
    repeats: bool = False
    relays: bool = True
    whole: bool = True
    own_members: bool = True


def native(*names: str) -> Rules:
    """These fields, sent as they are."""
    return dict.fromkeys(names, State.NATIVE)


def without(honoured: Capabilities, names: Iterable[str]) -> Rules:
    """The same but for these fields."""
    left_out = frozenset(names)
    return {name: rule for name, rule in honoured.items() if name not in left_out}


def only(name: str, *values: Any, state: State = State.NATIVE) -> Limited:
    """A rule that lets but a few values of a field pass."""
    listed = " and ".join(msgspec.json.encode(value).decode() for value in values)

    def check(value: Any) -> None:
        if value not in values:
            raise Verdict(name, f"'{name}' may only be {listed}.")

    return Limited(state=state, limits=f"{listed} only", check=check)


def functions_only() -> Limited:
    """A rule for `tools` that refuses those of other kinds."""

    def check(value: Any) -> None:
        for index, tool in enumerate(value):
            if tool["type"] != "function":
                raise Verdict(f"tools[{index}].type", "Only tools of type 'function' are supported.")

    return Limited(limits="functions only", check=check)


def one_function() -> Limited:
    """A rule for `tool_choice`: a word, or one function by its name."""

    def check(value: Any) -> None:
        if isinstance(value, dict) and value["type"] != "function":
            raise Verdict("tool_choice.type", "Only a choice of type 'function' is supported.")

    return Limited(limits="words and one function", check=check)


def never_required() -> Limited:
    """A rule for `tool_choice` that refuses `required`, and every object but one function."""

    def check(value: Any) -> None:
        if value == "required" or (isinstance(value, dict) and value["type"] != "function"):
            raise Verdict("tool_choice", "Only 'none', 'auto' and one function are supported.")

    return Limited(limits="not required", check=check)


def up_to(name: str, most: int) -> Limited:
    """A rule that refuses numbers above a limit."""

    def check(value: Any) -> None:
        if value > most:
            raise Verdict(name, f"'{name}' may be at most {most}.")

    return Limited(limits=f"up to {most}", check=check)


def only_words() -> Limited:
    """A rule for `tool_choice` that refuses objects."""

    def check(value: Any) -> None:
        if isinstance(value, dict):
            raise Verdict("tool_choice", "Only 'none', 'auto' and 'required' are supported.")

    return Limited(limits="words only", check=check)


def one_text() -> Limited:
    """A rule for `prompt`: a single one, and not as tokens."""

    def check(value: Any) -> None:
        if value is not None and (len(value) > 1 or not isinstance(value[0], str)):
            raise Verdict("prompt", "Only a single text is supported.")

    return Limited(limits="one text", check=check)


def unnamed() -> Limited:
    """A rule for `messages` that refuses names of those who speak."""

    def check(value: Any) -> None:
        for index, message in enumerate(value):
            if message.name is not None and message.role not in {"tool", "function"}:
                raise Verdict(f"messages[{index}].name", "Names of speakers are not supported.")

    return Limited(limits="without names", check=check)


def without_choice(name: str) -> Limited:
    """A rule for `tool_choice` (or its older form) where the server has none: what we can bring about by ourselves."""
    return only(name, "auto", "none", state=State.EMULATED)


def format_without(kind: str) -> Limited:
    """A rule for `response_format` that refuses one of its types."""

    def check(value: Any) -> None:
        if value["type"] == kind:
            raise Verdict("response_format.type", f"A response format of type '{kind}' is not supported.")

    return Limited(limits=f"not {kind}", check=check)


_SAMPLING: Rules = {
    "temperature": only("temperature", 1.0),
    "top_p": only("top_p", 1.0),
    "presence_penalty": only("presence_penalty", 0.0),
    "frequency_penalty": only("frequency_penalty", 0.0),
}
"""What a model that thinks takes of these."""
_NOT_WHILE_THINKING = ("logprobs", "top_logprobs", "logit_bias")


def for_model(honoured: Capabilities, traits: ModelTraits) -> Rules:
    """What a model honours of what its server does."""
    left = {CACHED: State.NO_EFFECT, **honoured} if "tools" in honoured else dict(honoured)
    if traits.reasoning:
        left |= {name: rule for name, rule in _SAMPLING.items() if name in left}
        left = without(left, _NOT_WHILE_THINKING)
    if traits.reasoning is False:
        left.pop("reasoning_effort", None)
    return without(left, traits.refused)


def native_names(honoured: Capabilities) -> frozenset[str]:
    """The fields that the server takes as they are."""
    return frozenset(name for name in honoured if state_of(name, honoured) is State.NATIVE)


def native_fields(request: Request, names: frozenset[str]) -> dict[str, Any]:
    """The caller's own bytes of these."""
    members = dict(request.sent)
    for name in members.keys() - names:
        del members[name]
    return members


_STREAM = {"stream": True}
_STREAM_WITH_USAGE = {"stream": True, "stream_options": {"include_usage": True}}


def body(members: Mapping[str, Any], row: Row, *, model: str, streams: bool = True) -> bytes:
    """A body: the members under the server's names, and what is the same in every request."""
    return msgspec.json.encode(_whole(members, row, model=model, streams=streams))


def body_around(
    name: str, members: Mapping[str, Any], row: Row, *, model: str, streams: bool = True
) -> tuple[bytes, bytes]:
    """What of the same stands before and after the value of a member that is sent by our name for it."""
    whole = _whole(members, row, model=model, streams=streams)
    names = list(whole)
    at = names.index(name)
    before = msgspec.json.encode({each: whole[each] for each in names[:at]})
    after = msgspec.json.encode({each: whole[each] for each in names[at + 1 :]})
    start = b'%b%b"%b":' % (before[:-1], b"," if at else b"", name.encode())
    return start, b"," + after[1:] if at + 1 < len(names) else b"}"


def _whole(members: Mapping[str, Any], row: Row, *, model: str, streams: bool) -> dict[str, Any]:
    if row.renamed:
        members = {row.renamed.get(name, name): value for name, value in members.items()}
    ours = (_STREAM_WITH_USAGE if row.asks_usage else _STREAM) if streams else {}
    return {**members, **row.constant, "model": model, **ours}
