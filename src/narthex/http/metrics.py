"""Counters of this worker, in Prometheus' text format."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from itertools import accumulate

from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString
from typing_extensions import override

from narthex.http.exchange import Exchange
from narthex.routing.health import Condition

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What one worker counts. Served at `/metrics` by the worker that happens to answer, labelled with its name."""

    def __init__(self, *, worker: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self._worker = worker
        self._counts = _Counts(worker)
        self.registry.register(self._counts)
        self.answered = self._counts.answered
        build = Gauge("narthex_build_info", "The running version.", ["version"], registry=self.registry)
        build.labels(version).set(1)

    def watch(self, conditions: Callable[[], Mapping[str, Condition]]) -> None:
        """Tell how the deployments fare, by name, as it is whenever somebody asks."""
        self.registry.register(_Deployments(self._worker, conditions))

    def used(self, deployment: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Count the tokens of one answer."""
        self._counts.tokens[deployment, "prompt"] += prompt_tokens
        self._counts.tokens[deployment, "completion"] += completion_tokens

    async def endpoint(self, exchange: Exchange) -> None:
        """`GET /metrics`."""
        await exchange.reply(200, generate_latest(self.registry), [(b"content-type", CONTENT_TYPE)])


class _Counts(Collector):
    """What every request adds to: plain numbers, since the library's own counters cost ten times as much."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._requests: defaultdict[tuple[str, str, int], int] = defaultdict(int)
        self._seconds: dict[str, _Spread] = {}
        self.tokens: defaultdict[tuple[str, str], int] = defaultdict(int)

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests[route, method, status] += 1
        spread = self._seconds.get(route)
        if spread is None:
            spread = self._seconds[route] = _Spread()
        spread.counts[bisect_left(_BUCKETS, seconds)] += 1
        spread.sum += seconds

    @override
    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "narthex_requests", "Requests answered.", labels=("worker", "route", "method", "status")
        )
        for (route, method, status), count in self._requests.items():
            requests.add_metric((self._worker, route, method, str(status)), count)
        seconds = HistogramMetricFamily(
            "narthex_request_seconds", "Seconds from a request's head to its answer's end.", labels=("worker", "route")
        )
        for route, spread in self._seconds.items():
            seconds.add_metric((self._worker, route), spread.buckets(), spread.sum)
        tokens = CounterMetricFamily("narthex_tokens", "Tokens in answers.", labels=("worker", "deployment", "kind"))
        for (deployment, kind), count in self.tokens.items():
            tokens.add_metric((self._worker, deployment, kind), count)
        yield from (requests, seconds, tokens)


class _Spread:
    """How many values fell into each bucket, the last without a bound, and their sum."""

    def __init__(self) -> None:
        self.counts = [0] * (len(_BUCKETS) + 1)
        self.sum = 0.0

    def buckets(self) -> list[tuple[str, float]]:
        """As Prometheus wants them: each bound with the count up to it."""
        bounds = (*map(floatToGoString, _BUCKETS), "+Inf")
        return list(zip(bounds, accumulate(self.counts), strict=True))


class _Deployments(Collector):
    """How each deployment fares in this worker."""

    def __init__(self, worker: str, conditions: Callable[[], Mapping[str, Condition]]) -> None:
        self._worker = worker
        self._conditions = conditions

    @override
    def collect(self) -> Iterator[Metric]:
        labels = ("worker", "deployment")
        health = GaugeMetricFamily("narthex_deployment_open", "1: tried last, after failures.", labels=labels)
        running = GaugeMetricFamily("narthex_deployment_in_flight", "Attempts that run.", labels=labels)
        first = GaugeMetricFamily(
            "narthex_deployment_first_output_seconds", "Moving mean of the time to the first output.", labels=labels
        )
        attempts = CounterMetricFamily("narthex_deployment_attempts", "Attempts.", labels=labels)
        failures = CounterMetricFamily("narthex_deployment_failures", "Attempts that failed.", labels=labels)
        for name, condition in self._conditions().items():
            place = (self._worker, name)
            health.add_metric(place, condition.state == "open")
            running.add_metric(place, condition.in_flight)
            attempts.add_metric(place, condition.attempts)
            failures.add_metric(place, condition.failures)
            if condition.first_output_s is not None:
                first.add_metric(place, condition.first_output_s)
        yield from (health, running, first, attempts, failures)
