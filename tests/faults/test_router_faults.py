"""Two upstreams over real sockets, one of them at fault: what the caller sees, and what the upstreams saw."""

import asyncio
import json
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from tests.raw_asgi import until
from tests.scripted_gateway import DONE, ERROR_EVENT, QUICK, ROLE, chunk, gateway, refused, said, whole

from narthex.routing.route import Rules
from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, ScriptedUpstream, head, response, sse, stream_head

pytestmark = [pytest.mark.anyio, pytest.mark.patient]


@pytest.fixture(params=[False, True], ids=["whole", "stream"])
def stream(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


BEFORE_OUTPUT = {
    "429": refused(429),
    "429 with Retry-After": refused(429, "retry-after: 30"),
    "429 with retry-after-ms": refused(429, "retry-after-ms: 30000"),
    "500": refused(500),
    "502": refused(502),
    "503": refused(503, "retry-after: 30"),
    "408": refused(408),
    "its own 401": refused(401),
    "its own 403": refused(403),
    "reset before the head": Reply(RESET),
    "reset after the head": Reply(stream_head(), RESET),
    "cut before the head": Reply(CUT),
    "cut in the head": Reply(b"HTTP/1.1 200 OK\r\ncontent-", CUT),
    "cut after the head": Reply(stream_head(), CUT),
    "an end without a word": Reply(stream_head(), END),
    "cut after the start-up": Reply(stream_head(), sse(ROLE), CUT),
    "silence": Reply(HANG),
    "silence after the head": Reply(stream_head(), HANG),
    "silence after the start-up": Reply(stream_head(), sse(ROLE), HANG),
    "an error as first event": Reply(stream_head(), sse(ERROR_EVENT), END),
    "an error after the start-up": Reply(stream_head(), sse(ROLE, ERROR_EVENT), END),
    "no JSON": Reply(stream_head(), sse(b"<html>"), END),
    "no HTTP": Reply(b"SSH-2.0-OpenSSH_9\r\n", CUT),
    "a redirect": Reply(response(status=302, headers=("location: /elsewhere",))),
}


@pytest.mark.parametrize("fault", BEFORE_OUTPUT)
async def test_before_the_first_output_the_next_answers(fault: str, stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(BEFORE_OUTPUT[fault]) as one,
        ScriptedUpstream(whole("two")) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=stream)
        assert (caller.status, said(caller)) == (200, "two")
        assert (caller.headers["x-narthex-deployment"], caller.headers["x-narthex-attempts"]) == ("two/model", "2")
        assert b"canary" not in caller.body
        assert (len(one.requests), len(two.requests)) == (1, 1)
        assert one.requests[0].body == two.requests[0].body
        if HANG in BEFORE_OUTPUT[fault].steps:
            await until(lambda: all(peer.closed.is_set() for peer in one.peers))


async def test_a_refused_connection_goes_to_the_next(stream: bool, tmp_path: Path) -> None:
    async with ScriptedUpstream(whole("gone")) as gone:
        address = gone.url
    async with (
        ScriptedUpstream(whole("two")) as two,
        gateway(tmp_path, {"one": address, "two": two.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=stream)
        assert (said(caller), caller.headers["x-narthex-attempts"]) == ("two", "2")


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("429", 429, "rate_limit_exceeded"),
        ("500", 502, "upstream_error"),
        ("503", 502, "upstream_error"),
        ("its own 401", 502, "upstream_error"),
        ("reset before the head", 502, "upstream_error"),
        ("silence", 504, "timeout"),
        ("an error as first event", 502, "upstream_error"),
        ("an end without a word", 502, "upstream_error"),
    ],
)
async def test_if_nobody_answers_the_last_error_is_a_status(
    fault: str, status: int, code: str, stream: bool, tmp_path: Path
) -> None:
    """In a stream too: nothing of it was sent yet."""
    async with (
        ScriptedUpstream(BEFORE_OUTPUT[fault]) as one,
        ScriptedUpstream(BEFORE_OUTPUT[fault]) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=stream)
        assert (caller.status, caller.json()["error"]["code"]) == (status, code)
        assert (caller.headers["x-narthex-deployment"], caller.headers["x-narthex-attempts"]) == ("two/model", "2")
        assert b"canary" not in caller.body
        assert ("retry-after" in caller.headers) == (status == 429 or fault == "503")
        assert (len(one.requests), len(two.requests)) == (1, 1)


async def test_500_once_is_tried_again_on_the_same(stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(refused(500), whole("again")) as one,
        gateway(tmp_path, {"one": one.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=stream)
        assert (said(caller), caller.headers["x-narthex-attempts"], len(one.requests)) == ("again", "2", 2)


async def test_a_told_wait_is_kept(stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(refused(429, "retry-after-ms: 200"), whole("again")) as one,
        gateway(tmp_path, {"one": one.url}, rules=QUICK) as server,
    ):
        began_s = time.monotonic()
        caller = await server.ask(stream=stream)
        assert said(caller) == "again"
        assert time.monotonic() - began_s >= 0.2


async def test_a_told_wait_beyond_the_total_clock_is_passed_on(stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(refused(429, "retry-after: 30")) as one,
        gateway(tmp_path, {"one": one.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=stream)
        assert (caller.status, caller.headers["retry-after"], len(one.requests)) == (429, "30", 1)


async def test_a_refused_request_is_final(stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(refused(400, code="invalid_value")) as one,
        ScriptedUpstream(whole("two")) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=stream)
        assert (caller.status, caller.json()["error"]["code"]) == (400, "invalid_value")
        assert (caller.headers["x-narthex-attempts"], len(two.requests)) == ("1", 0)


async def test_a_prompt_that_is_too_long_goes_to_its_fallback(stream: bool, tmp_path: Path) -> None:
    too_long = refused(400, code="context_length_exceeded")
    async with (
        ScriptedUpstream(too_long) as one,
        ScriptedUpstream(whole("two")) as two,
        ScriptedUpstream(whole("wide")) as wide,
    ):
        providers = {"one": one.url, "two": two.url, "wide": wide.url}
        async with gateway(tmp_path, providers, rules=QUICK, context_window=("wide/model",)) as server:
            caller = await server.ask(stream=stream)
            assert (said(caller), caller.headers["x-narthex-deployment"], len(two.requests)) == (
                "wide",
                "wide/model",
                0,
            )


async def test_a_filters_verdict_goes_to_its_fallback(stream: bool, tmp_path: Path) -> None:
    verdict = Reply(stream_head(), sse(ROLE, chunk(finish="content_filter"), DONE), END)
    async with ScriptedUpstream(verdict) as one, ScriptedUpstream(whole("wide")) as wide:
        providers = {"one": one.url, "wide": wide.url}
        async with gateway(tmp_path, providers, rules=QUICK, content_filter=("wide/model",)) as server:
            assert said(await server.ask(stream=stream)) == "wide"


AFTER_OUTPUT = {
    "reset": Reply(stream_head(), sse(ROLE, chunk("par")), RESET),
    "cut": Reply(stream_head(), sse(ROLE, chunk("par")), CUT),
    "ended before it finished": Reply(stream_head(), sse(ROLE, chunk("par")), END),
    "[DONE] before it finished": Reply(stream_head(), sse(ROLE, chunk("par"), DONE), END),
    "an error event": Reply(stream_head(), sse(ROLE, chunk("par"), ERROR_EVENT), END),
    "no JSON": Reply(stream_head(), sse(ROLE, chunk("par"), b"{"), END),
    "silence": Reply(stream_head(), sse(ROLE, chunk("par")), HANG),
}


@pytest.mark.parametrize("fault", AFTER_OUTPUT)
async def test_after_the_first_output_of_a_stream_the_error_is_the_callers(fault: str, tmp_path: Path) -> None:
    """Never a silent end, and never a second beginning."""
    async with (
        ScriptedUpstream(AFTER_OUTPUT[fault]) as one,
        ScriptedUpstream(whole("two")) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=True)
        code = "timeout" if fault == "silence" else "upstream_error"
        *_, last = caller.events()
        assert (caller.status, json.loads(last)["error"]["code"]) == (200, code)
        assert '"par"' in caller.events()[1]
        assert caller.ended
        assert b"canary" not in caller.body
        assert (caller.headers["x-narthex-attempts"], len(one.requests), len(two.requests)) == ("1", 1, 0)
        await until(lambda: HANG not in AFTER_OUTPUT[fault].steps or one.peers[0].closed.is_set())


@pytest.mark.parametrize("fault", AFTER_OUTPUT)
async def test_an_answer_that_is_sent_whole_is_made_anew(fault: str, tmp_path: Path) -> None:
    """Nothing of it has reached the caller, so nothing of the first attempt may be in it."""
    async with (
        ScriptedUpstream(AFTER_OUTPUT[fault]) as one,
        ScriptedUpstream(whole("two")) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=False)
        assert (caller.status, said(caller)) == (200, "two")
        assert (caller.headers["x-narthex-deployment"], caller.headers["x-narthex-attempts"]) == ("two/model", "2")
        assert b"canary" not in caller.body
        assert one.requests[0].body == two.requests[0].body


@pytest.mark.parametrize("fault", AFTER_OUTPUT)
async def test_if_no_whole_answer_is_made_the_last_error_is_a_status(fault: str, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(AFTER_OUTPUT[fault]) as one,
        ScriptedUpstream(AFTER_OUTPUT[fault]) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=QUICK) as server,
    ):
        caller = await server.ask(stream=False)
        status, code = (504, "timeout") if fault == "silence" else (502, "upstream_error")
        assert (caller.status, caller.json()["error"]["code"]) == (status, code)
        assert b"canary" not in caller.body
        assert (caller.headers["x-narthex-attempts"], len(one.requests), len(two.requests)) == ("2", 1, 1)


async def test_an_answer_without_a_done_is_whole_if_it_finished(stream: bool, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(Reply(stream_head(), sse(ROLE, chunk("Hi"), chunk(finish="stop")), END)) as one,
        gateway(tmp_path, {"one": one.url}, rules=QUICK) as server,
    ):
        assert said(await server.ask(stream=stream)) == "Hi"


async def test_after_the_caller_has_left_nothing_is_tried(stream: bool, tmp_path: Path) -> None:
    rules = Rules(attempts=4, backoff_s=0.01, total_s=5.0)
    async with (
        ScriptedUpstream(Reply(HANG)) as one,
        ScriptedUpstream(whole("two")) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=rules) as server,
    ):
        caller = server.asking(stream=stream)
        call = asyncio.ensure_future(server.call(caller))
        await until(lambda: bool(one.requests))
        caller.left.set()
        await call
        await until(one.peers[0].closed.is_set)
        assert (caller.sent, len(one.requests), len(two.requests)) == ([], 1, 0)


async def test_a_deployment_that_fails_is_left_alone_until_it_may_try_again(tmp_path: Path) -> None:
    rules = Rules(attempts=2, backoff_s=0.01, cooldown_s=0.3)
    async with (
        ScriptedUpstream(*[refused(500)] * 5, whole("one")) as one,
        ScriptedUpstream(whole("two")) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=rules) as server,
    ):
        for _ in range(8):
            assert said(await server.ask(stream=False)) == "two"
        assert len(one.requests) == 5

        async def answers() -> bool:
            return said(await server.ask(stream=False)) == "one"

        async with asyncio.timeout(60):
            while not await answers():
                await asyncio.sleep(0.02)
        assert len(one.requests) == 6


async def test_a_connection_that_is_never_made_costs_no_longer_than_its_clock(stream: bool, tmp_path: Path) -> None:
    """A listener whose queue is full: connections to it are neither taken nor refused."""
    rules = Rules(attempts=2, connect_s=0.2, total_s=5.0)
    async with (
        ScriptedUpstream(whole("two")) as two,
        full_listener() as address,
        gateway(tmp_path, {"one": address, "two": two.url}, rules=rules) as server,
    ):
        caller = await server.ask(stream=stream)
        assert (said(caller), caller.headers["x-narthex-attempts"]) == ("two", "2")


@asynccontextmanager
async def full_listener() -> AsyncIterator[str]:
    listener = socket.create_server(("127.0.0.1", 0), backlog=0)
    port = listener.getsockname()[1]
    fillers = []
    try:
        for _ in range(4):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", port))
            fillers.append(filler)
        yield f"http://127.0.0.1:{port}"
    finally:
        for filler in fillers:
            filler.close()
        listener.close()


async def test_an_answer_whose_head_says_nothing_of_its_length_is_read_to_the_end(stream: bool, tmp_path: Path) -> None:
    events = b"".join(b"data: " + each + b"\n\n" for each in (ROLE, chunk("Hi"), chunk(finish="stop"), DONE))
    async with (
        ScriptedUpstream(Reply(head("content-type: text/event-stream"), events, CUT)) as one,
        gateway(tmp_path, {"one": one.url}, rules=QUICK) as server,
    ):
        assert said(await server.ask(stream=stream)) == "Hi"
