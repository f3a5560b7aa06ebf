"""What every request adds to, beside the counters of Prometheus' own library."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from tests.raw_asgi import Caller

from narthex.http.exchange import Exchange
from narthex.http.metrics import _BUCKETS, Metrics

pytestmark = pytest.mark.anyio

ROUTES = ("/v1/chat/completions", 'a"b\\c\n')
_ANSWERED = st.tuples(
    st.sampled_from(ROUTES),
    st.sampled_from(["GET", "POST"]),
    st.sampled_from([200, 429]),
    st.sampled_from([0.0, *map(float, _BUCKETS), 1000.0]) | st.floats(0, 400),
)
_USED = st.tuples(st.sampled_from(["one/m", "two/m"]), st.integers(0, 10**6), st.integers(0, 10**6))


def samples(text: str, *names: str) -> list[str]:
    """The lines of the metrics with these names, but for the times when they were made."""
    lines = [line for line in text.splitlines() if any(name in line for name in names)]
    return sorted(line for line in lines if "_created" not in line)


def expected(answered: list[tuple[str, str, int, float]], used: list[tuple[str, int, int]]) -> str:
    registry = CollectorRegistry()
    requests = Counter(
        "narthex_requests", "Requests answered.", ["worker", "route", "method", "status"], registry=registry
    )
    seconds = Histogram(
        "narthex_request_seconds", "Seconds from a request's head to its answer's end.", ["worker", "route"],
        buckets=_BUCKETS, registry=registry,
    )  # fmt: skip
    tokens = Counter("narthex_tokens", "Tokens in answers.", ["worker", "deployment", "kind"], registry=registry)
    for route, method, status, took_s in answered:
        requests.labels("worker-0", route, method, status).inc()
        seconds.labels("worker-0", route).observe(took_s)
    for deployment, prompt, completion in used:
        tokens.labels("worker-0", deployment, "prompt").inc(prompt)
        tokens.labels("worker-0", deployment, "completion").inc(completion)
    return generate_latest(registry).decode()


def counted(answered: list[tuple[str, str, int, float]], used: list[tuple[str, int, int]]) -> Metrics:
    metrics = Metrics(worker="worker-0", version="1")
    for route, method, status, took_s in answered:
        metrics.answered(route, method, status, took_s)
    for deployment, prompt, completion in used:
        metrics.used(deployment, prompt_tokens=prompt, completion_tokens=completion)
    return metrics


@given(st.lists(_ANSWERED, max_size=30), st.lists(_USED, max_size=10))
@settings(max_examples=100, deadline=None)
def test_plain_numbers_say_what_the_library_s_counters_say(
    answered: list[tuple[str, str, int, float]], used: list[tuple[str, int, int]]
) -> None:
    names = ("narthex_requests", "narthex_request_seconds", "narthex_tokens")
    ours = generate_latest(counted(answered, used).registry).decode()
    assert samples(ours, *names) == samples(expected(answered, used), *names)


async def test_numbers_go_on_after_they_were_read() -> None:
    metrics = counted([("/v1/models", "GET", 200, 0.2)], [("one/m", 3, 4)])

    async def read() -> str:
        caller = Caller(method="GET", path="/metrics")
        await metrics.endpoint(Exchange(caller.scope, caller.receive, caller.send, request_id="req_1"))
        return caller.body.decode()

    total = 'narthex_requests_total{method="GET",route="/v1/models",status="200",worker="worker-0"}'
    assert f"{total} 1.0" in await read()
    assert f"{total} 1.0" in await read()
    metrics.answered("/v1/models", "GET", 200, 0.3)
    metrics.used("one/m", prompt_tokens=1, completion_tokens=1)
    told = await read()
    assert f"{total} 2.0" in told
    assert 'narthex_tokens_total{deployment="one/m",kind="prompt",worker="worker-0"} 4.0' in told
    assert 'narthex_request_seconds_sum{route="/v1/models",worker="worker-0"} 0.5' in told
