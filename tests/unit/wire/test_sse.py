"""The event-stream decoder, held against a line-by-line reading of the standard."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.errors import UpstreamProtocolError
from narthex.wire.sse import PING, Event, SseDecoder, encode

CASES = [
    pytest.param(b"data: a\n\n", [Event(b"a")], id="one"),
    pytest.param(b"data: a\n\ndata: b\n\n", [Event(b"a"), Event(b"b")], id="two"),
    pytest.param(b"data:a\n\n", [Event(b"a")], id="no space"),
    pytest.param(b"data:  a\n\n", [Event(b" a")], id="only the first space goes"),
    pytest.param(b"data\n\n", [Event(b"")], id="field without colon"),
    pytest.param(b"data:\n\n", [Event(b"")], id="empty data is data"),
    pytest.param(b"data: a\ndata: b\n\n", [Event(b"a\nb")], id="several lines"),
    pytest.param(b"data\ndata\n\n", [Event(b"\n")], id="two empty lines"),
    pytest.param(b"event: x\ndata: a\n\ndata: b\n\n", [Event(b"a", b"x"), Event(b"b")], id="a name lasts one event"),
    pytest.param(b"event: x\n\ndata: b\n\n", [Event(b"b")], id="a name alone is no event"),
    pytest.param(b": ping\n\ndata: a\n: note\n\n:\n\n", [Event(b"a")], id="comments"),
    pytest.param(b"id: 1\nretry: 5\nfoo: bar\ndata: a\nDATA: b\n\n", [Event(b"a")], id="other fields"),
    pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [Event(b"a"), Event(b"b")], id="CR LF"),
    pytest.param(b"data: a\r\rdata: b\r\r", [Event(b"a"), Event(b"b")], id="CR"),
    pytest.param(b"data: a\r\n\rdata: b\n\r\ndata: c\r\r\n", [Event(b"a"), Event(b"b"), Event(b"c")], id="mixed ends"),
    pytest.param(b"\xef\xbb\xbfdata: a\n\n\xef\xbb\xbfdata: b\n\n", [Event(b"a")], id="byte order mark, first only"),
    pytest.param(b"\n\n\ndata: a\n\n\n\n\ndata: b\n\n\n", [Event(b"a"), Event(b"b")], id="empty lines"),
    pytest.param(b"data: a: b\n\n", [Event(b"a: b")], id="colon in the value"),
    pytest.param("data: é€\U0001f600\n\n".encode(), [Event("é€\U0001f600".encode())], id="multi-byte"),
    pytest.param(b"data: a\n\ndata: cut\n", [Event(b"a")], id="unfinished"),
    pytest.param(b"", [], id="nothing"),
]


def decoded(*pieces: bytes) -> list[Event]:
    decoder = SseDecoder()
    return [event for piece in pieces for event in decoder.feed(piece)]


def by_the_letter(stream: bytes) -> list[Event]:
    """The standard's algorithm, a line at a time."""
    events, data, name = [], [], b""
    stream = stream.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    for line in stream.split(b"\n")[:-1]:
        field, _, value = line.partition(b":")
        value = value[1:] if value[:1] == b" " else value
        if not line:
            if data:
                events.append(Event(b"\n".join(data), name))
            data, name = [], b""
        elif field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return events


@pytest.mark.parametrize(("stream", "events"), CASES)
def test_whole_bytewise_and_cut_everywhere(stream: bytes, events: list[Event]) -> None:
    assert by_the_letter(stream) == events
    assert decoded(stream) == events
    assert decoded(*(stream[i : i + 1] for i in range(len(stream)))) == events
    for cut in range(len(stream) + 1):
        assert decoded(stream[:cut], stream[cut:]) == events
        assert decoded(stream[:cut], b"", stream[cut:]) == events


FRAGMENT = st.sampled_from(
    [
        b"data: ",
        b"data:",
        b"data",
        b"event: ",
        b"id: 1",
        b":",
        b"\n",
        b"\n\n",
        b"\r",
        b"\r\n",
        b" ",
        b"x",
        b"\xef\xbb\xbf",
    ]
)


@given(st.lists(st.lists(FRAGMENT, max_size=12).map(b"".join), max_size=12))
def test_any_pieces_decode_as_the_standard_says(pieces: list[bytes]) -> None:
    assert decoded(*pieces) == by_the_letter(b"".join(pieces))


@given(st.binary().map(lambda data: data.replace(b"\r", b"")), st.sampled_from([b"", b"message_start"]))
def test_what_is_encoded_decodes(data: bytes, name: bytes) -> None:
    assert decoded(encode(data, name)) == [Event(data, name)]


def test_encode_keeps_line_ends_inside_the_event() -> None:
    assert encode(b"a\r\n\rb") == b"data: a\ndata: \ndata: b\n\n"
    assert decoded(PING) == []


@pytest.mark.parametrize(
    ("pieces", "pending"),
    [
        ([], False),
        ([b"data: a\n\n"], False),
        ([b"data: a\n"], True),
        ([b"data: a", b"\n"], True),
        ([b"data: a\n\n\n"], False),
        ([b"data: a\r\n\r"], False),
        ([b"data: a\r\n\r", b"\n"], False),
    ],
)
def test_pending_tells_an_unfinished_event(pieces: list[bytes], pending: bool) -> None:
    decoder = SseDecoder()
    for piece in pieces:
        decoder.feed(piece)
    assert decoder.pending is pending


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([b"data: " + b"a" * 100], id="in one piece"),
        pytest.param([b"data: "] + [b"a" * 10] * 6, id="in many"),
        pytest.param([b"data: b\n\ndata: " + b"a" * 100 + b"\n\n"], id="complete"),
        pytest.param([b"data: b\n\ndata: " + b"a" * 100], id="after another"),
        pytest.param([b"data: " + b"a" * 100 + b"\n\n"], id="alone"),
    ],
)
def test_an_event_that_is_too_long(pieces: list[bytes]) -> None:
    decoder = SseDecoder(max_event_bytes=64)
    for piece in pieces[:-1]:
        decoder.feed(piece)
    with pytest.raises(UpstreamProtocolError):
        decoder.feed(pieces[-1])


def test_many_short_events_are_not_a_long_one() -> None:
    assert len(SseDecoder(max_event_bytes=64).feed(b"data: a\n\n" * 100)) == 100
