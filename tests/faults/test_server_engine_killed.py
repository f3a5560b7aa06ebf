"""An engine that is killed at its work: every caller is told, and the next one is served."""

from collections.abc import Iterator

import pytest
from tests.callers import CHAT, COMPLETIONS, calling, chat, endless, served
from tests.server_inside import ENGINE, kill, pid, queue, until
from tests.server_process import Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server({"engine": {"slots": 4, "context": 2048}}) as running:
        yield running


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
async def test_a_killed_engine_ends_a_stream_with_an_error(server: Server, path: str) -> None:
    worker = await pid(server, "worker-0")
    body = endless(stream=True) if path == COMPLETIONS else chat(stream=True, max_tokens=1500)
    async with calling(server, path, body) as caller:
        await caller.until(b"\n\ndata: {")
        await kill(server, ENGINE)
        answer = await caller.end()
    assert answer.status == 200
    assert answer.complete
    assert b"[DONE]" not in answer.body
    assert answer.error is not None
    assert answer.error["code"] == "upstream_error"
    assert set(answer.error) == {"message", "type", "param", "code"}
    await served(server)
    assert await pid(server, "worker-0") == worker


@pytest.mark.parametrize("n", [1, 4])
async def test_a_killed_engine_is_a_status_where_nothing_was_sent(server: Server, n: int) -> None:
    worker = await pid(server, "worker-0")

    async def runs() -> bool:
        return (await queue(server)).running > 0

    async with calling(server, COMPLETIONS, endless(n=n)) as caller:
        await until(runs)
        await kill(server, ENGINE)
        answer = await caller.end()
    assert answer.status in {502, 503}
    assert answer.error
    assert answer.error["message"]
    await served(server)
    assert await pid(server, "worker-0") == worker
