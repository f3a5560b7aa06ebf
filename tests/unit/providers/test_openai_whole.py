"""Whole answers of the OpenAI chat codec: the corpus in any pieces, answers that are none, and streams all the same."""

import json
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from narthex.core.errors import (
    NarthexError,
    UpstreamCredentials,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from narthex.core.fold import folded
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Event, Frame, TextDelta, ToolCallDelta, Usage
from narthex.dialects.openai_chat import ChatDialect
from narthex.providers import openai_whole
from narthex.providers.beginning import Unrepeated
from narthex.providers.codec import AnswerDecoder
from narthex.providers.openai import ChatDecoder
from narthex.providers.openai_whole import FORMAT, EitherWay, WholeChat, read_whole
from narthex.providers.presets import PRESETS, codecs
from narthex.wire.sse import encode

CORPUS = Path(__file__).parents[2] / "corpus" / "openai_whole"
CASES = sorted(case for case in CORPUS.glob("*.json") if not case.stem.endswith(".events"))
CHOICES = {"three_choices": 3}
every_case = pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)

USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
TEXT = {"index": 0, "message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}


def either(*, choices: int = 1) -> EitherWay:
    return EitherWay(WholeChat(choices=choices), partial(ChatDecoder, choices=choices))


def decoded(pieces: Iterable[bytes], decoder: AnswerDecoder) -> list[Frame]:
    return [*(frame for piece in pieces for frame in decoder.feed(piece)), *decoder.end()]


def events(found: Iterable[Frame]) -> list[Event]:
    return [event for frame in found for event in frame.events]


def plain(found: Iterable[Event]) -> list[Any]:
    """As the corpus writes them."""
    return [
        [type(event).__name__, {name: value for name, value in json_form(event).items() if value is not None}]
        for event in found
    ]


def json_form(event: Event) -> dict[str, Any]:
    return msgspec.json.decode(msgspec.json.encode(event), type=dict[str, Any])


def document(*choices: Any, **fields: Any) -> bytes:
    return json.dumps({"id": "c", "object": "chat.completion", "choices": choices} | fields).encode()


# --- answers ---------------------------------------------------------------------------------------------------------


@every_case
@pytest.mark.parametrize("made", [WholeChat, either])
def test_the_corpus_whole_bytewise_and_cut_everywhere(case: Path, made: Any) -> None:
    new = partial(made, choices=CHOICES.get(case.stem, 1))
    body = case.read_bytes()
    (whole,) = decoded([body], new())
    assert plain(whole.events) == json.loads(case.with_suffix(".events.json").read_text())
    facts = (whole.format, whole.data, whole.finishes, whole.usage)

    def same(*pieces: bytes) -> bool:
        (frame,) = decoded(pieces, new())
        return (frame.format, frame.data, frame.finishes, frame.usage) == facts and frame.events == whole.events

    assert same(*(body[i : i + 1] for i in range(len(body))))
    for cut in range(len(body)):
        assert same(body[:cut], body[cut:])


@every_case
def test_the_corpus_keeps_the_order_and_tells_its_facts(case: Path) -> None:
    body = case.read_bytes()
    (frame,) = decoded([body], WholeChat(choices=CHOICES.get(case.stem, 1)))
    told = json.loads(body).get("usage")
    assert (frame.format, frame.finishes, frame.has_output) == (FORMAT, True, True)
    assert (frame.usage and frame.usage.prompt_tokens) == (told and told["prompt_tokens"])
    assert folded([frame]).usage == frame.usage
    if case.stem != "foreign_reason":
        assert json.loads(frame.data) == json.loads(body)


@every_case
def test_a_cut_answer_is_never_an_answer(case: Path) -> None:
    body = case.read_bytes().rstrip()
    for cut in range(len(body)):
        with pytest.raises(UpstreamProtocolError):
            decoded([body[:cut]], either(choices=CHOICES.get(case.stem, 1)))


def test_a_foreign_reason_is_told_by_the_contract_s_name() -> None:
    (frame,) = decoded([document(TEXT | {"finish_reason": "end_turn", "x": 1.5})], WholeChat())
    assert json.loads(frame.data)["choices"] == [TEXT | {"x": 1.5}]
    assert frame.events[-1] == ChoiceFinished(0, "stop")


def test_calls_are_as_many_as_stand_there_whatever_their_numbers() -> None:
    body = (CORPUS / "calls_numbered_alike.json").read_bytes()
    (choice,) = folded(decoded([body], WholeChat())).choices
    assert {number: (call.id, call.name, call.arguments) for number, call in choice.calls.items()} == {
        0: ("a", "f", "{}"),
        1: ("b", "g", '{"x":1}'),
    }


# --- answers that are none -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        pytest.param(b"", 1, id="nothing"),
        pytest.param(b" \n", 1, id="white space"),
        pytest.param(b"{}", 1, id="no choices"),
        pytest.param(b'{"choices":null}', 1, id="null choices"),
        pytest.param(document(), 1, id="an empty list"),
        pytest.param(document(TEXT), 2, id="one choice of two"),
        pytest.param(document(TEXT, TEXT | {"index": 1}), 1, id="a choice too many"),
        pytest.param(document(TEXT, TEXT), 1, id="the same choice twice, too many"),
        pytest.param(document(TEXT, TEXT), 2, id="the same choice twice"),
        pytest.param(document(TEXT | {"finish_reason": None}), 1, id="null reason"),
        pytest.param(document({"message": {"content": "Hi"}}), 1, id="no reason"),
        pytest.param(document(TEXT | {"finish_reason": "abort"}), 1, id="unknown reason"),
        pytest.param(document(TEXT | {"finish_reason": ""}), 1, id="empty reason"),
        pytest.param(document(TEXT | {"message": {"content": 5}}), 1, id="content of another type"),
        pytest.param(document(TEXT | {"message": "Hi"}), 1, id="message of another type"),
        pytest.param(document(TEXT | {"index": "0"}), 1, id="index of another type"),
        pytest.param(document(TEXT, usage={"prompt_tokens": "3"}), 1, id="usage of another type"),
        pytest.param(document(TEXT) + b"}", 1, id="more after it"),
        pytest.param(b"<html>502</html>", 1, id="a page"),
        pytest.param(b"[]", 1, id="a list"),
        pytest.param(b"null", 1, id="null"),
        pytest.param(b'"Hi"', 1, id="a string"),
        pytest.param(b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 1, id="deep"),
        pytest.param(document(TEXT)[:-1] + b',"x":"\xff"}', 1, id="not UTF-8 in what we don't know"),
        pytest.param(document(TEXT).replace(b"Hi", b"\xc3"), 1, id="not UTF-8 in its text"),
        pytest.param(document(TEXT).replace(b"Hi", rb"\ud800"), 1, id="half a character"),
        pytest.param(document(TEXT).replace(b"stop", b"eos")[:-1] + rb',"x":"\ud800"}', 1, id="half elsewhere"),
    ],
)
def test_an_answer_that_is_none(body: bytes, choices: int) -> None:
    with pytest.raises(UpstreamProtocolError):
        decoded([body], either(choices=choices))


def test_an_answer_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_whole, "LIMIT_BYTES", len(document(TEXT)))
    assert decoded([document(TEXT)], either())
    with pytest.raises(UpstreamProtocolError):
        decoded([document(TEXT), b"\n"], either())


@pytest.mark.parametrize(
    ("error", "ours", "message"),
    [
        ({"message": "broken pipe to 10.0.0.1", "type": "server_error"}, UpstreamUnavailable, None),
        ({"message": "sk-canary", "code": 401}, UpstreamCredentials, None),
        ({"message": "slow", "code": "rate_limit_exceeded"}, UpstreamRateLimited, None),
        ({"message": "too long", "type": "invalid_request_error"}, UpstreamRejected, "too long"),
        ("overloaded", UpstreamUnavailable, None),
    ],
)
def test_an_error_in_place_of_an_answer(error: Any, ours: type[NarthexError], message: str | None) -> None:
    for body in (json.dumps({"error": error}).encode(), document(TEXT, error=error)):
        with pytest.raises(ours) as raised:
            decoded([body], either())
        assert message is None or raised.value.message == message
        assert message is not None or str(error) not in raised.value.message


@pytest.mark.parametrize("error", [None, {}, ""])
def test_an_error_that_is_none(error: Any) -> None:
    assert events(decoded([document(TEXT, error=error)], WholeChat()))[1] == TextDelta(0, "Hi")


def test_bytes_that_are_none_are_found_when_they_are_asked_for() -> None:
    entry = {"token": "Hi", "logprob": -1, "bytes": [300]}
    (frame,) = decoded([document(TEXT | {"logprobs": {"content": [entry]}})], WholeChat())
    with pytest.raises(UpstreamProtocolError):
        _ = frame.events


# --- a stream although a document was asked for ----------------------------------------------------------------------

STREAM = b"".join(
    encode(json.dumps({"choices": [choice]}).encode())
    for choice in (
        {"index": 0, "delta": {"role": "assistant", "content": "H"}},
        {"index": 0, "delta": {"content": "i"}, "finish_reason": "stop"},
    )
)


@pytest.mark.parametrize("before", [b"", b"\n", b": ping\n\n", b"\r\n \r\n"])
def test_a_stream_all_the_same(before: bytes) -> None:
    body = before + STREAM + encode(b"[DONE]")
    whole = events(decoded([body], either()))
    assert whole == [ChoiceStarted(0), TextDelta(0, "H"), TextDelta(0, "i"), ChoiceFinished(0, "stop")]
    assert events(decoded([body[i : i + 1] for i in range(len(body))], either())) == whole
    for cut in range(len(body)):
        assert events(decoded([body[:cut], body[cut:]], either())) == whole


def test_pieces_of_such_a_stream_come_at_once() -> None:
    decoder = either()
    assert list(decoder.feed(b"\n")) == []
    assert events(decoder.feed(STREAM)) != []


# --- told anew -------------------------------------------------------------------------------------------------------


def test_calls_of_a_server_that_is_told_anew_are_told_anew() -> None:
    preset = PRESETS["gemini"]
    codec = codecs(preset, preset.traits)["chat"]
    body = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
    request = ChatDialect().decode(json.dumps(body).encode(), profile="openai", strict=True).request
    calls = [{"id": "", "index": 0, "type": "function", "function": {"name": name, "arguments": "{}"}} for name in "fg"]
    message = {"role": "assistant", "content": None, "tool_calls": calls}
    (frame,) = decoded(
        [document({"index": 0, "message": message, "finish_reason": "stop"}, usage=USED)], codec.decoder(request)
    )
    assert (frame.format, frame.data, frame.usage) == ("", b"", Usage(prompt_tokens=3, completion_tokens=2))
    assert [event for event in frame.events if isinstance(event, ToolCallDelta | ChoiceFinished)] == [
        ToolCallDelta(choice=0, call=0, id="call_0", name="f", arguments="{}"),
        ToolCallDelta(choice=0, call=1, id="call_1", name="g", arguments="{}"),
        ChoiceFinished(0, "tool_calls"),
    ]


def test_what_a_document_repeats_of_its_beginning_is_left_out() -> None:
    decoder = Unrepeated(WholeChat(), told="H", partly=False)
    assert events(decoded([document(TEXT)], decoder)) == [
        ChoiceStarted(0),
        TextDelta(0, "i"),
        ChoiceFinished(0, "stop"),
    ]


# --- one text and nothing else ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("choice", "alone"),
    [
        (TEXT, True),
        (TEXT | {"logprobs": None, "index": 0}, True),
        (TEXT | {"finish_reason": "eos"}, False),
        (TEXT | {"index": 1}, False),
        (TEXT | {"stop_reason": None}, False),
        (TEXT | {"message": {"content": ""}}, False),
        (TEXT | {"message": {"content": None}}, False),
        (TEXT | {"message": {"content": [{"text": "Hi"}]}}, False),
        (TEXT | {"message": {"content": "Hi", "refusal": "", "annotations": []}}, True),
        (TEXT | {"message": {"content": "Hi", "refusal": "No"}}, False),
        (TEXT | {"message": {"content": "Hi", "tool_calls": []}}, False),
    ],
)
def test_one_text_is_read_at_once(choice: dict[str, Any], alone: bool) -> None:
    written = json.dumps({"id": "x", "choices": [choice], "usage": USED}).encode()
    frame = read_whole(written, choices=1)
    assert (frame.alone is not None) is alone
    other = read_whole(written.replace(b'"id": "x"', b'"id": "x", "other": null'), choices=1)
    assert other.alone is None
    assert (frame.events, frame.usage, frame.finishes, frame.format) == (other.events, other.usage, True, FORMAT)


@pytest.mark.parametrize("content", [b'"\\x"', b'"\\ud800"', b'"\x01"', b'"\xff"'])
def test_one_text_has_to_be_sound(content: bytes) -> None:
    written = b'{"choices":[{"index":0,"message":{"content":%b},"finish_reason":"stop"}]}' % content
    with pytest.raises(UpstreamProtocolError):
        read_whole(written, choices=1)
