"""When a child is started again, on a clock of the test's own."""

import pytest

from narthex.supervisor.restarts import FAILED_S, HEALTHY_S, LONGEST_S, RestartPolicy


def middle() -> float:
    return 0.5


def test_delays_double_up_to_the_longest() -> None:
    policy = RestartPolicy(jitter=middle)
    delays = [policy.crashed(0.0) for _ in range(40)]
    assert delays[:4] == pytest.approx([0.2, 0.4, 0.8, 1.6])
    assert delays[8:] == [LONGEST_S] * 32
    assert policy.crashes == 40


@pytest.mark.parametrize(("chance", "delay_s"), [(0.0, 0.15), (0.999999, 0.25)])
def test_jitter_spreads_a_delay_by_a_quarter(chance: float, delay_s: float) -> None:
    assert RestartPolicy(jitter=lambda: chance).crashed(0.0) == pytest.approx(delay_s, abs=1e-5)


def test_jitter_never_exceeds_the_longest() -> None:
    policy = RestartPolicy(jitter=lambda: 0.999)
    assert max(policy.crashed(0.0) for _ in range(20)) == LONGEST_S


def test_a_healthy_minute_forgets_the_crashes() -> None:
    policy = RestartPolicy(jitter=middle)
    for _ in range(5):
        policy.crashed(0.0)
    policy.ready(100.0)
    assert policy.crashed(100.0 + HEALTHY_S) == pytest.approx(0.2)


def test_less_than_a_healthy_minute_forgets_nothing() -> None:
    policy = RestartPolicy(jitter=middle)
    policy.crashed(0.0)
    policy.ready(100.0)
    assert policy.crashed(100.0 + HEALTHY_S - 0.1) == pytest.approx(0.4)


def test_time_spent_down_is_not_health() -> None:
    policy = RestartPolicy(jitter=middle)
    policy.ready(0.0)
    policy.crashed(1.0)
    assert policy.crashed(1000.0) == pytest.approx(0.4)


def test_a_failure_holds_for_a_while() -> None:
    policy = RestartPolicy(jitter=middle)
    assert policy.failed_for_s(0.0) == 0
    policy.failed(10.0)
    assert policy.failed_for_s(12.0) == FAILED_S - 2
    assert policy.failed_for_s(10.0 + FAILED_S) == 0


def test_readiness_ends_a_failure() -> None:
    policy = RestartPolicy(jitter=middle)
    policy.failed(10.0)
    policy.ready(11.0)
    assert policy.failed_for_s(12.0) == 0
