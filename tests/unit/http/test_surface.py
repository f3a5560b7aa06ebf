import asyncio
import json
import struct
import threading
from contextlib import asynccontextmanager

import pytest
import structlog
from tests.raw_asgi import Caller, until
from tests.scripted_deployment import SILENCE, START, STOP, USED, ScriptedDeployment, answer, principal, text

from narthex.core.errors import (
    CallersTimeout,
    Draining,
    EngineCrashed,
    InvalidRequest,
    ModelNotFound,
    NarthexError,
    PermissionDenied,
    RequestTooLarge,
    UpstreamTimeout,
)
from narthex.core.keys import Grants
from narthex.core.models import ModelCard
from narthex.core.stream import EmbeddingsReady, Frame, TextDelta
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.http.asgi import CallerLeft
from narthex.http.exchange import Exchange
from narthex.http.surface import LARGE_BYTES, ModelSurface
from narthex.routing.router import Route, Router

pytestmark = pytest.mark.anyio

BODY = {"model": "m", "messages": [{"role": "user", "content": "Hello"}]}
STREAM = BODY | {"stream": True}
LONG_S = 1000.0


def asking(body: object = None, *, quiet: bool = False) -> Caller:
    return Caller(json.dumps(BODY if body is None else body).encode(), quiet=quiet)


async def served(
    deployment: ScriptedDeployment,
    caller: Caller,
    *,
    who=None,
    ping_after_s: float = LONG_S,
    dialect=None,
    lenient: bool = False,
    at_once: bool = False,
) -> Exchange:
    """The exchange after the surface has answered."""
    surface = ModelSurface(
        dialect or ChatDialect(),
        deployment.open,
        clock=lambda: 1_700_000_000.9,
        body_limit_bytes=1_000_000,
        lenient=lenient,
        ping_after_s=ping_after_s,
    )
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal = who or principal()
    if not at_once:
        await surface(exchange)
    else:
        body = (await caller.receive())["body"]
        await surface.begin(exchange, body, over=lambda *_: None)()
    return exchange


async def test_an_answer_comes_whole():
    deployment, caller = ScriptedDeployment(*answer("Hi there")), asking()
    exchange = await served(deployment, caller)
    assert caller.status == 200
    assert caller.headers["content-type"] == "application/json"
    assert caller.headers["x-narthex-deployment"] == "local/one"
    assert caller.json()["id"] == "chatcmpl-abc"
    assert caller.json()["created"] == 1_700_000_000
    assert caller.json()["choices"][0]["message"]["content"] == "Hi there"
    assert exchange.facts == {
        "model": "m", "deployment": "local/one", "prompt_tokens": 3, "completion_tokens": 2,
    }  # fmt: skip
    assert deployment.closed == 1


async def test_an_answer_comes_as_a_stream():
    deployment, caller = ScriptedDeployment(*answer()), asking(STREAM)
    exchange = await served(deployment, caller)
    assert caller.headers["content-type"] == "text/event-stream; charset=utf-8"
    assert caller.headers["cache-control"] == "no-cache"
    assert caller.headers["x-accel-buffering"] == "no"
    assert "content-length" not in caller.headers
    assert caller.events()[-1] == "[DONE]"
    assert caller.ended
    assert "first_s" in exchange.facts
    assert deployment.closed == 1


@pytest.mark.parametrize("body", [BODY, STREAM])
async def test_an_error_before_the_first_output_is_a_status(body):
    deployment, caller = ScriptedDeployment(refuses=InvalidRequest("no")), asking(body)
    with pytest.raises(InvalidRequest):
        await served(deployment, caller)
    assert caller.sent == []
    assert deployment.closed == 1


async def test_an_error_in_a_stream_is_an_event_and_nothing_follows():
    deployment, caller = ScriptedDeployment(START, text("Hi"), EngineCrashed("It ended.")), asking(STREAM)
    exchange = await served(deployment, caller)
    assert caller.status == 200
    assert json.loads(caller.events()[-1])["error"] == {
        "message": "It ended.", "type": "server_error", "param": None, "code": "upstream_error",
    }  # fmt: skip
    assert "[DONE]" not in caller.events()
    assert caller.ended
    assert exchange.facts["error"] == "EngineCrashed"
    assert deployment.closed == 1


async def test_a_fault_of_ours_in_a_stream_says_nothing_of_its_cause():
    caller = asking(STREAM)
    await served(ScriptedDeployment(START, text("Hi"), RuntimeError("the words of a secret")), caller)
    assert json.loads(caller.events()[-1])["error"]["message"] == "Internal error."
    assert b"secret" not in caller.body


async def test_a_fault_of_ours_before_the_head_is_raised():
    with pytest.raises(NarthexError) as caught:
        await served(ScriptedDeployment(refuses=RuntimeError("x")), asking(STREAM))
    assert caught.value.public_message == "Internal error."


class Closing(ScriptedDeployment):
    """Fails only once its frames are through, as a clock that runs over the whole call does."""

    failure = UpstreamTimeout

    def open(self, call):
        return self._then_fails(call)

    @asynccontextmanager
    async def _then_fails(self, call):
        async with super().open(call) as frames:
            yield frames
        raise self.failure


@pytest.mark.parametrize("failure", [UpstreamTimeout, CallersTimeout])
async def test_an_error_at_the_end_of_the_call_is_an_event_too(failure):
    caller, closing = asking(STREAM), Closing(START, text("Hi"), STOP)
    closing.failure = failure
    with structlog.testing.capture_logs() as lines:
        await served(closing, caller)
    assert json.loads(caller.events()[-1])["error"]["code"] == "timeout"
    assert caller.ended
    assert [line["event"] for line in lines] == ([] if failure.by_wish else ["a stream broke"])


@pytest.mark.parametrize(
    "frames",
    [(START, text("Hi")), (START, STOP, text("Hi")), (text("Hi"),), (START, START)],
    ids=["unfinished", "after the end", "without a beginning", "twice begun"],
)
async def test_a_stream_out_of_order_is_never_a_silent_end(frames):
    caller = asking(STREAM)
    if caught := await _raised(served(ScriptedDeployment(*frames), caller)):
        assert caught.code == "upstream_error"
        assert caller.sent == []
    else:
        assert json.loads(caller.events()[-1])["error"]["code"] == "upstream_error"
        assert "[DONE]" not in caller.events()

    with pytest.raises(NarthexError) as whole:
        await served(ScriptedDeployment(*frames), asking(BODY))
    assert whole.value.code == "upstream_error"


async def _raised(work) -> NarthexError | None:
    try:
        await work
    except NarthexError as error:
        return error
    return None


async def test_a_stream_without_an_answer_is_a_status():
    caller = asking(STREAM)
    with pytest.raises(NarthexError) as caught:
        await served(ScriptedDeployment(), caller)
    assert caught.value.status == 502
    assert caller.sent == []


# --- what is checked first -------------------------------------------------------------------------------------------


async def test_without_the_grant_nothing_is_read():
    caller = asking()
    with pytest.raises(PermissionDenied):
        await served(ScriptedDeployment(), caller, who=principal(Grants(surfaces=frozenset({"embeddings"}))))
    assert (await caller.receive())["type"] == "http.request"


async def test_a_model_that_is_not_granted_does_not_exist():
    deployment = ScriptedDeployment()
    with pytest.raises(ModelNotFound) as caught:
        await served(deployment, asking(), who=principal(Grants(surfaces=frozenset({"chat"}), models=("other",))))
    assert str(caught.value) == str(ModelNotFound.named("m"))
    assert deployment.opened == 0


@pytest.mark.parametrize(("strict", "lenient"), [(True, True), (False, False)])
async def test_what_a_lenient_key_or_server_ignores_is_named_and_can_end_no_header(strict, lenient):
    name = "x\r\nset-cookie: a=b\u2028é"
    caller = asking(BODY | {name: 1} | {f"{'n' * 56}{number}": 1 for number in range(90)})
    await served(ScriptedDeployment(*answer()), caller, who=principal(strict=strict), lenient=lenient)
    told = caller.headers["x-narthex-ignored"]
    assert told.startswith("x\\r\\nset-cookie: a=b\\u2028\\xe9, nnn")
    assert len(told) == 4096
    assert told.isprintable()


async def test_embeddings_are_never_streamed():
    caller = asking({"model": "m", "input": "a"})
    vectors = Frame.of(EmbeddingsReady((struct.pack("<2f", 0.5, 1),)))
    await served(ScriptedDeployment(vectors, USED), caller, dialect=EmbeddingsDialect())
    assert caller.json()["data"][0]["embedding"] == [0.5, 1]
    assert caller.json()["usage"] == {"prompt_tokens": 3, "total_tokens": 3}


# --- time ------------------------------------------------------------------------------------------------------------


async def test_silence_in_a_stream_is_filled_with_comments():
    go = asyncio.Event()
    caller = asking(STREAM)
    task = asyncio.ensure_future(served(ScriptedDeployment(START, text("Hi"), go, STOP), caller, ping_after_s=0.01))
    await until(lambda: caller.events().count(": ping") >= 2 if caller.sent else False)
    go.set()
    await task
    assert caller.events()[-1] == "[DONE]"
    assert caller.events().index(": ping") == 2  # after the role and the text


async def test_silence_before_the_first_output_sends_nothing():
    """Until then an error may still become a status."""
    go = asyncio.Event()
    caller = asking(STREAM)
    task = asyncio.ensure_future(served(ScriptedDeployment(go, *answer()), caller, ping_after_s=0.001))
    await asyncio.sleep(0.05)
    assert caller.sent == []
    go.set()
    await task
    assert ": ping" not in caller.events()


async def test_a_slow_reader_holds_the_stream_back():
    produced: list[int] = []

    class Counting(ScriptedDeployment):
        async def _frames(self):
            yield START
            for number in range(100):
                produced.append(number)
                yield Frame.of(TextDelta(0, "x"))
            yield STOP

    caller = asking(STREAM)
    caller.reads.clear()
    task = asyncio.ensure_future(served(Counting(), caller))
    await until(lambda: bool(caller.sent))
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(produced) <= 1
    caller.reads.set()
    await task
    assert len(produced) == 100


# --- hanging up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [BODY, STREAM])
@pytest.mark.parametrize("before", [(), (START, text("Hi"))], ids=["before the first token", "later"])
async def test_a_caller_who_leaves_ends_the_work(body, before):
    deployment, caller = ScriptedDeployment(*before, SILENCE()), asking(body)
    task = asyncio.ensure_future(served(deployment, caller))
    await until(lambda: deployment.opened == 1)
    caller.left.set()
    with pytest.raises(CallerLeft):
        await task
    assert deployment.closed == 1


async def test_a_caller_who_leaves_without_reading_ends_the_work():
    deployment, caller = ScriptedDeployment(*answer()), asking(STREAM)
    caller.reads.clear()
    task = asyncio.ensure_future(served(deployment, caller))
    await until(lambda: bool(caller.sent))
    caller.left.set()
    with pytest.raises(CallerLeft):
        await task
    assert deployment.closed == 1


@pytest.mark.parametrize("body", [BODY, STREAM])
async def test_the_end_of_the_answer_is_no_hangup(body):
    """Servers report it as one; the deployment still closes in peace."""
    closing = asyncio.Event()
    deployment, caller = ScriptedDeployment(*answer(), closing=closing), asking(body)
    asyncio.get_running_loop().call_later(0.01, closing.set)
    exchange = await served(deployment, caller)
    assert caller.ended
    assert "outcome" not in exchange.facts
    assert deployment.closed == 1


@pytest.mark.parametrize("before", [(), (START, text("Hi"))], ids=["before the first output", "later"])
async def test_the_total_clock_of_the_router_ends_a_stream_with_an_error(before):
    """Before the first output as a status, after it as an event; never as a silent end."""
    deployment = ScriptedDeployment(*before, SILENCE())
    card = ModelCard(id="m", created=0, owned_by="test", kind="chat")
    router = Router({"m": Route(card=card, deployments=(deployment,))}, total_s=0.02)
    surface = ModelSurface(ChatDialect(), router.open, clock=lambda: 0, body_limit_bytes=10_000, lenient=False)
    caller = asking(STREAM)
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal = principal()
    error = await _raised(surface(exchange))
    assert deployment.closed == 1
    if before:
        assert error is None
        assert json.loads(caller.events()[-1])["error"]["code"] == "timeout"
        assert json.loads(caller.events()[0])["system_fingerprint"] == deployment.fingerprint
        assert caller.ended
    else:
        assert error is not None
        assert error.status == 504
        assert caller.sent == []


# --- cut by the drain ------------------------------------------------------------------------------------------------


async def _cut_while(body: object, *steps: object) -> tuple[Caller, NarthexError | None, ScriptedDeployment]:
    """What the caller of a request gets that is cut while its deployment is silent."""
    deployment, caller = ScriptedDeployment(*steps, SILENCE()), asking(body)
    surface = ModelSurface(ChatDialect(), deployment.open, clock=lambda: 0, body_limit_bytes=10_000, lenient=False)
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal = principal()
    task = asyncio.ensure_future(_raised(surface(exchange)))
    await until(lambda: deployment.opened == 1 and (exchange.begun or not steps or body is BODY))
    exchange.cut()
    exchange.cut()  # as often as one likes
    return caller, await task, deployment


@pytest.mark.parametrize(("body", "steps"), [(BODY, ()), (BODY, (START, text("Hi"))), (STREAM, ())])
async def test_a_request_that_is_cut_before_its_answer_is_told_by_its_status(body, steps):
    caller, error, deployment = await _cut_while(body, *steps)
    assert error is not None
    assert (error.status, error.code) == (503, "overloaded")
    assert caller.sent == []
    assert deployment.closed == 1


async def test_a_stream_that_is_cut_is_told_in_band():
    caller, error, deployment = await _cut_while(STREAM, START, text("Hi"))
    assert error is None
    assert json.loads(caller.events()[-1])["error"]["code"] == "overloaded"
    assert caller.ended
    assert deployment.closed == 1


async def test_a_request_that_begins_after_the_cut_is_cut_at_once():
    deployment, caller = ScriptedDeployment(*answer()), asking()
    surface = ModelSurface(ChatDialect(), deployment.open, clock=lambda: 0, body_limit_bytes=10_000, lenient=False)
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal = principal()
    exchange.cut()
    error = await _raised(surface(exchange))
    assert error is None or error.code == "overloaded"


async def test_a_dialect_that_writes_nothing_until_the_end():
    class Silent(ChatDialect):
        def encoder(self, call, *, created):
            encoder = super().encoder(call, created=created)
            write, encoder.encode = encoder.encode, lambda frame: write(frame) and b""
            return encoder

    caller = asking(STREAM)
    await served(ScriptedDeployment(*answer()), caller, dialect=Silent())
    assert caller.status == 200
    assert caller.events() == ["[DONE]"]


class Noting(ChatDialect):
    """Notes which thread reads requests."""

    def __init__(self):
        super().__init__()
        self.threads = []

    def decode(self, body, **how):
        self.threads.append(threading.current_thread())
        return super().decode(body, **how)


@pytest.mark.parametrize("at_once", [False, True])
async def test_a_large_request_is_read_beside_the_loop(at_once):
    dialect, here = Noting(), threading.current_thread()
    for size in (0, LARGE_BYTES):
        caller = asking(BODY | {"user": "x" * size})
        await served(ScriptedDeployment(*answer("Hi")), caller, dialect=dialect, at_once=at_once)
        assert caller.status == 200
    small, large = dialect.threads
    assert small is here is not large


@pytest.mark.parametrize("at_once", [False, True])
async def test_what_is_wrong_with_a_large_request_is_told_as_ever(at_once):
    for size, error in ((LARGE_BYTES, InvalidRequest), (1_000_000, RequestTooLarge)):
        with pytest.raises(error):
            await served(ScriptedDeployment(), asking(BODY | {"n": "x" * size}), at_once=at_once)


class Stuck(ChatDialect):
    """Reads until it is let go."""

    def __init__(self):
        super().__init__()
        self.begun, self.go = threading.Event(), threading.Event()
        self.times = 0

    def decode(self, body, **how):
        self.times += 1
        self.begun.set()
        self.go.wait(60)
        return super().decode(body, **how)


def large(dialect):
    """A surface, and a caller's large request to it."""
    caller = asking(BODY | {"user": "x" * LARGE_BYTES})
    handler = ScriptedDeployment(*answer("Hi")).open
    made = ModelSurface(dialect, handler, clock=lambda: 0, body_limit_bytes=1_000_000, lenient=False)
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal = principal()
    return made, exchange


async def cut_while_it_is_read(surface, exchange, dialect):
    async with asyncio.TaskGroup() as group:
        group.create_task(_drained(surface, exchange))
        await until(dialect.begun.is_set)
        exchange.cut()


async def test_a_large_request_that_was_left_is_read_to_its_end_before_the_next():
    dialect = Stuck()
    surface, exchange = large(dialect)
    _, following = large(dialect)
    try:
        async with asyncio.TaskGroup() as group:
            await cut_while_it_is_read(surface, exchange, dialect)
            group.create_task(surface(following))
            await until(lambda: dialect.times == 2 or surface._one_large._waiters)
            assert dialect.times == 1
            dialect.go.set()
    finally:
        dialect.go.set()
    assert dialect.times == 2
    assert following.ended


async def test_a_drain_waits_for_no_large_request():
    dialect = Stuck()
    try:
        await cut_while_it_is_read(*large(dialect), dialect)
    finally:
        dialect.go.set()


async def _drained(surface, exchange):
    with pytest.raises(Draining):
        await surface(exchange)
