"""Rules that hold whatever the deployments do, in whatever order, and whenever the caller leaves."""

import asyncio
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs
from tests.routing_parts import FILTERED, SILENT, Played, Step, a_call, now_s, outcomes, routed, says
from tests.scripted_deployment import START, text
from tests.virtual_time import VirtualLoop

from narthex.core.errors import (
    ContextLengthExceeded,
    EngineCrashed,
    InvalidRequest,
    NarthexError,
    QueueFull,
    UpstreamCredentials,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from narthex.core.stream import TextDelta
from narthex.routing.route import Rules

SLACK_S = 1e-6

errors = st.one_of(
    st.builds(UpstreamRateLimited, retry_after_s=st.none() | st.floats(0, 100, allow_nan=False) | st.just(1e6)),
    st.builds(UpstreamUnavailable, retry_after_s=st.none() | st.floats(0, 100, allow_nan=False)),
    st.sampled_from(
        [ContextLengthExceeded, EngineCrashed, InvalidRequest, NarthexError, QueueFull, UpstreamCredentials]
    ).map(lambda kind: kind()),
    st.sampled_from([UpstreamTimeout, UpstreamRejected]).map(lambda kind: kind()),
)
delays = st.just(()) | st.floats(0.01, 40).map(lambda seconds: (seconds,)) | st.just((SILENT,))
before = st.just(()) | st.just((START,))


@st.composite
def scripts(draw: st.DrawFn) -> tuple[Step, ...]:
    """One attempt: perhaps start-up frames, perhaps a wait, then an answer, part of one, a verdict or an error."""
    opening = (*draw(before), *draw(delays))
    end = draw(st.sampled_from(["whole", "part", "error", "filtered"]))
    if end == "whole":
        return (*opening, *(says() if START not in opening else says()[1:]))
    if end == "part":
        start = () if START in opening else (START,)
        return (*opening, *start, text("Hi"), *draw(delays), draw(errors))
    if end == "filtered":
        return (*opening, *(FILTERED if START not in opening else FILTERED[1:]))
    return (*opening, draw(errors))


tables = st.lists(st.lists(scripts(), min_size=1, max_size=4), min_size=1, max_size=4)
seconds = st.none() | st.floats(0.1, 60)
rules = st.builds(
    Rules,
    strategy=st.sampled_from(["order", "weighted", "least_busy", "fastest"]),
    attempts=st.none() | st.integers(1, 6),
    backoff_s=st.floats(0.01, 10),
    first_token_s=seconds,
    idle_s=seconds,
    attempt_s=seconds,
    total_s=st.floats(0.5, 120),
    rescue=st.booleans(),
)


class Seen:
    """What a caller saw, and when."""

    texts = 0
    opened_when_it_began = -1
    error: BaseException | None = None


async def consume(router, call, deployments: Sequence[Played], seen: Seen) -> None:
    try:
        async with router.open(call) as frames:
            async for frame in frames:
                if any(isinstance(event, TextDelta) for event in frame.events):
                    seen.texts += 1
                    seen.opened_when_it_began = sum(each.opened for each in deployments)
    except (NarthexError, asyncio.CancelledError) as error:
        seen.error = error


@settings(max_examples=100, deadline=None)
@given(
    table=tables,
    extra=tables,
    rules=rules,
    leaves_s=st.none() | st.floats(0, 50),
    seed=st.integers(0, 2**16),
    stream=st.booleans(),
)
def test_whatever_happens(table, extra, rules, leaves_s, seed, stream):
    deployments = [Played(f"a/{number}", *each, goes_on=number % 2 == 1) for number, each in enumerate(table)]
    fallbacks = [Played(f"f/{number}", *each) for number, each in enumerate(extra)]
    everybody = deployments + fallbacks
    Played.running = 0

    async def run() -> None:
        call, seen, began_s = a_call(stream=stream), Seen(), now_s()
        router = routed(
            *deployments, rules=rules, seed=seed, context_window=tuple(fallbacks), content_filter=tuple(fallbacks[:1])
        )
        task = asyncio.ensure_future(consume(router, call, everybody, seen))
        if leaves_s is not None:
            asyncio.get_running_loop().call_later(leaves_s, task.cancel)
        await task
        opened = sum(each.opened for each in everybody)

        assert now_s() - began_s <= rules.total_s + SLACK_S, "nobody waits beyond the total clock"
        assert Played.running == 0, "every stream that was opened is closed"
        assert [each.closed for each in everybody] == [each.opened for each in everybody]
        assert max(each.most for each in everybody) == min(1, opened), "never two attempts at once"
        if seen.texts and not (stream and rules.rescue):
            assert (seen.texts, seen.opened_when_it_began) == (1, opened), "after the commit point nothing is tried"
        if seen.texts and not stream:
            assert seen.error is None or isinstance(seen.error, asyncio.CancelledError), "a whole answer is whole"
        begun = [getattr(request, "begun", "") for each in everybody for request in each.asked]
        assert all("Hi".startswith(text[:2]) for text in begun)
        assert stream or not any(begun), "whole answers are made anew"
        most = rules.attempts or len(deployments)
        assert sum(each.opened for each in deployments) <= most
        assert sum(each.opened for each in fallbacks) <= (rules.attempts or len(fallbacks))
        assert len(call.attempts) == opened, "every attempt is listed"
        assert "running" not in dict.fromkeys(outcome for _, outcome in outcomes(call))
        assert [outcome for _, outcome in outcomes(call)].count("answered") == (seen.error is None)
        for condition in router.health.snapshot().values():
            assert condition.in_flight == 0
        if isinstance(seen.error, UpstreamRateLimited) and not seen.texts:
            assert seen.error.retry_after_s is not None
            assert 1.0 <= seen.error.retry_after_s <= 600.0

    with capture_logs(), asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
