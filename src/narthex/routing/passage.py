"""A stream that is asked for, begun, passed on and ended before anybody waits for it. See `prompt.py` for its rule."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

from narthex.core.attempts import ANSWERED, LEFT, Attempt
from narthex.core.errors import UpstreamTimeout
from narthex.core.ports import Call, Prompt, Sink
from narthex.core.stream import Frame, Pulse, Splice, Usage
from narthex.ipc.alarms import Alarm, Alarms
from narthex.routing.health import Health, Turn


class Receiver(Protocol):
    """Who hears of it."""

    def begun(self) -> Sink:
        """The first output is here, which nothing was sent before: what all of it is to be written to."""
        ...

    def has_room(self) -> bool:
        """Whether more can be written without waiting."""
        ...

    def rests(self, frames: Sequence[Frame] | None) -> None:
        """It does not only go on any more. The frames that follow, if these are all and nothing went wrong: say then
        whether they were `told`. None: give it up, and have it waited for.
        """
        ...


class Passage:
    """One such stream on its way, and the sink of what goes on with it. See `Begun`."""

    __slots__ = (
        "_alarm", "_alarms", "_call", "_held", "_idle_s", "_idles", "_loop", "_pieces", "_receiver", "_sink", "_usage",
        "began_s", "deadline_s", "opened", "pass_on", "pulse", "turn",
    )  # fmt: skip

    turn: Turn
    pass_on: Callable[[bytes], bool]

    def __init__(
        self,
        call: Call,
        opened: Prompt,
        receiver: Receiver,
        *,
        loop: asyncio.AbstractEventLoop,
        alarms: Alarms,
    ) -> None:
        self._call = call
        self._loop = loop
        self._alarms = alarms
        self._receiver: Receiver | None = receiver
        self._held: list[Frame] = []
        self._sink: Sink | None = None
        self._pieces = Pulse()
        self._usage: Usage | None = None
        self._idle_s: float | None = None
        self._alarm: Alarm | None = None
        self._idles: Alarm | None = None
        self.opened = opened
        self.pulse: Pulse | None = None
        self.began_s = loop.time()
        self.deadline_s = 0.0

    def ask(self, *, health: Health, total_s: float, idle_s: float | None) -> bool:
        """Ask now. Whether that could be done without waiting. `idle_s`: the longest time between two frames."""
        if not self.opened.stream(self, self._pieces, self._stopped):
            return False
        self.turn = health.begin(self._call.deployment)
        self.deadline_s = self.began_s + total_s
        self._idle_s = idle_s
        self._alarm = self._alarms.call_at(self.deadline_s, self._late)
        return True

    def give_up(self) -> None:
        """See `Begun`."""
        self._end()
        self.opened.hush(self._held)
        self._call.attempts = ()

    def told(self) -> None:
        """All that followed was written."""
        self.turn.done()
        self._account(ANSWERED)

    def untold(self) -> None:
        """It could not be written, by a fault of ours."""
        self.turn.left()
        self._account(LEFT)

    def _account(self, outcome: str) -> None:
        name, pieces = self._call.deployment, self._pieces.pieces
        seconds = self._loop.time() - self.began_s
        attempt = Attempt(deployment=name, outcome=outcome, seconds=seconds, usage=self._usage, pieces=pieces)
        self._call.attempts = (attempt,)

    # --- its frames

    def take(self, frame: Frame) -> bool:
        """See `Sink`."""
        if self._sink is not None:
            return self._sink.take(frame)
        self._held.append(frame)
        return not frame.has_output or self._begin()

    def alike(self, frame: Frame) -> Splice | None:
        """See `Sink`."""
        return None if self._sink is None else self._sink.alike(frame)

    def _begin(self) -> bool:
        """The commit point. Whether what it is written to takes more."""
        assert self._receiver is not None  # noqa: S101 - who gave it up takes no more frames
        self.turn.answered()
        self._call.attempts = (Attempt(deployment=self._call.deployment),)
        self.pulse = self._pieces
        self.pulse.pieces = 1  # what was held before the first output is none
        if self._idle_s is not None:
            self._idles = self._alarms.call_at(self.pulse.last_s + self._idle_s, self._look)
        held, self._held = self._held, []
        self._sink = sink = self._receiver.begun()
        self.pass_on = sink.pass_on
        takes = True
        for frame in held:
            takes = sink.take(frame)
        return takes

    def _stopped(self) -> None:
        receiver = self._receiver
        if receiver is None:
            return
        frames = None if self._sink is None or not receiver.has_room() else self.opened.rest()
        if frames is not None:
            self._end()
            for frame in frames:
                if frame.usage is not None:
                    self._usage = frame.billed or frame.usage
                elif not frame.finishes:
                    self._pieces.pieces += 1
        receiver.rests(frames)

    # --- its clocks

    def _late(self) -> None:
        """The whole request takes too long; whoever goes on with it will find so."""
        if self._receiver is not None:
            self._receiver.rests(None)

    def _look(self) -> None:
        """Whether nothing came for too long."""
        if self._idle_s is None or self._receiver is None:
            return
        due_s = self._pieces.last_s + self._idle_s
        if self._loop.time() < due_s:
            self._idles = self._alarms.call_at(due_s, self._look)
            return
        self.opened.hush(error=UpstreamTimeout())
        self._receiver.rests(None)

    def _end(self) -> None:
        self._receiver = self._sink = None
        for alarm in (self._alarm, self._idles):
            if alarm is not None:
                alarm.cancel()
        self._alarm = self._idles = None
