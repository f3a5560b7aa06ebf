"""In which order the deployments of a public model are tried, all of them being well."""

from collections.abc import Sequence
from random import Random
from typing import assert_never

from narthex.core.ports import Deployment
from narthex.routing.health import Health
from narthex.routing.route import Strategy

EXPLORE = 0.05
"""How often `fastest` begins with one at random, so that one that was slow once is measured again."""


def ordered(
    able: Sequence[tuple[Deployment, float]], *, strategy: Strategy, health: Health, rng: Random
) -> list[Deployment]:
    """The deployments, whoever is to be tried first at the front. `able`: each with its weight, in the listed order.

    `weighted`: at random, by weight; those of weight 0 last. `least_busy`: fewest running attempts per weight.
    `fastest`: shortest time to the first output, unmeasured ones first. Equals keep the listed order.
    """
    match strategy:
        case "order":
            ranked = list(able)
        case "weighted":
            ranked = sorted(able, key=lambda each: _draw(each[1], rng), reverse=True)
        case "least_busy":
            ranked = sorted(able, key=lambda each: _load(health.in_flight(each[0].name), each[1]))
        case "fastest":
            ranked = sorted(able, key=lambda each: health.first_output_s(each[0].name) or 0.0)
            if len(ranked) > 1 and rng.random() < EXPLORE:
                ranked.insert(0, ranked.pop(rng.randrange(1, len(ranked))))
        case _:
            assert_never(strategy)
    return [deployment for deployment, _ in ranked]


def _draw(weight: float, rng: Random) -> float:
    """A random key: sorted by it, each place is drawn from the rest by weight (Efraimidis and Spirakis, 2006)."""
    return float(rng.random() ** (1 / weight)) if weight > 0 else -1.0


def _load(in_flight: int, weight: float) -> float:
    return (in_flight + 1) / weight if weight > 0 else float("inf")
