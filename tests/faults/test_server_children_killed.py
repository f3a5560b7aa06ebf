"""Processes of a running server that are killed: nobody is left without an answer, and all of them come back."""

import asyncio
from collections.abc import Iterator

import pytest
from tests.callers import CHAT, COMPLETIONS, EMBEDDINGS, ask, calling, chat, embedding, endless, honest, served
from tests.server_inside import EMBEDDER, ENGINE, SANDBOX, free, kill, queue, ready, until
from tests.server_process import Server, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]
pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def server(start_server: StartServer) -> Iterator[Server]:
    with start_server({"engine": {"slots": 4, "context": 2048}}) as running:
        yield running


async def test_a_killed_engine_ends_all_choices_of_a_stream(server: Server) -> None:
    async with calling(server, COMPLETIONS, endless(n=4, stream=True)) as caller:
        await caller.until(b'"index":1')
        await kill(server, ENGINE)
        answer = await caller.end()
    assert honest(answer)
    assert not answer.done
    await served(server)


async def test_everybody_in_the_queue_of_a_killed_engine_gets_an_answer(server: Server) -> None:
    await ready(server, ENGINE)
    waiting = [
        asyncio.ensure_future(ask(server, COMPLETIONS, endless(f"number {i}", stream=i % 2 == 0, max_tokens=64)))
        for i in range(30)
    ]

    async def full() -> bool:
        state = await queue(server)
        return state.running >= 2 and state.running + state.waiting >= 28

    await until(full)
    await kill(server, ENGINE)
    answers = await asyncio.gather(*waiting)
    assert all(map(honest, answers)), [answer for answer in answers if not honest(answer)][:2]
    await served(server)
    await until(lambda: is_free(server))


@pytest.mark.parametrize("child", [ENGINE, EMBEDDER, SANDBOX])
async def test_a_child_that_was_killed_while_idle_is_not_missed(server: Server, child: str) -> None:
    for path, body in ((CHAT, chat("Hello", max_tokens=2)), (EMBEDDINGS, embedding())):
        assert (await ask(server, path, body)).status == 200
    await kill(server, child)
    for path, body in ((CHAT, chat("Hello", max_tokens=2)), (EMBEDDINGS, embedding())):
        answer = await ask(server, path, body)
        assert honest(answer), answer
    await served(server)
    assert (await ask(server, EMBEDDINGS, embedding())).status == 200


async def test_a_killed_embedder_is_an_error_for_those_it_worked_for(server: Server) -> None:
    await ready(server, EMBEDDER)
    many = embedding(input=[f"sentence {i} " * 60 for i in range(200)])
    asked = asyncio.ensure_future(ask(server, EMBEDDINGS, many))
    other = asyncio.ensure_future(ask(server, CHAT, chat("Hello", max_tokens=4)))
    assert (await other).status == 200  # by then the embedder is at work
    assert not asked.done()
    killed = await kill(server, EMBEDDER)
    answer = await asked
    assert answer.status in {502, 503}, answer
    assert answer.error
    assert answer.error["message"]
    await ready(server, EMBEDDER, other_than=killed)
    assert (await ask(server, EMBEDDINGS, embedding())).status == 200


async def test_chats_go_on_while_the_sandbox_is_killed(server: Server) -> None:
    async def killing() -> None:
        last = 0
        for _ in range(3):
            await ready(server, SANDBOX, other_than=last)
            last = await kill(server, SANDBOX)

    bodies = [chat(f"number {i}", max_tokens=2) for i in range(12)]
    assert (await ask(server, CHAT, bodies[0])).status == 200
    killer = asyncio.ensure_future(killing())
    for body in bodies:
        assert honest(await ask(server, CHAT, body))
    await killer
    await served(server)


async def test_whoever_comes_while_the_only_worker_is_away_is_served_by_the_next(server: Server) -> None:
    async with calling(server, COMPLETIONS, endless(stream=True)) as caller:
        await caller.until(b"data: {")
        killed = await kill(server, "worker-0")
        assert not (await caller.end()).complete
        asked = [ask(server, CHAT, chat("Hello", max_tokens=2)) for _ in range(5)]
        assert [answer.status for answer in await asyncio.gather(*asked)] == [200] * 5
    await ready(server, "worker-0", other_than=killed)
    await until(lambda: is_free(server))


async def is_free(server: Server) -> bool:
    return await free(server)
