"""What a call leaves out of its conversation before anybody sees it. Source: contract section 4.4.

A strategy of numbers is kept here, the same for every model; a budget of tokens by whoever answers, for only they can
count.
"""

from narthex.core.chat import ChatRequest
from narthex.core.memory import STRATEGY, LastK, beyond_last, without
from narthex.core.ports import Call


def remember(call: Call) -> None:
    """Make the call one with the messages that its strategy keeps, if it has one."""
    request = call.request
    strategy = request.fields.get(STRATEGY)
    if not isinstance(request, ChatRequest) or not isinstance(strategy, LastK):
        return
    call.request = without(request, beyond_last(request.messages, strategy.k))
    call.forgotten = call.request.forgotten
