"""What the router makes of breakers, strategies and fallbacks."""

import asyncio

import pytest
from tests.routing_parts import FILTERED, Played, a_call, now_s, outcomes, routed, says, told
from tests.scripted_deployment import START, STOP, TAKES
from tests.virtual_time import VirtualLoop

from narthex.core.capabilities import State
from narthex.core.errors import (
    ContextLengthExceeded,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from narthex.core.stream import ChoiceFinished, Frame
from narthex.routing.health import Health
from narthex.routing.route import Rules

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualLoop}


@pytest.fixture
async def health():
    return Health(clock=asyncio.get_running_loop().time)


DOWN = (UpstreamUnavailable(),)
ONCE = Rules(attempts=1, cooldown_s=30.0)


async def broken(health, *deployments):
    """Open the breaker of each."""
    for deployment in deployments:
        for _ in range(5):
            with pytest.raises(UpstreamUnavailable):
                await told(routed(deployment, rules=ONCE, health=health))


# --- breakers --------------------------------------------------------------------------------------------------------


async def test_an_open_one_is_tried_last_and_half_open_it_is_tried_first_again(health):
    one, two = Played("a/1", *[DOWN] * 5, says("one")), Played("b/2", says("two"))
    await broken(health, one)
    router = routed(one, two, rules=ONCE, health=health)
    assert [await told(router), await told(router), one.opened] == ["two", "two", 5]
    await asyncio.sleep(30.0)
    assert [await told(router), await told(router)] == ["one", "one"]


async def test_a_breaker_is_shared_by_all_models_of_a_deployment(health):
    one, two = Played("a/1", DOWN), Played("b/2", says("two"))
    await broken(health, one)
    other = Played("a/1", says("one"))  # what another model calls by the same name
    assert await told(routed(other, two, rules=ONCE, health=health)) == "two"


async def test_open_is_last_and_not_never(health):
    one, two = Played("a/1", *[DOWN] * 5, says("one")), Played("b/2", DOWN)
    await broken(health, one)
    assert await told(routed(one, two, rules=Rules(attempts=2), health=health)) == "one"


async def test_if_all_are_open_the_one_that_opens_soonest_is_tried(health):
    one, two = Played("a/1", *[DOWN] * 5, says("one")), Played("b/2", *[DOWN] * 5, says("two"))
    await broken(health, two)
    await asyncio.sleep(1.0)
    await broken(health, one)
    began_s = now_s()
    assert await told(routed(one, two, rules=ONCE, health=health)) == "two"
    assert now_s() == began_s


async def test_if_all_are_open_and_fail_the_caller_is_told_when_they_open(health):
    one = Played("a/1", *[DOWN] * 5, (UpstreamRateLimited(),))
    await broken(health, one)
    await asyncio.sleep(10.0)
    with pytest.raises(UpstreamRateLimited) as caught:
        await told(routed(one, rules=ONCE, health=health))
    assert caught.value.retry_after_s == pytest.approx(30.0)


async def test_half_open_lets_only_one_of_many_through(health):
    one, two = Played("a/1", *[DOWN] * 5, (1.0, *says("one"))), Played("b/2", says("two"))
    await broken(health, one)
    await asyncio.sleep(30.0)
    router = routed(one, two, rules=ONCE, health=health)
    assert sorted(await asyncio.gather(*(told(router) for _ in range(5)))) == ["one", *["two"] * 4]


async def test_a_deployment_that_always_cuts_its_streams_is_left_in_the_end(health):
    one, two = Played("a/1", (*says()[:2], UpstreamUnavailable())), Played("b/2", says("two"))
    router = routed(one, two, rules=ONCE, health=health)
    for _ in range(5):
        with pytest.raises(UpstreamUnavailable):
            await told(router)
    assert await told(router) == "two"


async def test_a_caller_who_leaves_does_not_speak_for_the_deployment(health):
    silent = (*says()[:2], 1e9)
    one, two = Played("a/1", DOWN, DOWN, DOWN, DOWN, silent, DOWN, says("one")), Played("b/2", says("two"))
    for turn in range(6):
        if turn == 4:
            async with routed(one, rules=ONCE, health=health).open(a_call()) as frames:
                await anext(frames)
        else:
            with pytest.raises(UpstreamUnavailable):
                await told(routed(one, rules=ONCE, health=health))
    assert await told(routed(one, two, rules=ONCE, health=health)) == "two"


async def test_who_told_a_wait_is_left_alone_by_the_next_request(health):
    one = Played("a/1", (UpstreamRateLimited(retry_after_s=20.0),), says("one"))
    two = Played("b/2", says("two"))
    router = routed(one, two, health=health)
    assert [await told(router), await told(router), one.opened] == ["two", "two", 1]
    await asyncio.sleep(20.0)
    assert await told(router) == "one"


async def test_strategies_and_weights_are_the_routes():
    one, two = Played("a/1", says("one")), Played("b/2", says("two"))
    rules = Rules(strategy="weighted", attempts=1)
    router = routed(one, two, rules=rules, weights=(0.0, 1.0))
    assert {await told(router) for _ in range(10)} == {"two"}


async def test_the_least_busy_is_asked():
    one, two = Played("a/1", (5.0, *says("one"))), Played("b/2", (5.0, *says("two")))
    router = routed(one, two, rules=Rules(strategy="least_busy", attempts=1))
    assert sorted(await asyncio.gather(*(told(router) for _ in range(6)))) == ["one"] * 3 + ["two"] * 3


# --- a prompt that is too long ---------------------------------------------------------------------------------------

TOO_LONG = [ContextLengthExceeded(), UpstreamRejected("too long", code="context_length_exceeded")]


@pytest.mark.parametrize("error", TOO_LONG, ids=lambda error: type(error).__name__)
async def test_a_prompt_that_is_too_long_goes_to_its_fallback(error):
    one, two, wide, call = Played("a/1", (error,)), Played("b/2", says("two")), Played("c/3", says("wide")), a_call()
    assert await told(routed(one, two, context_window=(wide,), rules=ONCE), call) == "wide"
    assert outcomes(call) == [("a/1", type(error).__name__), ("c/3", "answered")]
    assert two.opened == 0


@pytest.mark.parametrize("error", TOO_LONG, ids=lambda error: type(error).__name__)
async def test_without_fallbacks_a_prompt_that_is_too_long_is_final(error):
    one, two = Played("a/1", (error,)), Played("b/2", says())
    with pytest.raises(type(error)):
        await told(routed(one, two))
    assert two.opened == 0


async def test_fallbacks_that_cannot_honour_the_call_are_none():
    one, wide = Played("a/1", (TOO_LONG[0],), takes={**TAKES, "seed": State.NATIVE}), Played("c/3", says())
    with pytest.raises(ContextLengthExceeded):
        await told(routed(one, context_window=(wide,)), a_call(seed=1))
    assert wide.opened == 0


async def test_the_fallbacks_are_tried_in_their_order():
    one, wide, wider = Played("a/1", (TOO_LONG[0],)), Played("c/3", (TOO_LONG[1],)), Played("d/4", says("wider"))
    assert await told(routed(one, context_window=(wide, wider))) == "wider"
    with pytest.raises(UpstreamRejected):
        await told(routed(one, context_window=(wide, Played("d/4", (TOO_LONG[1],)))))


async def test_a_fallback_that_fails_is_tried_again():
    one, wide = Played("a/1", (TOO_LONG[0],)), Played("c/3", DOWN, says("wide"))
    assert await told(routed(one, context_window=(wide,))) == "wide"


async def test_after_the_first_failed_otherwise_the_fallback_is_still_there():
    one, two, wide = Played("a/1", DOWN), Played("b/2", (TOO_LONG[0],)), Played("c/3", says("wide"))
    assert await told(routed(one, two, context_window=(wide,))) == "wide"


# --- content filters -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ((UpstreamRejected(code="content_filter"),), "UpstreamRejected"),
        ((UpstreamRejected(code="content_policy_violation"),), "UpstreamRejected"),
        (FILTERED, "filtered"),
    ],
    ids=["an error", "another error", "a finish reason"],
)
async def test_what_a_filter_refused_goes_to_its_fallback(script, outcome):
    one, lax, call = Played("a/1", script), Played("c/3", says("lax")), a_call()
    assert await told(routed(one, content_filter=(lax,)), call) == "lax"
    assert outcomes(call) == [("a/1", outcome), ("c/3", "answered")]
    assert one.closed == 1


async def test_without_fallbacks_the_filters_verdict_is_the_answer():
    call = a_call()
    async with routed(Played("a/1", FILTERED), Played("b/2", says())).open(call) as frames:
        assert [frame async for frame in frames] == list(FILTERED)
    assert outcomes(call) == [("a/1", "answered")]


async def test_a_filter_in_the_middle_of_an_answer_is_final():
    one = Played("a/1", (*says()[:2], Frame.of(ChoiceFinished(0, "content_filter"))))
    lax = Played("c/3", says("lax"))
    assert await told(routed(one, content_filter=(lax,))) == "Hi"
    assert lax.opened == 0


async def test_an_answer_without_a_word_is_no_verdict_of_a_filter():
    one, lax = Played("a/1", (START, STOP)), Played("c/3", says("lax"))
    assert await told(routed(one, content_filter=(lax,))) == ""
    assert lax.opened == 0


async def test_if_all_filters_refuse_the_last_verdict_is_the_answer():
    one, strict, lax, call = (
        Played("a/1", FILTERED),
        Played("c/3", FILTERED),
        Played("d/4", FILTERED),
        a_call(),
    )
    async with routed(one, content_filter=(strict, lax)).open(call) as frames:
        assert [frame async for frame in frames] == list(FILTERED)
    assert outcomes(call) == [("a/1", "filtered"), ("c/3", "filtered"), ("d/4", "answered")]
