"""What Narthex holds itself to beside other gateways."""

from collections.abc import Callable

import msgspec
from gateways.results import DIRECT, Cell, Results
from gateways.sides import OURS

ONE, MANY = Cell(mode="json2k", connections=1), Cell(mode="json2k", connections=64)
LARGER = Cell(mode="json20k", connections=64)
STREAMS, MORE_STREAMS = Cell(mode="stream64", connections=64), Cell(mode="stream64", connections=256)


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """`value` is None where what it needs was not measured."""

    name: str
    value: Callable[[Results], float | None]
    holds: Callable[[float], bool]


def times_ours(peer: str, cell: Cell) -> Callable[[Results], float | None]:
    return lambda results: results.ratio(peer, cell)


def times_its(peer: str, cell: Cell) -> Callable[[Results], float | None]:
    def value(results: Results) -> float | None:
        ratio = results.ratio(peer, cell)
        return 1 / ratio if ratio else None

    return value


def merged_beyond_direct(results: Results) -> float | None:
    ours, bare = results.merged_share(OURS, STREAMS), results.merged_share(DIRECT, STREAMS)
    return ours - bare if ours is not None and bare is not None else None


TARGETS = [
    Target(name="2 KB, 64: LiteLLM's CPU, >= 60 x ours", value=times_ours("litellm", MANY), holds=lambda x: x >= 60),
    Target(name="2 KB, 64: Portkey's CPU, >= 15 x ours", value=times_ours("portkey", MANY), holds=lambda x: x >= 15),
    Target(name="2 KB, 64: ours, <= 1 x vllm-router's", value=times_its("vllm-router", MANY), holds=lambda x: x <= 1),
    Target(name="2 KB, 64: ours, <= 5 x nginx's", value=times_its("nginx", MANY), holds=lambda x: x <= 5),
    Target(name="20 KB, 64: ours, < 1 x vllm-router's", value=times_its("vllm-router", LARGER), holds=lambda x: x < 1),
    Target(
        name="streams, 256: ours, <= 1.25 x the floor's",
        value=times_its("floor", MORE_STREAMS),
        holds=lambda x: x <= 1.25,
    ),
    Target(
        name="streams, 256: LiteLLM's, >= 30 x ours", value=times_ours("litellm", MORE_STREAMS), holds=lambda x: x >= 30
    ),
    Target(
        name="streams, 64: merged beyond direct, none (share)", value=merged_beyond_direct, holds=lambda x: x <= 0.001
    ),
    Target(
        name="streams, 64: held p99, <= 1 ms",
        value=lambda results: results.added(OURS, STREAMS, "delay_p99_ms"),
        holds=lambda x: x <= 1,
    ),
    Target(
        name="2 KB, 1: added p50, <= 0.25 ms",
        value=lambda results: results.added(OURS, ONE, "p50_ms"),
        holds=lambda x: x <= 0.25,
    ),
]
