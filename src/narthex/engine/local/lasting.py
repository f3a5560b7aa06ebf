"""Answers of at least so many tokens (`min_tokens`). Source: contract section 7.1.

llama.cpp can rule out the end of a text for all of it, or not at all. A grammar of token ids can do it for its
beginning: so many tokens, none of which ends the text, and then any. All else is as without a grammar: it leaves every
other token its chance, and what is told of probabilities is from before it.

The server tells which tokens end a text only in the settings of a request that rules them out.
"""

from collections.abc import Iterable, Iterator

from narthex.core.chat import Sampling
from narthex.core.errors import UnsupportedParameter
from narthex.core.slots import Slots, Want
from narthex.engine.local.generation import Owner
from narthex.engine.local.llama import LlamaServer

_LLGUIDANCE = "%llguidance {}\nstart: "


class Ends:
    """The tokens that end a text of one model; asked for once, in a slot of its engine."""

    def __init__(self, server: LlamaServer, slots: Slots) -> None:
        self._server = server
        self._slots = slots
        self._known: tuple[int, ...] | None = None

    def forget(self) -> None:
        """The engine failed: another may know other tokens."""
        self._known = None

    async def grammar(self, sampling: Sampling, *, owner: Owner, known_tokens: int, room: int) -> str:
        """What an answer is held to, to be as long as asked for; "" where nothing could end it sooner.

        `room`: the most tokens that it can have. `known_tokens`: of the model; 0: nobody knows.

        Raises:
            UnsupportedParameter: the server does not tell its tokens.
            EngineError: see `LlamaServer.ends`; the errors of `Slots.lease`.
        """
        ends = () if sampling.ignore_eos else await self._ends(owner)
        if not known_tokens or (not ends and not sampling.ignore_eos):
            raise UnsupportedParameter("The model's server does not tell which tokens end a text.", param="min_tokens")
        barred = {*ends, *sampling.stop_token_ids}
        if not barred:
            return ""
        least = min(sampling.min_tokens, room)
        return f"{_LLGUIDANCE}<[{_ranges(barred, known_tokens)}]>{{{least}}} <[0-{known_tokens - 1}]>*"

    async def _ends(self, owner: Owner) -> tuple[int, ...]:
        if self._known is None:
            want = Want(key=owner.key, account=owner.account, prompt_tokens=1, max_new=1, fresh=True)
            async with self._slots.lease(want) as lease:
                self._known = await self._server.ends(slot=lease.slot)
        return self._known


def _ranges(barred: Iterable[int], count: int) -> str:
    """All of so many tokens but these, as ranges of numbers."""
    return ",".join(f"{first}-{last}" if first < last else f"{first}" for first, last in _runs(barred, count))


def _runs(barred: Iterable[int], count: int) -> Iterator[tuple[int, int]]:
    begin = 0
    for token in sorted({*barred, count}):
        if begin < token:
            yield begin, token - 1
        begin = token + 1
