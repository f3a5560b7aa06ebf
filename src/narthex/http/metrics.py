"""Counters of this worker, in Prometheus' text format."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from narthex.http.exchange import Exchange

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """What one worker counts. Served at `/metrics` by the worker that happens to answer, labelled with its name."""

    def __init__(self, *, worker: str, version: str) -> None:
        self.registry = CollectorRegistry()
        self._worker = worker
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

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one answered request."""
        self._requests.labels(self._worker, route, method, status).inc()
        self._seconds.labels(self._worker, route).observe(seconds)

    def used(self, deployment: str, *, prompt_tokens: int, completion_tokens: int) -> None:
        """Count the tokens of one answer."""
        self._tokens.labels(self._worker, deployment, "prompt").inc(prompt_tokens)
        self._tokens.labels(self._worker, deployment, "completion").inc(completion_tokens)

    async def endpoint(self, exchange: Exchange) -> None:
        """`GET /metrics`."""
        await exchange.reply(200, generate_latest(self.registry), [(b"content-type", CONTENT_TYPE)])
