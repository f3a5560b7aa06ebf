"""Who runs next in an engine: a fair, bounded queue over its slots and unified KV cells. No I/O, no clock of its own.

Rules:
    1. The next grant goes to the key that holds the fewest slots; between equals to the one that waits longest since it
       was last served. Within a key the oldest ticket goes first.
    2. A full KV cache makes llama.cpp fail every request that runs, so no grant is made that could fill it: each choice
       counts with its prompt and all the tokens it may still produce.
    3. Choices of one request are granted as a group, which shares one prefill: half of the slots at most, one at a
       time while another request waits.
    4. The last `spare` free slots go only to keys that hold none.
    5. A key that has waited `patience_s` for something large is not overtaken any more by one that has waited less.
    6. Tickets of a lower rank go first, but after `MOST_FAVOURS` grants in a row that passed over others the next one
       is made as if all were equal.
    7. In deterministic mode a seeded request runs alone: other sequences in a batch change its sums.
"""

import itertools
import math
from collections import Counter

import msgspec

from narthex.core.errors import ContextLengthExceeded, EngineUnavailable, QueueFull
from narthex.core.tiers import DEFAULT_RANK

MOST_FAVOURS = 3


class QueueLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine has and how much may wait. `cells`: tokens of the unified cache; `window`: of one request."""

    slots: int
    cells: int
    window: int
    spare_slots: int = 2
    max_waiting: int = 256
    max_waiting_per_key: int = 64
    patience_s: float = 10.0
    deterministic: bool = False

    @property
    def spare(self) -> int:
        """`spare_slots`, but never so many that a key could not hold half of the slots."""
        return min(self.spare_slots, self.slots // 2)


class Ticket(msgspec.Struct, frozen=True, kw_only=True):
    """A request that wants to run. Tickets with the same `request` count as one request of their key.

    `rank`: lower ones go first.
    """

    key: str
    account: str
    prompt_tokens: int
    max_new: int
    choices: int = 1
    seeded: bool = False
    rank: int = DEFAULT_RANK
    request: str = ""

    def cells(self, choices: int) -> int:
        """Cells that `choices` of this ticket may come to fill when they share one prompt."""
        return self.prompt_tokens + choices * self.max_new


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """Leave to run `choices` of a ticket now, until `release(number)`. The ticket has left the queue."""

    number: int
    ticket: Ticket
    choices: int
    granted_at: float


class _Waiting(msgspec.Struct, frozen=True):
    number: int
    ticket: Ticket
    entered_at: float


class SlotQueue:
    """Tickets in, grants out. `now` is any clock that only goes forward, in seconds."""

    def __init__(self, limits: QueueLimits) -> None:
        self.limits = limits
        self._turns = itertools.count(1)  # of tickets and grants: their order, where times are equal
        self._waiting: dict[int, _Waiting] = {}  # oldest first
        self._running: dict[int, Grant] = {}
        self._held: Counter[str] = Counter()  # slots by key
        self._served: dict[str, tuple[float, int]] = {}  # when, and its turn, by key
        self._cells = 0
        self._favours = 0  # grants in a row that passed over tickets of another rank
        self._service_s = 2.0  # moving average of what one grant takes; a guess until the first has ended

    @property
    def waiting(self) -> int:
        """Tickets that wait."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Slots in use."""
        return self._held.total()

    @property
    def cells(self) -> int:
        """Cells that running requests may come to fill."""
        return self._cells

    @property
    def idle(self) -> bool:
        """Nothing runs and nothing waits."""
        return not self._running and not self._waiting

    def enter(self, ticket: Ticket, *, now: float) -> int:
        """Wait; the number stands for the ticket in `leave` and is the `Grant.number` later.

        Raises:
            ContextLengthExceeded: it could never run.
            QueueFull: too many of this key wait already.
            EngineUnavailable: too many wait in all.
        """
        room = min(self.limits.window, self.limits.cells)
        if ticket.cells(1) > room:
            raise ContextLengthExceeded(
                f"This model's context is {room} tokens. The prompt has {ticket.prompt_tokens} and the answer may take "
                f"{ticket.max_new}: shorten the prompt or ask for a shorter answer."
            )
        if len(self._waiting) >= self.limits.max_waiting:
            raise EngineUnavailable(
                "Too many requests wait for this model already.", retry_after_s=self.retry_after_s()
            )
        if sum(waiting.ticket.key == ticket.key for waiting in self._waiting.values()) >= (
            self.limits.max_waiting_per_key
        ):
            raise QueueFull(
                "Too many requests of this key wait for this model already.", retry_after_s=self.retry_after_s()
            )
        number = next(self._turns)
        self._waiting[number] = _Waiting(number, ticket, now)
        return number

    def leave(self, number: int) -> None:
        """The caller of a waiting ticket has gone. Does nothing for one that waits no more."""
        waiting = self._waiting.pop(number, None)
        if waiting is not None:
            self._forget(waiting.ticket.key)

    def release(self, number: int, *, now: float) -> None:
        """A grant's work has ended. Does nothing when it was released before."""
        grant = self._running.pop(number, None)
        if grant is None:
            return
        key = grant.ticket.key
        self._held[key] -= grant.choices
        self._held += Counter()  # drops keys that hold none
        self._cells -= grant.ticket.cells(grant.choices)
        self._service_s += (now - grant.granted_at - self._service_s) / 8
        self._forget(key)

    def retry_after_s(self) -> float:
        """When a place in the queue may be free, from what the last grants took. Between 1 and 60 s."""
        ahead = sum(waiting.ticket.choices for waiting in self._waiting.values()) + 1
        return min(60.0, max(1.0, math.ceil(self._service_s * ahead / self.limits.slots)))

    # --- choosing --------------------------------------------------------------------------------------------------

    def grant(self, *, now: float, groups: bool = True) -> Grant | None:
        """The next that may start now; without `groups` a single choice of it. None where nothing may.

        Call it after every `enter`, `leave` and `release`, until it gives None. Time alone changes nothing.
        """
        barrier = (math.inf, 0)
        fits: list[tuple[_Waiting, int]] = []
        for head in self._heads():
            choices = self._choices(head.ticket)
            if choices:
                fits.append((head, choices))
            elif self._too_large_now(head.ticket) and now - self._since(head)[0] >= self.limits.patience_s:
                barrier = min(barrier, self._since(head))
        for head, choices in fits:
            if self._since(head) <= barrier:
                return self._grant(head, choices if groups else 1, now=now)
        return None

    def _heads(self) -> list[_Waiting]:
        """Of each key the ticket that goes first, in the order in which they do."""
        ranked = self._favours < MOST_FAVOURS
        waiting = sorted(self._waiting.values(), key=_rank) if ranked else self._waiting.values()
        heads: dict[str, _Waiting] = {}
        for each in waiting:
            if self._left_of_request(each.ticket) > 0:  # one that is at its half lets its key's others pass
                heads.setdefault(each.ticket.key, each)
        fair = sorted(heads.values(), key=lambda head: (self._held[head.ticket.key], self._since(head)))
        return sorted(fair, key=_rank) if ranked else fair

    def _since(self, head: _Waiting) -> tuple[float, int]:
        """Since when its key waits: since the ticket entered, or since its key was last served."""
        entered = (head.entered_at, head.number)
        return max(entered, self._served.get(head.ticket.key, entered))

    def _choices(self, ticket: Ticket) -> int:
        """How many choices of a ticket could start at once under the rules; 0 if none."""
        limits = self.limits
        if self._must_wait_alone(ticket):
            return 0
        free = limits.slots - self.running
        beyond_spare = max(0, free - limits.spare)
        choices = min(ticket.choices, self._left_of_request(ticket))
        choices = min(choices, beyond_spare if self._held[ticket.key] else min(free, max(1, beyond_spare)))
        if len(self._waiting) > 1 or (ticket.seeded and limits.deterministic):
            choices = min(choices, 1)
        room = limits.cells - self._cells - ticket.prompt_tokens
        if room < ticket.max_new:
            return 0
        return max(0, min(choices, room // ticket.max_new if ticket.max_new else choices))

    def _left_of_request(self, ticket: Ticket) -> int:
        half = max(1, self.limits.slots // 2)
        if not ticket.request:
            return half
        return half - sum(grant.choices for grant in self._running.values() if grant.ticket.request == ticket.request)

    def _must_wait_alone(self, ticket: Ticket) -> bool:
        if not self.limits.deterministic or not self._running:
            return False
        return ticket.seeded or any(grant.ticket.seeded for grant in self._running.values())

    def _too_large_now(self, ticket: Ticket) -> bool:
        return self._must_wait_alone(ticket) or self._cells + ticket.cells(1) > self.limits.cells

    def _grant(self, head: _Waiting, choices: int, *, now: float) -> Grant:
        del self._waiting[head.number]
        ticket = head.ticket
        grant = Grant(number=head.number, ticket=ticket, choices=choices, granted_at=now)
        self._running[head.number] = grant
        self._held[ticket.key] += choices
        self._cells += ticket.cells(choices)
        self._served[ticket.key] = (now, next(self._turns))
        favoured = any(_rank(other) > ticket.rank for other in self._waiting.values())
        self._favours = self._favours + 1 if favoured and self._favours < MOST_FAVOURS else 0
        return grant

    def _forget(self, key: str) -> None:
        if not self._held[key] and all(waiting.ticket.key != key for waiting in self._waiting.values()):
            self._served.pop(key, None)
            del self._held[key]


def _rank(waiting: _Waiting) -> int:
    return waiting.ticket.rank
