"""Which slot a grant uses and what it may reuse."""

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from narthex.engine.slots import Placement, SlotTable, fingerprint


def test_fingerprints_are_equal_as_far_as_the_prompts_are() -> None:
    prompt = list(range(100))
    assert len(fingerprint(prompt)) == 3  # 16, 32, 64
    assert fingerprint(prompt[:15]) == ()
    other = fingerprint([*prompt[:40], 7, *prompt[41:]])
    assert other[:2] == fingerprint(prompt)[:2]
    assert other[2] != fingerprint(prompt)[2]
    assert all(0 <= one < 2**63 for one in other)


def finish(table: SlotTable, lease: int, slot: int) -> None:
    table.give_back(lease, slots=[slot])


def test_an_account_finds_its_own_slot_again() -> None:
    table = SlotTable(4)
    first = table.take(1, account="a", prefix=(1, 2))
    assert first.slot is not None
    assert not first.cache
    finish(table, 1, first.slot)
    table.take(2, account="b", prefix=(1, 2))
    again = table.take(3, account="a", prefix=(1, 2, 3))
    assert (again.slot, again.cache) == (first.slot, True)


def test_the_slot_with_the_longest_common_beginning_is_preferred() -> None:
    table = SlotTable(4)
    for lease, prefix in enumerate([(1, 2), (1, 3, 4), (5,)]):
        table.take(lease, account="a", prefix=prefix)
    slots = [table._leases[lease].slot for lease in range(3)]
    for lease, slot in enumerate(slots):
        finish(table, lease, slot or 0)
    assert table.take(9, account="a", prefix=(1, 3, 9)).slot == slots[1]


def test_another_account_gets_the_longest_unused_slot_without_its_cache() -> None:
    table = SlotTable(2)
    for lease in (1, 2, 3, 4):
        place = table.take(lease, account="a", prefix=(lease,))
        finish(table, lease, place.slot or 0)
    assert table.oldest_idle() == [0, 1]
    place = table.take(5, account="b", prefix=(4,))
    assert (place.slot, place.cache) == (0, False)
    assert table.oldest_idle() == [1]


def test_shared_caches_know_no_accounts() -> None:
    table = SlotTable(2, share_prefix_cache=True)
    first = table.take(1, account="a", prefix=(1,))
    finish(table, 1, first.slot or 0)
    second = table.take(2, account="b", prefix=(1,))
    assert (second.slot, second.cache) == (first.slot, True)
    assert table.take(3, account="c", choices=2).cache


def test_a_lease_cut_short_leaves_its_slot_to_nobody_unless_it_was_the_account_s_before() -> None:
    table = SlotTable(1)
    table.take(1, account="a")
    finish(table, 1, 0)
    assert table.take(2, account="a").cache
    table.give_back(2, slots=None)
    assert table.take(3, account="a").cache
    table.give_back(3, slots=())  # nothing was sent
    assert not table.take(4, account="b").cache
    table.give_back(4, slots=())
    assert table.take(5, account="a").cache
    table.give_back(5, slots=None)
    table.take(6, account="b")
    table.give_back(6, slots=None)
    assert not table.take(7, account="a").cache


def test_while_a_group_runs_grants_are_anonymous() -> None:
    table = SlotTable(8)
    assert table.take(1, account="a", prefix=(1,), choices=3).slot is None
    single = table.take(2, account="b", prefix=(2,))
    assert (single.slot, single.cache) == (None, False)
    assert table.oldest_idle() == []
    table.give_back(1, slots=[7, 0, 1])
    assert table.take(3, account="b", prefix=(2,)).slot is None  # lease 2 is somewhere
    table.give_back(2, slots=[5])
    table.give_back(3, slots=[6])
    assert table.take(4, account="b", prefix=(2,)).slot in (5, 6)
    again = table.take(5, account="a", prefix=(1,))
    assert again.slot in (7, 0, 1)
    assert again.cache


def test_a_group_cut_short_makes_every_owner_unknown() -> None:
    table = SlotTable(4)
    place = table.take(1, account="a")
    finish(table, 1, place.slot or 0)
    table.take(2, account="b", choices=2)
    table.give_back(2, slots=None)
    assert not any(table.take(lease, account="a").cache for lease in (3, 4, 5, 6))


def test_a_slot_that_two_accounts_report_belongs_to_nobody() -> None:
    table = SlotTable(2)
    named = table.take(1, account="a")
    table.take(2, account="b", choices=2)
    # The engine had finished lease 1 before we heard of it, and lease 2 used its slot.
    table.give_back(2, slots=[named.slot or 0, 1])
    finish(table, 1, named.slot or 0)
    leases = {table.take(lease, account="a").cache for lease in (3, 4)}
    assert leases == {False}


def test_a_named_lease_that_ends_while_an_anonymous_one_runs_is_a_report_like_others() -> None:
    table = SlotTable(2)
    named = table.take(1, account="a")
    table.take(2, account="b", choices=2)
    finish(table, 1, named.slot or 0)
    table.give_back(2, slots=[named.slot or 0, 99])
    assert not any(table.take(lease, account="b").cache for lease in (3, 4))


def test_no_group_begins_beside_a_lease_that_may_reuse_its_slot() -> None:
    table = SlotTable(3)
    finish(table, 1, table.take(1, account="a", prefix=(1,)).slot or 0)
    assert table.takes_groups
    again = table.take(2, account="a", prefix=(1,))
    assert again.cache
    assert not table.takes_groups
    finish(table, 2, again.slot or 0)
    assert table.takes_groups


def test_an_unknown_lease_is_no_matter() -> None:
    SlotTable(1).give_back(5, slots=[0])


class Engine:
    """A model of the engine: it places anonymous work anywhere free, and the ends of work are reported late."""

    def __init__(self, seed: int) -> None:
        self.dice = random.Random(seed)
        self.table = SlotTable(5)
        self.holds: list[str | None] = [None] * 5
        self.busy: dict[int, int] = {}  # slot -> lease
        self.used: dict[int, list[int]] = {}  # by lease; empty until it was sent
        self.leases: dict[int, tuple[str, int, Placement]] = {}

    def grant(self, lease: int) -> None:
        choices = self.dice.choice([1, 1, 1, 2, 3]) if self.table.takes_groups else 1
        account = self.dice.choice("ab")
        if sum(held for _, held, _ in self.leases.values()) + choices <= 5:
            prefix = (self.dice.randrange(2),)
            place = self.table.take(lease, account=account, prefix=prefix, choices=choices)
            self.leases[lease] = (account, choices, place)
            self.used[lease] = []

    def send(self, lease: int) -> None:
        account, choices, place = self.leases[lease]
        free = [slot for slot in range(5) if slot not in self.busy and place.slot in (None, slot)]
        if self.used[lease] or len(free) < choices:
            return  # sent already, or deferred by the engine
        self.used[lease] = self.dice.sample(free, k=choices)
        for slot in self.used[lease]:
            assert not place.cache or self.holds[slot] in (account, None)
            self.holds[slot] = account
            self.busy[slot] = lease

    def finish(self, lease: int) -> None:
        self.busy = {slot: one for slot, one in self.busy.items() if one != lease}

    def report(self, lease: int) -> None:
        done = self.used[lease] and lease not in self.busy.values()
        self.finish(lease)
        self.table.give_back(lease, slots=self.used[lease] if done else None)
        del self.leases[lease], self.used[lease]


@given(seed=st.integers(0, 2**32), steps=st.integers(10, 120))
@settings(max_examples=100, deadline=None)
def test_no_account_reuses_what_another_left(seed: int, steps: int) -> None:
    engine = Engine(seed)
    for step in range(steps):
        engine.grant(step)
        for lease in engine.dice.sample(sorted(engine.leases), k=min(2, len(engine.leases))):
            engine.dice.choice([engine.send, engine.send, engine.finish, engine.report])(lease)


def test_fresh_grants_come_back_to_one_slot_without_its_cache() -> None:
    table = SlotTable(3)
    first = table.take(1, account="a", prefix=(1, 2), fresh=True)
    finish(table, 1, first.slot or 0)
    finish(table, 2, table.take(2, account="a", prefix=(9,)).slot or 0)
    again = table.take(3, account="a", prefix=(1, 2), fresh=True)
    assert (again.slot, again.cache) == (first.slot, False)
    beside = table.take(4, account="a", prefix=(1, 2), fresh=True)  # its slot is busy: any other
    assert beside.slot != first.slot
    assert not beside.cache


def test_fresh_grants_share_no_cache_either() -> None:
    table = SlotTable(2, share_prefix_cache=True)
    assert not table.take(1, account="a", fresh=True).cache
    assert not table.take(2, account="a", choices=2, fresh=True).cache
