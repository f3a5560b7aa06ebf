"""A deployment whose requests may set bounds of their own: how much of the conversation its prompt may hold.

Source: contract section 4.4. What a server elsewhere makes of a prompt nobody here can say, so its tokens are counted
by `approximate_tokens`, which errs on the side of more; the embedded engine counts its own (`engine.local.budget`).
"""

import msgspec
from typing_extensions import override

from narthex.core.capabilities import TIMEOUT, Capabilities, State
from narthex.core.chat import ChatRequest, Message, TextPart
from narthex.core.deployments import Around
from narthex.core.grounding import approximate_tokens
from narthex.core.memory import BUDGET, STRATEGY, leading, omissible, over_budget, without
from narthex.core.ports import Call, Opened, Surface

AROUND_A_MESSAGE = 8
"""Tokens that a chat template puts there, about."""
OF_A_PART = 1000
"""Tokens of an image, a sound or a file, about: most models make that many of a picture."""

_TOLD = ("tools", "functions")
"""Fields that become a part of the prompt."""
_TIMED: Capabilities = {TIMEOUT: State.EMULATED}
_CHATS: Capabilities = {**_TIMED, STRATEGY: State.EMULATED, BUDGET: State.EMULATED}


def with_bounds(honoured: Capabilities, surface: Surface) -> Capabilities:
    """What a deployment honours when `Bounded` stands before it. The router keeps the time, whoever is asked."""
    if surface == "chat":
        return {**honoured, **_CHATS}
    return {**honoured, **_TIMED} if surface == "completions" else honoured


class Bounded(Around):
    """Sends on what fits a request's own budget of tokens. Others' requests pass untouched."""

    @override
    def honoured(self, surface: Surface, inner: Capabilities) -> Capabilities:
        """The bounds besides."""
        return with_bounds(inner, surface)

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`.

        Raises:
            ContextLengthExceeded: the budget is too small for what can't be left out.
        """
        budget = call.request.fields.get(BUDGET)
        if budget is None or not isinstance(call.request, ChatRequest):
            return self._deployment.open(call)
        fitting = within(call.request, budget)
        call.forget(fitting.forgotten)
        return self._deployment.open(call.asking(fitting))


def within(request: ChatRequest, budget: int) -> ChatRequest:
    """The request with as many of its newest messages as fit so many tokens, by an approximate count.

    Raises:
        ContextLengthExceeded: what can't be left out does not fit.
    """
    begin = leading(request.messages)
    counts = list(map(tokens_of, request.messages))
    count = sum(counts) + sum(approximate_tokens(_text(request.sent.get(name))) for name in _TOLD)
    left_out = 0
    for number in omissible(request.messages):
        count -= sum(counts[begin + left_out : begin + number])
        left_out = number
        if count <= budget:
            return without(request, number)
    raise over_budget(budget, least=count)


def tokens_of(message: Message) -> int:
    """About how many tokens a message has in a prompt."""
    texts = [message.text, message.refusal or "", message.name or ""]
    texts += [text for call in message.tool_calls for text in (call.name, call.arguments)]
    if message.function_call is not None:
        texts += [message.function_call.name, message.function_call.arguments]
    parts = message.content if isinstance(message.content, tuple) else ()
    others = sum(not isinstance(part, TextPart) for part in parts) + (message.audio_id is not None)
    return AROUND_A_MESSAGE + OF_A_PART * others + sum(map(approximate_tokens, texts))


def _text(raw: msgspec.Raw | None) -> str:
    return "" if raw is None else bytes(raw).decode(errors="replace")
