"""Reads the text of one choice as thoughts, text and calls, as it comes.

Rule 1: what is told of a text does not depend on where its pieces were cut.
Rule 2: held back is only what may be the beginning of a marker, and the white space before it.
Rule 3: markers, and the white space around them, are never told.
"""

import secrets
import string
from collections.abc import Callable, Sequence

import msgspec
from typing_extensions import override

from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    FinishReason,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
)
from narthex.engine.local.form.arguments import ValueEnd
from narthex.engine.local.form.formats import CallFormat
from narthex.engine.local.form.thinking import Thinking
from narthex.engine.local.form.trail import Trail
from narthex.engine.local.reading import Form, Reader

_ID_CHARACTERS = string.ascii_letters + string.digits


class Layout(msgspec.Struct, frozen=True, kw_only=True):
    """What to look for in a text. `required`: there is nothing but calls; `anywhere`: calls may follow other text."""

    thinking: Thinking | None = None
    format: CallFormat | None = None
    names: tuple[str, ...] = ()
    required: bool = False
    anywhere: bool = False


class FormOfParts(Form, frozen=True, kw_only=True):
    """The form of an answer that may hold more than text."""

    layout: Layout

    @override
    def reader(self, choice: int) -> Reader:
        return PartsReader(choice, self.layout)


class PartsReader:
    """See `Reader`. Its state is the method that takes the next part off the buffer; it tells whether there was one."""

    def __init__(self, choice: int, layout: Layout) -> None:
        self.reasoning_tokens = 0
        self._choice = choice
        self._layout = layout
        self._buffer = ""
        self._events: list[Event] = []
        self._trail: Trail | None = None
        self._thought_told = False
        self._fed_before_thinking = 0
        self._calls = 0
        self._complete = 0
        self._value = ValueEnd()
        row = layout.format
        self._heads = [(row.head_of(name), name) for name in layout.names] if row else []
        self._openings = [(row.begin + head, name) for head, name in self._heads] if row else []
        self._step: Callable[[], bool] = self._answer_begins
        if layout.thinking is not None:
            self._step = self._thinking if layout.thinking.opened else self._before_thinking

    def begin(self) -> list[Event]:
        """See `Reader.begin`."""
        return [ChoiceStarted(self._choice)]

    def feed(self, text: str, logprobs: Sequence[TokenLogprob] | None = None) -> list[Event]:
        """See `Reader.feed`."""
        if logprobs is not None:
            self._trail = self._trail or Trail()
            self._trail.add(logprobs)
        self._buffer += text
        thinking = self._step == self._thinking
        self._fed_before_thinking += self._step == self._before_thinking
        while self._step():
            thinking = thinking or self._step == self._thinking
        self.reasoning_tokens += thinking
        return self._taken()

    def end(self, reason: FinishReason) -> list[Event]:
        """See `Reader.end`."""
        if self._step == self._thinking:
            self._think(self._buffer.rstrip())
        elif self._step in {self._before_thinking, self._answer_begins, self._text} and not self._is_call_begun():
            self._tell(len(self._buffer))
        if reason == "stop" and self._complete and self._complete == self._calls:
            reason = "tool_calls"
        return [*self._taken(), ChoiceFinished(self._choice, reason)]

    # --- thoughts ----------------------------------------------------------------------------------------------------

    def _before_thinking(self) -> bool:
        assert self._layout.thinking is not None  # noqa: S101 - only then is this a state
        opening, begun = self._layout.thinking.marks.open, self._buffer.lstrip()
        if begun.startswith(opening):
            self._leave_out(len(self._buffer) - len(begun) + len(opening))
            self.reasoning_tokens += self._fed_before_thinking - 1  # this one is counted with what follows
            self._step = self._thinking
            return True
        if opening.startswith(begun):
            return False
        self._step = self._answer_begins
        return True

    def _thinking(self) -> bool:
        assert self._layout.thinking is not None  # noqa: S101 - only then is this a state
        closing = self._layout.thinking.marks.close
        before, found, _ = self._buffer.partition(closing)
        if found:
            self._think(before.rstrip())
            self._leave_out(len(self._buffer) - len(self._buffer.lstrip()) + len(closing))
            self._step = self._after_thinking
            return True
        held = _may_begin(self._buffer, closing)
        self._think(self._buffer[:held].rstrip())
        return False

    def _think(self, text: str) -> None:
        """Tell the first of the buffer as a thought."""
        told = text if self._thought_told else text.lstrip()
        self._leave_out(len(text))
        if told:
            self._thought_told = True
            self._events.append(ReasoningDelta(self._choice, told))

    def _after_thinking(self) -> bool:
        self._leave_out(len(self._buffer) - len(self._buffer.lstrip()))
        if self._buffer:
            self._step = self._answer_begins
        return bool(self._buffer)

    # --- text --------------------------------------------------------------------------------------------------------

    def _answer_begins(self) -> bool:
        """Where calls can only be told from text at its beginning, this is it."""
        if not self._openings:
            self._step = self._plain
            return True
        if self._layout.anywhere:
            self._step = self._text
            return True
        begun = self._buffer.lstrip()
        at = len(self._buffer) - len(begun)
        if self._begin_call(self._openings, at):
            return True
        if _may_become(begun, self._openings):
            return False
        self._step = self._plain
        return True

    def _text(self) -> bool:
        """Text that calls may follow."""
        at, first = -1, self._openings[0][0][0]
        while (at := self._buffer.find(first, at + 1)) >= 0:
            before = len(self._buffer[:at].rstrip())
            if any(self._buffer.startswith(opening, at) for opening, _ in self._openings):
                self._tell(before)
                return self._begin_call(self._openings, at - before)
            if _may_become(self._buffer[at:], self._openings):
                self._tell(before)
                return False
        self._tell(len(self._buffer.rstrip()))
        return False

    def _plain(self) -> bool:
        self._tell(len(self._buffer))
        return False

    # --- calls -------------------------------------------------------------------------------------------------------

    def _is_call_begun(self) -> bool:
        """Whether what is held back can be nothing but the beginning of a call."""
        if self._layout.format is None:
            return False
        trigger = self._layout.format.trigger
        return self._layout.required or bool(trigger and self._buffer.lstrip().startswith(trigger))

    def _begin_call(self, openings: Sequence[tuple[str, str]], at: int) -> bool:
        """Begin the call whose opening stands in the buffer at a place, if one does."""
        for opening, name in openings:
            if self._buffer.startswith(opening, at):
                self._leave_out(at + len(opening))
                id_ = "call_" + "".join(secrets.choice(_ID_CHARACTERS) for _ in range(24))
                self._events.append(ToolCallDelta(choice=self._choice, call=self._calls, id=id_, name=name))
                self._calls += 1
                self._value = ValueEnd()
                self._step = self._arguments
                return True
        return False

    def _arguments(self) -> bool:
        length = self._value.feed(self._buffer)
        if length:
            piece = self._buffer[:length]
            self._leave_out(length)
            self._events.append(ToolCallDelta(choice=self._choice, call=self._calls - 1, arguments=piece))
        if self._value.done:
            self._complete += 1
            self._step = self._tail
        return self._value.done

    def _tail(self) -> bool:
        assert self._layout.format is not None  # noqa: S101 - only then are there calls
        tail = self._layout.format.tail
        if self._buffer.startswith(tail):
            self._leave_out(len(tail))
            self._step = self._after_call
            return True
        return False

    def _after_call(self) -> bool:
        assert self._layout.format is not None  # noqa: S101 - only then are there calls
        between = self._layout.format.separator or ""
        return self._begin_call([(between + head, name) for head, name in self._heads], 0)

    # --- the buffer --------------------------------------------------------------------------------------------------

    def _tell(self, length: int) -> None:
        """Tell the first of the buffer as text."""
        text = self._buffer[:length]
        self._buffer = self._buffer[length:]
        if text:
            logprobs = self._trail.told(text) if self._trail is not None else None
            self._events.append(TextDelta(self._choice, text, logprobs))

    def _leave_out(self, length: int) -> None:
        if self._trail is not None:
            self._trail.left_out(self._buffer[:length])
        self._buffer = self._buffer[length:]

    def _taken(self) -> list[Event]:
        events, self._events = self._events, []
        return events


def _may_become(text: str, openings: Sequence[tuple[str, str]]) -> bool:
    return any(opening.startswith(text) for opening, _ in openings)


def _may_begin(text: str, marker: str) -> int:
    """Where the beginning of a marker may stand at a text's end; its length where none does."""
    for at in range(max(0, len(text) - len(marker) + 1), len(text)):
        if marker.startswith(text[at:]):
            return at
    return len(text)
