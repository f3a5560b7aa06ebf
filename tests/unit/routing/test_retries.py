"""Which deployment is tried next and when: on a clock that jumps, with real waits as the router makes them."""

import asyncio

import pytest
import structlog
from tests.routing_parts import SILENT, Played, a_call, now_s, outcomes, routed, says, told
from tests.scripted_deployment import START, TAKES, text
from tests.virtual_time import VirtualLoop

from narthex.core.capabilities import State
from narthex.core.errors import (
    ContextLengthExceeded,
    EngineCrashed,
    InvalidRequest,
    ModelLoadFailed,
    NarthexError,
    QueueFull,
    UpstreamCredentials,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from narthex.routing.route import Rules

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend():
    return "asyncio", {"loop_factory": VirtualLoop}


DOWN = (UpstreamUnavailable(),)


def limited(retry_after_s: float | None = None) -> tuple[NarthexError]:
    return (UpstreamRateLimited(retry_after_s=retry_after_s),)


# --- who is next -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        UpstreamUnavailable(),
        UpstreamRateLimited(),
        UpstreamRateLimited(retry_after_s=30),
        UpstreamProtocolError(),
        UpstreamTimeout(),
        UpstreamCredentials(),
        ModelLoadFailed(),
        EngineCrashed(),
        QueueFull(),
    ],
    ids=lambda error: f"{type(error).__name__} {error.retry_after_s}",
)
@pytest.mark.parametrize("before", [(), (START,)], ids=["at once", "after start-up frames"])
async def test_what_another_may_mend_goes_to_the_next_without_a_wait(error, before):
    one, two, began_s, call = Played("a/1", (*before, error)), Played("b/2", says("two")), now_s(), a_call()
    assert await told(routed(one, two), call) == "two"
    assert two.at_s == [began_s]
    assert outcomes(call) == [("a/1", type(error).__name__), ("b/2", "answered")]
    assert (call.deployment, one.closed) == ("b/2", 1)


@pytest.mark.parametrize("error", [UpstreamRejected(), InvalidRequest(), NarthexError()], ids=repr)
async def test_what_nobody_can_mend_is_final(error):
    one, two, call = Played("a/1", (error,)), Played("b/2", says()), a_call()
    with pytest.raises(type(error)):
        await told(routed(one, two), call)
    assert two.opened == 0
    assert outcomes(call) == [("a/1", type(error).__name__)]


async def test_after_all_were_tried_it_is_the_firsts_turn_again_after_a_backoff():
    one, two, began_s = Played("a/1", DOWN, says("again")), Played("b/2", DOWN), now_s()
    assert await told(routed(one, two, rules=Rules(attempts=3, backoff_s=2.0))) == "again"
    assert 1.0 <= one.at_s[1] - began_s <= 2.0
    assert (one.opened, two.opened) == (2, 1)


async def test_the_backoff_doubles_and_is_jittered():
    waits = set()
    for seed in range(20):
        one = Played("a/1", DOWN)
        with pytest.raises(UpstreamUnavailable):
            await told(routed(one, rules=Rules(attempts=4, backoff_s=1.0), seed=seed))
        gaps = [after - before for before, after in zip(one.at_s, one.at_s[1:], strict=False)]
        assert all(0.5 * 2**turn <= gap <= 2**turn + 1e-6 for turn, gap in enumerate(gaps))
        waits.add(round(gaps[0], 6))
    assert len(waits) > 10


async def test_the_backoff_has_an_end():
    one = Played("a/1", DOWN)
    with pytest.raises(UpstreamUnavailable):
        await told(routed(one, rules=Rules(attempts=12, backoff_s=1.0)))
    assert one.at_s[-1] - one.at_s[-2] <= 8.0


@pytest.mark.parametrize(("attempts", "made"), [(1, 1), (2, 2), (5, 5), (None, 2)])
async def test_there_are_no_more_attempts_than_allowed(attempts, made):
    one, two, call = Played("a/1", DOWN), Played("b/2", DOWN), a_call()
    with pytest.raises(UpstreamUnavailable):
        await told(routed(one, two, rules=Rules(attempts=attempts)), call)
    assert len(call.attempts) == one.opened + two.opened == made


async def test_refused_credentials_are_not_tried_twice():
    one, two = Played("a/1", (UpstreamCredentials(),)), Played("b/2", DOWN, DOWN, says())
    assert await told(routed(one, two, rules=Rules(attempts=6))) == "Hi"
    assert (one.opened, two.opened) == (1, 3)


async def test_if_none_is_left_there_is_nothing_to_wait_for():
    one, began_s = Played("a/1", (UpstreamCredentials(),)), now_s()
    with pytest.raises(UpstreamCredentials) as caught:
        await told(routed(one, rules=Rules(attempts=6)))
    assert (caught.value.status, now_s()) == (502, began_s)


async def test_the_first_that_cannot_honour_the_call_is_no_attempt():
    one, two, call = (
        Played("a/1", says()),
        Played("b/2", says("two"), takes={**TAKES, "seed": State.NATIVE}),
        a_call(seed=1),
    )
    assert await told(routed(one, two), call) == "two"
    assert outcomes(call) == [("b/2", "answered")]


async def test_the_fields_without_effect_are_those_of_the_one_that_answers():
    ignores = {**TAKES, "user": State.NO_EFFECT}
    one, two = Played("a/1", DOWN, takes=ignores), Played("b/2", says(), takes={**TAKES, "user": State.NATIVE})
    call = a_call(user="me")
    call.ignored.append("odd")
    await told(routed(one, two), call)
    assert call.ignored == ["odd"]


# --- Retry-After -----------------------------------------------------------------------------------------------------


async def test_a_told_wait_is_kept():
    one, began_s = Played("a/1", limited(7.0), says()), now_s()
    assert await told(routed(one)) == "Hi"
    assert one.at_s[1] == pytest.approx(began_s + 7.0)


async def test_a_told_wait_is_not_waited_for_while_another_is_free():
    one, two, began_s = Played("a/1", limited(7.0), says("one")), Played("b/2", DOWN, says("two")), now_s()
    assert await told(routed(one, two, rules=Rules(attempts=4, backoff_s=1.0))) == "two"
    assert one.opened == 1
    assert now_s() - began_s <= 1.0


async def test_a_short_told_wait_does_not_cut_the_backoff():
    one, began_s = Played("a/1", limited(0.0), says()), now_s()
    await told(routed(one, rules=Rules(attempts=2, backoff_s=4.0)))
    assert one.at_s[1] - began_s >= 2.0


async def test_a_wait_beyond_the_total_clock_is_told_at_once():
    one, began_s = Played("a/1", limited(20.0), says()), now_s()
    with pytest.raises(UpstreamRateLimited) as caught:
        await told(routed(one, total_s=15.0))
    assert now_s() == began_s
    assert caught.value.retry_after_s == pytest.approx(20.0)


async def test_nobody_is_kept_waiting_for_minutes():
    one, began_s = Played("a/1", limited(61.0)), now_s()
    with pytest.raises(UpstreamRateLimited) as caught:
        await told(routed(one))
    assert (now_s(), caught.value.retry_after_s) == (began_s, pytest.approx(61.0))


async def test_a_wait_of_days_is_told_as_one_of_minutes():
    with pytest.raises(UpstreamRateLimited) as caught:
        await told(routed(Played("a/1", limited(1e9))))
    assert caught.value.retry_after_s == 600.0


async def test_the_soonest_of_all_waits_is_told():
    one, two = Played("a/1", limited(90.0)), Played("b/2", limited(400.0))
    with pytest.raises(UpstreamRateLimited) as caught:
        await told(routed(one, two))
    assert caught.value.retry_after_s == pytest.approx(90.0)


async def test_a_limit_without_a_told_wait_is_told_with_ours():
    with pytest.raises(UpstreamRateLimited) as caught:
        await told(routed(Played("a/1", limited()), rules=Rules(attempts=1, backoff_s=4.0)))
    assert caught.value.retry_after_s is not None
    assert 2.0 <= caught.value.retry_after_s <= 4.0


async def test_an_error_that_asks_for_no_patience_tells_no_wait():
    with pytest.raises(UpstreamUnavailable) as caught:
        await told(routed(Played("a/1", (UpstreamUnavailable(),))))
    assert caught.value.retry_after_s is None


async def test_a_model_that_cannot_be_loaded_tells_no_wait():
    with pytest.raises(ModelLoadFailed) as caught:
        await told(routed(Played("a/1", (ModelLoadFailed(),))))
    assert caught.value.retry_after_s is None


# --- clocks ----------------------------------------------------------------------------------------------------------


async def test_the_total_clock_covers_attempts_and_waits():
    one, began_s = Played("a/1", (3.0, UpstreamUnavailable())), now_s()
    with pytest.raises(UpstreamUnavailable):
        await told(routed(one, rules=Rules(attempts=100, backoff_s=1.0), total_s=30.0))
    assert now_s() - began_s <= 30.0


async def test_a_models_own_total_wins():
    one, began_s = Played("a/1", (SILENT,)), now_s()
    with pytest.raises(UpstreamTimeout, match="5 s"):
        await told(routed(one, rules=Rules(total_s=5.0)))
    assert now_s() - began_s == pytest.approx(5.0)


async def test_who_lets_the_total_clock_run_out_is_at_fault():
    call, router = a_call(), routed(Played("a/1", (SILENT,)), total_s=5.0)
    with pytest.raises(UpstreamTimeout):
        await told(router, call)
    assert outcomes(call) == [("a/1", "UpstreamTimeout")]
    assert router.health.snapshot()["a/1"].failures == 1


async def test_a_caller_may_want_it_sooner_and_nobody_else_is_at_fault():
    call, router = a_call(inference_timeout=2.0), routed(Played("a/1", (SILENT,)), total_s=5.0)
    began_s = now_s()
    with pytest.raises(UpstreamTimeout, match=r"2 s\."):
        await told(router, call)
    assert now_s() - began_s == pytest.approx(2.0)
    assert outcomes(call) == [("a/1", "left")]
    assert router.health.snapshot()["a/1"].failures == 0


async def test_a_callers_clock_covers_all_attempts_and_waits():
    one = Played("a/1", (1.5, *DOWN))
    with pytest.raises(NarthexError):
        await told(routed(one, rules=Rules(attempts=9, backoff_s=1.0)), a_call(inference_timeout=4.0))
    assert one.opened == 2


@pytest.mark.parametrize("rules", [Rules(total_s=3.0), Rules()], ids=["the model's", "the server's"])
async def test_a_caller_may_not_take_longer_than_the_limit(rules):
    for allowed in (0.001, 3.0):
        assert await told(routed(Played("a/1", says()), rules=rules, total_s=3.0), a_call(inference_timeout=allowed))
    one = Played("a/1", says())
    with pytest.raises(InvalidRequest, match="at most 3 s") as caught:
        await told(routed(one, rules=rules, total_s=3.0), a_call(inference_timeout=3.5))
    assert (caught.value.param, caught.value.code) == ("inference_timeout", "decimal_above_max_value")
    assert one.opened == 0


@pytest.mark.parametrize(
    "clock", [{"first_token_s": 3.0}, {"attempt_s": 3.0}, {"first_token_s": 3.0, "attempt_s": 9.0}]
)
@pytest.mark.parametrize("before", [(), (START,)], ids=["not a frame", "start-up frames only"])
async def test_no_output_in_time_goes_to_the_next(clock, before):
    one, two, began_s = Played("a/1", (*before, SILENT)), Played("b/2", says("two")), now_s()
    assert await told(routed(one, two, rules=Rules(attempts=2, **clock))) == "two"
    assert two.at_s[0] - began_s == pytest.approx(3.0)
    assert one.closed == 1


async def test_a_reader_who_lets_the_total_clock_run_out_is_not_the_deployments_fault():
    call, router = a_call(), routed(Played("a/1", says()), total_s=5.0)
    with pytest.raises(UpstreamTimeout):  # noqa: PT012 - the block is what is tested
        async with router.open(call) as frames:
            async for _ in frames:
                await asyncio.sleep(3.0)
    assert outcomes(call) == [("a/1", "left")]
    assert router.health.snapshot()["a/1"].failures == 0


async def test_the_clock_for_the_first_output_ends_with_it():
    one = Played("a/1", (START, text("Hi"), 60.0, *says(" there")[1:]))
    assert await told(routed(one, rules=Rules(attempts=1, first_token_s=3.0))) == "Hi there"


async def test_silence_in_the_middle_of_an_answer_is_an_error():
    one, two, call = Played("a/1", (START, text("Hi"), SILENT)), Played("b/2", says()), a_call()
    began_s = now_s()
    with pytest.raises(UpstreamTimeout):
        await told(routed(one, two, rules=Rules(attempts=3, idle_s=4.0)), call)
    assert now_s() - began_s == pytest.approx(4.0)
    assert (outcomes(call), one.closed, two.opened) == ([("a/1", "UpstreamTimeout")], 1, 0)


async def test_an_answer_that_takes_longer_than_an_attempt_may_is_an_error():
    one, began_s = Played("a/1", (START, *(step for _ in range(9) for step in (text("x"), 1.0)), *says()[1:])), now_s()
    with pytest.raises(UpstreamTimeout):
        await told(routed(one, rules=Rules(attempts=3, idle_s=4.0, attempt_s=5.5)))
    assert now_s() - began_s == pytest.approx(5.5)


async def test_a_caller_who_reads_slowly_is_not_the_deployments_silence():
    one, read = Played("a/1", says()), 0
    async with routed(one, rules=Rules(attempts=1, idle_s=1.0, attempt_s=30.0)).open(a_call()) as frames:
        async for _ in frames:
            read += 1
            await asyncio.sleep(5.0)
    assert read == 4


async def test_a_foreign_timeout_is_not_taken_for_ours():
    call = a_call()
    with pytest.raises(TimeoutError):
        await told(routed(Played("a/1", (TimeoutError(),)), Played("b/2", says())), call)
    assert outcomes(call) == [("a/1", "left")]


async def test_an_answer_of_nothing_is_passed_on():
    async with routed(Played("a/1", ())).open(a_call()) as frames:
        assert [frame async for frame in frames] == []


# --- who leaves ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("script", [(SILENT,), (START, SILENT)])
async def test_after_the_caller_has_left_nothing_is_tried(script):
    one, two, call = Played("a/1", script), Played("b/2", says()), a_call()
    task = asyncio.ensure_future(told(routed(one, two), call))
    asyncio.get_running_loop().call_later(1.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (one.closed, two.opened) == (1, 0)
    assert outcomes(call) == [("a/1", "left")]


async def test_who_leaves_while_a_wait_is_due_is_gone_at_once():
    one, call, began_s = Played("a/1", limited(50.0)), a_call(), now_s()
    task = asyncio.ensure_future(told(routed(one), call))
    asyncio.get_running_loop().call_later(1.0, task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (now_s() - began_s, one.opened) == (pytest.approx(1.0), 1)


async def test_who_leaves_in_the_middle_tells_nothing_against_the_deployment():
    one, call = Played("a/1", (START, text("Hi"), SILENT)), a_call()
    router = routed(one)
    async with router.open(call) as frames:
        await anext(frames)
    assert outcomes(call) == [("a/1", "left")]
    condition = router.health.snapshot()["a/1"]
    assert (condition.in_flight, condition.failures, one.closed) == (0, 0, 1)


async def test_a_callers_own_timeout_stays_theirs():
    with pytest.raises(TimeoutError):
        async with routed(Played("a/1", says())).open(a_call()):
            raise TimeoutError


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_an_attempt_is_listed_while_it_runs_and_timed_when_it_ends():
    call = a_call()
    async with routed(Played("a/1", (2.0, UpstreamUnavailable())), Played("b/2", says())).open(call) as frames:
        assert outcomes(call) == [("a/1", "UpstreamUnavailable"), ("b/2", "running")]
        assert call.attempts[0].seconds == pytest.approx(2.0)
        assert len([frame async for frame in frames]) == 4
    assert outcomes(call)[1] == ("b/2", "answered")


async def test_each_failed_attempt_is_a_line_without_its_message():
    error = UpstreamRateLimited("sk-canary", retry_after_s=1.0)
    with structlog.testing.capture_logs() as lines:
        await told(routed(Played("a/1", (error,)), Played("b/2", says())))
    (line,) = lines
    assert (line["event"], line["deployment"], line["attempt"]) == ("an attempt failed", "a/1", 1)
    assert (line["error"], line["code"], line["retry_after_s"]) == ("UpstreamRateLimited", "rate_limit_exceeded", 1.0)
    assert "sk-canary" not in repr(lines)


async def test_what_is_wrong_with_a_request_is_no_warning():
    with structlog.testing.capture_logs() as lines, pytest.raises(ContextLengthExceeded):
        await told(routed(Played("a/1", (ContextLengthExceeded(),))))
    assert [line["log_level"] for line in lines] == ["debug"]
