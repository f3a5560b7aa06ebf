"""Two upstreams over real sockets that answer with documents, as most do where no stream is asked for; one at fault."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.raw_asgi import until
from tests.scripted_gateway import DONE, ROLE, chunk, gateway, refused, said, whole

from narthex.http.worker import RemoteProvider
from narthex.routing.route import Rules
from narthex.testing.scripted import CUT, END, HANG, RESET, Reply, ScriptedUpstream, head, response, sse, stream_head

pytestmark = [pytest.mark.anyio, pytest.mark.patient]

RULES = Rules(attempts=2, backoff_s=0.01, attempt_s=0.4, total_s=5.0)
"""No clock on single pieces, so that documents are asked for."""
PACED = Rules(attempts=2, backoff_s=0.01, first_token_s=0.3, total_s=5.0)
USED = {"prompt_tokens": 7, "completion_tokens": 2, "total_tokens": 9}
OF_JSON = "content-type: application/json"


def document(words: str | None, *, finish: str = "stop", **fields: Any) -> bytes:
    message = {"role": "assistant", "content": words, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    answer = {"id": "x", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice], "usage": USED}
    return json.dumps(answer | fields).encode()


def answered(body: bytes) -> Reply:
    return Reply(response(body, headers=(OF_JSON,)))


def cut_at(share: float) -> bytes:
    """A response whose head promises more than follows."""
    full = response(document("partial"), headers=(OF_JSON,))
    body = len(document("partial"))
    return full[: len(full) - body + int(body * share)]


HALF = cut_at(0.5)
ERROR = {"message": "sk-canary of org-canary", "type": "server_error", "param": None, "code": None}
FAULTS = {
    "429": refused(429),
    "429 with Retry-After": refused(429, "retry-after: 30"),
    "500": refused(500),
    "502": refused(502),
    "503": refused(503, "retry-after: 30"),
    "its own 401": refused(401),
    "reset before the head": Reply(RESET),
    "reset half-way": Reply(HALF, RESET),
    "cut before the head": Reply(CUT),
    "cut after the head": Reply(cut_at(0), CUT),
    "cut half-way": Reply(HALF, CUT),
    "cut half-way, of no told length": Reply(head(OF_JSON), document("partial")[:70], CUT),
    "cut half-way, in chunks": Reply(stream_head(), document("partial")[:70], CUT),
    "one byte short": Reply(cut_at(0.9999), CUT),
    "half of it and an end": answered(document("partial")[:70]),
    "an empty body": answered(b""),
    "white space": answered(b" \n"),
    "no JSON": answered(b"<html>no</html>"),
    "JSON, but no object": answered(b"[]"),
    "an empty object": answered(b"{}"),
    "no choices": answered(document("partial", choices=[])),
    "content of another type": answered(document("partial").replace(b'"partial"', b"5")),
    "bad UTF-8": answered(document("partial").replace(b"partial", b"parti\xff")),
    "an error object": answered(json.dumps({"error": ERROR}).encode()),
    "an error beside choices": answered(document("partial", error=ERROR)),
    "never finished": answered(document("partial").replace(b'"stop"', b"null")),
    "finished by an error": answered(document("partial", finish="error")),
    "silence": Reply(HANG),
    "silence after the head": Reply(cut_at(0), HANG),
    "silence half-way": Reply(HALF, HANG),
    "a stream, cut": Reply(stream_head(), sse(ROLE, chunk("par")), CUT),
    "a stream, ended before it finished": Reply(stream_head(), sse(ROLE, chunk("par"), DONE), END),
}
SILENT = {name for name in FAULTS if name.startswith("silence")}


@pytest.mark.parametrize("fault", FAULTS)
async def test_the_next_answers(fault: str, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(FAULTS[fault]) as one,
        ScriptedUpstream(answered(document("two"))) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=RULES) as server,
    ):
        caller = await server.ask()
        assert (caller.status, said(caller)) == (200, "two")
        assert (caller.headers["x-narthex-deployment"], caller.headers["x-narthex-attempts"]) == ("two/model", "2")
        assert caller.json()["usage"]["prompt_tokens"] == 7
        assert b"canary" not in caller.body
        assert b"par" not in caller.body
        assert (len(one.requests), len(two.requests)) == (1, 1)
        assert one.requests[0].body == two.requests[0].body
        assert "stream" not in json.loads(one.requests[0].body)
        if fault in SILENT:
            await until(lambda: all(peer.closed.is_set() for peer in one.peers))


@pytest.mark.parametrize("fault", FAULTS)
async def test_if_nobody_answers_the_last_error_is_a_status(fault: str, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(FAULTS[fault]) as one,
        ScriptedUpstream(FAULTS[fault]) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=RULES) as server,
    ):
        caller = await server.ask()
        expected = (502, "upstream_error")
        if fault in SILENT:
            expected = (504, "timeout")
        elif fault.startswith("429"):
            expected = (429, "rate_limit_exceeded")
        assert (caller.status, caller.json()["error"]["code"]) == expected
        assert b"canary" not in caller.body
        assert b"par" not in caller.body.replace(b'"param"', b"")
        assert (caller.headers["x-narthex-attempts"], len(one.requests), len(two.requests)) == ("2", 1, 1)


async def test_500_once_is_tried_again_on_the_same(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(refused(500), answered(document("again"))) as one,
        gateway(tmp_path, {"one": one.url}, rules=RULES) as server,
    ):
        caller = await server.ask()
        assert (said(caller), caller.headers["x-narthex-attempts"], len(one.requests)) == ("again", "2", 2)


async def test_a_refused_request_is_final(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(refused(400, code="invalid_value")) as one,
        ScriptedUpstream(answered(document("two"))) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=RULES) as server,
    ):
        caller = await server.ask()
        assert (caller.status, caller.json()["error"]["code"], len(two.requests)) == (400, "invalid_value", 0)


@pytest.mark.parametrize("told", ["as a status", "in a document"])
async def test_a_prompt_that_is_too_long_goes_to_its_fallback(told: str, tmp_path: Path) -> None:
    error = {"message": "x", "type": "invalid_request_error", "param": None, "code": "context_length_exceeded"}
    too_long = (
        refused(400, code="context_length_exceeded")
        if told == "as a status"
        else answered(json.dumps({"error": error}).encode())
    )
    async with (
        ScriptedUpstream(too_long) as one,
        ScriptedUpstream(answered(document("two"))) as two,
        ScriptedUpstream(answered(document("wide"))) as wide,
    ):
        providers = {"one": one.url, "two": two.url, "wide": wide.url}
        async with gateway(tmp_path, providers, rules=RULES, context_window=("wide/model",)) as server:
            caller = await server.ask()
            assert (said(caller), caller.headers["x-narthex-deployment"], len(two.requests)) == (
                "wide",
                "wide/model",
                0,
            )


@pytest.mark.parametrize("words", ["", None])
async def test_a_filters_verdict_goes_to_its_fallback(words: str | None, tmp_path: Path) -> None:
    verdict = answered(document(words, finish="content_filter"))
    async with ScriptedUpstream(verdict) as one, ScriptedUpstream(answered(document("wide"))) as wide:
        providers = {"one": one.url, "wide": wide.url}
        async with gateway(tmp_path, providers, rules=RULES, content_filter=("wide/model",)) as server:
            assert said(await server.ask()) == "wide"


async def test_what_a_filter_let_through_is_the_callers(tmp_path: Path) -> None:
    verdict = answered(document("Up to here", finish="content_filter"))
    async with ScriptedUpstream(verdict) as one, ScriptedUpstream(answered(document("wide"))) as wide:
        providers = {"one": one.url, "wide": wide.url}
        async with gateway(tmp_path, providers, rules=RULES, content_filter=("wide/model",)) as server:
            caller = await server.ask()
            (choice,) = caller.json()["choices"]
            assert (said(caller), choice["finish_reason"]) == ("Up to here", "content_filter")


async def test_who_streams_all_the_same_is_understood(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(whole("streamed")) as one,
        gateway(tmp_path, {"one": one.url}, rules=RULES) as server,
    ):
        assert said(await server.ask()) == "streamed"


@pytest.mark.parametrize("rules", [PACED, Rules(idle_s=5.0), Rules(min_pieces_per_s=0.1)])
async def test_where_clocks_run_on_pieces_a_stream_is_asked_for(rules: Rules, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(whole("streamed")) as one,
        gateway(tmp_path, {"one": one.url}, rules=rules) as server,
    ):
        assert said(await server.ask()) == "streamed"
        assert json.loads(one.requests[0].body)["stream"] is True


async def test_where_the_providers_clock_runs_on_its_first_output_too(tmp_path: Path) -> None:
    async with ScriptedUpstream(Reply(HANG)) as one, ScriptedUpstream(answered(document("two"))) as two:
        slow = RemoteProvider(type="openai", base_url=one.url, first_token_s=0.2)
        async with gateway(tmp_path, {"one": slow, "two": two.url}, rules=RULES) as server:
            assert said(await server.ask()) == "two"
        sent = [json.loads(upstream.requests[0].body) for upstream in (one, two)]
        assert [body.get("stream") for body in sent] == [True, None]


async def test_a_document_that_stalls_half_way_is_given_up_by_its_providers_clock(tmp_path: Path) -> None:
    rules = Rules(attempts=2, backoff_s=0.01, total_s=8.0)
    async with ScriptedUpstream(Reply(HALF, HANG)) as one, ScriptedUpstream(answered(document("two"))) as two:
        stalling = RemoteProvider(type="openai", base_url=one.url, idle_s=0.2)
        async with gateway(tmp_path, {"one": stalling, "two": two.url}, rules=rules) as server:
            caller = await server.ask()
            assert (said(caller), caller.headers["x-narthex-attempts"]) == ("two", "2")
            await until(one.peers[0].closed.is_set)


async def test_a_document_that_comes_slowly_is_waited_for_piece_by_piece(tmp_path: Path) -> None:
    """Longer in all than the provider's clock, which runs on each piece."""
    body = response(document("slowly"), headers=(OF_JSON,))
    steps = [asyncio.Event() for _ in range(6)]
    size = len(body) // len(steps) + 1
    pieces = [part for at, step in enumerate(steps) for part in (step, body[at * size : (at + 1) * size])]
    async with ScriptedUpstream(Reply(*pieces)) as one:
        slow = RemoteProvider(type="openai", base_url=one.url, idle_s=0.5)
        async with gateway(tmp_path, {"one": slow}, rules=Rules(attempts=1)) as server:
            call = asyncio.ensure_future(server.ask())
            loop = asyncio.get_running_loop()
            for at, step in enumerate(steps):
                loop.call_later(0.15 * at, step.set)
            assert said(await call) == "slowly"


@pytest.mark.parametrize("steps", [[HANG], [HALF, HANG]], ids=["before the head", "half-way"])
async def test_after_the_caller_has_left_nothing_is_tried(steps: list[Any], tmp_path: Path) -> None:
    rules = Rules(attempts=4, backoff_s=0.01, total_s=5.0)
    async with (
        ScriptedUpstream(Reply(*steps)) as one,
        ScriptedUpstream(answered(document("two"))) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=rules) as server,
    ):
        caller = server.asking()
        call = asyncio.ensure_future(server.call(caller))
        await until(lambda: bool(one.requests))
        caller.left.set()
        await call
        await until(one.peers[0].closed.is_set)
        assert (caller.sent, len(one.requests), len(two.requests)) == ([], 1, 0)


async def test_a_connection_is_used_again_after_a_document(tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(answered(document("one"))) as one,
        gateway(tmp_path, {"one": one.url}, rules=RULES) as server,
    ):
        for _ in range(5):
            assert said(await server.ask()) == "one"
        assert (len(one.requests), len(one.peers)) == (5, 1)


TEXT = {"id": "x", "object": "text_completion", "created": 1, "model": "x", "usage": USED,
        "choices": [{"index": 0, "text": "Once", "logprobs": None, "finish_reason": "stop"}]}  # fmt: skip


@pytest.mark.parametrize("fault", ["500", "half of it and an end", "an error object", "silence", "cut half-way"])
async def test_text_completions_too(fault: str, tmp_path: Path) -> None:
    async with (
        ScriptedUpstream(FAULTS[fault]) as one,
        ScriptedUpstream(answered(json.dumps(TEXT).encode())) as two,
        gateway(tmp_path, {"one": one.url, "two": two.url}, rules=RULES) as server,
    ):
        caller = await server.ask(path="/v1/completions")
        assert (caller.status, caller.json()["choices"][0]["text"]) == (200, "Once")
        assert caller.json()["usage"]["total_tokens"] == 9
