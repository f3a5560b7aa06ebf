"""Folding a stream into one answer."""

import pytest

from narthex.core.fold import Fold, folded
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    EmbeddingsReady,
    Frame,
    ImagePartial,
    ImageReady,
    OutOfOrder,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    TokenLogprob,
    ToolCallDelta,
    Usage,
    UsageReported,
)

A, B = TokenLogprob(token="a", logprob=-0.1), TokenLogprob(token="b", logprob=-0.2)


def test_interleaved_choices_are_told_apart_and_sorted() -> None:
    fold = folded(
        [
            Frame.of(ChoiceStarted(1), ChoiceStarted(0), TextDelta(1, "x", (A,))),
            Frame.of(ReasoningDelta(0, "hm"), RefusalDelta(0, "no"), TextDelta(1, "y", (B,)), TextDelta(1, "z")),
            Frame.of(ToolCallDelta(choice=0, call=1, id="c1", name="f", arguments="{")),
            Frame.of(ToolCallDelta(choice=0, call=0, id="c0"), ToolCallDelta(choice=0, call=1, arguments="}")),
            Frame.of(ToolCallDelta(choice=0, call=0, name="g")),
            Frame.of(ChoiceFinished(1, "length"), ChoiceFinished(0, "tool_calls")),
            Frame.of(UsageReported(Usage(prompt_tokens=1, completion_tokens=2))),
        ]
    )
    first, second = fold.choices
    assert (first.index, first.reasoning, first.refusal, first.finish_reason) == (0, ["hm"], ["no"], "tool_calls")
    assert {n: (call.id, call.name, call.arguments) for n, call in first.calls.items()} == {
        0: ("c0", "g", ""),
        1: ("c1", "f", "{}"),
    }
    assert (second.text, second.logprobs, second.finish_reason) == (["x", "y", "z"], [A, B], "length")
    assert first.logprobs is None
    assert fold.usage == Usage(prompt_tokens=1, completion_tokens=2)


def test_asked_for_but_empty_logprobs_are_not_none() -> None:
    fold = folded([Frame.of(ChoiceStarted(0), TextDelta(0, "", ()), ChoiceFinished(0, "stop"))])
    assert fold.choices[0].logprobs == []


def test_vectors_are_kept() -> None:
    assert folded([Frame.of(EmbeddingsReady((b"ab", b"cd")))]).vectors == (b"ab", b"cd")


def test_images_are_kept_in_their_order_and_parts_of_them_are_not() -> None:
    one, two = ImageReady(b64="1"), ImageReady(url="http://x/2")
    assert folded([Frame.of(ImagePartial(index=0, b64="0"), one), Frame.of(two)]).images == [one, two]


@pytest.mark.parametrize(
    "frames", [[], [Frame.of(ChoiceStarted(0))], [Frame.of(TextDelta(0, "a"))], [Frame.of(ChoiceFinished(0, "stop"))]]
)
def test_no_complete_answer_is_none(frames: list[Frame]) -> None:
    with pytest.raises(OutOfOrder):
        folded(frames)


def test_what_is_out_of_order_is_not_added() -> None:
    fold = Fold()
    fold.feed([ChoiceStarted(0), ChoiceFinished(0, "stop")])
    with pytest.raises(OutOfOrder):
        fold.feed([TextDelta(0, "late")])
    assert fold.choices[0].text == []
