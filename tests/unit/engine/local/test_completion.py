"""What is told before the answers, which of the candidates are told, and how a model is asked to fill in."""

from typing import Any

import pytest
from tests.scripted_deployment import USED

from narthex.core.chat import ChatRequest, Message, Role, Sampling
from narthex.core.completions import DEFAULT_PROMPT, Prompt
from narthex.core.fold import Fold, FoldedChoice
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    Frame,
    ReasoningDelta,
    TextDelta,
    TokenLogprob,
)
from narthex.engine.local.completion import chatted, generated
from narthex.engine.local.echo import Echo, Told, echoed
from narthex.engine.local.infill import FillIn, fill_in_of
from narthex.engine.local.probabilities import Vocabulary
from narthex.engine.local.ranking import ranked

pytestmark = pytest.mark.anyio

VOCABULARY = Vocabulary((b"<s>", b"Hi", b" Hi", b" you", b"\xf0\x9f", b"\x98\x80"))


@pytest.mark.parametrize(
    ("prompt", "tokens", "text", "pieces"),
    [
        ("Hi you", [1, 3], "Hi you", [b"Hi", b" you"]),
        ("Hi you", [0, 1, 3], "Hi you", [b"", b"Hi", b" you"]),
        ("Hi you", [2, 3], "Hi you", [b"Hi", b" you"]),
        ("Hi you", [0, 2, 3], "Hi you", [b"", b"Hi", b" you"]),
        ("", [0], "", [b""]),
        (DEFAULT_PROMPT, [0], "", [b""]),
        ("\U0001f600", [4, 5], "\U0001f600", [b"\xf0\x9f", b"\x98\x80"]),
        ("HI YOU", [1, 3], "Hi you", [b"Hi", b" you"]),
        ((0, 1), [0, 1], "<s>Hi", [b"<s>", b"Hi"]),
        ((4,), [4], "�", [b"\xf0\x9f"]),
    ],
)
def test_a_prompt_is_told_as_it_was_sent(prompt: Prompt, tokens: list[int], text: str, pieces: list[bytes]) -> None:
    echo = Echo.of(prompt, tokens, VOCABULARY)
    assert (echo.text, list(echo.pieces)) == (text, pieces)


async def stream(*frames: Frame):  # type: ignore[no-untyped-def]
    for frame in frames:
        yield frame


async def test_each_choice_begins_with_its_prompt() -> None:
    entry = TokenLogprob(token="A", logprob=None)
    frames = [
        Frame.of(ChoiceStarted(2), TextDelta(2, "x")),
        Frame.of(ChoiceStarted(1)),
        Frame.of(ChoiceFinished(2, "stop")),
    ]
    found = [frame.events async for frame in echoed(stream(*frames), [Told("A", (entry,)), Told("B")], n=2)]
    assert found == [
        (ChoiceStarted(2), TextDelta(2, "B", None), TextDelta(2, "x")),
        (ChoiceStarted(1), TextDelta(1, "A", (entry,))),
        (ChoiceFinished(2, "stop"),),
    ]


def candidate(number: int, *logprobs: float | None) -> Frame:
    entries = tuple(TokenLogprob(token="t", logprob=logprob) for logprob in logprobs)
    return Frame.of(ChoiceStarted(number), TextDelta(number, f"text {number}", entries), ChoiceFinished(number, "stop"))


async def chosen(*frames: Frame, candidates: int, n: int, logprobs: bool = False) -> list[FoldedChoice]:
    fold = Fold()
    async for frame in ranked(stream(*frames), candidates=candidates, n=n, logprobs=logprobs):
        fold.feed(frame.events)
    fold.end()
    return fold.choices


async def test_the_best_are_told_best_first_for_each_prompt() -> None:
    frames = [
        candidate(4, -9), candidate(1, -1), candidate(0, -2, -4), candidate(2, -2, -1), candidate(5, -7), candidate(3),
        USED,
    ]  # fmt: skip
    found = await chosen(*frames, candidates=3, n=2)
    assert [(choice.index, "".join(choice.text)) for choice in found] == [
        (0, "text 1"), (1, "text 2"), (2, "text 5"), (3, "text 4"),
    ]  # fmt: skip
    assert [choice.logprobs for choice in found] == [None] * 4


async def test_equals_keep_their_order_and_entries_stay_where_asked_for() -> None:
    found = await chosen(*(candidate(number, -1.0) for number in range(3)), candidates=3, n=2, logprobs=True)
    assert ["".join(choice.text) for choice in found] == ["text 0", "text 1"]
    assert [len(choice.logprobs or ()) for choice in found] == [1, 1]


def conversation(*, role: Role = "assistant", content: str | None = "The", n: int = 1, **fields: Any) -> ChatRequest:
    return ChatRequest(
        model="m",
        messages=(Message(role="user", content="Hi"), Message(role=role, content=content)),
        sampling=Sampling(n=n),
        best_of=fields.get("best_of", n),
        fields=fields,
        sent={},
    )


async def told(request: ChatRequest, *frames: Frame) -> list[tuple[Event, ...]]:
    return [frame.events async for frame in chatted(stream(*frames), request)]


async def test_a_chat_that_asks_for_neither_is_left_alone() -> None:
    frame = candidate(0, -1)
    assert await told(conversation(), frame) == [frame.events]
    assert generated(conversation(n=2)) == Sampling(n=2)


async def test_the_best_of_a_chat_keep_their_thoughts() -> None:
    request = conversation(best_of=2)
    assert generated(request) == Sampling(n=2, logprobs=0)
    thought = Frame.of(ChoiceStarted(1), ReasoningDelta(1, "Hm."))
    entry = TokenLogprob(token="t", logprob=-0.5)
    rest = Frame.of(TextDelta(1, "Yes", (entry,)), ChoiceFinished(1, "stop"))
    assert await told(request, candidate(0, -1), thought, rest) == [
        (ChoiceStarted(0), ReasoningDelta(0, "Hm."), TextDelta(0, "Yes", None), ChoiceFinished(0, "stop"))
    ]


@pytest.mark.parametrize(
    ("role", "content", "echo"), [("assistant", "The", 1), ("user", "The", 0), ("assistant", "", 0)]
)
async def test_a_chat_tells_what_it_goes_on_from(role: Role, content: str, echo: int) -> None:
    request = conversation(role=role, content=content, echo=True)
    (events,) = await told(request, Frame.of(ChoiceStarted(0)))
    assert events == (ChoiceStarted(0), TextDelta(0, "The", None))[: 1 + echo]


PRE, SUF, MID = (f"tokenizer.ggml.fim_{part}_token_id" for part in ("pre", "suf", "mid"))
OLDER = {f"tokenizer.ggml.{part}_token_id": id_ for part, id_ in (("prefix", 3), ("suffix", 5), ("middle", 4))}


@pytest.mark.parametrize(
    ("metadata", "fill_in"),
    [
        ({PRE: 3, SUF: 5, MID: 4}, FillIn(3, 5, 4)),
        (OLDER, FillIn(3, 5, 4)),
        (OLDER | {MID: 9}, FillIn(3, 5, 9)),
        ({PRE: 0, SUF: 5, MID: 4}, FillIn(0, 5, 4)),
        ({PRE: 3, SUF: 5}, None),
        ({PRE: 3, SUF: 5, MID: "x"}, None),
        ({}, None),
    ],
)
def test_models_declare_that_they_can_fill_in(metadata: dict[str, object], fill_in: FillIn | None) -> None:
    assert fill_in_of(metadata) == fill_in


def test_the_prompt_of_one_that_fills_in() -> None:
    assert FillIn(3, 5, 4).prompt([1], [10, 11], [12]) == [1, 3, 10, 11, 5, 12, 4]
