"""Anthropic's streams: every stream of the corpus in any pieces, streams that end badly, and forms of answers."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.errors import UpstreamError, UpstreamProtocolError
from narthex.core.fold import Fold
from narthex.core.stream import ChoiceFinished, Frame, OrderCheck, UsageReported
from narthex.providers.anthropic_stream import MessagesDecoder
from narthex.wire.sse import encode

CORPUS = Path(__file__).parents[2] / "corpus" / "anthropic"
CASES = sorted(CORPUS.glob("*.sse"))
FAILING = {"cut", "error_first", "error_later"}
SOUND = [case for case in CASES if case.stem not in FAILING]


def frames(pieces: Iterable[bytes], decoder: MessagesDecoder) -> list[Frame]:
    return [*(frame for piece in pieces for frame in decoder.feed(piece)), *decoder.end()]


def outcome(pieces: Iterable[bytes], **form: bool) -> list[Any]:
    """The events as the corpus writes them, and the error that the stream ended with."""
    decoder = MessagesDecoder(**form)
    found: list[Any] = []
    try:
        for piece in pieces:
            for frame in decoder.feed(piece):
                found += map(plain, frame.events)
        for frame in decoder.end():
            found += map(plain, frame.events)
    except UpstreamError as error:
        found.append([type(error).__name__, error.message])
    return found


def plain(event: Any) -> list[Any]:
    fields = msgspec.json.decode(msgspec.json.encode(event), type=dict[str, Any])
    if isinstance(event, UsageReported):
        fields["usage"] = {name: count for name, count in fields["usage"].items() if count}
    return [type(event).__name__, {name: value for name, value in fields.items() if value is not None}]


def wire(*events: dict[str, Any]) -> bytes:
    return b"".join(encode(json.dumps(event).encode()) for event in events)


def block(index: int = 0, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": content}


def delta(index: int = 0, **content: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": content}


def stopped(reason: str | None, **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": reason}, "usage": usage}


START: dict[str, Any] = {"type": "message_start", "message": {"usage": {"input_tokens": 1}}}
STARTED = ["ChoiceStarted", {"choice": 0}]
CUT = ["UpstreamProtocolError", "The model's server ended its answer before it was complete."]
UNREADABLE = ["UpstreamProtocolError", "The model's server sent an answer that can't be read."]


def finished(reason: str) -> list[Any]:
    return ["ChoiceFinished", {"choice": 0, "reason": reason}]


def told(found: list[Any]) -> list[Any]:
    """Without the usage."""
    return [entry for entry in found if entry[0] != "UsageReported"]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_corpus_whole_bytewise_and_cut_everywhere(case: Path) -> None:
    stream = case.read_bytes()
    expected = json.loads(case.with_suffix(".events.json").read_text())
    assert outcome([stream]) == expected
    assert outcome(stream[i : i + 1] for i in range(len(stream))) == expected
    for cut in range(len(stream)):
        assert outcome([stream[:cut], stream[cut:]]) == expected


@pytest.mark.parametrize("case", SOUND, ids=lambda case: case.stem)
def test_the_corpus_keeps_the_order_and_tells_its_facts(case: Path) -> None:
    fold, order = Fold(), OrderCheck()
    for frame in frames([case.read_bytes()], MessagesDecoder()):
        order.feed(frame.events)
        fold.feed(frame.events)
        assert frame.finishes == any(isinstance(event, ChoiceFinished) for event in frame.events)
        assert (frame.usage is not None) == any(isinstance(event, UsageReported) for event in frame.events)
    order.end()
    fold.end()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_cut_stream_is_never_a_silent_end(case: Path) -> None:
    stream = case.read_bytes()
    for cut in range(len(stream)):
        found = outcome([stream[:cut]])
        complete = any(name == "ChoiceFinished" for name, _ in found)
        assert complete or found[-1] == CUT or case.stem.startswith("error")
        assert complete or isinstance(found[-1][1], str)


@pytest.mark.parametrize(
    "stream",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(wire(START), id="the beginning alone"),
        pytest.param(wire(START, {"type": "message_stop"}), id="no stop reason"),
        pytest.param(wire(START, stopped(None)), id="a null stop reason"),
        pytest.param(wire(START, {"type": "message_delta"}), id="an empty message_delta"),
        pytest.param(wire(START, stopped("compacted")), id="a stop reason we don't know"),
        pytest.param(wire(stopped("end_turn")), id="no beginning"),
        pytest.param(wire(block(type="text", text="a"), stopped("end_turn")), id="a block before the beginning"),
        pytest.param(wire(START, START), id="two beginnings"),
        pytest.param(encode(b"{"), id="cut JSON"),
        pytest.param(encode(b"null"), id="no object"),
        pytest.param(encode(b"[" * 100_000), id="deep"),
        pytest.param(encode(b'{"type":"ping","index":"a"}'), id="wrong type"),
        pytest.param(encode(b'{"type":"\xff"}'), id="not UTF-8"),
    ],
)
def test_an_answer_that_is_none(stream: bytes) -> None:
    with pytest.raises(UpstreamProtocolError):
        frames([stream], MessagesDecoder())


@pytest.mark.parametrize(
    ("reason", "ours"),
    [
        ("end_turn", "stop"),
        ("stop_sequence", "stop"),
        ("pause_turn", "stop"),
        ("max_tokens", "length"),
        ("model_context_window_exceeded", "length"),
        ("tool_use", "tool_calls"),
        ("refusal", "content_filter"),
    ],
)
def test_stop_reasons(reason: str, ours: str) -> None:
    assert told(outcome([wire(START, stopped(reason))])) == [STARTED, finished(ours)]


CALL = (
    block(type="tool_use", id="toolu_1", name="f", input={}),
    delta(type="input_json_delta", partial_json='{"a":1}'),
)


def test_a_forced_tool_s_input_is_the_answer_s_text() -> None:
    found = outcome([wire(START, *CALL, {"type": "content_block_stop"}, stopped("tool_use"))], answer_is_call=True)
    assert told(found) == [STARTED, ["TextDelta", {"choice": 0, "text": '{"a":1}'}], finished("stop")]
    cut = outcome([wire(START, *CALL, stopped("max_tokens"))], answer_is_call=True)
    assert told(cut)[-1] == finished("length")


def test_what_is_said_beside_a_forced_tool() -> None:
    said = (block(type="text", text="Sure: "), delta(type="text_delta", text="here."))
    second = (
        block(1, type="tool_use", id="toolu_2", name="f"),
        delta(1, type="input_json_delta", partial_json="{}"),
        {"type": "content_block_stop", "index": 1},
    )
    answered = told(outcome([wire(START, *said, *CALL, *second, stopped("tool_use"))], answer_is_call=True))
    assert answered == [STARTED, ["TextDelta", {"choice": 0, "text": '{"a":1}'}], finished("stop")]
    declined = told(outcome([wire(START, *said, stopped("refusal"))], answer_is_call=True))
    assert declined == [STARTED, ["TextDelta", {"choice": 0, "text": "Sure: here."}], finished("content_filter")]


def test_a_call_of_the_older_form() -> None:
    found = told(outcome([wire(START, *CALL, stopped("tool_use"))], older=True))
    assert found[-1] == finished("function_call")
    assert [name for name, _ in found] == ["ChoiceStarted", "ToolCallDelta", "ToolCallDelta", "ChoiceFinished"]


def test_a_call_without_an_end_gets_its_arguments_unless_it_was_cut() -> None:
    begun = block(type="tool_use", id="toolu_1", name="f", input={})
    call = ["ToolCallDelta", {"choice": 0, "call": 0, "id": "toolu_1", "name": "f", "arguments": ""}]
    empty = ["ToolCallDelta", {"choice": 0, "call": 0, "arguments": "{}"}]
    whole, cut = (outcome([wire(START, begun, stopped(reason))]) for reason in ("tool_use", "max_tokens"))
    assert told(whole) == [STARTED, call, empty, finished("tool_calls")]
    assert told(cut) == [STARTED, call, finished("length")]


@pytest.mark.parametrize(
    "skipped",
    [
        {"type": "ping"},
        {"type": "news"},
        block(type="text", text=""),
        block(type="thinking"),
        block(type="news", text="a"),
        {"type": "content_block_start"},
        {"type": "content_block_delta"},
        delta(type="text_delta", text=""),
        delta(type="thinking_delta", thinking=""),
        delta(type="signature_delta", signature="a"),
        delta(type="input_json_delta", partial_json=""),
        delta(7, type="input_json_delta", partial_json="{}"),
        {"type": "content_block_stop", "index": 7},
    ],
)
def test_what_is_skipped(skipped: dict[str, Any]) -> None:
    assert told(outcome([wire(START, skipped, stopped("end_turn"))])) == [STARTED, finished("stop")]


def test_nothing_is_told_after_the_end() -> None:
    late = wire(block(type="text", text="late"), stopped("refusal"), {"type": "message_stop"}, {"type": "error"})
    assert told(outcome([wire(START, stopped("end_turn")) + late])) == [STARTED, finished("stop")]


def test_the_last_counts_are_told() -> None:
    first = {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 3, "output_tokens": 1}
    stream = wire(
        {"type": "message_start", "message": {"usage": first}},
        stopped("end_turn", output_tokens=4, output_tokens_details={"thinking_tokens": 2}),
        stopped(None, output_tokens=7, input_tokens=12),
        stopped(None),
    )
    usage = outcome([stream])[-1][1]["usage"]
    assert (usage["prompt_tokens"], usage["completion_tokens"]) == (20, 7)
    assert (usage["cached_tokens"], usage["reasoning_tokens"]) == (3, 2)


def test_no_counts_are_no_usage() -> None:
    stream = wire({"type": "message_start"}, {"type": "message_delta", "delta": {"stop_reason": "end_turn"}})
    assert outcome([stream]) == [STARTED, finished("stop")]


ANY_EVENT = st.sampled_from(
    [
        START,
        *CALL,
        block(1, type="text", text="a"),
        block(2, type="thinking", thinking="b"),
        delta(1, type="text_delta", text="c"),
        {"type": "content_block_stop", "index": 0},
        {"type": "ping"},
        stopped(None, output_tokens=1),
        stopped("tool_use"),
        stopped("end_turn", output_tokens=2),
        {"type": "message_stop"},
        {"type": "error", "error": {"type": "overloaded_error"}},
    ]
)


@given(st.lists(ANY_EVENT, max_size=8), st.booleans(), st.booleans())
def test_whatever_comes_keeps_the_order(events: list[dict[str, Any]], answer_is_call: bool, older: bool) -> None:
    decoder, order = MessagesDecoder(answer_is_call=answer_is_call, older=older), OrderCheck()
    try:
        for frame in decoder.feed(wire(START, *events)):
            order.feed(frame.events)
        for frame in decoder.end():
            order.feed(frame.events)
    except UpstreamError:
        return
    order.end()


@given(st.binary(max_size=60))
def test_garbage_is_an_error_of_the_server_s(data: bytes) -> None:
    assert (
        outcome([wire(START), encode(data.replace(b"\n", b"").replace(b"\r", b""))])[-1][0] == "UpstreamProtocolError"
    )
