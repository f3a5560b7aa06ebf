"""Holds finished answers against the constraints that they were made by: a second pair of eyes on the grammar.

Source: ARCHITECTURE D3. An answer that ended at its limit, or that a stop string or token of the caller's cut short,
has to be the beginning of a valid one (contract 11): past a limit of its own, or where its end is ruled out, the engine
would write on without any constraint.
"""

import hashlib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

import structlog

from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.constrained import Constraint, JsonFormat
from narthex.core.errors import InvalidOutput, InvalidRequest
from narthex.core.ports import Grammars
from narthex.core.stream import ChoiceFinished, Event, Frame, TextDelta, ToolCallDelta
from narthex.wire.json import encode

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

    def __init__(self, request: ChatRequest | CompletionRequest, grammars: Grammars) -> None:
        known = request.tools if isinstance(request, ChatRequest) else None
        tools = known.callable_ if known is not None else ()
        self._parameters: Mapping[str, Constraint] = {
            tool.name: JsonFormat(schema=tool.parameters, path=tool.path) for tool in tools
        }
        self._must_call = known is not None and known.required
        self._constraint = request.constraint
        self._may_be_cut = bool(request.sampling.stop or request.sampling.stop_token_ids)
        self._grammars = grammars

    @property
    def any(self) -> bool:
        """Whether there is anything to check."""
        return self._constraint is not None or bool(self._parameters)

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
        elif isinstance(event, ChoiceFinished):
            cut = self._may_be_cut or event.reason == "length"
            await self._check(answers.pop(event.choice, _Answer()), cut=cut)

    async def _check(self, answer: _Answer, *, cut: bool) -> None:
        for name, arguments in answer.calls.values() if not cut else ():
            await self._hold(self._parameters[name], arguments, cut=False)
        if answer.calls:
            return
        if self._must_call:
            if not cut:
                self._fault("no tool was called")
        elif self._constraint is not None and (answer.text or not cut):
            await self._hold(self._constraint, answer.text, cut=cut)

    async def _hold(self, constraint: Constraint, text: str, *, cut: bool) -> None:
        try:
            fault = await self._fault_of(constraint, text, cut=cut)
        except InvalidRequest as error:
            if not cut or not isinstance(constraint, JsonFormat):
                raise
            log.warning("an answer that was cut was not checked", why=error.message)
            return
        if fault is not None:
            self._fault(fault, constraint)

    async def _fault_of(self, constraint: Constraint, text: str, *, cut: bool) -> str | None:
        """What is wrong. A whole text that another reader can't check is held against the rule that it was made by: its
        caller is not to be refused for what the reader lacks.
        """
        try:
            return await self._grammars.fault_of(constraint, text, cut=cut)
        except InvalidRequest:
            if cut:
                raise
            return await self._grammars.fault_of(constraint, text, cut=True)

    def _fault(self, fault: str, constraint: Constraint | None = None) -> None:
        # The fault may quote the answer, which is the caller's: the log gets only what finds the constraint again.
        log.error("invalid_output", constraint=hashlib.sha256(encode(constraint)).hexdigest()[:16])
        raise InvalidOutput(f"The model's answer does not have the form that was asked for: {fault[:300]}")


async def whole(attempt: Attempt) -> list[Frame]:
    """All frames of a valid answer; one that is not valid is made once more. Every attempt is to be watched.

    Raises:
        InvalidOutput: the second one wasn't valid either.
    """

    async def made(number: int) -> list[Frame]:
        async with attempt(number) as frames:
            return [frame async for frame in frames]

    try:
        return await made(0)
    except InvalidOutput:
        return await made(1)


async def told(frames: Iterable[Frame]) -> Frames:
    """Frames that are there, as a stream."""
    for frame in frames:
        yield frame
