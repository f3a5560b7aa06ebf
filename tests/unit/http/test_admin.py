"""`POST /admin/reload`: what an admin is told."""

import json

import pytest
from tests.raw_asgi import Caller

from narthex.core.errors import InvalidRequest
from narthex.http.admin import Admin, Reloaded
from narthex.http.exchange import Exchange

pytestmark = pytest.mark.anyio


async def told(outcome: Reloaded) -> Caller:
    async def reload() -> Reloaded:
        return outcome

    async def application(scope: object, receive: object, send: object) -> None:
        await Admin(reload).reload(Exchange(scope, receive, send, request_id="req_1"))  # type: ignore[arg-type]

    return await Caller(b"", path="/admin/reload").call(application)


async def test_what_has_changed_and_what_waits() -> None:
    caller = await told(Reloaded(changed=["models.a"], needs_restart=["port"]))
    assert caller.status == 200
    assert caller.json() == {"object": "reload", "changed": ["models.a"], "needs_restart": ["port"]}


async def test_every_fault_is_in_the_message() -> None:
    with pytest.raises(InvalidRequest) as caught:
        await told(Reloaded(faults=["f:1:1: a: wrong", "f:2:1: b: wrong"]))
    assert caught.value.code == "invalid_configuration"
    assert json.dumps(caught.value.message).endswith('\\nf:1:1: a: wrong\\nf:2:1: b: wrong"')
