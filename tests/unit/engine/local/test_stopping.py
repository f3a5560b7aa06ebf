"""Answers that end at a token, and stop strings that are told."""

from collections.abc import AsyncIterator, Sequence

import pytest

from narthex.core.chat import Sampling
from narthex.engine.local.llama import Piece
from narthex.engine.local.stopping import stopped

pytestmark = pytest.mark.anyio


async def spell(tokens: Sequence[int]) -> str:
    return "".join(f"<{token}>" for token in tokens)


async def ended(*pieces: Piece, choices: int = 1, **fields: object) -> list[Piece]:
    async def stream() -> AsyncIterator[Piece]:
        for piece in pieces:
            yield piece

    found = stopped(stream(), Sampling(**fields), choices=choices, spell=spell)  # type: ignore[arg-type]
    return [piece async for piece in found]


def piece(token: int, content: str = "x", *, index: int = 0, stop: str = "", word: str = "") -> Piece:
    return Piece(
        index=index, content=content, tokens=(token,), stop=bool(stop), stop_type=stop, stopping_word=word,
        tokens_predicted=token,
    )  # fmt: skip


async def test_without_either_nothing_changes() -> None:
    pieces = [piece(1), piece(2, stop="eos")]
    assert await ended(*pieces) == pieces
    assert await ended(*pieces, stop_token_ids=(7,)) == pieces
    assert await ended(*pieces, include_stop=True) == pieces


async def test_a_stop_string_is_told_where_that_is_asked_for() -> None:
    last = piece(2, "", stop="word", word="END")
    assert [each.content for each in await ended(piece(1), last, stop=("END",))] == ["x", ""]
    assert [each.content for each in await ended(piece(1), last, stop=("END",), include_stop=True)] == ["x", "END"]


@pytest.mark.parametrize(("include_stop", "text"), [(False, ""), (True, "<2>")])
async def test_a_token_ends_its_choice(include_stop: bool, text: str) -> None:
    found = await ended(piece(1), piece(2), piece(3), stop_token_ids=(2, 9), include_stop=include_stop)
    assert [each.content for each in found] == ["x", text]
    assert (found[-1].stop, found[-1].stop_type, found[-1].tokens_predicted) == (True, "word", 2)


async def test_what_the_engine_kept_back_is_told_first() -> None:
    found = await ended(piece(1), piece(5, ""), piece(6, ""), piece(2, ""), stop_token_ids=(2,))
    assert [each.content for each in found] == ["x", "", "", "<5><6>"]


async def test_each_choice_ends_for_itself() -> None:
    pieces = [piece(2), piece(1, index=1), piece(3), piece(4, index=1, stop="limit"), piece(5, index=1)]
    found = await ended(*pieces, choices=2, stop_token_ids=(2,))
    assert [(each.index, each.content, each.stop) for each in found] == [(0, "", True), (1, "x", False), (1, "x", True)]
