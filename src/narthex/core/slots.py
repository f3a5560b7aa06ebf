"""The seam between an engine's queue and whoever generates: what a request wants, and what it is given."""

from contextlib import AbstractAsyncContextManager
from typing import Annotated, Protocol

import msgspec

from narthex.core.tiers import DEFAULT_RANK


class Want(msgspec.Struct, frozen=True, kw_only=True):
    """What a request asks an engine's slots for: up to `n` choices. Counts are in tokens."""

    key: str
    account: str
    n: Annotated[int, msgspec.Meta(ge=1)] = 1
    prompt_tokens: Annotated[int, msgspec.Meta(ge=0)]
    max_new: Annotated[int, msgspec.Meta(ge=0)]
    prefix: tuple[int, ...] = ()
    """Hashes of the prompt's beginning, by which a slot that still holds it is found."""
    seeded: bool = False
    """It may have to run alone."""
    fresh: bool = False
    """Without the prefix cache, and where the last such request was: its text is to repeat."""
    rank: Annotated[int, msgspec.Meta(ge=0)] = DEFAULT_RANK
    """When its turn comes; lower ones first. See `core.tiers`."""
    steady: bool = False
    """Its log probabilities are told: they too are to repeat. If nothing else runs, its account's idle slots are
    emptied first."""


class Lease(Protocol):
    """Room in the engine for some of a request's choices, from its grant to the end of the block it was made in."""

    choices: int
    """How many choices may run under it, as one engine request."""
    left: int
    """How many of the wanted choices it does not cover."""
    slot: int | None
    """The engine's slot to use; None: any, and without the prefix cache."""
    cache: bool
    """Whether the slot's cached prefix is this account's own."""

    def used(self, slot: int) -> None:
        """Tell which slot the engine used for one of the choices."""
        ...

    def untouched(self) -> None:
        """Tell that the engine's slots stay as they are: the work is done elsewhere."""
        ...

    def rest(self) -> AbstractAsyncContextManager["Lease"]:
        """Wait for more of the same request's choices; only where `left` is not 0."""
        ...


class Slots(Protocol):
    """The queue in front of an engine: bounded, and fair by key."""

    def lease(self, want: Want) -> AbstractAsyncContextManager[Lease]:
        """Wait for room for up to `n` choices; leaving the block gives it back.

        Raises:
            QueueFull: too many wait already; `retry_after_s` tells when to come back.
            ContextLengthExceeded: the engine could never hold this request.
            EngineUnavailable: the engine is not running.
        """
        ...
