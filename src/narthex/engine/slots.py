"""Which slot of the engine a grant uses, and whether it may reuse what that slot still holds.

llama.cpp keeps a finished request's tokens in its slot and skips the part of the next prompt that is equal. How much it
skipped shows in the timings, so a slot is only ever reused by the account that filled it, unless `share_prefix_cache`.

A group of choices runs in slots that llama.cpp picks; each choice's last event names its slot. While such a group runs,
nobody knows which slots are free: grants are anonymous (no slot named, nothing reused) until the last anonymous lease
has ended. Then a slot belongs to the one account that reported it; a slot that several reported, or that an aborted
lease may have used, belongs to nobody.

A lease that may reuse its slot is perhaps not yet sent when a group is, and llama.cpp would lend its slot to the group.
So no group begins while such a lease runs: its choices are granted one by one (`takes_groups`).
"""

from array import array
from collections.abc import Sequence
from hashlib import blake2b

import msgspec

_SHORTEST_PREFIX = 16


def fingerprint(tokens: Sequence[int]) -> tuple[int, ...]:
    """Hashes (63 bits) of a prompt's first 16, 32, 64 … tokens: how alike two prompts begin, without their text."""
    data = array("i", tokens).tobytes()
    hashes: list[int] = []
    digest, done, length = blake2b(digest_size=8), 0, _SHORTEST_PREFIX
    while length <= len(tokens):
        digest.update(data[done * 4 : length * 4])
        hashes.append(int.from_bytes(digest.copy().digest(), "big") >> 1)
        done, length = length, length * 2
    return tuple(hashes)


class Placement(msgspec.Struct, frozen=True, kw_only=True):
    """Where a grant runs. `slot`: for `id_slot`, None to leave it to the engine; `cache`: for `cache_prompt`."""

    slot: int | None
    cache: bool


class _Kept(msgspec.Struct, frozen=True):
    account: str
    prefix: tuple[int, ...]


class _Lease(msgspec.Struct, frozen=True):
    kept: _Kept
    slot: int | None
    reuses: bool = False


class SlotTable:
    """The slots of one engine, by what they still hold."""

    def __init__(self, slots: int, *, share_prefix_cache: bool = False) -> None:
        self._share = share_prefix_cache
        self._kept: list[_Kept | None] = [None] * slots
        self._used_at = [0] * slots  # a count, not a time
        self._uses = 0
        self._leases: dict[int, _Lease] = {}
        self._fresh = 0  # where the last grant without the cache was
        self._anonymous = 0  # leases in flight whose slots are not known
        self._reported: dict[int, list[_Kept]] = {}  # by slot, since the first of them
        self._lost = False  # one of them ended without a report
        self._doubtful: set[int] = set()  # named leases whose slot one of them may have used after they were done

    @property
    def takes_groups(self) -> bool:
        """Whether several choices may be placed as one now."""
        return self._share or not any(held.reuses for held in self._leases.values())

    def take(
        self, lease: int, *, account: str, prefix: tuple[int, ...] = (), choices: int = 1, fresh: bool = False
    ) -> Placement:
        """Place a grant. The caller has made sure that `choices` slots are free, and asked `takes_groups`.

        `fresh`: without the prefix cache, and in the slot that the last such grant had: where a sequence lies in the
        cache changes its sums, so that only the same place gives the same text again.
        """
        kept = _Kept(account, prefix)
        if choices > 1 or self._anonymous:
            self._anonymous += 1
            self._leases[lease] = _Lease(kept, None)
            return Placement(slot=None, cache=self._share and not fresh)
        busy = {held.slot for held in self._leases.values()}
        free = [slot for slot in range(len(self._kept)) if slot not in busy]
        if fresh:
            slot = self._fresh = self._fresh if self._fresh in free else min(free, key=self._used_at.__getitem__)
        else:
            slot = max(free, key=lambda slot: (self._alike(slot, kept), -self._used_at[slot]))
        cache = not fresh and (self._share or self._owned(slot, account))
        self._leases[lease] = _Lease(kept, slot, reuses=cache)
        return Placement(slot=slot, cache=cache)

    def give_back(self, lease: int, *, slots: Sequence[int] | None) -> None:
        """End a lease. Does nothing for one that has ended before.

        `slots`: what each choice's last event named; empty if nothing was sent; None if the work was cut short.
        """
        held = self._leases.pop(lease, None)
        if held is None:
            return
        if held.slot is not None:
            if slots is None or slots:
                self._end_named(lease, held, held.slot, finished=slots is not None)
        else:
            self._anonymous -= 1
            if slots is None:
                self._lost = True
            else:
                self._report(held.kept, slots)
        self._doubtful.discard(lease)
        if not self._anonymous and (self._reported or self._lost):
            self._settle()

    def oldest_idle(self) -> list[int]:
        """Slots that are not in use, longest unused first; none while anonymous leases run."""
        if self._anonymous:
            return []
        busy = {held.slot for held in self._leases.values()}
        return sorted((slot for slot in range(len(self._kept)) if slot not in busy), key=self._used_at.__getitem__)

    def forget_idle(self, account: str | None = None) -> list[int]:
        """Slots to be emptied: those not in use, or only those of `account` and of nobody. Nobody has them now."""
        idle = self.oldest_idle()
        found = [slot for slot in idle if account is None or self._kept[slot] is None or self._owned(slot, account)]
        for slot in found:
            self._kept[slot] = None
        return found

    def _end_named(self, lease: int, held: _Lease, slot: int, *, finished: bool) -> None:
        self._touch(slot)
        if self._anonymous:
            # Its slot was free in the engine a moment before we heard of it: an anonymous lease may have used it since.
            self._report(held.kept, (slot,))
        elif lease in self._doubtful:
            self._kept[slot] = None
        elif finished or self._owned(slot, held.kept.account):
            self._kept[slot] = held.kept
        else:  # perhaps it was cut short before the engine began: then its predecessor's tokens are still there
            self._kept[slot] = None

    def _report(self, kept: _Kept, slots: Sequence[int]) -> None:
        for slot in slots:
            if 0 <= slot < len(self._kept):
                self._reported.setdefault(slot, []).append(kept)

    def _settle(self) -> None:
        """The last anonymous lease has ended: who owns what is known again."""
        named = {held.slot: lease for lease, held in self._leases.items()}
        self._doubtful |= {lease for slot, lease in named.items() if self._lost or slot in self._reported}
        for slot in range(len(self._kept)):
            reports = self._reported.get(slot, [])
            if self._lost or len({kept.account for kept in reports}) > 1:
                self._kept[slot] = None
            elif reports:
                self._kept[slot] = reports[-1]
                self._touch(slot)
        self._reported.clear()
        self._lost = False

    def _touch(self, slot: int) -> None:
        self._uses += 1
        self._used_at[slot] = self._uses

    def _owned(self, slot: int, account: str) -> bool:
        kept = self._kept[slot]
        return kept is not None and kept.account == account

    def _alike(self, slot: int, wanted: _Kept) -> int:
        """Length of the common beginning, in hashes; 0 where nothing may be reused."""
        kept = self._kept[slot]
        if kept is None or not (self._share or kept.account == wanted.account):
            return 0
        common = 0
        for ours, theirs in zip(kept.prefix, wanted.prefix, strict=False):
            if ours != theirs:
                break
            common += 1
        return common
