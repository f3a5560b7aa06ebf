"""As much of a conversation as fits a caller's budget of tokens, counted by the model's own template and tokenizer.

How many tokens a prompt has is only known once it is rendered and tokenized, so the place is searched by halves.
"""

import contextlib
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeVar

from narthex.core.chat import ChatRequest
from narthex.core.errors import InvalidRequest
from narthex.core.memory import omissible, over_budget, without


class Counted(Protocol):
    """A prompt that is ready."""

    @property
    def count(self) -> int:
        """Its tokens."""
        ...


_REFUSED = 3
"""How many beginnings in a row are tried with a template that may want another role there."""
_Ready = TypeVar("_Ready", bound=Counted)


async def within(
    request: ChatRequest, budget: int, prepare: Callable[[ChatRequest], Awaitable[_Ready]]
) -> tuple[_Ready, int]:
    """What `prepare` makes of as many of the newest messages as fit; and how many were left out.

    Raises:
        ContextLengthExceeded: what can't be left out does not fit.
        RequestError: as `prepare`.
    """
    whole = await prepare(request)
    if whole.count <= budget:
        return whole, 0
    numbers = omissible(request.messages)

    async def ready(first: int) -> tuple[int, _Ready]:
        """With so many left out, or with the next number that the template takes: roles may have to alternate."""
        last = min(first + _REFUSED, len(numbers)) - 1
        for at in range(first, last):
            with contextlib.suppress(InvalidRequest):
                return at, await prepare(without(request, numbers[at]))
        return last, await prepare(without(request, numbers[last]))

    low, high = 1, len(numbers) - 1
    found = (0, whole) if high == 0 else await ready(high)
    if found[1].count > budget:
        raise over_budget(budget, least=found[1].count)
    while low < high:
        middle = (low + high) // 2
        try:
            at, prompt = await ready(middle)
        except InvalidRequest:  # there is one already that is not refused
            low = middle + _REFUSED
            continue
        if prompt.count <= budget:
            found, high = (at, prompt), middle
        else:
            low = at + 1
    return found[1], numbers[found[0]]
