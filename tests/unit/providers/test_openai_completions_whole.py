"""Whole answers of the text completions codec: in any pieces, answers that are none, and streams all the same."""

import json
from collections.abc import Iterable
from functools import partial
from typing import Any

import pytest

from narthex.core.errors import NarthexError, UpstreamProtocolError, UpstreamRateLimited, UpstreamUnavailable
from narthex.core.fold import folded
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Event, Frame, TextDelta, Usage, UsageReported
from narthex.providers import openai_completions
from narthex.providers.codec import AnswerDecoder
from narthex.providers.openai_completions import CompletionsDecoder, WholeCompletions
from narthex.providers.openai_whole import EitherWay
from narthex.wire.sse import encode

USED = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
ONCE = {"index": 0, "text": "Onçe", "logprobs": None, "finish_reason": "length"}
LOGPROBS = {"tokens": ["On", "ce"], "token_logprobs": [None, -0.5], "top_logprobs": [None, {"ce": -0.5, "e": -2.0}],
            "text_offset": [0, 2]}  # fmt: skip
ANSWERS: dict[str, tuple[list[dict[str, Any]], dict[str, Any]]] = {
    "text": ([ONCE], {"usage": USED}),
    "nothing generated": ([ONCE | {"text": ""}], {"usage": USED}),
    "null usage": ([ONCE], {"usage": None, "system_fingerprint": None}),
    "vllm": (
        [ONCE | {"stop_reason": None, "prompt_logprobs": None}],
        {"usage": USED | {"prompt_tokens_details": None}},
    ),
    "logprobs": ([ONCE | {"text": "Once", "logprobs": LOGPROBS}], {"usage": USED}),
    "three, in another order": ([ONCE | {"index": index, "finish_reason": "stop"} for index in (2, 0, 1)], {}),
}


def document(*choices: Any, **fields: Any) -> bytes:
    return json.dumps(
        {"id": "c", "object": "text_completion", "choices": choices} | fields, ensure_ascii=False
    ).encode()


def either(*, choices: int = 1) -> EitherWay:
    return EitherWay(WholeCompletions(choices=choices), partial(CompletionsDecoder, choices=choices))


def decoded(pieces: Iterable[bytes], decoder: AnswerDecoder) -> list[Frame]:
    return [*(frame for piece in pieces for frame in decoder.feed(piece)), *decoder.end()]


def events(found: Iterable[Frame]) -> list[Event]:
    return [event for frame in found for event in frame.events]


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_whole_bytewise_and_cut_everywhere(case: str) -> None:
    choices, fields = ANSWERS[case]
    body = document(*choices, **fields)
    new = partial(either, choices=len(choices))
    found = decoded([body], new())
    whole = events(found)
    fold = folded(found)
    assert ["".join(choice.text) for choice in fold.choices] == [choice["text"] for choice in choices]
    assert [choice.finish_reason for choice in fold.choices] == [choice["finish_reason"] for choice in choices]
    assert fold.usage == (Usage(prompt_tokens=3, completion_tokens=2) if fields.get("usage") else None)
    assert (fold.choices[0].logprobs is not None) == (case == "logprobs")
    assert events(decoded([body[i : i + 1] for i in range(len(body))], new())) == whole
    for cut in range(len(body)):
        assert events(decoded([body[:cut], body[cut:]], new())) == whole
        with pytest.raises(UpstreamProtocolError):
            decoded([body[:cut]], new())


def test_nothing_is_told_before_all_has_come() -> None:
    decoder = WholeCompletions(choices=1)
    assert list(decoder.feed(document(ONCE, usage=USED))) == []
    used = Usage(prompt_tokens=3, completion_tokens=2)
    (frame,) = decoder.end()
    assert frame.events == (
        ChoiceStarted(0), TextDelta(0, "Onçe"), ChoiceFinished(0, "length"), UsageReported(used),
    )  # fmt: skip
    assert frame.usage == used


@pytest.mark.parametrize(
    ("body", "choices"),
    [
        pytest.param(b"", 1, id="nothing"),
        pytest.param(b"{}", 1, id="no choices"),
        pytest.param(document(), 1, id="an empty list"),
        pytest.param(document(ONCE), 2, id="one choice of two"),
        pytest.param(document(ONCE, ONCE), 2, id="the same twice"),
        pytest.param(document(ONCE, ONCE | {"index": 1}), 1, id="a choice too many"),
        pytest.param(document(ONCE | {"finish_reason": None}), 1, id="null reason"),
        pytest.param(document(ONCE | {"finish_reason": "error"}), 1, id="unknown reason"),
        pytest.param(document(ONCE | {"text": 5}), 1, id="text of another type"),
        pytest.param(document(ONCE).replace(b"On", b"\xff"), 1, id="not UTF-8"),
        pytest.param(b"<html>", 1, id="a page"),
    ],
)
def test_an_answer_that_is_none(body: bytes, choices: int) -> None:
    with pytest.raises(UpstreamProtocolError):
        decoded([body], either(choices=choices))


def test_an_answer_that_is_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openai_completions, "LIMIT_BYTES", 10)
    with pytest.raises(UpstreamProtocolError):
        decoded([document(ONCE)], either())


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        ({"message": "x", "type": "server_error"}, UpstreamUnavailable),
        ({"message": "x", "code": "rate_limit_exceeded"}, UpstreamRateLimited),
    ],
)
def test_an_error_in_place_of_an_answer(error: Any, ours: type[NarthexError]) -> None:
    with pytest.raises(ours):
        decoded([json.dumps({"error": error}).encode()], either())


def test_a_stream_all_the_same() -> None:
    body = b"\n" + encode(document(ONCE | {"finish_reason": None})) + encode(document(ONCE | {"text": ""}, usage=USED))
    whole = events(decoded([body + encode(b"[DONE]")], either()))
    assert whole == [
        ChoiceStarted(0),
        TextDelta(0, "Onçe"),
        ChoiceFinished(0, "length"),
        UsageReported(Usage(prompt_tokens=3, completion_tokens=2)),
    ]
    assert events(decoded([body[i : i + 1] for i in range(len(body))], either())) == whole
