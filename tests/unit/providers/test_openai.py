"""The OpenAI chat codec: every stream of the corpus in any pieces, and streams that end badly."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from narthex.core.errors import (
    NarthexError,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamUnavailable,
)
from narthex.core.fold import Fold
from narthex.core.stream import ChoiceFinished, Event, Frame, OrderCheck, UsageReported
from narthex.providers.openai import FORMAT, ChatDecoder
from narthex.wire.sse import encode

CORPUS = Path(__file__).parents[2] / "corpus" / "openai"
CASES = sorted(CORPUS.glob("*.sse"))
CHOICES = {"two_choices": 2}


def frames(case: Path, pieces: Iterable[bytes]) -> list[Frame]:
    decoder = ChatDecoder(choices=CHOICES.get(case.stem, 1))
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


def decode(*payloads: bytes, choices: int = 1) -> list[Frame]:
    decoder = ChatDecoder(choices=choices)
    return [*(frame for payload in payloads for frame in decoder.feed(encode(payload))), *decoder.end()]


def chunk(*choices: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"id": "c", "choices": choices} | fields).encode()


RATE_LIMIT = "The model's server is over its rate limit."
STOP = chunk({"index": 0, "delta": {}, "finish_reason": "stop"})


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_corpus_whole_bytewise_and_cut_everywhere(case: Path) -> None:
    stream = case.read_bytes()
    whole = frames(case, [stream])
    assert plain(events(whole)) == json.loads(case.with_suffix(".events.json").read_text())
    facts = [(frame.format, frame.data, frame.finishes, frame.usage) for frame in whole]

    def same(*pieces: bytes) -> bool:
        return [(f.format, f.data, f.finishes, f.usage) for f in frames(case, pieces)] == facts

    assert same(*(stream[i : i + 1] for i in range(len(stream))))
    assert events(frames(case, [stream[i : i + 1] for i in range(len(stream))])) == events(whole)
    for cut in range(len(stream)):
        assert same(stream[:cut], stream[cut:])


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_the_corpus_keeps_the_order_and_tells_its_facts(case: Path) -> None:
    found = frames(case, [case.read_bytes()])
    fold, order = Fold(), OrderCheck()
    for frame in found:
        order.feed(frame.events)
        fold.feed(frame.events)
        assert frame.finishes == any(isinstance(event, ChoiceFinished) for event in frame.events)
        assert (frame.usage is not None) == any(isinstance(event, UsageReported) for event in frame.events)
        assert frame.format == ("" if frame.usage else FORMAT)
        assert (frame.format == "") == (frame.data == b"")
    order.end()
    fold.end()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.stem)
def test_a_cut_stream_is_never_a_silent_end(case: Path) -> None:
    stream = case.read_bytes()
    for cut in range(len(stream)):
        decoder = ChatDecoder(choices=CHOICES.get(case.stem, 1))
        found = list(decoder.feed(stream[:cut]))
        finished = sum(isinstance(event, ChoiceFinished) for event in events(found))
        if finished == CHOICES.get(case.stem, 1):
            list(decoder.end())
        else:
            with pytest.raises(UpstreamProtocolError):
                list(decoder.end())


@pytest.mark.parametrize(
    ("payloads", "choices"),
    [
        pytest.param([], 1, id="nothing"),
        pytest.param([b"[DONE]"], 1, id="the end mark alone"),
        pytest.param([chunk({"index": 0, "delta": {"content": "a"}}), b"[DONE]"], 1, id="no finish reason"),
        pytest.param([STOP], 2, id="one choice of two"),
        pytest.param([STOP, chunk({"index": 1, "delta": {"content": "a"}})], 1, id="a choice too many, unfinished"),
        pytest.param([b"{"], 1, id="cut JSON"),
        pytest.param([b"null"], 1, id="no object"),
        pytest.param([b"[" * 100_000], 1, id="deep"),
        pytest.param([b'{"choices":[{"index":"a"}]}'], 1, id="wrong type"),
        pytest.param([b'{"choices":[],"x":"\xff"}'], 1, id="not UTF-8"),
        pytest.param([chunk({"index": 0, "delta": {}, "finish_reason": "abort"})], 1, id="unknown reason"),
    ],
)
def test_an_answer_that_is_none(payloads: list[bytes], choices: int) -> None:
    with pytest.raises(UpstreamProtocolError):
        decode(*payloads, choices=choices)


@pytest.mark.parametrize(
    "choice",
    [
        {"index": 0, "delta": {"content": ["a"]}},
        {
            "index": 0,
            "delta": {"content": "a"},
            "logprobs": {"content": [{"token": "a", "logprob": -1, "bytes": [300]}]},
        },
    ],
)
def test_a_chunk_whose_events_can_not_be_read_says_so_when_they_are_asked_for(choice: dict[str, Any]) -> None:
    frame = decode(chunk(choice), STOP)[0]
    with pytest.raises(UpstreamProtocolError):
        _ = frame.events


@pytest.mark.parametrize(
    ("error", "ours", "message"),
    [
        ({"message": "broken pipe to 10.0.0.1"}, UpstreamUnavailable, "The model's server failed."),
        ({"message": "x", "code": 503, "type": "unavailable_error"}, UpstreamUnavailable, "The model's server failed."),
        ({"message": "too long", "type": "invalid_request_error"}, UpstreamRejected, "too long"),
        ({"message": "bad", "code": 400, "type": "BadRequestError"}, UpstreamRejected, "bad"),
        ({"message": "org-123", "type": "tokens", "code": "x"}, UpstreamRateLimited, RATE_LIMIT),
        ({"message": "org-123", "code": "rate_limit_exceeded"}, UpstreamRateLimited, RATE_LIMIT),
        ("text", UpstreamUnavailable, "The model's server failed."),
        (["list"], UpstreamUnavailable, "The model's server failed."),
    ],
)  # fmt: skip
def test_an_error_event_comes_after_the_frames_before_it(error: Any, ours: type[NarthexError], message: str) -> None:
    found = ChatDecoder().feed(encode(chunk({"index": 0, "delta": {"content": "a"}})) + encode(chunk(error=error)))
    assert plain(next(found).events)[1] == ["TextDelta", {"choice": 0, "text": "a"}]
    with pytest.raises(ours) as caught:
        next(found)
    assert (type(caught.value), caught.value.message) == (ours, message)


def test_a_null_error_is_none() -> None:
    assert len(decode(chunk({"index": 0, "delta": {}, "finish_reason": "stop"}, error=None))) == 1


def test_a_foreign_finish_reason_is_passed_on_in_the_contract_s_words() -> None:
    first, second = {"index": 0, "finish_reason": "max_tokens"}, {"index": 1, "finish_reason": None}
    frame, _ = decode(chunk(first, second), chunk({"index": 1, "finish_reason": "stop"}), choices=2)
    reasons = [choice["finish_reason"] for choice in json.loads(frame.data)["choices"]]
    assert reasons == ["length", None]


def test_an_afterthought_beside_a_running_choice_has_no_events() -> None:
    late, going = {"index": 0, "delta": {"content": "late"}}, {"index": 1, "delta": {"content": "b"}}
    found = decode(STOP, chunk(late, going), chunk({"index": 1, "finish_reason": "stop"}), choices=2)
    assert plain(found[1].events) == [["ChoiceStarted", {"choice": 1}], ["TextDelta", {"choice": 1, "text": "b"}]]
