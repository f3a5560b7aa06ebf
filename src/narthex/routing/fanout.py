"""`n` choices from a server that gives one at a time: as many requests side by side, merged into one answer.

Source: ARCHITECTURE D3; contract section 1.3 (the prompt counts once, and the answers' tokens add up).

A seed counts up from choice to choice: equal seeds would give equal answers.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

import msgspec
from msgspec import UNSET
from typing_extensions import override

from narthex.core.capabilities import Capabilities, State
from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.deployments import Around
from narthex.core.ports import Call, Deployment, Opened, Stream, Surface
from narthex.core.stream import Frame, OfAChoice, Usage, UsageReported, one_of
from narthex.ipc.tasks import TaskSet

AT_ONCE = 8
"""Requests of one fan-out that run side by side."""

_GENERATED = (
    "completion_tokens", "reasoning_tokens", "accepted_prediction_tokens", "rejected_prediction_tokens",
)  # fmt: skip
_HELD_FRAMES = 64
_SEEDS = 2**64

_Item = tuple[int, Frame] | BaseException | None


def with_choices(honoured: Capabilities, surface: Surface) -> Capabilities:
    """What a deployment honours when `FanOut` stands before it."""
    if surface not in {"chat", "completions"} or honoured.get("n") in {State.NATIVE, State.EMULATED}:
        return honoured
    return {**honoured, "n": State.EMULATED}


def fanned_out(deployment: Deployment) -> Deployment:
    """The deployment with `FanOut` before it; itself where that would have nothing to do."""
    fanned = FanOut(deployment)
    return fanned if fanned.emulated else deployment


class FanOut(Around):
    """A deployment that emulates `n` where the one within does not honour it by itself."""

    def __init__(self, deployment: Deployment) -> None:
        self.emulated: set[Surface] = set()
        """Where it has something to do."""
        super().__init__(deployment)

    @override
    def honoured(self, surface: Surface, inner: Capabilities) -> Capabilities:
        """`n` besides."""
        honoured = with_choices(inner, surface)
        if honoured is not inner:
            self.emulated.add(surface)
        return honoured

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`."""
        request = call.request
        if call.surface not in self.emulated or not isinstance(request, ChatRequest | CompletionRequest):
            return self._deployment.open(call)
        return self._deployment.open(call) if request.sampling.n == 1 else self._open(call, request)

    @asynccontextmanager
    async def _open(self, call: Call, request: ChatRequest | CompletionRequest) -> AsyncIterator[Stream]:
        tasks = TaskSet(awaited=True)
        try:
            yield self._merged(call, request, tasks)
        finally:
            await tasks.aclose()

    async def _merged(
        self, call: Call, request: ChatRequest | CompletionRequest, tasks: TaskSet
    ) -> AsyncIterator[Frame]:
        count = request.sampling.n
        items: asyncio.Queue[_Item] = asyncio.Queue(_HELD_FRAMES)
        gate = asyncio.Semaphore(AT_ONCE)
        for number in range(count):
            tasks.start(self._answer(_part(call, request, number), number, items, gate))
        used: dict[int, Usage] = {}
        running = count
        while running:
            item = await items.get()
            if item is None:
                running -= 1
            elif isinstance(item, BaseException):
                raise item
            else:
                number, frame = item
                if frame.usage is not None:
                    used[number] = frame.usage
                mine = (event for event in frame.events if isinstance(event, OfAChoice))
                if events := tuple(one_of(event, number, count=count) for event in mine):
                    yield Frame.of(*events)
        if used:
            parts = list(used.values())
            yield Frame.of(UsageReported(_together(parts)), billed=_added(parts, Usage.__struct_fields__))

    async def _answer(self, part: Call, number: int, items: asyncio.Queue[_Item], gate: asyncio.Semaphore) -> None:
        """One request; whatever ends it reaches the reader."""
        try:
            async with gate, self._deployment.open(part) as frames:
                async for frame in frames:
                    await items.put((number, frame))
        except Exception as error:  # noqa: BLE001 - carried over to the reader's task, which raises it
            await items.put(error)
        else:
            await items.put(None)


def _part(call: Call, request: ChatRequest | CompletionRequest, number: int) -> Call:
    """The call for one choice."""
    fields = {name: value for name, value in request.fields.items() if name != "n"}
    sent = {name: value for name, value in request.sent.items() if name != "n"}
    sampling = msgspec.structs.replace(request.sampling, n=1)
    if sampling.seed is not UNSET:
        seed = (sampling.seed + number + _SEEDS // 2) % _SEEDS - _SEEDS // 2
        sampling = msgspec.structs.replace(sampling, seed=seed)
        fields["seed"], sent["seed"] = seed, msgspec.Raw(b"%d" % seed)
    alone = msgspec.structs.replace(request, sampling=sampling, fields=fields, sent=sent)
    return call.asking(alone)


def _together(parts: list[Usage]) -> Usage:
    """The prompt as one of them counted it, everything that was generated added up."""
    return _added(parts, _GENERATED)


def _added(parts: list[Usage], counts: Iterable[str]) -> Usage:
    """The first of them with these counts of all."""
    return msgspec.structs.replace(parts[0], **{name: sum(getattr(part, name) for part in parts) for name in counts})
