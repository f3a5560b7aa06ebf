"""Ends choices where the engine does not: at tokens (`stop_token_ids`), and behind stop strings instead of before them.

Source: contract section 7.1. The engine knows stop strings only, and cuts them off.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import msgspec

from narthex.core.chat import Sampling
from narthex.engine.local.llama import Piece

Spell = Callable[[Sequence[int]], Awaitable[str]]
"""The text of some tokens."""


def stopped(pieces: AsyncIterator[Piece], sampling: Sampling, *, choices: int, spell: Spell) -> AsyncIterator[Piece]:
    """The pieces of so many choices, ended as a request asks; when all have ended, the engine need not go on."""
    if sampling.stop_token_ids:
        ids = frozenset(sampling.stop_token_ids)
        pieces = _until(pieces, ids, choices=choices, keep=sampling.include_stop, spell=spell)
    return _with_stop(pieces) if sampling.include_stop and sampling.stop else pieces


async def _with_stop(pieces: AsyncIterator[Piece]) -> AsyncIterator[Piece]:
    async for piece in pieces:
        if piece.stop and piece.stopping_word:
            piece = msgspec.structs.replace(piece, content=piece.content + piece.stopping_word)
        yield piece


async def _until(
    pieces: AsyncIterator[Piece], ids: frozenset[int], *, choices: int, keep: bool, spell: Spell
) -> AsyncIterator[Piece]:
    """The pieces up to the first of some tokens, each choice for itself; `keep`: that token is told."""
    held: dict[int, tuple[int, ...]] = {}
    ended: set[int] = set()
    async for piece in pieces:
        if piece.index in ended:
            continue
        at = next((at for at, token in enumerate(piece.tokens) if token in ids), None)
        if at is None:
            held[piece.index] = () if piece.content else held.get(piece.index, ()) + piece.tokens
            ended |= {piece.index} if piece.stop else set()
            yield piece
        else:
            ended.add(piece.index)
            told = held.get(piece.index, ()) + piece.tokens[: at + keep]
            content = await spell(told) if told else ""
            yield msgspec.structs.replace(piece, content=content, stop=True, stop_type="word")
        if len(ended) == choices:
            return
