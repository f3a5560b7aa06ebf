"""The best of several candidates (`best_of`): whose tokens were likeliest on average. Source: contract 1.6 and 11."""

import math
from collections.abc import AsyncIterator

from narthex.core.fold import Fold, FoldedChoice
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Frame, TextDelta, TokenLogprob


async def ranked(frames: AsyncIterator[Frame], *, candidates: int, n: int, logprobs: bool) -> AsyncIterator[Frame]:
    """Of every `candidates` choices the best `n`, best first, when all have ended; equals in the order of their seeds.

    The candidates have log probabilities; `logprobs` tells whether those that are chosen keep them.
    """
    fold = Fold()
    async for frame in frames:
        fold.feed(frame.events)
    fold.end()
    choices = fold.choices
    for prompt in range(0, len(choices), candidates):
        best = sorted(choices[prompt : prompt + candidates], key=_mean, reverse=True)[:n]
        for place, choice in enumerate(best):
            yield _told(choice, prompt // candidates * n + place, logprobs=logprobs)


def _mean(choice: FoldedChoice) -> float:
    """Of the log probabilities of its tokens; a choice without any is the last."""
    found = [entry.logprob for entry in choice.logprobs or () if entry.logprob is not None]
    return sum(found) / len(found) if found else -math.inf


def _told(choice: FoldedChoice, number: int, *, logprobs: bool) -> Frame:
    entries: tuple[TokenLogprob, ...] | None = tuple(choice.logprobs or ()) if logprobs else None
    return Frame.of(
        ChoiceStarted(number),
        TextDelta(number, "".join(choice.text), entries),
        ChoiceFinished(number, choice.finish_reason),
    )
