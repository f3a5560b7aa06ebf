"""Holds finished answers against the schemas that they were made by: a second pair of eyes on the grammar.

Source: ARCHITECTURE D3. An answer that ended at its limit is a valid beginning and no fault (contract 11); neither is
one that a stop string of the caller's cut short.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

import structlog

from narthex.core.chat import ChatRequest
from narthex.core.errors import InvalidOutput
from narthex.core.ports import Grammars
from narthex.core.stream import ChoiceFinished, Event, Frame, TextDelta, ToolCallDelta

log = structlog.get_logger(__name__)

Frames = AsyncIterator[Frame]
Attempt = Callable[[int], AbstractAsyncContextManager[Frames]]
"""Opens one attempt to answer; its number, from 0, changes what is random in it."""


class _Answer:
    """What one choice has said so far: its text, and its calls as (name, arguments)."""

    def __init__(self) -> None:
        self.text = ""
        self.calls: dict[int, tuple[str, str]] = {}

    def add(self, event: TextDelta | ToolCallDelta) -> None:
        """More of it."""
        if isinstance(event, TextDelta):
            self.text += event.text
            return
        name, arguments = self.calls.get(event.call, ("", ""))
        self.calls[event.call] = (event.name or name, arguments + event.arguments)


class Checks:
    """What the answers to one request have to be valid by."""

    def __init__(self, request: ChatRequest, grammars: Grammars) -> None:
        tools = request.tools.callable_ if request.tools is not None else ()
        self._parameters: Mapping[str, bytes] = {tool.name: tool.parameters for tool in tools}
        wanted = request.response_format
        self._must_call = request.tools is not None and request.tools.required
        self._schema = wanted.schema if wanted is not None else None
        self._may_be_cut = bool(request.sampling.stop)
        self._grammars = grammars

    @property
    def any(self) -> bool:
        """Whether there is anything to check."""
        return self._schema is not None or bool(self._parameters)

    async def watch(self, frames: Frames) -> Frames:
        """The same frames.

        Raises:
            InvalidOutput: a choice finished and is not what it had to be; its finish is not told.
        """
        answers: dict[int, _Answer] = {}
        async for frame in frames:
            for event in frame.events:
                await self._note(event, answers)
            yield frame

    async def _note(self, event: Event, answers: dict[int, _Answer]) -> None:
        if isinstance(event, TextDelta | ToolCallDelta):
            answers.setdefault(event.choice, _Answer()).add(event)
        elif isinstance(event, ChoiceFinished) and event.reason != "length":
            await self._check(answers.pop(event.choice, _Answer()))

    async def _check(self, answer: _Answer) -> None:
        for name, arguments in answer.calls.values():
            await self._hold(self._parameters[name], arguments)
        if answer.calls:
            return
        if self._must_call:
            self._fault("no tool was called")
        elif self._schema is not None:
            await self._hold(self._schema, answer.text)

    async def _hold(self, schema: bytes, text: str) -> None:
        if (fault := await self._grammars.fault(schema, text)) is not None:
            self._fault(fault, schema)

    def _fault(self, fault: str, schema: bytes = b"") -> None:
        if self._may_be_cut:
            return
        # The fault may quote the answer, which is the caller's: the log gets only what finds the schema again.
        log.error("invalid_output", schema=hashlib.sha256(schema).hexdigest()[:16])
        raise InvalidOutput(f"The model's answer does not have the form that was asked for: {fault[:300]}")


async def whole(attempt: Attempt, checks: Checks) -> list[Frame]:
    """All frames of a valid answer; one that is not valid is made once more.

    Raises:
        InvalidOutput: the second one wasn't valid either.
    """

    async def made(number: int) -> list[Frame]:
        async with attempt(number) as frames:
            return [frame async for frame in checks.watch(frames)]

    try:
        return await made(0)
    except InvalidOutput:
        return await made(1)


async def told(frames: Iterable[Frame]) -> Frames:
    """Frames that are there, as a stream."""
    for frame in frames:
        yield frame
