"""Answers that come too slowly, on a clock that jumps."""

import asyncio
from typing import Any

import pytest
from tests.routing_parts import SILENT, Played, Step, a_call, now_s, outcomes, routed, says
from tests.scripted_deployment import START, STOP, USED, text
from tests.virtual_time import VirtualLoop

from narthex.core.errors import UpstreamTimeout
from narthex.core.stream import TextDelta
from narthex.routing.attempt import PACE_S
from narthex.routing.route import Rules

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


def dripping(every_s: float, pieces: int) -> tuple[Step, ...]:
    """An answer of so many pieces, one after the other."""
    return (START, *(step for _ in range(pieces) for step in (text("a"), every_s)), STOP, USED)


async def heard(*played: Played, stream: bool = True, wait_s: float = 0.0, **rules: Any) -> str:
    """What a caller has of an answer when it ends, who reads a piece every `wait_s`."""
    found = ""
    call = a_call(stream=stream)
    try:
        async with routed(*played, rules=Rules(**{"attempts": 1, **rules})).open(call) as frames:
            async for frame in frames:
                found += "".join(event.text for event in frame.events if isinstance(event, TextDelta))
                if wait_s:
                    await asyncio.sleep(wait_s)
    except UpstreamTimeout:
        return found + "!"
    return found


@pytest.mark.parametrize(
    ("every_s", "floor", "in_time"),
    [(0.09, 10.0, True), (0.11, 10.0, False), (1.9, 0.5, True), (2.1, 0.5, False), (9.0, 0.001, True)],
)
async def test_who_keeps_the_pace_may_go_on_for_ever(every_s: float, floor: float, in_time: bool) -> None:
    pieces = int(100 / every_s)
    found = await heard(Played("a/1", dripping(every_s, pieces)), min_pieces_per_s=floor)
    assert found == "a" * pieces if in_time else found.endswith("!")


async def test_it_is_given_up_after_a_while() -> None:
    one, began_s = Played("a/1", dripping(2.0, 1000)), now_s()
    found = await heard(one, min_pieces_per_s=1.0)
    assert found == "a" * 5 + "!"
    assert (now_s() - began_s, one.closed) == (PACE_S, 1)


async def test_a_burst_makes_up_for_a_pause() -> None:
    burst = (*(text("a") for _ in range(15)), 8.0)
    assert await heard(Played("a/1", (START, *burst * 20, STOP, USED)), min_pieces_per_s=1.0) == "a" * 300


async def test_silence_is_too_slow_as_well() -> None:
    one, began_s = Played("a/1", (START, text("a"), SILENT)), now_s()
    assert await heard(one, min_pieces_per_s=0.001) == "a!"
    assert now_s() - began_s == PACE_S


@pytest.mark.parametrize("clock", [{"idle_s": 3.0}, {"attempt_s": 3.0}])
async def test_the_other_clocks_run_too(clock: dict[str, float]) -> None:
    one, began_s = Played("a/1", (START, text("a"), SILENT)), now_s()
    assert await heard(one, min_pieces_per_s=0.001, **clock) == "a!"
    assert now_s() - began_s == 3.0


async def test_a_slow_reader_is_no_slow_server() -> None:
    one = Played("a/1", (START, *(text("a") for _ in range(30)), STOP, USED))
    assert await heard(one, wait_s=5.0, min_pieces_per_s=1.0) == "a" * 30


async def test_a_short_answer_is_not_measured() -> None:
    assert await heard(Played("a/1", dripping(2.0, 4)), min_pieces_per_s=50.0) == "aaaa"


async def test_what_comes_after_the_finish_is_not_measured_with_the_answer() -> None:
    assert await heard(Played("a/1", (START, text("a"), 9.0, STOP, 9.0, USED)), min_pieces_per_s=50.0) == "a"


@pytest.mark.parametrize("stream", [False, True])
async def test_a_slow_answer_is_made_anew_or_gone_on_with_by_the_next(stream: bool) -> None:
    """Whole ones while nothing of them was sent; streams where the next can continue them."""
    slow, quick = Played("a/1", dripping(2.0, 1000)), Played("b/2", says("b"), goes_on=True)
    found = await heard(slow, quick, stream=stream, attempts=2, rescue=True, min_pieces_per_s=1.0)
    assert found == ("aaaaab" if stream else "b")


async def test_the_next_tells_it_apart_in_the_account() -> None:
    call = a_call(stream=False)
    slow, quick = Played("a/1", dripping(2.0, 1000)), Played("b/2", says("b"))
    async with routed(slow, quick, rules=Rules(min_pieces_per_s=1.0)).open(call) as frames:
        assert [frame async for frame in frames]
    assert outcomes(call) == [("a/1", "UpstreamTimeout"), ("b/2", "answered")]
    assert call.paced
