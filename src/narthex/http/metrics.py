"""Counters of this worker, in Prometheus' text format."""

from collections.abc import Callable, Iterator, Mapping

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
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
        # Looking a label up takes longer than counting.
        self._answered: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._used: dict[str, tuple[Counter, Counter]] = {}
        self._requests = Counter(
            "narthex_requests", "Requests answered.", ["worker", "route", "method", "status"], registry=self.registry
        )
        self._seconds = Histogram(
            "narthex_request_seconds",
            "Seconds from a request's head to its answer's end.",
            ["worker", "route"],
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._tokens = Counter(
            "narthex_tokens", "Tokens in answers.", ["worker", "deployment", "kind"], registry=self.registry
        )
        build = Gauge("narthex_build_info", "The running version.", ["version"], registry=self.registry)
        build.labels(version).set(1)

    def watch(self, conditions: Callable[[], Mapping[str, Condition]]) -> None:
        """Tell how the deployments fare, by name, as it is whenever somebody asks."""
        self.registry.register(_Deployments(self._worker, conditions))

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        key = (route, method, status)
        if (counted := self._answered.get(key)) is None:
            counted = self._requests.labels(self._worker, *key), self._seconds.labels(self._worker, route)
            self._answered[key] = counted
        counted[0].inc()
        counted[1].observe(seconds)

    def used(self, deployment: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Count the tokens of one answer."""
        if (counted := self._used.get(deployment)) is None:
            counted = (
                self._tokens.labels(self._worker, deployment, "prompt"),
                self._tokens.labels(self._worker, deployment, "completion"),
            )
            self._used[deployment] = counted
        counted[0].inc(prompt_tokens)
        counted[1].inc(completion_tokens)

    async def endpoint(self, exchange: Exchange) -> None:
        """`GET /metrics`."""
        await exchange.reply(200, generate_latest(self.registry), [(b"content-type", CONTENT_TYPE)])


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
