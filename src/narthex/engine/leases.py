"""Leave to use an engine's slots, for the length of an `async with`: from the engine's broker, or within this process.

async with slots.lease(Want(key=…, account=…, n=3, prompt_tokens=120, max_new=64)) as lease:
    # POST /completion {"n_cmpl": lease.choices, "id_slot": lease.slot if named, "cache_prompt": lease.cache,
    #                   "stream": true, "return_progress": true, …}: a hang-up is noticed when a write fails
    # and for each choice's last event: lease.used(event["id_slot"])
    # lease.left more choices of the request: async with lease.rest() as another, before or beside this one's work
"""

import asyncio
import contextlib
import itertools
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import msgspec

from narthex.core.errors import EngineUnavailable
from narthex.core.slots import Want
from narthex.engine.queue import Grant, QueueLimits, SlotQueue, Ticket
from narthex.engine.slots import SlotTable
from narthex.ipc.client import Client


class Acquire(Want, frozen=True, kw_only=True):
    """The payload of `acquire`. `lease` is the caller's own number for it; `request` is what several leases share."""

    lease: int
    request: str

    @property
    def ticket(self) -> Ticket:
        """What the queue needs to know of it."""
        return Ticket(
            key=self.key,
            account=self.account,
            prompt_tokens=self.prompt_tokens,
            max_new=self.max_new,
            choices=self.n,
            seeded=self.seeded,
            rank=self.rank,
            request=self.request,
        )


class Granted(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `acquire`."""

    lease: int
    choices: int
    slot: int | None
    cache: bool


class Release(msgspec.Struct, frozen=True, kw_only=True):
    """The payload of `release`. `slots`: those used; empty if nothing was sent; None if the work was cut short."""

    lease: int
    slots: tuple[int, ...] | None


class QueueState(msgspec.Struct, frozen=True, kw_only=True):
    """The answer to `queue`: tickets waiting, slots in use and in all, cells in use and in all."""

    waiting: int
    running: int
    slots: int
    cells_used: int
    cells: int


class Lease:
    """Slots in hand. `choices` of the request may run now, `left` may not yet.

    `slot`: the slot to name in `id_slot`, None to name none; `cache`: the value for `cache_prompt`.
    """

    def __init__(self, source: "LeaseSource", want: Acquire, granted: Granted) -> None:
        self._source = source
        self._want = want
        self._used: list[int] = []
        self._touched = True
        self.choices = granted.choices
        self.slot = granted.slot
        self.cache = granted.cache
        self.left = want.n - granted.choices

    def used(self, slot: int) -> None:
        """A choice ran in `slot`, says its last event; naming a slot twice counts once."""
        if slot not in self._used:
            self._used.append(slot)

    def untouched(self) -> None:
        """No slot is used: another process does the work, in the engine's stead."""
        self._touched = False

    def rest(self) -> AbstractAsyncContextManager["Lease"]:
        """Wait for more of this request's choices; only where `left` is not 0."""
        return self._source.leased(msgspec.structs.replace(self._want, n=self.left))

    @property
    def slots_used(self) -> tuple[int, ...] | None:
        """Where the choices ended; None while some have not."""
        if not self._touched:
            return ()
        return tuple(self._used) if len(self._used) >= self.choices else None


class LeaseSource:
    """Hands out leases; what `Slots` and `LocalSlots` have in common."""

    _numbers = itertools.count(1)  # one row for the whole process, so that no number ever comes twice

    def __init__(
        self, acquire: Callable[[Acquire], Awaitable[Granted]], release: Callable[[Release], Awaitable[None]]
    ) -> None:
        self._acquire = acquire
        self._give_back = release

    def lease(self, want: Want) -> AbstractAsyncContextManager[Lease]:
        """Wait in the queue for slots of up to `n` choices and hold them for the length of the block.

        Close the engine's connection before the block ends.

        Raises:
            ContextLengthExceeded: prompt and answer can never fit.
            QueueFull: too many of this key wait.
            EngineUnavailable: too many wait in all, or the engine is not running.
            EngineCrashed: it ended while we waited.
        """
        return self.leased(Acquire(lease=0, request=uuid.uuid4().hex, **msgspec.structs.asdict(want)))

    @contextlib.asynccontextmanager
    async def leased(self, want: Acquire) -> AsyncIterator[Lease]:
        """As `lease`, for a request described already."""
        want = msgspec.structs.replace(want, lease=next(self._numbers))
        used: tuple[int, ...] | None = ()
        try:
            lease = Lease(self, want, await self._acquire(want))
            try:
                yield lease
            finally:
                used = lease.slots_used
        finally:
            # Also when cancelled in `_acquire`: the answer may be on its way already.
            await self._give_back(Release(lease=want.lease, slots=used))


class Slots(LeaseSource):
    """Leases from the broker of an engine. When the engine ends, they end with it; releasing them does nothing then."""

    def __init__(self, control_socket: Path, *, name: str) -> None:
        self._client = Client(control_socket, name=name)
        super().__init__(self._call, self._notify)

    async def queue(self, *, timeout_s: float = 5.0) -> QueueState:
        """How busy the engine is. Raises EngineUnavailable and EngineCrashed."""
        return await self._client.call("queue", None, QueueState, timeout_s=timeout_s)

    async def aclose(self) -> None:
        """Close the connection, and with it every lease."""
        await self._client.aclose()

    async def _call(self, want: Acquire) -> Granted:
        return await self._client.call("acquire", want, Granted)

    async def _notify(self, release: Release) -> None:
        await self._client.notify("release", release)


class LocalSlots(LeaseSource):
    """Leases within this process: inside the engine's child, or for a llama-server that has no broker of ours."""

    def __init__(
        self,
        limits: QueueLimits,
        *,
        share_prefix_cache: bool = False,
        clock: Callable[[], float] = time.monotonic,
        on_release: Callable[[], None] | None = None,
        empty: Callable[[Sequence[int]], Awaitable[None]] | None = None,
    ) -> None:
        """`on_release` is called after each release; `empty` makes slots forget what they hold."""
        super().__init__(self.acquire, self._release_now)
        self._queue = SlotQueue(limits)
        self._clock = clock
        self._on_release = on_release
        self._empty = empty
        self._waiters: dict[int, asyncio.Future[Granted]] = {}
        self._wants: dict[int, Acquire] = {}  # by ticket number
        self._held: dict[int, int] = {}  # lease -> ticket number
        self._idle_since = clock()
        self._closed = False
        self.table = SlotTable(limits.slots, share_prefix_cache=share_prefix_cache)

    @property
    def idle_s(self) -> float:
        """How long nothing has run or waited; 0 while something does."""
        return self._clock() - self._idle_since if self._queue.idle else 0.0

    def state(self) -> QueueState:
        """How busy it is."""
        limits = self._queue.limits
        return QueueState(
            waiting=self._queue.waiting,
            running=self._queue.running,
            slots=limits.slots,
            cells_used=self._queue.cells,
            cells=limits.cells,
        )

    def retire(self) -> bool:
        """Refuse all further leases, if there is none now. True if so."""
        self._closed = self._closed or self._queue.idle
        return self._closed

    async def acquire(self, want: Acquire) -> Granted:
        """Wait for a lease; raises what `lease` does. Cancelling gives it back."""
        if self._closed:
            raise EngineUnavailable("The model is being unloaded.", retry_after_s=1)
        number = self._queue.enter(want.ticket, now=self._clock())
        future: asyncio.Future[Granted] = asyncio.get_running_loop().create_future()
        self._waiters[number] = future
        self._wants[number] = want
        self._advance()
        try:
            granted = await future
            await self._make_room(want)
            return granted
        except asyncio.CancelledError:
            if self._waiters.pop(number, None) is not None:
                self._wants.pop(number)
                self._queue.leave(number)
                self._advance()
            else:
                self.release(Release(lease=want.lease, slots=()))
            raise

    def release(self, release: Release) -> None:
        """Give a lease back. Does nothing for one that is unknown."""
        number = self._held.pop(release.lease, None)
        if number is None:
            return
        self._queue.release(number, now=self._clock())
        self.table.give_back(number, slots=release.slots)
        self._advance()
        if self._on_release is not None:
            self._on_release()

    async def _make_room(self, want: Acquire) -> None:
        """What others left behind changes where the next request lies in the cache, and with it its sums."""
        if self._empty is None:
            return
        if want.seeded and self._queue.limits.deterministic:
            await self._empty(self.table.forget_idle())
        elif want.steady and self._queue.running == want.n == 1:
            await self._empty(self.table.forget_idle(want.account))

    def _advance(self) -> None:
        while (grant := self._queue.grant(now=self._clock(), groups=self.table.takes_groups)) is not None:
            self._place(grant)
        self._idle_since = self._clock()

    def _place(self, grant: Grant) -> None:
        want = self._wants.pop(grant.number)
        place = self.table.take(
            grant.number, account=want.account, prefix=want.prefix, choices=grant.choices, fresh=want.fresh
        )
        self._held[want.lease] = grant.number
        waiter = self._waiters.pop(grant.number)
        if not waiter.done():  # else it was cancelled a moment ago, and gives the lease back
            waiter.set_result(Granted(lease=want.lease, choices=grant.choices, slot=place.slot, cache=place.cache))

    async def _release_now(self, release: Release) -> None:
        self.release(release)
