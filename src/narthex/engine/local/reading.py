"""Reads the text of one choice as events. What stands in it besides plain text has readers of its own."""

from collections.abc import Sequence
from typing import Protocol

import msgspec

from narthex.core.stream import ChoiceFinished, ChoiceStarted, Event, FinishReason, TextDelta, TokenLogprob


class Reader(Protocol):
    """Reads one choice. `reasoning_tokens` counts those of what was fed that are thought and not said."""

    reasoning_tokens: int

    def begin(self) -> list[Event]:
        """The choice begins."""
        ...

    def feed(self, text: str, logprobs: Sequence[TokenLogprob] | None = None) -> list[Event]:
        """More text, of one token or a few; its tokens' log probabilities where they were asked for."""
        ...

    def end(self, reason: FinishReason) -> list[Event]:
        """The engine ended the choice; what was held back follows, and the finish."""
        ...


class PlainReader:
    """Every text is the answer's text."""

    reasoning_tokens = 0

    def __init__(self, choice: int) -> None:
        self._choice = choice

    def begin(self) -> list[Event]:
        """See `Reader.begin`."""
        return [ChoiceStarted(self._choice)]

    def feed(self, text: str, logprobs: Sequence[TokenLogprob] | None = None) -> list[Event]:
        """See `Reader.feed`."""
        return [TextDelta(self._choice, text, None if logprobs is None else tuple(logprobs))]

    def end(self, reason: FinishReason) -> list[Event]:
        """See `Reader.end`."""
        return [ChoiceFinished(self._choice, reason)]


class Form(msgspec.Struct, frozen=True, kw_only=True):
    """What the text of an answer may be, and how it is read.

    `grammar`: what the engine is held to, "" for any text. `preserved`: control tokens to tell as text.
    """

    grammar: str = ""
    preserved: tuple[str, ...] = ()

    def reader(self, choice: int) -> Reader:
        """Reads one choice of that form."""
        return PlainReader(choice)


ANY_TEXT = Form()
