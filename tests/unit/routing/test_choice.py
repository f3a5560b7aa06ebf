"""In which order deployments are tried, by strategy."""

from collections import Counter
from random import Random

import pytest
from tests.routing_parts import Clock, Played

from narthex.core.errors import UpstreamUnavailable
from narthex.routing.choice import EXPLORE, ordered
from narthex.routing.health import Health

NAMES = ("a/1", "b/2", "c/3")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(clock: Clock) -> Health:
    return Health(clock=clock)


def names(health, strategy, *, weights=(1.0, 1.0, 1.0), rng=None):
    able = [(Played(name), weight) for name, weight in zip(NAMES, weights, strict=True)]
    return [each.name for each in ordered(able, strategy=strategy, health=health, rng=rng or Random(3))]


def test_as_listed(health):
    health.begin("a/1")
    assert names(health, "order") == [*NAMES]


def test_by_weight(health):
    rng = Random(5)
    first = Counter(names(health, "weighted", weights=(6.0, 3.0, 1.0), rng=rng)[0] for _ in range(5000))
    assert [round(first[name] / 5000, 1) for name in NAMES] == [0.6, 0.3, 0.1]


def test_those_without_weight_come_last(health):
    rng = Random(5)
    assert all(names(health, "weighted", weights=(0.0, 1.0, 2.0), rng=rng)[-1] == "a/1" for _ in range(50))


def test_the_same_seed_chooses_the_same(health):
    chosen = [[names(health, "weighted", rng=rng) for _ in range(20)] for rng in (Random(9), Random(9))]
    assert chosen[0] == chosen[1]


def test_the_least_busy(health):
    assert names(health, "least_busy") == [*NAMES]
    for name in ("a/1", "a/1", "b/2"):
        health.begin(name)
    assert names(health, "least_busy") == ["c/3", "b/2", "a/1"]


def test_the_least_busy_for_its_weight(health):
    for name in ("a/1", "a/1", "b/2"):
        health.begin(name)
    assert names(health, "least_busy", weights=(6.0, 1.0, 0.0)) == ["a/1", "b/2", "c/3"]


def fastest(health, clock):
    for name, took_s in zip(NAMES, (3.0, 1.0, 2.0), strict=True):
        turn = health.begin(name)
        clock.now_s += took_s
        turn.answered()
        turn.done()


def test_the_fastest(health, clock):
    fastest(health, clock)
    assert names(health, "fastest") == ["b/2", "c/3", "a/1"]


def test_whoever_was_not_measured_is(health):
    turn = health.begin("a/1")
    turn.answered()
    health.begin("b/2").failed(UpstreamUnavailable(), cooldown_s=1.0)
    assert names(health, "fastest")[0] in {"a/1", "b/2"}


def test_now_and_then_another_is_measured_again(health, clock):
    fastest(health, clock)
    rng = Random(5)
    first = Counter(names(health, "fastest", rng=rng)[0] for _ in range(5000))
    assert first["a/1"] > 0
    assert first["c/3"] > 0
    assert 1 - first["b/2"] / 5000 == pytest.approx(EXPLORE, abs=0.015)


def test_a_single_one_is_no_choice(health):
    assert ordered([(one := Played("a/1"), 1.0)], strategy="fastest", health=health, rng=Random(0)) == [one]
