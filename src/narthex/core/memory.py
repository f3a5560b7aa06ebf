"""How much of a conversation a model is given: which messages may be left out, and a request without them.

Source: contract section 4.4.

Rule 1: system and developer messages at the beginning stay, and so does the last message. What is left out are the
oldest of the others, so that a number says which.
Rule 2: a call and its results are left out together or not at all: a result alone means nothing to a model.
"""

from collections.abc import Sequence

import msgspec

from narthex.core.chat import ChatRequest, Message
from narthex.core.errors import ContextLengthExceeded

STRATEGY, BUDGET = "memory_strategy", "token_budget"
"""The request fields that ask for it."""
FORGETFUL = frozenset((STRATEGY, BUDGET))

_LEADING = frozenset(("system", "developer"))
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


class LastK(msgspec.Struct, frozen=True):
    """The strategy that keeps the last `k` messages besides those at the beginning that always stay."""

    k: int


def leading(messages: Sequence[Message]) -> int:
    """How many messages at the beginning always stay."""
    return next((at for at, message in enumerate(messages) if message.role not in _LEADING), len(messages))


def omissible(messages: Sequence[Message]) -> list[int]:
    """How many of the messages after the leading ones may be left out: every number that is allowed, 0 first."""
    begin = leading(messages)
    calls: dict[tuple[str, str | None], int] = {}
    last = list(range(len(messages)))  # of each message's results, where the last one is
    for at, message in enumerate(messages):
        if (asked := calls.get(_answered(message))) is not None:
            last[asked] = at
        for call in message.tool_calls:
            calls["tool", call.id] = at
        if message.function_call is not None:
            calls["function", message.function_call.name] = at
    allowed, held = [0], begin  # a cut up to where it is held would part a result from its call
    for at in range(begin, len(messages)):
        if at > held:
            allowed.append(at - begin)
        held = max(held, last[at])
    return allowed


def _answered(message: Message) -> tuple[str, str | None]:
    """The call that a message is the result of; for others what no call is known by."""
    if message.role == "tool":
        return "tool", message.tool_call_id
    return ("function", message.name) if message.role == "function" else ("", None)


def beyond_last(messages: Sequence[Message], k: int) -> int:
    """How many to leave out to keep the last `k` of those after the leading ones.

    Fewer than `k` are kept where the first of them would be a result without its call; more, where nothing else than
    the results of one message's calls would be left.
    """
    allowed = omissible(messages)
    most = len(messages) - leading(messages) - k
    return next((number for number in allowed if number >= most), allowed[-1])


def without(request: ChatRequest, number: int) -> ChatRequest:
    """The same request, in every form that it has, without so many messages after the leading ones."""
    if number == 0:
        return request
    begin = leading(request.messages)
    messages = (*request.messages[:begin], *request.messages[begin + number :])
    sent = _raws(request.sent["messages"])
    written = msgspec.Raw(msgspec.json.encode([*sent[:begin], *sent[begin + number :]]))
    return msgspec.structs.replace(
        request,
        messages=messages,
        forgotten=request.forgotten + number,
        fields={**request.fields, "messages": messages},
        sent={**request.sent, "messages": written},
    )


def over_budget(budget: int, *, least: int) -> ContextLengthExceeded:
    """The error for a budget that what always stays does not fit. `least`: tokens of that."""
    message = f"The token budget is {budget} tokens. However, what can't be left out of your prompt has {least} tokens."
    return ContextLengthExceeded(message, param=BUDGET)
