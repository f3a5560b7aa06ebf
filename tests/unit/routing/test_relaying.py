"""Streams that are handed over, under the clocks of their attempt, on a clock that jumps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from tests.routing_parts import SILENT, Played, Step, a_call, now_s, outcomes, routed
from tests.scripted_deployment import START, STOP, USED, text
from tests.virtual_time import VirtualLoop
from typing_extensions import override

from narthex.core.errors import NarthexError, UpstreamTimeout, UpstreamUnavailable
from narthex.core.ports import Call, Opened, Relaying, Sink, Stream
from narthex.core.stream import Frame, Pulse, TextDelta
from narthex.http.sink import next_frame
from narthex.routing.route import Rules

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


class Handed(Relaying):
    """Frames, of which all that only go on are handed over."""

    def __init__(self, steps: AsyncIterator[Frame]) -> None:
        self._steps = steps
        self._next: Frame | None = None

    def __aiter__(self) -> AsyncIterator[Frame]:
        return self

    async def __anext__(self) -> Frame:
        frame, self._next = self._next, None
        return frame or await anext(self._steps)

    @override
    async def hand_over(self, sink: Sink, pulse: Pulse) -> None:
        async for frame in self._steps:
            if frame.finishes or frame.usage is not None:
                self._next = frame
                return
            pulse.pieces += 1
            pulse.last_s = now_s()
            if not sink.take(frame):
                return


class Relayed(Played):
    """As it is, but for that."""

    @override
    def open(self, call: Call) -> Opened:
        return self._relayed(super().open(call))

    @asynccontextmanager
    async def _relayed(self, opened: Opened) -> AsyncIterator[Stream]:
        async with opened as frames:
            yield Handed(frames)


class Written:
    """A sink that takes everything."""

    def __init__(self) -> None:
        self.text = ""

    def take(self, frame: Frame) -> bool:
        self.text += words(frame)
        return True

    def alike(self, frame: Frame) -> None: ...

    def pass_on(self, chunk: bytes) -> bool: ...


def words(frame: Frame) -> str:
    return "".join(event.text for event in frame.events if isinstance(event, TextDelta))


async def heard(call: Call, *played: Played, handed: Written | None = None, **rules: Any) -> str:
    """What was asked for of an answer, and `!` if it broke off."""
    asked = ""
    try:
        async with routed(*played, rules=Rules(**{"attempts": 1, **rules})).open(call) as frames:
            sink = None
            while (frame := await next_frame(frames, sink)) is not None:
                asked += words(frame)
                sink = handed
    except NarthexError:
        return asked + "!"
    return asked


def said(every_s: float, *last: Step) -> tuple[Step, ...]:
    return (START, *(step for word in "abcdef" for step in (text(word), every_s)), *last)


ENDED = (STOP, USED)


async def test_what_goes_on_is_written_and_counted() -> None:
    call, written = a_call(), Written()
    assert await heard(call, Relayed("a/1", said(0.0, *ENDED)), handed=written) == "a"
    assert written.text == "bcdef"
    assert (call.attempts[0].pieces, call.attempts[0].usage) == (6, USED.usage)


async def test_without_a_sink_all_is_asked_for() -> None:
    call = a_call()
    assert await heard(call, Relayed("a/1", said(0.0, *ENDED))) == "abcdef"
    assert call.attempts[0].pieces == 6


async def test_what_can_not_be_handed_over_is_asked_for() -> None:
    written = Written()
    assert await heard(a_call(), Played("a/1", said(0.0, *ENDED)), handed=written, idle_s=5.0) == "abcdef"
    assert written.text == ""


@pytest.mark.parametrize(("every_s", "in_time"), [(4.9, True), (5.1, False)])
async def test_the_clock_between_frames_runs_on(every_s: float, in_time: bool) -> None:
    call, written, began_s = a_call(), Written(), now_s()
    end = await heard(call, Relayed("a/1", said(every_s, *ENDED)), handed=written, idle_s=5.0)
    assert (end, written.text) == (("a", "bcdef") if in_time else ("a!", ""))
    if not in_time:
        assert now_s() - began_s == 5.0
        assert outcomes(call) == [("a/1", UpstreamTimeout.__name__)]


async def test_silence_after_many_frames_is_noticed_in_time() -> None:
    call, written, began_s = a_call(), Written(), now_s()
    assert await heard(call, Relayed("a/1", said(3.0, SILENT)), handed=written, idle_s=5.0) == "a!"
    assert written.text == "bcdef"
    assert now_s() - began_s == 5 * 3.0 + 5.0
    assert call.attempts[0].pieces == 6


async def test_the_attempt_and_the_whole_request_have_their_clocks() -> None:
    for rules in ({"attempt_s": 7.0}, {"total_s": 7.0}):
        written, began_s = Written(), now_s()
        assert await heard(a_call(), Relayed("a/1", said(2.0, SILENT)), handed=written, **rules) == "a!"
        assert (written.text, now_s() - began_s) == ("bcd", 7.0)


async def test_who_has_to_keep_a_pace_is_looked_at_frame_by_frame() -> None:
    written = Written()
    answer = Relayed("a/1", said(0.0, *ENDED))
    assert await heard(a_call(), answer, handed=written, min_pieces_per_s=0.1) == "abcdef"
    assert written.text == ""


async def test_what_may_have_to_be_gone_on_with_is_remembered_frame_by_frame() -> None:
    written = Written()
    one = Relayed("a/1", said(0.0, UpstreamUnavailable()), goes_on=True)
    two = Relayed("b/1", (START, text("gh"), *ENDED), goes_on=True)
    call = a_call()
    assert await heard(call, one, two, handed=written, rescue=True, attempts=2) == "abcdefgh"
    assert written.text == ""
    assert outcomes(call) == [("a/1", "UpstreamUnavailable"), ("b/1", "answered")]


async def test_a_caller_who_leaves_meanwhile_ends_it() -> None:
    call, written = a_call(), Written()
    answer = Relayed("a/1", said(1.0, SILENT))
    task = asyncio.ensure_future(heard(call, answer, handed=written))
    await asyncio.sleep(20)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (answer.closed, outcomes(call), written.text) == (1, [("a/1", "left")], "bcdef")
