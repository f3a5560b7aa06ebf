"""The queue's rules one by one, then all of them together under random callers."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from narthex.core.errors import ContextLengthExceeded, EngineUnavailable, QueueFull
from narthex.engine.queue import Grant, QueueLimits, SlotQueue, Ticket


def limits(**changes: object) -> QueueLimits:
    return QueueLimits(**{"slots": 16, "cells": 16_000, "window": 8_000, **changes})  # type: ignore[arg-type]


def ticket(key: str = "a", **changes: object) -> Ticket:
    return Ticket(**{"key": key, "account": key, "prompt_tokens": 10, "max_new": 10, **changes})  # type: ignore[arg-type]


def enter_all(queue: SlotQueue, tickets: list[Ticket], now: float = 0.0) -> list[int]:
    return [queue.enter(one, now=now) for one in tickets]


def grants(queue: SlotQueue, *, now: float) -> list[Grant]:
    """All that may start now."""
    return list(iter(lambda: queue.grant(now=now), None))


def keys(grants: list[Grant]) -> list[str]:
    return [grant.ticket.key for grant in grants]


def test_a_lone_request_starts_at_once() -> None:
    queue = SlotQueue(limits())
    number = queue.enter(ticket(), now=1.0)
    (grant,) = grants(queue, now=1.0)
    assert (grant.number, grant.choices, grant.granted_at) == (number, 1, 1.0)
    assert (queue.waiting, queue.running, queue.cells, queue.idle) == (0, 1, 20, False)
    queue.release(number, now=2.0)
    queue.release(number, now=2.0)
    assert (queue.running, queue.cells, queue.idle) == (0, 0, True)


def test_the_next_grant_goes_to_the_key_that_holds_the_fewest_slots() -> None:
    queue = SlotQueue(limits(slots=4, spare_slots=0))
    enter_all(queue, [ticket("a")] * 6)
    first = grants(queue, now=0)
    assert keys(first) == ["a"] * 4
    enter_all(queue, [ticket("b"), ticket("b"), ticket("c")])
    for grant in first:
        queue.release(grant.number, now=1)
    assert keys(grants(queue, now=1)) == ["a", "b", "c", "a"]  # equal, equal, equal; then the oldest


def test_within_a_key_the_oldest_goes_first() -> None:
    queue = SlotQueue(limits(slots=1, spare_slots=0))
    numbers = enter_all(queue, [ticket()] * 3)
    order = []
    while granted := grants(queue, now=0):
        order += [grant.number for grant in granted]
        queue.release(granted[0].number, now=0)
    assert order == numbers


def served(queue: SlotQueue, count: int) -> list[int]:
    """The ranks of those that run one after the other."""
    ranks = []
    for _ in range(count):
        (grant,) = grants(queue, now=0)
        ranks.append(grant.ticket.rank)
        queue.release(grant.number, now=0)
    return ranks


@pytest.mark.parametrize("same_key", [True, False])
def test_lower_ranks_go_first_and_starve_nobody(same_key: bool) -> None:
    queue = SlotQueue(limits(slots=1, spare_slots=0))
    for number in range(4):
        enter_all(queue, [ticket("a" if same_key else f"{rank}-{number}", rank=rank) for rank in (2, 1, 0, 0)])
    order = served(queue, 16)
    assert order[:3] == [0, 0, 0]
    assert order[3] == 2  # the oldest
    assert order[4:7] == [0, 0, 0]
    assert sorted(order) == [0] * 8 + [1] * 4 + [2] * 4
    assert queue.idle


def test_while_others_of_a_better_rank_keep_coming_one_in_four_is_served() -> None:
    queue = SlotQueue(limits(slots=1, spare_slots=0))
    enter_all(queue, [ticket("default")] * 3)
    ranks = []
    for _ in range(12):
        enter_all(queue, [ticket("eager", rank=0)])
        ranks += served(queue, 1)
    assert ranks.count(1) == 3


def test_the_last_slots_are_for_keys_that_hold_none() -> None:
    queue = SlotQueue(limits(slots=4, spare_slots=2))
    enter_all(queue, [ticket("a")] * 9)
    assert keys(grants(queue, now=0)) == ["a", "a"]
    enter_all(queue, [ticket("b"), ticket("b")])
    assert keys(grants(queue, now=0)) == ["b"]
    enter_all(queue, [ticket("c")])
    assert keys(grants(queue, now=0)) == ["c"]


def test_a_group_leaves_the_spare_slots_too() -> None:
    queue = SlotQueue(limits(slots=4, spare_slots=2))
    enter_all(queue, [ticket("a")] * 2)
    assert len(grants(queue, now=0)) == 2
    queue.enter(ticket("b", choices=2), now=0)
    (grant,) = grants(queue, now=0)
    assert grant.choices == 1


@pytest.mark.parametrize("slots", [1, 2, 3])
def test_few_slots_still_serve(slots: int) -> None:
    queue = SlotQueue(limits(slots=slots))
    enter_all(queue, [ticket(choices=3)])
    (grant,) = grants(queue, now=0)
    assert grant.choices == 1


def test_a_lone_request_gets_half_of_the_slots_as_one_group() -> None:
    queue = SlotQueue(limits())
    queue.enter(ticket(choices=128, request="r"), now=0)
    (grant,) = grants(queue, now=0)
    assert grant.choices == 8
    assert queue.cells == 10 + 8 * 10  # the prompt once
    queue.enter(ticket(choices=120, request="r"), now=0)
    assert grants(queue, now=0) == []  # it is at its half
    queue.enter(ticket(), now=0)
    assert len(grants(queue, now=0)) == 1  # and another request of its key passes


def test_while_another_request_waits_choices_go_one_at_a_time() -> None:
    queue = SlotQueue(limits())
    enter_all(queue, [ticket("a", choices=128, request="r"), ticket("b", choices=128, request="s")])
    assert [grant.choices for grant in grants(queue, now=0)] == [1, 8]


def test_no_more_cells_are_granted_than_there_are() -> None:
    queue = SlotQueue(limits(cells=100, window=100))
    queue.enter(ticket(prompt_tokens=10, max_new=40, choices=4), now=0)
    (grant,) = grants(queue, now=0)
    assert (grant.choices, queue.cells) == (2, 90)
    queue.enter(ticket("b", prompt_tokens=5, max_new=6), now=0)
    assert grants(queue, now=0) == []
    queue.enter(ticket("c", prompt_tokens=5, max_new=5), now=0)
    assert keys(grants(queue, now=0)) == ["c"]


def test_a_request_that_makes_nothing_costs_its_prompt() -> None:
    queue = SlotQueue(limits(cells=100, window=100))
    queue.enter(ticket(prompt_tokens=100, max_new=0, choices=3), now=0)
    assert grants(queue, now=0)[0].choices == 3


@pytest.mark.parametrize("changes", [{"window": 50}, {"cells": 50}])
def test_what_can_never_fit_is_refused_at_once(changes: dict[str, int]) -> None:
    queue = SlotQueue(limits(**changes))
    with pytest.raises(ContextLengthExceeded, match="context is 50 tokens"):
        queue.enter(ticket(prompt_tokens=41, max_new=10), now=0)
    assert queue.idle


def test_the_queue_is_bounded_in_all_and_for_each_key() -> None:
    queue = SlotQueue(limits(slots=1, max_waiting=3, max_waiting_per_key=2))
    enter_all(queue, [ticket("a")])
    grants(queue, now=0)
    enter_all(queue, [ticket("a"), ticket("a")])
    with pytest.raises(QueueFull) as of_key:
        queue.enter(ticket("a"), now=0)
    enter_all(queue, [ticket("b")])
    with pytest.raises(EngineUnavailable) as in_all:
        queue.enter(ticket("c"), now=0)
    assert (of_key.value.status, in_all.value.status) == (429, 503)
    assert in_all.value.retry_after_s == 2.0 * 4  # three wait, two seconds each until one was measured


def test_retry_after_follows_what_the_last_grants_took() -> None:
    queue = SlotQueue(limits(slots=1))
    assert queue.retry_after_s() == 2
    for now in range(0, 2000, 20):
        queue.enter(ticket(), now=now)
        (grant,) = grants(queue, now=now)
        queue.release(grant.number, now=now + 20)
    assert queue.retry_after_s() == 20
    enter_all(queue, [ticket()] * 9)
    assert queue.retry_after_s() == 60


def test_a_caller_may_leave_at_any_time() -> None:
    queue = SlotQueue(limits(slots=1))
    first, second, third = enter_all(queue, [ticket(), ticket(), ticket()])
    queue.leave(second)
    queue.leave(second)
    grants(queue, now=0)
    queue.leave(first)  # runs already: only release ends it
    assert queue.running == 1
    queue.release(first, now=1)
    assert [grant.number for grant in grants(queue, now=1)] == [third]


def test_small_tickets_overtake_a_large_one_only_for_a_while() -> None:
    queue = SlotQueue(limits(cells=100, window=100, patience_s=10))
    held = enter_all(queue, [ticket("a", prompt_tokens=50), ticket("b", prompt_tokens=10)])
    grants(queue, now=0)
    queue.enter(ticket("large", prompt_tokens=90), now=1)
    small = queue.enter(ticket("c", prompt_tokens=5, max_new=5), now=2)
    assert keys(grants(queue, now=2)) == ["c"]
    queue.enter(ticket("d", prompt_tokens=1, max_new=1), now=3)
    queue.leave(queue.enter(ticket("e"), now=3))
    queue.release(held[1], now=11)
    assert grants(queue, now=11) == []  # room for d, but the large one has waited ten seconds
    queue.release(held[0], now=12)
    assert grants(queue, now=12) == []
    queue.release(small, now=13)
    assert keys(grants(queue, now=13)) == ["large"]


def test_a_key_full_of_large_tickets_does_not_hold_up_the_others_for_each_of_them() -> None:
    queue = SlotQueue(limits(cells=100, window=100, patience_s=10))
    large = enter_all(queue, [ticket("large", prompt_tokens=90)] * 3)
    assert [grant.number for grant in grants(queue, now=0)] == [large[0]]
    queue.enter(ticket("small"), now=5)
    queue.release(large[0], now=20)
    # Since its key was served at 0, the second large ticket has waited for longer than the small one: it goes first,
    assert [grant.number for grant in grants(queue, now=20)] == [large[1]]
    queue.release(large[1], now=40)
    # but now the small one has waited for longer than its key.
    assert keys(grants(queue, now=40)) == ["small"]


def test_deterministic_a_seeded_request_runs_alone() -> None:
    queue = SlotQueue(limits(deterministic=True))
    plain, seeded = enter_all(queue, [ticket("a"), ticket("b", seeded=True, choices=4)])
    assert [grant.number for grant in grants(queue, now=0)] == [plain]
    queue.release(plain, now=1)
    (grant,) = grants(queue, now=1)
    assert (grant.number, grant.choices) == (seeded, 1)
    queue.enter(ticket("c"), now=2)
    assert grants(queue, now=2) == []
    queue.release(seeded, now=3)
    assert keys(grants(queue, now=3)) == ["c"]


def test_otherwise_seeded_requests_run_beside_others() -> None:
    queue = SlotQueue(limits())
    enter_all(queue, [ticket("a"), ticket("b", seeded=True)])
    assert len(grants(queue, now=0)) == 2


TICKETS = st.builds(
    Ticket,
    key=st.sampled_from("abcd"),
    account=st.just("x"),
    prompt_tokens=st.integers(0, 90),
    max_new=st.integers(0, 60),
    choices=st.integers(1, 20),
    seeded=st.booleans(),
    request=st.sampled_from(["", "r", "s"]),
)


class Callers(RuleBasedStateMachine):
    """Random callers that enter, leave and finish; whatever they do, no slot and no cell is given out twice."""

    limits = limits(slots=5, cells=150, window=120, max_waiting=12, max_waiting_per_key=5)

    def __init__(self) -> None:
        super().__init__()
        self.queue = SlotQueue(self.limits)
        self.now = 0.0
        self.waiting: dict[int, Ticket] = {}
        self.running: dict[int, Grant] = {}

    def collect(self) -> None:
        for grant in grants(self.queue, now=self.now):
            assert self.waiting.pop(grant.number) == grant.ticket
            assert 1 <= grant.choices <= grant.ticket.choices
            self.running[grant.number] = grant

    @rule(wanted=TICKETS)
    def enter(self, wanted: Ticket) -> None:
        try:
            number = self.queue.enter(wanted, now=self.now)
        except ContextLengthExceeded:
            assert wanted.prompt_tokens + wanted.max_new > self.limits.window
        except QueueFull:
            assert Counter(one.key for one in self.waiting.values())[wanted.key] == 5
        except EngineUnavailable:
            assert len(self.waiting) == 12
        else:
            self.waiting[number] = wanted
            self.collect()

    @rule(data=st.data())
    @precondition(lambda self: self.running)
    def finish(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.running)))
        self.queue.release(number, now=self.now)
        del self.running[number]
        self.collect()

    @rule(data=st.data())
    @precondition(lambda self: self.waiting)
    def leave(self, data: st.DataObject) -> None:
        number = data.draw(st.sampled_from(sorted(self.waiting)))
        self.queue.leave(number)
        del self.waiting[number]
        self.collect()

    @rule(seconds=st.floats(0, 30))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.collect()

    @invariant()
    def nothing_is_given_out_twice(self) -> None:
        slots = sum(grant.choices for grant in self.running.values())
        cells = sum(grant.ticket.cells(grant.choices) for grant in self.running.values())
        assert slots == self.queue.running <= self.limits.slots
        assert cells == self.queue.cells <= self.limits.cells
        assert len(self.waiting) == self.queue.waiting

    @invariant()
    def an_idle_engine_lets_nobody_wait(self) -> None:
        assert self.running or not self.waiting

    def teardown(self) -> None:
        """Whoever still waits is served when the others finish, and nothing is left over."""
        for _ in range(200):
            if not self.running:
                break
            self.now += 1
            number = min(self.running)
            self.queue.release(number, now=self.now)
            del self.running[number]
            self.collect()
        assert not self.waiting
        assert self.queue.idle
        assert (self.queue.running, self.queue.cells) == (0, 0)
        assert not self.queue._held
        assert not self.queue._served


class SeededCallers(Callers):
    limits = limits(slots=5, cells=150, window=120, max_waiting=12, max_waiting_per_key=5, deterministic=True)

    @invariant()
    def a_seeded_request_is_alone(self) -> None:
        if any(grant.ticket.seeded for grant in self.running.values()):
            assert len(self.running) == 1


TestCallers = Callers.TestCase
TestSeededCallers = SeededCallers.TestCase
TestCallers.settings = TestSeededCallers.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@given(greedy=st.integers(1, 6), ends=st.lists(st.integers(0, 3), min_size=60, max_size=60))
@settings(max_examples=60, deadline=None)
def test_while_a_key_waits_every_other_key_is_served_once_at_most(greedy: int, ends: list[int]) -> None:
    """Some keys keep their queues full of requests for many choices; one asks for a slot now and then."""
    queue = SlotQueue(limits(slots=4, spare_slots=1))
    now, modest, passed = 0.0, 0, Counter[str]()
    for end in ends:
        now += 1
        for key in range(greedy):
            if queue.waiting < 20:
                queue.enter(ticket(f"greedy-{key}", choices=3), now=now)
        if not modest:
            modest, passed = queue.enter(ticket("modest"), now=now), Counter()
        if running := sorted(queue._running):
            queue.release(running[end % len(running)], now=now)
        for grant in grants(queue, now=now):
            passed[grant.ticket.key] += 1
            if grant.number == modest:
                queue.release(modest, now=now)
                modest = 0
        assert not modest or max(passed.values(), default=0) <= 1


def test_a_large_ticket_is_served_although_small_ones_never_end() -> None:
    queue = SlotQueue(limits(slots=4, spare_slots=0, cells=100, window=100, patience_s=10))
    large, now, running = 0, 0.0, []
    for step in range(100):
        now += 1
        queue.enter(ticket(f"small-{step}", prompt_tokens=20), now=now)  # each time another key
        if step == 5:
            large = queue.enter(ticket("large", prompt_tokens=90), now=now)
        running += [grant.number for grant in grants(queue, now=now)]
        if large in running:
            break
        queue.release(running.pop(0), now=now)
    assert large in running
    assert now < 30
