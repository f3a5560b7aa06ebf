"""The best of several candidates (`best_of`): whose tokens were likeliest on average.

Source: contract sections 1.6, 7.1 and 11.
"""

import math
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence

import msgspec

from narthex.core.stream import Event, Frame, OfAChoice, OrderCheck, TextDelta


async def ranked(frames: AsyncIterator[Frame], *, candidates: int, n: int, logprobs: bool) -> AsyncIterator[Frame]:
    """Of every `candidates` choices the best `n`, best first, when all have ended; equals in the order of their seeds.

    The candidates have log probabilities; `logprobs` tells whether those that are chosen keep them.

    Raises:
        OutOfOrder: a candidate did not end.
    """
    order = OrderCheck()
    choices: defaultdict[int, list[OfAChoice]] = defaultdict(list)
    async for frame in frames:
        order.feed(frame.events)
        for event in frame.events:
            if isinstance(event, OfAChoice):
                choices[event.choice].append(event)
    order.end()
    for prompt in range(0, len(choices), candidates):
        best = sorted((choices[prompt + number] for number in range(candidates)), key=_mean, reverse=True)[:n]
        for place, events in enumerate(best):
            number = prompt // candidates * n + place
            yield Frame.of(*(_told(event, number, logprobs=logprobs) for event in events))


def _mean(events: Sequence[OfAChoice]) -> float:
    """Of the log probabilities of its tokens; a choice without any is the last."""
    found = [
        entry.logprob
        for event in events
        if isinstance(event, TextDelta)
        for entry in event.logprobs or ()
        if entry.logprob is not None
    ]
    return sum(found) / len(found) if found else -math.inf


def _told(event: OfAChoice, number: int, *, logprobs: bool) -> Event:
    if isinstance(event, TextDelta):
        return TextDelta(number, event.text, event.logprobs if logprobs else None)
    return msgspec.structs.replace(event, choice=number)
