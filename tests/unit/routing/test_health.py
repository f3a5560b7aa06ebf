"""When a breaker opens, half opens and closes, and what is counted."""

import pytest
from tests.routing_parts import Clock

from narthex.core.errors import (
    ContextLengthExceeded,
    EngineCrashed,
    InvalidOutput,
    NarthexError,
    QueueFull,
    UpstreamCredentials,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from narthex.routing.health import Health, Limits


@pytest.fixture
def clock() -> Clock:
    return Clock(50.0)


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock=clock, limits=Limits(in_a_row=3, window=10, least=6, share=0.5, within_s=60.0))


def fail(health: Health, error: NarthexError | None = None, *, times: int = 1) -> None:
    for _ in range(times):
        health.begin("a/1").failed(error or UpstreamUnavailable(), cooldown_s=30.0)


def succeed(health: Health) -> None:
    turn = health.begin("a/1")
    turn.answered()
    turn.done()


def state(health: Health) -> str:
    return health.snapshot()["a/1"].state


@pytest.mark.parametrize("error", [UpstreamUnavailable, UpstreamCredentials, UpstreamTimeout, EngineCrashed])
def test_it_opens_after_failures_in_a_row_for_the_cooldown(health, clock, error):
    fail(health, error(), times=2)
    assert (state(health), health.rest_s("a/1")) == ("closed", 0.0)
    fail(health, error())
    assert (state(health), health.rest_s("a/1")) == ("open", 30.0)
    clock.now_s += 29.0
    assert (state(health), health.rest_s("a/1")) == ("open", 1.0)
    clock.now_s += 1.0
    assert (state(health), health.rest_s("a/1")) == ("half_open", 0.0)


@pytest.mark.parametrize("error", [UpstreamRejected, ContextLengthExceeded, QueueFull, InvalidOutput, NarthexError])
def test_the_requests_own_errors_do_not_count(health, error):
    fail(health, error(), times=50)
    assert (state(health), health.snapshot()["a/1"].failures) == ("closed", 0)


def test_a_success_between_them_ends_a_row(health):
    for _ in range(2):
        fail(health, times=2)
        succeed(health)
    assert state(health) == "closed"


def test_it_opens_when_too_many_of_the_last_fail(health):
    for _ in range(3):
        succeed(health)
        fail(health)
    assert state(health) == "open"


def test_a_few_outcomes_are_no_share(health):
    succeed(health)
    fail(health)
    assert state(health) == "closed"


def test_old_outcomes_are_forgotten(health, clock):
    for _ in range(2):
        succeed(health)
        fail(health)
    clock.now_s += 61.0
    succeed(health)
    fail(health)
    assert state(health) == "closed"


def test_a_limit_with_a_told_wait_opens_it_at_once_and_for_so_long(health):
    fail(health, UpstreamRateLimited(retry_after_s=7.0))
    assert (state(health), health.rest_s("a/1")) == ("open", 7.0)


def test_a_limit_without_a_told_wait_counts_like_any_failure(health):
    fail(health, UpstreamRateLimited(), times=2)
    assert state(health) == "closed"


def test_an_outage_with_a_told_wait_rests_for_so_long_once_it_counts(health):
    fail(health, UpstreamUnavailable(retry_after_s=90.0), times=2)
    assert health.rest_s("a/1") == 0.0
    fail(health, UpstreamUnavailable(retry_after_s=90.0))
    assert health.rest_s("a/1") == 90.0


def test_no_told_wait_keeps_it_away_for_a_day(health):
    fail(health, UpstreamRateLimited(retry_after_s=86400.0))
    assert health.rest_s("a/1") == 600.0


def test_a_shorter_wait_does_not_shorten_a_longer(health):
    fail(health, UpstreamRateLimited(retry_after_s=90.0))
    fail(health, UpstreamRateLimited(retry_after_s=5.0))
    assert (health.rest_s("a/1"), health.snapshot()["a/1"].opened) == (90.0, 1)


def test_half_open_lets_one_through_and_its_output_closes(health, clock):
    fail(health, times=3)
    clock.now_s += 30.0
    probe = health.begin("a/1")
    assert health.rest_s("a/1") > 0
    another = health.begin("a/1")
    another.left()
    assert health.rest_s("a/1") > 0
    probe.answered()
    assert (state(health), health.rest_s("a/1")) == ("closed", 0.0)
    fail(health, times=2)
    assert state(health) == "closed"


def test_a_probe_that_fails_opens_it_again(health, clock):
    fail(health, times=3)
    clock.now_s += 30.0
    fail(health)
    assert (health.rest_s("a/1"), health.snapshot()["a/1"].opened) == (30.0, 1)


def test_a_probe_that_is_left_lets_the_next_through(health, clock):
    fail(health, times=3)
    clock.now_s += 30.0
    health.begin("a/1").left()
    assert (state(health), health.rest_s("a/1")) == ("half_open", 0.0)


def test_a_probe_whose_request_is_refused_has_shown_that_it_works(health, clock):
    fail(health, times=3)
    clock.now_s += 30.0
    fail(health, UpstreamRejected())
    assert state(health) == "closed"


def test_a_probe_that_failed_by_our_own_fault_has_shown_nothing(health, clock):
    fail(health, times=3)
    clock.now_s += 30.0
    fail(health, NarthexError())
    assert state(health) == "half_open"


def test_what_is_counted(health, clock):
    first, second = health.begin("a/1"), health.begin("a/1")
    assert health.in_flight("a/1") == 2
    assert health.first_output_s("a/1") is None
    clock.now_s += 2.0
    first.answered()
    assert health.first_output_s("a/1") == pytest.approx(2.0)
    clock.now_s += 5.0
    second.answered()
    assert health.first_output_s("a/1") == pytest.approx(2.0 + 0.2 * 5.0)
    first.done()
    second.failed(UpstreamUnavailable(), cooldown_s=30.0)
    found = health.snapshot()["a/1"]
    assert (found.in_flight, found.attempts, found.failures, found.opened) == (0, 2, 1, 0)


def test_an_answer_that_is_here_at_once_counts_as_one_that_came_in_pieces(clock):
    conditions = []
    for whole in (True, False):
        health = Health(clock=clock, limits=Limits(in_a_row=3, window=10, least=6, share=0.5, within_s=60.0))
        fail(health, times=3)
        clock.now_s += 31.0  # half open: what comes next decides
        turn = health.begin("a/1")
        clock.now_s += 2.0
        if whole:
            assert turn.at_once() == 2.0
        else:
            turn.answered()
            turn.done()
        conditions.append(health.snapshot()["a/1"])
        fail(health, times=2)
        assert state(health) == "closed"
    assert conditions[0] == conditions[1]
