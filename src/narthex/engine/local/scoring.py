"""Log probabilities of the tokens of a prompt: the engine is made to generate the prompt itself, and tells them.

A grammar of token ids leaves no choice, and the probabilities that are told are those from before the grammar. So a
prompt costs as much time as an answer of its length. What the engine does not tell on the way (tokens that end within
a character) is looked up afterwards, each in a request of one token.
"""

from collections.abc import Sequence
from typing import Any

from narthex.core.slots import Lease, Slots, Want
from narthex.core.stream import TokenLogprob
from narthex.engine.local.generation import Owner
from narthex.engine.local.llama import Chosen, LlamaServer
from narthex.engine.local.probabilities import Vocabulary, entry, spelling
from narthex.engine.slots import fingerprint

RUN_TOKENS = 512
"""Forced in one request, so that no grammar grows without bound."""
LIKELY = 2000
"""Nearly every token is among so many of the likeliest; to list the whole vocabulary takes ten times as long."""
_LLGUIDANCE = "%llguidance {}\nstart: "
_ANYTHING = f'{_LLGUIDANCE}"."'
"""Where only the rivals matter. A token that ends within a character would be told too late."""


class Scorer:
    """Scores prompts for one request. `rivals`: how many to tell of each token."""

    def __init__(self, server: LlamaServer, slots: Slots, *, owner: Owner, vocabulary: Vocabulary, rivals: int) -> None:
        self._server = server
        self._slots = slots
        self._owner = owner
        self._vocabulary = vocabulary
        self._rivals = rivals

    async def score(self, tokens: Sequence[int], pieces: Sequence[bytes]) -> tuple[TokenLogprob, ...]:
        """An entry for each token, which spells the piece at its place. The first has no log probability.

        Raises:
            EngineError: see `LlamaServer.completion`; the errors of `Slots.lease`.
        """
        found = await self._found(tokens) if len(tokens) > 1 else {}
        first = TokenLogprob(token=spelling(pieces[0]), logprob=None, bytes_=pieces[0])
        further = (
            entry(found[at], pieces[at], rivals=self._rivals, vocabulary=self._vocabulary)
            for at in range(1, len(tokens))
        )
        return (first, *further)

    async def _found(self, tokens: Sequence[int]) -> dict[int, Chosen]:
        """By place."""
        async with self._slots.lease(
            Want(
                key=self._owner.key,
                account=self._owner.account,
                prompt_tokens=len(tokens),
                max_new=1,
                prefix=fingerprint(tokens),
                seeded=self._owner.seeded,
                fresh=True,  # where it lies in the cache changes its sums: the same place gives the same figures again
                steady=True,
            )
        ) as lease:
            run = _Run(self._server, lease, tokens, rivals=max(1, self._rivals))
            at = 1
            while at < len(tokens):  # a token that ends texts ends the request too
                at += max(1, await run.force(at))
            for place in range(len(tokens) - 1, 0, -1):  # backwards, so that what comes before it is in the cache
                if place not in run.found:
                    await run.look_up(place, vocabulary=len(self._vocabulary.pieces))
            return run.found


class _Run:
    """One prompt in one slot of the engine."""

    def __init__(self, server: LlamaServer, lease: Lease, tokens: Sequence[int], *, rivals: int) -> None:
        self.found: dict[int, Chosen] = {}
        self._server = server
        self._lease = lease
        self._tokens = tokens
        self._rivals = rivals
        self._slot = lease.slot
        self._begun = False

    async def force(self, at: int) -> int:
        """Have the tokens from `at` on generated; returns how many were."""
        forced = self._tokens[at : at + RUN_TOKENS]
        grammar = _LLGUIDANCE + " ".join(f"<[{token}]>" for token in forced)
        generated = 0
        async with self._server.completion(
            self._body(at, n_predict=len(forced), grammar=grammar, n_probs=self._rivals)
        ) as pieces:
            async for piece in pieces:
                generated = piece.tokens_predicted
                place = at + generated - 1
                for chosen in piece.completion_probabilities:
                    if chosen.id == self._tokens[place]:
                        self.found[place] = chosen
                if piece.stop:
                    self._ended(piece.id_slot)
        return generated

    async def look_up(self, place: int, *, vocabulary: int) -> None:
        """Find one token among those that could have come there."""
        token = self._tokens[place]
        for likely in (LIKELY, vocabulary):
            body = self._body(place, n_predict=1, grammar=_ANYTHING, n_probs=likely)
            async with self._server.completion(body) as pieces:
                async for piece in pieces:
                    for told in piece.completion_probabilities:
                        logprob = next((rival.logprob for rival in told.top_logprobs if rival.id == token), None)
                        top = told.top_logprobs[: self._rivals]
                        self.found[place] = Chosen(id=token, logprob=logprob, top_logprobs=top)
                    if piece.stop:
                        self._ended(piece.id_slot)
            if place in self.found and self.found[place].logprob is not None:
                return
        self.found.setdefault(place, Chosen(id=token))

    def _body(self, at: int, **rest: Any) -> dict[str, Any]:
        """A request that goes on after the first `at` tokens; what is in the slot already is ours."""
        body = {"prompt": self._tokens[:at], "samplers": ["top_k"], "top_k": 1, "cache_prompt": self._begun, **rest}
        return body if self._slot is None else body | {"id_slot": self._slot}

    def _ended(self, slot: int) -> None:
        self._begun = True
        if slot >= 0:
            self._slot = slot
            self._lease.used(slot)
