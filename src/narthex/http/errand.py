"""A call that is under way without a task: asked, and answered as soon as all of its answer is here."""

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Protocol

from narthex.core.ports import Call, Handler, OnAnswer, Opened
from narthex.core.stream import Frame
from narthex.http.asgi import Rest, raising
from narthex.http.exchange import Exchange
from narthex.http.routes import Over
from narthex.routing.prompt import Prompted


class Prompter(Protocol):
    """Asks without a task. See `Router`."""

    def ask(self, call: Call, told: OnAnswer) -> Prompted | None:
        """Ask now, if that takes no waiting."""
        ...

    def resume(self, call: Call, prompted: Prompted) -> Opened:
        """Go on with what was asked."""
        ...


class Errand:
    """One such call. Whatever comes between it and its answer (a failure, a hang-up, the end of a drain, a clock) is
    for a task to see to.

    `answered` makes the body of an answer; `waits` waits for it in a task, by the handler that it is given.
    """

    __slots__ = ("_answered", "_call", "_exchange", "_over", "_prompted", "_prompter", "_waits")

    _prompter: Prompter

    def __init__(
        self,
        exchange: Exchange,
        call: Call,
        *,
        over: Over,
        answered: Callable[[Exchange, Call, Sequence[Frame]], bytes],
        waits: Callable[[Handler, Exchange, Call], Awaitable[None]],
    ) -> None:
        self._exchange = exchange
        self._call = call
        self._over = over
        self._answered = answered
        self._waits = waits
        self._prompted: Prompted | None = None

    def begin(self, prompter: Prompter) -> bool:
        """Ask. Whether that could be done without waiting."""
        exchange = self._exchange
        if exchange.on_lost is None:  # nobody would tell of a caller who leaves
            return False
        self._prompted = prompter.ask(self._call, self._heard)
        if self._prompted is None:
            return False
        self._prompter = prompter
        exchange.cuttable(self)
        exchange.on_lost(self._go_on)
        return True

    def end(self, reason: Exception) -> None:
        """The time to drain is over: see `Exchange.cut`, which the task will hear of as well."""
        self._go_on()

    def _heard(self, frame: Frame | None) -> None:
        if frame is None:
            self._go_on()
            return
        exchange = self._unwatched()
        self._prompted = None
        exchange.facts["deployment"] = self._call.deployment
        try:
            body = self._answered(exchange, self._call, (frame,))
            rest: Rest | None = None if exchange.answer(body) else partial(exchange.reply, 200, body)
        except Exception as error:  # noqa: BLE001 - raised again where all errors are told
            rest = raising(error)
        self._over(exchange, rest)

    def _go_on(self) -> None:
        """Leave the rest to a task."""
        exchange, prompted = self._unwatched(), self._prompted
        if prompted is None:
            return
        self._prompted = None
        prompted.give_up()
        self._over(exchange, self._waiting(prompted))

    def _waiting(self, prompted: Prompted) -> Rest:
        prompter, waits = self._prompter, self._waits
        return lambda: waits(lambda call: prompter.resume(call, prompted), self._exchange, self._call)

    def _unwatched(self) -> Exchange:
        exchange = self._exchange
        exchange.cuttable(None)
        if exchange.on_lost is not None:
            exchange.on_lost(None)
        return exchange
