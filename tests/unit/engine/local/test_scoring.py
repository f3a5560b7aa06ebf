"""What a scorer asks of the engine, and what it makes of answers that hold less than was asked for."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from narthex.core.slots import Want
from narthex.engine.leases import LocalSlots
from narthex.engine.local.generation import Owner
from narthex.engine.local.llama import Chosen, Piece, Rival
from narthex.engine.local.probabilities import IMPOSSIBLE, Vocabulary
from narthex.engine.local.scoring import LIKELY, RUN_TOKENS, Scorer
from narthex.engine.queue import QueueLimits

pytestmark = pytest.mark.anyio

OWNER = Owner(key="k", account="a", seeded=False)
VOCABULARY = Vocabulary([b"a"] * (LIKELY + 100))
LIMITS = QueueLimits(slots=4, cells=8192, window=4096)


class Engine:
    """Generates what it is forced to, but tells nothing of the tokens in `untold`, and ends at those in `ends`.

    In a list of rivals every token but those in `unlikely` stands in the first `LIKELY`; those in `unheard` in none.
    """

    def __init__(
        self,
        *,
        untold: tuple[int, ...] = (),
        ends: tuple[int, ...] = (),
        unlikely: tuple[int, ...] = (),
        unheard: tuple[int, ...] = (),
    ) -> None:
        self.asked: list[dict[str, Any]] = []
        self._untold = untold
        self._ends = ends
        self._unlikely = unlikely
        self._unheard = unheard

    @asynccontextmanager
    async def completion(self, body: dict[str, Any]) -> AsyncIterator[AsyncIterator[Piece]]:
        self.asked.append(body)
        forced = [int(token.strip("<[]>")) for token in body["grammar"].split()[3:] if token.startswith("<[")]
        yield self._forced(forced) if forced else self._listed(body["n_probs"])

    async def _forced(self, tokens: list[int]) -> AsyncIterator[Piece]:
        at = 0
        for at, token in enumerate(tokens, 1):
            if token not in self._untold:
                chosen = Chosen(
                    id=token, logprob=-float(token), top_logprobs=(Rival(id=9, bytes_=(98,), logprob=-0.1),)
                )
                yield Piece(content="a", tokens_predicted=at, completion_probabilities=(chosen,))
            if token in self._ends:
                break
        yield Piece(stop=True, tokens_predicted=at, id_slot=2)

    async def _listed(self, count: int) -> AsyncIterator[Piece]:
        rivals = [
            Rival(id=token, logprob=-100.0 - token)
            for token in range(50)
            if token not in self._unheard and (token not in self._unlikely or count > LIKELY)
        ]
        chosen = Chosen(id=1000, logprob=-1.0, top_logprobs=tuple(rivals))
        yield Piece(content=".", tokens_predicted=1, completion_probabilities=(chosen,))
        yield Piece(stop=True, tokens_predicted=1, id_slot=2)


async def scores(engine: Engine, tokens: list[int], *, rivals: int = 1) -> list[float | None]:
    scorer = Scorer(engine, LocalSlots(LIMITS), owner=OWNER, vocabulary=VOCABULARY, rivals=rivals)  # type: ignore[arg-type]
    return [entry.logprob for entry in await scorer.score(tokens, [b"a"] * len(tokens))]


async def test_a_prompt_is_forced_in_one_request() -> None:
    engine = Engine()
    assert await scores(engine, [5, 6, 7]) == [None, -6, -7]
    (body,) = engine.asked
    assert (body["prompt"], body["n_predict"], body["cache_prompt"]) == ([5], 2, False)


async def test_one_token_asks_for_nothing() -> None:
    engine = Engine()
    assert await scores(engine, [5]) == [None]
    assert not engine.asked


async def test_a_long_one_goes_on_where_it_was() -> None:
    engine = Engine()
    tokens = [7] * (RUN_TOKENS + 10)
    assert await scores(engine, tokens) == [None] + [-7] * (len(tokens) - 1)
    first, second = engine.asked
    assert (len(second["prompt"]), second["n_predict"]) == (RUN_TOKENS + 1, 9)
    assert (first["cache_prompt"], second["cache_prompt"], second["id_slot"]) == (False, True, 2)


async def test_a_token_that_ends_texts() -> None:
    engine = Engine(ends=(6,))
    assert await scores(engine, [5, 6, 7, 6, 8]) == [None, -6, -7, -6, -8]
    assert [len(body["prompt"]) for body in engine.asked] == [1, 2, 4]


async def test_what_is_not_told_is_looked_up_from_the_end_on() -> None:
    engine = Engine(untold=(6, 7), unlikely=(7,))
    assert await scores(engine, [5, 6, 7, 8]) == [None, -106, -107, -8]
    assert [(len(body["prompt"]), body["n_probs"]) for body in engine.asked[1:]] == [
        (2, LIKELY), (2, len(VOCABULARY.pieces)), (1, LIKELY),
    ]  # fmt: skip


async def test_what_nobody_knows_is_ruled_out() -> None:
    assert await scores(Engine(untold=(6,), unheard=(6,)), [5, 6]) == [None, IMPOSSIBLE]


async def test_an_engine_that_generates_nothing_is_asked_for_each_token() -> None:
    class Silent(Engine):
        async def _forced(self, tokens: list[int]) -> AsyncIterator[Piece]:
            yield Piece(stop=True)

    assert await scores(Silent(), [5, 6, 7]) == [None, -106, -107]


async def test_as_many_rivals_as_asked_for() -> None:
    engine = Engine(untold=(6,))
    scorer = Scorer(engine, LocalSlots(LIMITS), owner=OWNER, vocabulary=VOCABULARY, rivals=0)  # type: ignore[arg-type]
    entries = await scorer.score([5, 6, 7], [b"a"] * 3)
    assert [entry.top for entry in entries] == [(), (), ()]
    scorer = Scorer(engine, LocalSlots(LIMITS), owner=OWNER, vocabulary=VOCABULARY, rivals=3)  # type: ignore[arg-type]
    entries = await scorer.score([5, 6, 7], [b"a"] * 3)
    assert [len(entry.top) for entry in entries] == [0, 3, 1]


async def test_while_nobody_knows_the_slots() -> None:
    """Beside a group of choices a lease names no slot: the first request's slot is kept to."""
    slots = LocalSlots(LIMITS)
    engine = Engine(ends=(6,))
    scorer = Scorer(engine, slots, owner=OWNER, vocabulary=VOCABULARY, rivals=1)  # type: ignore[arg-type]
    async with slots.lease(Want(key="other", account="b", n=2, prompt_tokens=1, max_new=1)):
        await scorer.score([5, 6, 7], [b"a"] * 3)
    first, second = engine.asked
    assert "id_slot" not in first
    assert (second["id_slot"], second["cache_prompt"]) == (2, True)
