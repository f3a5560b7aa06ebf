"""`best_of` for servers without it: more choices than were asked for, of which the likeliest are passed on. No I/O.

Source: contract section 7.1: ranked by the mean log probability of their tokens, all generated tokens counted.
"""

import math
from collections.abc import Iterator, Sequence

from narthex.core.completions import Prompt
from narthex.core.fold import Fold, FoldedChoice
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    Frame,
    TextDelta,
    TokenLogprob,
    UsageReported,
)
from narthex.providers.codec import AnswerDecoder


class BestOf:
    """Decodes an answer with `best_of` choices for each prompt to one with `n`. All that counts comes at the end.

    `echoed`: the prompts, where the answers begin with them: their tokens are not ranked by.
    """

    def __init__(
        self, decoder: AnswerDecoder, *, best_of: int, n: int, with_logprobs: bool, echoed: Sequence[Prompt] = ()
    ) -> None:
        self._decoder = decoder
        self._best_of = best_of
        self._n = n
        self._with_logprobs = with_logprobs
        self._echoed = echoed
        self._fold = Fold()

    def feed(self, data: bytes) -> Iterator[Frame]:
        """Frames without events: something came, and nothing is decided."""
        for frame in self._decoder.feed(data):
            self._fold.feed(frame.events)
            yield Frame(events=())

    def end(self) -> Iterator[Frame]:
        """The best choices, and the usage.

        Raises:
            UpstreamProtocolError: the answer is not complete.
        """
        for frame in self._decoder.end():
            self._fold.feed(frame.events)
        choices = self._fold.choices
        for prompt in range(len(choices) // self._best_of):
            candidates = choices[prompt * self._best_of : (prompt + 1) * self._best_of]
            echo = self._echoed[prompt] if self._echoed else ""
            for place, choice in enumerate(_ranked(candidates, echo)[: self._n]):
                yield Frame.of(*self._events(choice, prompt * self._n + place))
        if self._fold.usage is not None:
            yield Frame.of(UsageReported(self._fold.usage))

    def _events(self, choice: FoldedChoice, index: int) -> tuple[Event, ...]:
        entries = tuple(choice.logprobs or ()) if self._with_logprobs else None
        text = TextDelta(index, "".join(choice.text), entries)
        return ChoiceStarted(index), text, ChoiceFinished(index, choice.finish_reason)


def _ranked(candidates: Sequence[FoldedChoice], echo: Prompt) -> list[FoldedChoice]:
    return sorted(candidates, key=lambda choice: _mean(_own(choice, echo)), reverse=True)


def _own(choice: FoldedChoice, echo: Prompt) -> Sequence[TokenLogprob]:
    """The tokens of a choice without those of its prompt."""
    entries = choice.logprobs or ()
    if not isinstance(echo, str):
        return entries[len(echo) :]
    left = len(echo.encode())
    for index, entry in enumerate(entries):
        if left <= 0:
            return entries[index:]
        left -= len(entry.data)
    return ()


def _mean(entries: Sequence[TokenLogprob]) -> float:
    found = [entry.logprob for entry in entries if entry.logprob is not None]
    return math.fsum(found) / len(found) if found else -math.inf
