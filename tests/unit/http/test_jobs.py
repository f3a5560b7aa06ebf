"""A job that goes on, over a queue that is none."""

import json

import pytest
from tests.raw_asgi import Caller
from tests.scripted_deployment import principal

from narthex.core.jobs import Job
from narthex.http.exchange import Exchange
from narthex.http.jobs import JobsEndpoints

pytestmark = pytest.mark.anyio

RUNNING = Job(
    id="j", kind="ingest", account_id="a", key_id="k", collection_id="c", collection_key="c", subject="d", payload={},
    state="running", created_ms=0, updated_ms=0,
)  # fmt: skip


class Library:
    async def collection(self, who, key):
        return key


class Queue:
    """Has one job, and `changes` of it to tell before it is over."""

    def __init__(self, *changes):
        self.changes = changes
        self.followed = 0

    async def get(self, collection, job_id):
        return RUNNING

    async def follow(self, job):
        self.followed += 1
        for each in self.changes:
            yield each


async def followed(queue, method):
    caller = Caller(method=method, quiet=True)
    exchange = Exchange(caller.scope, caller.receive, caller.send, request_id="req_abc")
    exchange.principal, exchange.parameters = principal(), {"key": "c", "job": "j"}
    await JobsEndpoints(Library(), queue).events(exchange)
    assert caller.ended
    return caller


async def test_each_change_is_an_event():
    caller = await followed(Queue(RUNNING, RUNNING), "GET")
    assert [json.loads(each)["state"] for each in caller.events()] == ["running", "running"]


async def test_who_asks_for_the_head_alone_waits_for_no_change():
    queue = Queue(RUNNING)
    caller = await followed(queue, "HEAD")
    assert (caller.status, caller.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
    assert (caller.body, queue.followed) == (b"", 0)
