"""Turns, and the loop that runs them, over a model that is a function."""

import asyncio
import threading
from collections.abc import Callable

import numpy as np
import pytest

from narthex.core.errors import EngineUnavailable, QueueFull
from narthex.ipc.tasks import TaskSet
from narthex.retrieval.batching import Batcher, Turns, Work
from narthex.retrieval.embedding_model import Vectors

pytestmark = pytest.mark.anyio


def work(*lengths: int) -> Work:
    return Work([[0] * length for length in lengths], dim=1)


def taken(turns: Turns, max_tokens: int, *, names: dict[Work, str]) -> list[tuple[str, int]]:
    return [(names[one], index) for one, index in turns.take(max_tokens)]


def test_a_turn_takes_one_length_up_to_the_limit() -> None:
    turns, big = Turns(), work(3, 5, 3, 3)
    turns.add(big)
    names = {big: "big"}
    assert taken(turns, 7, names=names) == [("big", 0), ("big", 2)]
    assert taken(turns, 7, names=names) == [("big", 3)]
    assert taken(turns, 7, names=names) == [("big", 1)]
    assert not turns


def test_every_input_runs_once() -> None:
    turns, lengths = Turns(), [1 + index % 7 for index in range(50)]
    one, two = work(*lengths), work(*reversed(lengths))
    turns.add(one)
    turns.add(two)
    seen = []
    while turns:
        batch = turns.take(10)
        assert len({len(call.inputs[index]) for call, index in batch}) == 1
        assert sum(len(call.inputs[index]) for call, index in batch) <= 10
        seen += batch
    assert len(seen) == len(set(seen)) == 100


def test_calls_take_turns_and_share_a_length() -> None:
    turns, big, small, other = Turns(), work(*[4] * 100), work(4), work(2)
    names = {big: "big", small: "small", other: "other"}
    for one in (big, small, other):
        turns.add(one)
    assert taken(turns, 8, names=names) == [("big", 0), ("big", 1)]
    assert taken(turns, 8, names=names) == [("small", 0), ("big", 2)]
    assert taken(turns, 8, names=names) == [("other", 0)]
    assert taken(turns, 8, names=names) == [("big", 3), ("big", 4)]


def test_a_text_over_the_limit_runs_alone_and_who_leaves_is_gone() -> None:
    turns, long, gone = Turns(), work(99, 99), work(1)
    turns.add(gone)
    turns.add(long)
    turns.discard(gone)
    turns.discard(gone)
    names = {long: "long"}
    assert [taken(turns, 8, names=names) for _ in range(2)] == [[("long", 0)], [("long", 1)]]
    assert not turns


class Model:
    """Each vector is its input's first id; runs wait while `gate` is shut."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.started = threading.Event()
        self.runs: list[list[list[int]]] = []

    def run(self, inputs: list[list[int]]) -> Vectors:
        self.runs.append(inputs)
        self.started.set()
        assert self.gate.wait(60)
        if inputs[0][0] < 0:
            raise RuntimeError("no such id")
        return np.array([[ids[0]] for ids in inputs], np.float32)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(60):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
async def batching() -> object:
    model, tasks = Model(), TaskSet()
    batcher = Batcher(model.run, dim=1, max_batch_tokens=4, max_waiting_tokens=1000)
    tasks.start(batcher.serve())
    yield model, batcher
    model.gate.set()
    await tasks.aclose()
    batcher.close()


async def test_vectors_come_back_in_the_order_of_the_inputs(batching: tuple[Model, Batcher]) -> None:
    model, batcher = batching
    model.gate.set()
    found = await asyncio.gather(*(batcher.embed([[base + n] * (1 + n % 3) for n in range(9)]) for base in (0, 100)))
    assert [vectors[:, 0].tolist() for vectors in found] == [list(range(9)), list(range(100, 109))]
    assert (await batcher.embed([])).shape == (0, 1)


async def test_one_text_waits_for_one_run_of_a_large_call(batching: tuple[Model, Batcher]) -> None:
    model, batcher = batching
    large = asyncio.ensure_future(batcher.embed([[1, 1]] * 200))
    await until(model.started.is_set)
    small = asyncio.ensure_future(batcher.embed([[2]]))
    await asyncio.sleep(0)
    model.gate.set()
    await small
    runs_before = next(n for n, inputs in enumerate(model.runs) if inputs == [[2]])
    assert runs_before <= 2
    assert not large.done()
    assert len(await large) == 200


async def test_who_gives_up_costs_no_more_runs(batching: tuple[Model, Batcher]) -> None:
    model, batcher = batching
    large = asyncio.ensure_future(batcher.embed([[1, 1]] * 200))
    await until(model.started.is_set)
    large.cancel()
    with pytest.raises(asyncio.CancelledError):
        await large
    model.gate.set()
    await batcher.embed([[2]])
    assert len(model.runs) == 2


async def test_a_failed_run_costs_only_its_calls(batching: tuple[Model, Batcher]) -> None:
    model, batcher = batching
    model.gate.set()
    with pytest.raises(EngineUnavailable):
        await batcher.embed([[-1], [1, 1], [3, 3, 3]])
    assert (await batcher.embed([[5]]))[0, 0] == 5
    assert len(model.runs) == 2


async def test_too_much_waits(batching: tuple[Model, Batcher]) -> None:
    model, batcher = batching
    first = asyncio.ensure_future(batcher.embed([[1]] * 2000))  # alone, even more than the limit is let in
    await until(model.started.is_set)
    with pytest.raises(QueueFull):
        await batcher.embed([[1]])
    model.gate.set()
    await first
    await batcher.embed([[1]])


async def test_several_runs_are_under_way_at_a_time_and_no_more() -> None:
    model, tasks = Model(), TaskSet()
    batcher = Batcher(model.run, dim=1, max_batch_tokens=4, max_waiting_tokens=1000, at_once=3)
    tasks.start(batcher.serve())
    await asyncio.sleep(0)  # all wait before there is anything to run
    assert batcher.busy_s == 0
    calls = [asyncio.ensure_future(batcher.embed([[base + n] * (1 + n) for n in range(4)])) for base in (0, 100)]
    await until(lambda: len(model.runs) == 3)
    while_under_way_s = batcher.busy_s
    model.gate.set()
    found = await asyncio.gather(*calls)
    assert [vectors[:, 0].tolist() for vectors in found] == [[0, 1, 2, 3], [100, 101, 102, 103]]
    assert batcher.busy_s > while_under_way_s > 0
    await until(lambda: not batcher._under_way)
    assert batcher.busy_s == batcher.busy_s
    await tasks.aclose()
    batcher.close()
