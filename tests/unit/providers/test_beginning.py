"""Answers that have begun already."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.routing_parts import a_call

from narthex.core.chat import ChatRequest
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Event, Frame, TextDelta, Usage, UsageReported
from narthex.providers.beginning import Unrepeated, with_beginning


class Pieces:
    """Decodes each byte string as a piece of text; `end` tells the usage."""

    def feed(self, data: bytes) -> Any:
        yield Frame.of(TextDelta(0, data.decode()))

    def end(self) -> Any:
        yield Frame.of(UsageReported(Usage(prompt_tokens=1)))


class Finishing(Pieces):
    def feed(self, data: bytes) -> Any:
        yield Frame.of(ChoiceFinished(0, "stop")) if data == b"\0" else Frame.of(TextDelta(0, data.decode()))


def heard(told: str, *pieces: str, partly: bool) -> str:
    decoder = Unrepeated(Finishing(), told=told, partly=partly)
    frames = [frame for piece in (*pieces, "\0") for frame in decoder.feed(piece.encode())]
    events: list[Event] = [event for frame in [*frames, *decoder.end()] for event in frame.events]
    assert isinstance(events[-1], UsageReported)
    assert events[-2] == ChoiceFinished(0, "stop")
    return "".join(event.text for event in events if isinstance(event, TextDelta))


@pytest.mark.parametrize(
    ("told", "pieces", "partly", "rest"),
    [
        ("\n\n", ("\n", "\nYou"), True, "You"),
        ("\n\n", ("\nYou",), True, "You"),
        ("\n\n", ("You",), True, "You"),
        ("\n\n", ("\n\n\nYou",), True, "\nYou"),
        ("\n\n", ("\n\n", "\nYou"), True, "\nYou"),
        ("\n\n", ("\n",), True, ""),
        ("\n\n", (), True, ""),
        ("Once", ("On", "ce", " upon"), False, " upon"),
        ("Once", ("Once upon",), False, " upon"),
        ("Once", ("One",), False, "One"),
        ("Once", ("On",), False, "On"),
        ("Once", (" upon",), False, " upon"),
    ],
)
def test_what_is_repeated_is_left_out(told: str, pieces: tuple[str, ...], partly: bool, rest: str) -> None:
    assert heard(told, *pieces, partly=partly) == rest


@given(
    st.text("ab", min_size=1, max_size=4), st.lists(st.text("ab", min_size=1, max_size=3), max_size=5), st.booleans()
)
def test_it_does_not_matter_how_the_text_is_cut(told: str, pieces: list[str], partly: bool) -> None:
    assert heard(told, *pieces, partly=partly) == heard(told, *"".join(pieces), partly=partly)


def test_frames_after_that_are_left_alone() -> None:
    frame = Frame("openai.chat", b"{}", events=(TextDelta(0, "b"),))

    class One(Pieces):
        def feed(self, data: bytes) -> Any:
            yield Frame.of(ChoiceStarted(0), TextDelta(0, "ab")) if data else frame

    decoder = Unrepeated(One(), told="a", partly=True)
    assert [each.events for each in decoder.feed(b"1")] == [(ChoiceStarted(0), TextDelta(0, "b"))]
    assert list(decoder.feed(b"")) == [frame]


def test_a_beginning_is_the_last_message() -> None:
    request = a_call().request
    assert isinstance(request, ChatRequest)
    assert with_beginning(request) is request
    sent = {"messages": msgspec.Raw(b'[ {"role": "user", "content": "\\u00e4"} ]')}
    begun = with_beginning(msgspec.structs.replace(request, begun='"He', sent=sent))
    assert (begun.messages[:-1], begun.fields["messages"]) == (request.messages, begun.messages)
    assert (begun.messages[-1].role, begun.messages[-1].text) == ("assistant", '"He')
    assert (
        bytes(begun.sent["messages"])
        == b'[{"role": "user", "content": "\\u00e4"},{"role":"assistant","content":"\\"He"}]'
    )
