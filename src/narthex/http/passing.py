"""A stream that is under way without a task: asked, begun, passed on and ended in the callbacks that bring it."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from typing_extensions import override

from narthex.core.ports import Call, Handler, Opened, Sink, StreamEncoder
from narthex.core.stream import Frame, Usage
from narthex.http.asgi import Rest
from narthex.http.errand import Prompter, UnderWay
from narthex.http.exchange import Exchange
from narthex.http.routes import Over
from narthex.http.sink import CallersSink
from narthex.routing.passage import Passage


class GoesOn(Protocol):
    """Streams in a task what it gets of a handler, written by an encoder that has begun, if there is one."""

    def __call__(
        self, handler: Handler, exchange: Exchange, call: Call, *, encoder: StreamEncoder | None
    ) -> Awaitable[None]:
        """Do so."""
        ...


class StreamErrand(UnderWay[Passage]):
    """A call for a stream. Nothing of it is written before its first output, and then all that only goes on; where its
    end comes whole, that too.

    `starts` makes what it is written to; `goes_on` goes on with it in a task.
    """

    __slots__ = ("_goes_on", "_sink", "_starts")

    def __init__(
        self,
        exchange: Exchange,
        call: Call,
        *,
        over: Over,
        starts: Callable[[Exchange, Call], CallersSink],
        goes_on: GoesOn,
    ) -> None:
        super().__init__(exchange, call, over=over)
        self._starts = starts
        self._goes_on = goes_on
        self._sink: CallersSink | None = None

    @override
    def _ask(self, prompter: Prompter) -> Passage | None:
        return prompter.stream(self._call, self)

    @override
    def _rest(self, handler: Handler) -> Rest:
        encoder = None if self._sink is None else self._sink.encoder
        return partial(self._goes_on, handler, self._exchange, self._call, encoder=encoder)

    def begun(self) -> Sink:
        """See `Receiver`."""
        self._sink = self._starts(self._exchange, self._call)
        return self._sink

    def has_room(self) -> bool:
        """See `Receiver`."""
        return self._exchange.direct is not None and not self._exchange.direct.clogged

    def rests(self, frames: Sequence[Frame] | None) -> None:
        """See `Receiver`."""
        passage, sink = self._begun, self._sink
        if frames is None or passage is None or sink is None:
            self._go_on()
            return
        exchange, self._begun = self._unwatched(), None
        rest: Rest | None = None
        try:
            for frame in frames:
                if frame.usage is not None:
                    note_usage(exchange, frame.usage)
                sink.take(frame)
            passage.told()
        except Exception as error:  # noqa: BLE001 - told in the stream
            passage.untold()
            rest = self._rest(_failing(error))
        else:
            try:
                sink.end()
            except Exception as error:  # noqa: BLE001 - as above
                rest = self._rest(_failing(error))
        self._over(exchange, rest)

    @override
    def _unwatched(self) -> Exchange:
        if self._sink is not None:
            self._sink.leave()
        return super()._unwatched()


def note_usage(exchange: Exchange, usage: Usage) -> None:
    """Have the access log tell of it."""
    exchange.facts["prompt_tokens"] = usage.prompt_tokens
    exchange.facts["completion_tokens"] = usage.completion_tokens


def _failing(error: Exception) -> Handler:
    def opened(call: Call) -> Opened:
        raise error

    return opened
