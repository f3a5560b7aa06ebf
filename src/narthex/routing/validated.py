"""A deployment whose answers are held to the form that was asked for. Requests that ask for none pass untouched.

Source: ARCHITECTURE D3. Servers that take a schema, or a choice of tools, do not always keep to it.

Rule: frames are passed on as they come. Of a stream that turns out not to be what was asked for the finish is not told,
but an error; an answer that is sent whole is made anew once by the router, here or elsewhere.
"""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager

import structlog
from typing_extensions import override

from narthex.core.capabilities import Capabilities, State, state_of
from narthex.core.deployments import Around
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import InvalidOutput, UpstreamProtocolError
from narthex.core.fold import Fold
from narthex.core.ports import Call, Deployment, Grammars, Opened, Stream, Surface
from narthex.core.stream import ChoiceFinished, Event, Frame, OutOfOrder, ToolCallDelta
from narthex.routing.form import Check, Form, form_of

log = structlog.get_logger(__name__)

_LONGEST = 300  # characters of a fault: it may quote the answer


class NotAsAsked(InvalidOutput):
    """The model's answer does not have the form that was asked for; the next one may."""

    retryable = True


def with_one_call(honoured: Capabilities, surface: Surface) -> Capabilities:
    """What a deployment honours when `Validated` stands before it."""
    calls = surface == "chat" and state_of("tools", honoured) is not State.REFUSED
    if not calls or state_of("parallel_tool_calls", honoured) is not State.REFUSED:
        return honoured
    return {**honoured, "parallel_tool_calls": State.EMULATED}


class Validated(Around):
    """Checks what a deployment answers; where it makes several calls and only one was to be made, tells the first."""

    def __init__(self, deployment: Deployment, grammars: Grammars) -> None:
        super().__init__(deployment)
        self._grammars = grammars

    @override
    def honoured(self, surface: Surface, inner: Capabilities) -> Capabilities:
        """One call at a time besides."""
        return with_one_call(inner, surface)

    def open(self, call: Call) -> Opened:
        """See `Deployment.open`.

        Raises:
            NotAsAsked: between frames or after the last: the answer does not have the form that was asked for.
        """
        form = form_of(call.request)
        return self._deployment.open(call) if form is None else self._open(call, form)

    @asynccontextmanager
    async def _open(self, call: Call, form: Form) -> AsyncIterator[Stream]:
        request = call.request
        streams = not isinstance(request, EmbeddingsRequest) and request.stream
        check = Check(form, self._grammars.of(call.principal.key.id), deployment=self.name)
        async with self._deployment.open(call) as frames:
            watched = _Watched(frames, form, check)
            async with aclosing(watched.as_they_come() if streams else watched.to_the_end()) as told:
                yield told


class _Watched:
    """The frames of one answer."""

    def __init__(self, frames: Stream, form: Form, check: Check) -> None:
        self._frames = frames
        self._form = form
        self._check = check
        self._fold = Fold()
        self._first_calls: dict[int, int] = {}
        """By choice, the number of its first call."""

    async def as_they_come(self) -> AsyncGenerator[Frame, None]:
        """For who reads along: nothing of a finish that is no good."""
        async for sent in self._frames:
            if (frame := self._told(sent)) is None:
                continue
            if self._form.calling == "never" and any(isinstance(event, ToolCallDelta) for event in frame.events):
                raise _not_as_asked("a tool was called.")
            if (fault := await self._fault(frame)) is not None:
                yield await self._bill(frame)
                raise _not_as_asked(fault)
            yield frame

    async def to_the_end(self) -> AsyncGenerator[Frame, None]:
        """For who waits for all of it, and so learns of a fault when everything has been counted."""
        found: str | None = None
        async for sent in self._frames:
            if (frame := self._told(sent)) is None:
                continue
            if found is None:
                found = await self._fault(frame)
            yield frame
        if found is not None:
            raise _not_as_asked(found)

    async def _fault(self, frame: Frame) -> str | None:
        """What is wrong with the choices that end in a frame."""
        try:
            self._fold.feed(frame.events)
        except OutOfOrder as error:
            raise UpstreamProtocolError from error
        ended = {event.choice for event in frame.events if isinstance(event, ChoiceFinished)}
        for choice in self._fold.choices if ended else ():
            if choice.index in ended and (fault := await self._check.fault(choice)) is not None:
                return fault
        return None

    async def _bill(self, frame: Frame) -> Frame:
        """What the answer used, which servers tell after its end; a frame that tells nothing else."""
        while frame.usage is None:
            following = await anext(self._frames, None)
            if following is None or (following.usage is None and following.events):
                break
            frame = following
        return Frame(events=(), usage=frame.usage, billed=frame.billed)

    # --- calls beyond the one

    def _told(self, frame: Frame) -> Frame | None:
        """A frame without calls that were not to be made beside the first; None where nothing is left of it."""
        if not self._form.alone:
            return frame
        events = frame.events
        kept = self._without_further_calls(events)
        if len(kept) == len(events):
            return frame
        return Frame.of(*kept, billed=frame.billed) if kept else None

    def _without_further_calls(self, events: tuple[Event, ...]) -> tuple[Event, ...]:
        return tuple(event for event in events if not isinstance(event, ToolCallDelta) or self._is_first(event))

    def _is_first(self, event: ToolCallDelta) -> bool:
        if self._first_calls.setdefault(event.choice, event.call) == event.call:
            return True
        if event.name is not None:
            log.info("a call beside the first was dropped", choice=event.choice)
        return False


def _not_as_asked(fault: str) -> NotAsAsked:
    return NotAsAsked(f"The model's answer does not have the form that was asked for: {fault[:_LONGEST]}")
