"""Several choices from deployments that give one at a time."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
from tests.scripted_deployment import TAKES, ScriptedDeployment, answer, principal

from narthex.core.capabilities import Capabilities, State
from narthex.core.chat import ChatRequest, Message, Sampling
from narthex.core.completions import CompletionRequest
from narthex.core.errors import EngineCrashed
from narthex.core.ports import Call, Opened, Stream, Surface
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    EmbeddingsReady,
    Frame,
    OrderCheck,
    TextDelta,
    Usage,
    UsageReported,
)
from narthex.routing.fanout import AT_ONCE, FanOut, with_choices

pytestmark = pytest.mark.anyio


class OneAtATime(ScriptedDeployment):
    """Answers each request with one choice, told apart by its number; keeps what it was asked."""

    def __init__(self, *, n: State | None = None, fails: int | None = None, usage: bool = True) -> None:
        super().__init__(takes=TAKES if n is None else {**TAKES, "n": n})
        self.asked: list[Any] = []
        self.running = self.most = 0
        self._fails = fails
        self._usage = usage

    def open(self, call: Call) -> Opened:
        self.asked.append(call.request)
        return self._answer(call, len(self.asked) - 1)

    @asynccontextmanager
    async def _answer(self, call: Call, number: int) -> AsyncIterator[Stream]:
        self.opened += 1
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            yield self._told(call, number)
        finally:
            self.running -= 1
            self.closed += 1

    async def _told(self, call: Call, number: int) -> AsyncIterator[Frame]:
        choices = range(len(call.request.prompts) if isinstance(call.request, CompletionRequest) else 1)
        for choice in choices:
            yield Frame.of(ChoiceStarted(choice), TextDelta(choice, f"{number}."))
        await asyncio.sleep(0)
        if number == self._fails:
            raise EngineCrashed
        for choice in choices:
            yield Frame.of(TextDelta(choice, f"{choice}"), ChoiceFinished(choice, "stop"))
        if self._usage:
            yield Frame.of(UsageReported(Usage(prompt_tokens=7, completion_tokens=2 + number)))


def chat(n: int, **fields: Any) -> Call:
    given = {"model": "m", "n": n, **fields}
    request = ChatRequest(
        model="m",
        messages=(Message(role="user", content="Hello"),),
        sampling=Sampling(n=n, **fields),
        fields=given,
        sent={name: msgspec.Raw(msgspec.json.encode(value)) for name, value in given.items()},
    )
    return Call(request, id="1", surface="chat", principal=principal(), started_s=0.0)


def texts(n: int, prompts: tuple[str, ...]) -> Call:
    request = CompletionRequest(model="m", prompts=prompts, sampling=Sampling(n=n), fields={"n": n}, sent={})
    return Call(request, id="1", surface="completions", principal=principal(), started_s=0.0)


async def told(deployment: FanOut, call: Call) -> tuple[dict[int, str], Usage | None]:
    """The text of each choice, and the usage."""
    order, found, usage = OrderCheck(), dict[int, str](), None
    async with deployment.open(call) as frames:
        async for frame in frames:
            order.feed(frame.events)
            usage = frame.usage or usage
            for event in frame.events:
                if isinstance(event, TextDelta):
                    found[event.choice] = found.get(event.choice, "") + event.text
    order.end()
    return found, usage


async def test_each_choice_is_a_request_of_its_own():
    one = OneAtATime()
    found, usage = await told(FanOut(one), chat(3))
    assert found == {0: "0.0", 1: "1.0", 2: "2.0"}
    assert usage == Usage(prompt_tokens=7, completion_tokens=2 + 3 + 4)
    assert (one.opened, one.closed) == (3, 3)
    for request in one.asked:
        assert request.sampling.n == 1
        assert "n" not in request.fields
        assert "n" not in request.sent


async def test_choices_of_one_prompt_stand_together():
    found, _ = await told(FanOut(OneAtATime()), texts(2, ("a", "b")))
    assert found == {0: "0.0", 1: "1.0", 2: "0.1", 3: "1.1"}


async def test_a_seed_counts_up_and_stays_within_its_range():
    one = OneAtATime()
    await told(FanOut(one), chat(2, seed=2**63 - 1))
    assert [request.sampling.seed for request in one.asked] == [2**63 - 1, -(2**63)]
    assert [bytes(request.sent["seed"]) for request in one.asked] == [b"9223372036854775807", b"-9223372036854775808"]
    assert one.asked[1].fields["seed"] == -(2**63)


async def test_only_so_many_run_side_by_side():
    one = OneAtATime()
    found, _ = await told(FanOut(one), chat(3 * AT_ONCE))
    assert len(found) == 3 * AT_ONCE
    assert one.most == AT_ONCE


async def test_without_their_usage_there_is_none():
    assert (await told(FanOut(OneAtATime(usage=False)), chat(2)))[1] is None


async def test_one_that_fails_ends_all():
    one = OneAtATime(fails=1)
    with pytest.raises(EngineCrashed):
        await told(FanOut(one), chat(3))
    assert one.opened == one.closed


async def test_who_leaves_stops_all():
    one = OneAtATime()
    async with FanOut(one).open(chat(3)) as frames:
        async for _ in frames:
            break
    assert (one.opened, one.closed) == (3, 3)


@pytest.mark.parametrize("native", [State.NATIVE, State.EMULATED])
async def test_what_the_deployment_can_do_itself_is_left_to_it(native: State):
    one = OneAtATime(n=native)
    assert (await told(FanOut(one), chat(4)))[0] == {0: "0.0"}
    assert one.asked[0].sampling.n == 4


async def test_one_choice_passes_through():
    one = ScriptedDeployment(*answer("Hi"))
    deployment = FanOut(one)
    assert (deployment.name, deployment.fingerprint) == (one.name, one.fingerprint)
    assert (await told(deployment, chat(1)))[0] == {0: "Hi"}


async def test_events_of_no_choice_are_left_out():
    one = ScriptedDeployment(Frame.of(EmbeddingsReady(())), *answer("Hi"))
    assert (await told(FanOut(one), chat(2)))[0] == {0: "Hi", 1: "Hi"}


def test_what_it_honours():
    honoured: Capabilities = {"model": State.NATIVE}
    assert with_choices(honoured, "chat") == {"model": State.NATIVE, "n": State.EMULATED}
    surfaces: tuple[Surface, ...] = ("embeddings", "images")
    for surface in surfaces:
        assert with_choices(honoured, surface) is honoured
    assert FanOut(ScriptedDeployment(takes=None)).capabilities("chat") is None
    assert (FanOut(ScriptedDeployment()).capabilities("completions") or {})["n"] is State.EMULATED


async def test_the_prompt_of_every_request_is_billed() -> None:
    within = OneAtATime()
    async with FanOut(within).open(chat(3)) as frames:
        (last,) = [frame async for frame in frames if frame.usage is not None]
    assert last.usage == Usage(prompt_tokens=7, completion_tokens=9)
    assert last.billed == Usage(prompt_tokens=21, completion_tokens=9)
    assert FanOut(within).continues(chat(1))
