"""A call that is under way without a task: asked, and answered as soon as all of its answer is here."""

from abc import abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, Protocol, TypeVar

from typing_extensions import override

from narthex.core.ports import Call, Handler, OnAnswer, Opened
from narthex.core.stream import Frame
from narthex.http.asgi import Rest, raising
from narthex.http.exchange import Exchange
from narthex.http.routes import Over
from narthex.routing.passage import Passage, Receiver
from narthex.routing.prompt import Begun, Prompted

Handled = Callable[[Handler, Exchange, Call], Awaitable[None]]
"""Answers in a task, with what it gets of a handler."""
B = TypeVar("B", bound=Begun)


class Prompter(Protocol):
    """Asks without a task. See `Router`."""

    def ask(self, call: Call, told: OnAnswer) -> Prompted | None:
        """Ask now, if that takes no waiting."""
        ...

    def stream(self, call: Call, receiver: Receiver) -> Passage | None:
        """The same for a stream."""
        ...

    def resume(self, call: Call, begun: Begun) -> Opened:
        """Go on with what was asked."""
        ...


class UnderWay(Generic[B]):
    """One such call. Whatever comes between it and its answer (a failure, a hang-up, the end of a drain, a clock) is
    for a task to see to.
    """

    __slots__ = ("_begun", "_call", "_exchange", "_over", "_prompter")

    def __init__(self, exchange: Exchange, call: Call, *, over: Over) -> None:
        self._exchange = exchange
        self._call = call
        self._over = over
        self._prompter: Prompter | None = None
        self._begun: B | None = None

    def begin(self, prompter: Prompter) -> bool:
        """Ask. Whether that could be done without waiting."""
        exchange = self._exchange
        if exchange.on_lost is None:  # nobody would tell of a caller who leaves
            return False
        self._begun = self._ask(prompter)
        if self._begun is None:
            return False
        self._prompter = prompter
        exchange.cuttable(self)
        exchange.on_lost(self._go_on)
        return True

    @abstractmethod
    def _ask(self, prompter: Prompter) -> B | None:
        """Ask, if that takes no waiting."""

    @abstractmethod
    def _rest(self, handler: Handler) -> Rest:
        """What a task does with what it gets of a handler."""

    def end(self, reason: Exception) -> None:
        """The time to drain is over: see `Exchange.cut`, which the task will hear of as well."""
        self._go_on()

    def _go_on(self) -> None:
        """Leave the rest to a task."""
        exchange, begun, prompter = self._unwatched(), self._begun, self._prompter
        if begun is None or prompter is None:
            return
        self._begun = None
        begun.give_up()
        self._over(exchange, self._rest(lambda call: prompter.resume(call, begun)))

    def _unwatched(self) -> Exchange:
        exchange = self._exchange
        exchange.cuttable(None)
        if exchange.on_lost is not None:
            exchange.on_lost(None)
        return exchange


class Errand(UnderWay[Prompted]):
    """A call for a whole answer.

    `answered` makes the body of an answer; `waits` waits for it in a task.
    """

    __slots__ = ("_answered", "_waits")

    def __init__(
        self,
        exchange: Exchange,
        call: Call,
        *,
        over: Over,
        answered: Callable[[Exchange, Call, Sequence[Frame]], bytes],
        waits: Handled,
    ) -> None:
        super().__init__(exchange, call, over=over)
        self._answered = answered
        self._waits = waits

    @override
    def _ask(self, prompter: Prompter) -> Prompted | None:
        return prompter.ask(self._call, self._heard)

    @override
    def _rest(self, handler: Handler) -> Rest:
        return partial(self._waits, handler, self._exchange, self._call)

    def _heard(self, frame: Frame | None) -> None:
        if frame is None:
            self._go_on()
            return
        exchange = self._unwatched()
        self._begun = None
        exchange.facts["deployment"] = self._call.deployment
        try:
            body = self._answered(exchange, self._call, (frame,))
            rest: Rest | None = None if exchange.answer(body) else partial(exchange.reply, 200, body)
        except Exception as error:  # noqa: BLE001 - raised again where all errors are told
            rest = raising(error)
        self._over(exchange, rest)
