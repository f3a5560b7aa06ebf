"""Answers of servers whose chunks differ from OpenAI's in what callers rely on: told anew instead of passed on. No I/O.

A call of a tool begins with a new id (or with a name, where there are no ids), whatever number the server gives it:
some give none, or all of them 0. An answer with calls has finished with `tool_calls`, also where the server says
`stop`.
"""

from collections import defaultdict
from collections.abc import Iterator

import msgspec

from narthex.core.stream import ChoiceFinished, Event, Frame, ToolCallDelta
from narthex.providers.codec import AnswerDecoder


class Retold:
    """Decodes one answer to frames without a wire form."""

    def __init__(self, decoder: AnswerDecoder) -> None:
        self._decoder = decoder
        self._calls: defaultdict[int, list[str]] = defaultdict(list)
        """By choice, the ids of its calls."""

    def feed(self, data: bytes) -> Iterator[Frame]:
        """See the decoder that was given."""
        return map(self._told, self._decoder.feed(data))

    def end(self) -> Iterator[Frame]:
        """See the decoder that was given; an answer that comes as one document is told here."""
        return map(self._told, self._decoder.end())

    def _told(self, frame: Frame) -> Frame:
        return Frame.of(*map(self._event, frame.events))

    def _event(self, event: Event) -> Event:
        if isinstance(event, ToolCallDelta):
            return self._call(event)
        if isinstance(event, ChoiceFinished) and event.reason == "stop" and self._calls[event.choice]:
            return ChoiceFinished(event.choice, "tool_calls")
        return event

    def _call(self, event: ToolCallDelta) -> ToolCallDelta:
        ids = self._calls[event.choice]
        if event.id in ids:
            number = ids.index(event.id)
        elif event.id is not None or event.name is not None or not ids:
            number = len(ids)
            ids.append(event.id or f"call_{number}")
            return msgspec.structs.replace(event, call=number, id=ids[number])
        else:
            number = len(ids) - 1
        return msgspec.structs.replace(event, call=number, id=None)
