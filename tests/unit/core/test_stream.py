"""The order of events and what frames tell."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.stream import (
    ORDER,
    ChoiceFinished,
    ChoiceStarted,
    EmbeddingsReady,
    Event,
    Frame,
    ImagePartial,
    ImageReady,
    OrderCheck,
    OutOfOrder,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageReported,
)

USAGE = Usage(prompt_tokens=3, completion_tokens=4)
DELTAS = (TextDelta(0, "t"), ReasoningDelta(0, "r"), RefusalDelta(0, "f"), ToolCallDelta(choice=0, call=0))


def check(*events: Event) -> OrderCheck:
    order = OrderCheck()
    order.feed(events)
    return order


def choice_events(choice: int) -> st.SearchStrategy[list[Event]]:
    """All that a choice may say, from its start to its end."""
    delta = st.sampled_from([msgspec.structs.replace(delta, choice=choice) for delta in DELTAS])
    return st.lists(delta, max_size=4).map(
        lambda deltas: [ChoiceStarted(choice), *deltas, ChoiceFinished(choice, "stop")]
    )


@st.composite
def answers(draw: st.DrawFn) -> list[Event]:
    """Interleaved choices, then the usage."""
    queues = [draw(choice_events(choice)) for choice in range(draw(st.integers(1, 3)))]
    events: list[Event] = []
    while queues:
        queue = queues[draw(st.integers(0, len(queues) - 1))]
        events.append(queue.pop(0))
        queues = [each for each in queues if each]
    return [*events, UsageReported(USAGE)] if draw(st.booleans()) else events


@given(answers())
def test_every_interleaving_of_whole_choices_is_in_order(events: list[Event]) -> None:
    check(*events).end()


@given(answers(), st.data())
def test_what_is_dropped_doubled_or_swapped_follows_the_table(events: list[Event], data: st.DataObject) -> None:
    """A plain reading of the rules agrees with the table whatever is done to an answer."""
    place = data.draw(st.integers(0, len(events) - 1))
    match data.draw(st.sampled_from(["drop", "double", "last"])):
        case "drop":
            del events[place]
        case "double":
            events.insert(place, events[place])
        case "last":
            events.append(events.pop(place))
    try:
        check(*events).end()
        accepted = True
    except OutOfOrder:
        accepted = False
    assert accepted == plainly_in_order(events)


def plainly_in_order(events: list[Event]) -> bool:
    reports = [place for place, event in enumerate(events) if isinstance(event, UsageReported)]
    if len(reports) > 1 or (reports and reports[0] != len(events) - 1):
        return False
    rest = [event for event in events if not isinstance(event, UsageReported | EmbeddingsReady)]
    for choice in {event.choice for event in rest}:
        kinds = [type(event) for event in rest if event.choice == choice]
        if kinds[0] is not ChoiceStarted or kinds.count(ChoiceStarted) != 1:
            return False
        if kinds[-1] is not ChoiceFinished or kinds.count(ChoiceFinished) != 1:
            return False
    return len(events) > len(reports)


def test_the_table_knows_every_event_and_only_its_own_states() -> None:
    known = {kind for row in ORDER.values() for kind in row}
    assert known == set(Event.__args__)
    assert {state for row in ORDER.values() for state in row.values()} <= ORDER.keys()


def test_errors_name_what_came_and_what_is_missing() -> None:
    with pytest.raises(OutOfOrder, match="TextDelta may not come in state 'idle'"):
        check(TextDelta(0, "a"))
    with pytest.raises(OutOfOrder, match=r"choices \[1\] were open"):
        check(ChoiceStarted(0), ChoiceFinished(0, "stop"), ChoiceStarted(1)).end()


@pytest.mark.parametrize("events", [(), (UsageReported(USAGE),)])
def test_a_stream_without_an_answer_does_not_end_well(events: tuple[Event, ...]) -> None:
    with pytest.raises(OutOfOrder, match="without an answer"):
        check(*events).end()


def test_vectors_are_an_answer() -> None:
    check(EmbeddingsReady((b"",)), UsageReported(USAGE)).end()


def test_a_whole_image_is_an_answer_and_a_part_of_one_is_none() -> None:
    partial, ready = ImagePartial(index=0, b64="i"), ImageReady(b64="image")
    check(partial, ready, partial, ready, UsageReported(USAGE)).end()
    with pytest.raises(OutOfOrder, match="without an answer"):
        check(partial, UsageReported(USAGE)).end()
    with pytest.raises(OutOfOrder, match="ImageReady may not come"):
        check(ready, UsageReported(USAGE), ready)


def test_the_total_is_the_sum() -> None:
    assert USAGE.total_tokens == 7


def test_a_frame_of_events_knows_its_facts() -> None:
    frame = Frame.of(TextDelta(0, "a"), ChoiceFinished(0, "stop"), UsageReported(USAGE))
    assert (frame.format, frame.data, frame.finishes, frame.usage) == ("", b"", True, USAGE)
    plain = Frame.of(TextDelta(0, "a"))
    assert (plain.finishes, plain.usage) == (False, None)


def test_a_frame_is_decoded_once_and_only_when_asked() -> None:
    seen: list[bytes] = []

    def decode(data: bytes) -> tuple[Event, ...]:
        seen.append(data)
        return (ChoiceStarted(0),)

    frame = Frame("some", b"bytes", decode=decode)
    assert seen == []
    assert frame.events == frame.events == (ChoiceStarted(0),)
    assert seen == [b"bytes"]
    assert Frame("some", b"bytes").events == ()


@pytest.mark.parametrize(
    ("events", "output"),
    [((), False), ((ChoiceStarted(0),), False), ((ChoiceStarted(0), TextDelta(0, "a")), True),
     ((ChoiceFinished(0, "stop"),), True), ((EmbeddingsReady(()),), True),
     ((ImagePartial(index=0, b64=""),), True), ((ImageReady(),), True)],
)  # fmt: skip
def test_output_is_what_a_caller_would_see(events: tuple[Event, ...], output: bool) -> None:
    assert Frame.of(*events).has_output is output
