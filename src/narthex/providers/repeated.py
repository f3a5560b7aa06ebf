"""One answer told several times, for greedy requests of several choices to servers that refuse these. No I/O.

Source: contract Q25: generated once, the choice repeated, its tokens counted as often.
"""

from collections.abc import Iterator

import msgspec

from narthex.core.stream import Event, Frame, OfAChoice, UsageReported, one_of
from narthex.providers.codec import AnswerDecoder


class Repeated:
    """Decodes an answer with one choice for each prompt to one with `times`."""

    def __init__(self, decoder: AnswerDecoder, *, times: int) -> None:
        self._decoder = decoder
        self._times = times

    def feed(self, data: bytes) -> Iterator[Frame]:
        """See the decoder that was given."""
        return map(self._repeated, self._decoder.feed(data))

    def end(self) -> Iterator[Frame]:
        """See the decoder that was given."""
        return map(self._repeated, self._decoder.end())

    def _repeated(self, frame: Frame) -> Frame:
        return Frame.of(*(event for each in frame.events for event in self._each(each)), billed=frame.usage)

    def _each(self, event: Event) -> Iterator[Event]:
        if isinstance(event, UsageReported):
            used = event.usage
            tokens, thought = used.completion_tokens * self._times, used.reasoning_tokens * self._times
            yield UsageReported(msgspec.structs.replace(used, completion_tokens=tokens, reasoning_tokens=thought))
        elif isinstance(event, OfAChoice):
            for number in range(self._times):
                yield one_of(event, number, count=self._times)
