import asyncio
import json
import re

import pytest
import structlog
from tests.raw_asgi import Caller, until
from tests.scripted_deployment import principal

from narthex.core.errors import (
    CallersTimeout,
    Conflict,
    LimitExceeded,
    NarthexError,
    RouteNotFound,
    StorageError,
    StorageFull,
    Superseded,
    UpstreamCredentials,
    UpstreamTimeout,
)
from narthex.core.keys import Grants
from narthex.http.application import Application, _Ids
from narthex.http.asgi import CallerLeft
from narthex.http.metrics import Metrics
from narthex.http.routes import Route, Routes
from narthex.policy.auth import KeyRefused

pytestmark = pytest.mark.anyio

SECRET = "the words of a secret"


class Keys:
    """An authenticator that knows `nx-good` and nobody else."""

    def __init__(self, grants: Grants | None = None, *, failure: Exception | None = None) -> None:
        self._principal = principal(grants)
        self._failure = failure

    async def authenticate(self, headers):
        if self._failure is not None:
            raise self._failure
        if dict(headers).get(b"x-api-key") != b"nx-good":
            raise KeyRefused
        return self._principal


class Scripted:
    """An endpoint that raises, waits, or begins before it does."""

    def __init__(self, failure: Exception | None = None, *, begins: bool = False) -> None:
        self.failure = failure
        self.begins = begins
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, exchange):
        if self.begins:
            await exchange.begin(200, [])
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        await exchange.reply(200, b"{}")


def application(endpoint=None, *, keys=None, hosts=("localhost", "127.0.0.1", "[::1]"), profile="openai"):
    endpoint = endpoint or Scripted()
    table = [
        Route(path="/keyed", endpoints={"POST": endpoint}),
        Route(path="/open", endpoints={"GET": endpoint}, access="open"),
        Route(path="/admin", endpoints={"GET": endpoint}, access="admin"),
    ]
    metrics = Metrics(worker="worker-0", version="1")
    return Application(Routes(table), keys or Keys(), metrics=metrics, allowed_hosts=hosts, profile=profile)


def good(path="/keyed", *, method="POST", **headers: str) -> Caller:
    return Caller(path=path, method=method, headers={"x-api-key": "nx-good", **headers})


async def test_an_answer_bears_the_usual_headers():
    caller = await good().call(application())
    assert caller.status == 200
    assert caller.headers["x-request-id"].startswith("req_")
    assert caller.headers["openai-processing-ms"].isdigit()
    assert caller.headers["openai-version"] == "2020-10-01"


@pytest.mark.parametrize(
    ("caller", "status", "code"),
    [
        (Caller(path="/keyed"), 401, "invalid_api_key"),
        (Caller(path="/nowhere"), 404, None),
        (Caller(path="/open"), 405, "method_not_supported"),
        (good(host="evil.example"), 400, None),
    ],
)
async def test_every_error_bears_the_request_id_and_the_error_body(caller, status, code):
    await caller.call(application())
    assert caller.status == status
    assert caller.headers["x-request-id"].startswith("req_")
    assert caller.headers["content-length"] == str(len(caller.body))
    error = caller.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] == code


async def test_no_two_answers_bear_the_same_id():
    app = application()
    ids = {(await good().call(app)).headers["x-request-id"] for _ in range(50)}
    assert len(ids) == 50


async def test_a_fault_of_ours_is_a_500_that_says_nothing():
    caller = await good().call(application(Scripted(RuntimeError(SECRET))))
    assert caller.status == 500
    assert caller.json() == {
        "error": {"message": "Internal error.", "type": "server_error", "param": None, "code": None}
    }
    assert SECRET not in str(caller.sent)


async def test_a_bare_error_of_ours_does_not_tell_its_message():
    caller = await good().call(application(Scripted(NarthexError(SECRET))))
    assert caller.status == 500
    assert SECRET not in str(caller.sent)


@pytest.mark.parametrize(
    ("failure", "told"),
    [
        (CallersTimeout(), "false"),
        (Conflict(), "false"),
        (StorageFull(), "false"),
        (UpstreamCredentials(), "false"),
        (Superseded(), None),
        (LimitExceeded(), None),
        (UpstreamTimeout(), None),
        (NarthexError(), None),
        (RouteNotFound(), None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
async def test_what_would_fail_again_is_not_to_be_sent_again(failure, told):
    caller = await good().call(application(Scripted(failure)))
    assert caller.status == failure.status
    assert caller.headers.get("x-should-retry") == told


@pytest.mark.parametrize(("failure", "logged"), [(CallersTimeout(), 0), (UpstreamTimeout(), 1)], ids=["theirs", "ours"])
async def test_only_failures_of_ours_are_logged_as_such(failure, logged):
    with structlog.testing.capture_logs() as lines:
        await good().call(application(Scripted(failure)))
    assert len([line for line in lines if line["event"] == "request failed"]) == logged
    assert [line["error"] for line in lines if line["event"] == "request"] == [type(failure).__name__]


async def test_after_the_head_an_error_adds_nothing():
    caller = await good().call(application(Scripted(RuntimeError(SECRET), begins=True)))
    assert [message["type"] for message in caller.sent] == ["http.response.start"]


async def test_a_caller_who_left_gets_nothing():
    caller = await good().call(application(Scripted(CallerLeft())))
    assert caller.sent == []


async def test_a_limit_tells_when_to_come_back():
    caller = await good().call(application(Scripted(LimitExceeded(retry_after_s=1.2))))
    assert caller.status == 429
    assert caller.headers["retry-after"] == "2"


async def test_a_retry_is_never_told_for_at_once():
    caller = await good().call(application(Scripted(LimitExceeded(retry_after_s=0))))
    assert caller.headers["retry-after"] == "1"


async def test_a_wrong_method_is_told_the_right_ones():
    caller = await good("/open").call(application())
    assert caller.headers["allow"] == "GET, HEAD"


async def test_a_401_asks_for_a_bearer():
    caller = await Caller(path="/keyed").call(application())
    assert caller.headers["www-authenticate"] == "Bearer"


async def test_a_database_that_does_not_answer_is_no_401():
    caller = await good().call(application(keys=Keys(failure=StorageError())))
    assert caller.status == 503


@pytest.mark.parametrize(
    ("profile", "failure", "shape"),
    [
        ("openai", KeyRefused(), {"error"}),
        ("ionos", KeyRefused(), {"httpStatus", "messages"}),
        ("openai", KeyRefused(profile="ionos"), {"httpStatus", "messages"}),  # a key that is known, but revoked
        ("ionos", KeyRefused(profile="oxy"), {"error"}),
        ("ionos", StorageError(), {"error"}),
        ("ionos", RouteNotFound(), {"error"}),
    ],
)
async def test_the_profile_shapes_the_401_and_nothing_else(profile, failure, shape):
    caller = await good().call(application(keys=Keys(failure=failure), profile=profile))
    assert set(caller.json()) == shape


# --- who may come in -------------------------------------------------------------------------------------------------


async def test_an_open_route_asks_for_no_key():
    assert (await Caller(method="GET", path="/open").call(application())).status == 200


async def test_an_admins_route_asks_for_an_admins_key():
    everything_else = Grants(surfaces=frozenset({"*"}), models=("*",), collections=("*",), templates=True, extras=True)
    app = application(keys=Keys(everything_else))
    assert (await good("/admin", method="GET").call(app)).status == 403
    assert (await good("/admin", method="GET").call(application())).status == 200


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:8000", "127.0.0.1", "127.0.0.1:1", "[::1]", "[::1]:8000", None]
)
async def test_our_own_names_are_answered_to(host):
    caller = good(**({} if host is None else {"host": host}))
    assert (await caller.call(application())).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "localhost.evil.example", "localhost:8000.evil.example", ":80", "[::2]", "127.0.0.2"]
)
async def test_other_names_are_refused_before_anything_else(host):
    caller = Caller(method="GET", path="/open", headers={"host": host})
    assert (await caller.call(application())).status == 400


async def test_a_star_answers_to_every_name():
    assert (await good(host="evil.example").call(application(hosts=("*",)))).status == 200


async def test_a_configured_name_is_answered_to_in_any_case():
    assert (await good(host="ai.EXAMPLE.org:443").call(application(hosts=("AI.example.org",)))).status == 200


async def test_other_protocols_are_not_served():
    async def unused(*_):
        raise AssertionError

    await application()({"type": "websocket"}, unused, unused)


# --- draining --------------------------------------------------------------------------------------------------------


async def test_while_draining_new_requests_are_sent_away_and_running_ones_end():
    endpoint = Scripted()
    endpoint.go.clear()
    app = application(endpoint)
    running = good()
    task = asyncio.ensure_future(running.call(app))
    await until(lambda: app.running == 1)
    app.draining = True
    idle = asyncio.ensure_future(app.wait_idle())

    late = await good().call(app)
    assert late.status == 503
    assert late.json()["error"]["code"] == "overloaded"
    assert late.headers["retry-after"] == "5"
    assert late.headers["connection"] == "close"
    assert not idle.done()

    endpoint.go.set()
    await task
    assert running.status == 200
    await idle


async def test_open_routes_are_served_while_draining():
    app = application()
    app.draining = True
    assert (await Caller(method="GET", path="/open").call(app)).status == 200


# --- what is told ----------------------------------------------------------------------------------------------------


async def test_the_log_tells_of_every_request_and_never_the_key():
    with structlog.testing.capture_logs() as lines:
        caller = await good().call(application())
        await Caller(path="/keyed", headers={"x-api-key": "nx-" + SECRET}).call(application())
        await good().call(application(Scripted(CallerLeft())))
    told = [line for line in lines if line["event"] == "request"]
    assert [line["status"] for line in told] == [200, 401, 499]
    assert told[0]["request_id"] == caller.headers["x-request-id"]
    assert told[0]["key"] == "nx-test"
    assert told[1]["code"] == "invalid_api_key"
    assert told[2]["outcome"] == "caller left"
    assert SECRET not in json.dumps(lines, default=str)
    assert "nx-good" not in json.dumps(lines, default=str)


async def test_requests_are_counted_by_route_and_not_by_what_was_asked():
    endpoint, metrics = Scripted(), Metrics(worker="worker-0", version="1")

    async def used(exchange):
        exchange.facts |= {"deployment": "local/one", "prompt_tokens": 3, "completion_tokens": 2}
        await endpoint(exchange)

    table = [Route(path="/v1/models/{model}", endpoints={"GET": used})]
    app = Application(Routes(table), Keys(), metrics=metrics, allowed_hosts=("*",))
    await good("/v1/models/a", method="GET").call(app)
    await good("/v1/models/b", method="GET").call(app)
    await good("/made/up", method="GET").call(app)

    def counted(name: str, **labels: str) -> float | None:
        return metrics.registry.get_sample_value(name, {"worker": "worker-0", **labels})

    assert counted("narthex_requests_total", route="/v1/models/{model}", method="GET", status="200") == 2
    assert counted("narthex_requests_total", route="unknown", method="GET", status="404") == 1
    assert counted("narthex_tokens_total", deployment="local/one", kind="prompt") == 6
    assert counted("narthex_tokens_total", deployment="local/one", kind="completion") == 4


def test_names_of_requests_are_random_and_never_repeat():
    new_id = _Ids()
    names = [new_id() for _ in range(1000)]
    assert len({*names, *(_Ids()() for _ in range(10))}) == 1010
    assert all(re.fullmatch(r"[0-9a-f]{32}", name) for name in names)
