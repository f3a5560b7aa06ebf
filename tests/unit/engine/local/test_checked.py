"""Answers held against their schemas: what is checked, what is let pass, and the second attempt."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import msgspec
import pytest

from narthex.core.chat import ChatRequest, Message, Sampling
from narthex.core.completions import CompletionRequest
from narthex.core.constrained import ANY_OBJECT, ChoiceFormat, Constraint, JsonFormat
from narthex.core.errors import InvalidOutput, InvalidRequest
from narthex.core.stream import ChoiceFinished, ChoiceStarted, FinishReason, Frame, TextDelta, ToolCallDelta
from narthex.core.tools import Tool, Tools
from narthex.engine.local.checked import Checks, whole

pytestmark = pytest.mark.anyio

SCHEMA, PARAMETERS = b'{"type":"object"}', b'{"type":"array"}'


class Judge:
    """Says what is at fault with some texts, and remembers what it was asked."""

    def __init__(self, *wrong: str) -> None:
        self._wrong = wrong
        self.asked: list[tuple[bytes, str]] = []
        self.cut: list[bool] = []

    def of(self, owner: str) -> "Judge":
        raise AssertionError(owner)

    async def rule(self, schema: bytes, *, path: str) -> str:
        raise AssertionError((schema, path))

    async def fault(self, schema: bytes, text: str) -> str | None:
        raise AssertionError((schema, text))

    async def rule_of(self, constraint: Constraint) -> str:
        raise AssertionError(constraint)

    async def fault_of(self, constraint: Constraint, text: str, *, cut: bool = False) -> str | None:
        assert isinstance(constraint, JsonFormat)
        self.cut.append(cut)
        self.asked.append((constraint.schema, text))
        return "it is wrong" if text in self._wrong else None


def request(
    *,
    stop: tuple[str, ...] = (),
    stop_token_ids: tuple[int, ...] = (),
    formatted: bool = True,
    tools: bool = False,
    required: bool = False,
) -> ChatRequest:
    tool = Tool(name="sort", parameters=PARAMETERS, path="tools[0].function.parameters")
    return ChatRequest(
        model="m",
        messages=(Message(role="user", content="Hi"),),
        sampling=Sampling(stop=stop, stop_token_ids=stop_token_ids),
        response_format=JsonFormat(schema=SCHEMA, path="response_format") if formatted else None,
        tools=Tools(all_=(tool,), required=required) if tools else None,
        fields={},
        sent={},
    )


def answer(*texts: str, reason: FinishReason = "stop", choice: int = 0) -> list[Frame]:
    deltas = [Frame.of(TextDelta(choice, text)) for text in texts]
    return [Frame.of(ChoiceStarted(choice)), *deltas, Frame.of(ChoiceFinished(choice, reason))]


async def stream(frames: Sequence[Frame]) -> AsyncIterator[Frame]:
    for frame in frames:
        yield frame


async def watched(checks: Checks, frames: Sequence[Frame]) -> list[Frame]:
    return [frame async for frame in checks.watch(stream(frames))]


async def test_a_valid_answer_passes_unchanged() -> None:
    judge, frames = Judge(), answer("{", "}")
    assert await watched(Checks(request(), judge), frames) == frames
    assert judge.asked == [(SCHEMA, "{}")]


async def test_the_finish_of_an_invalid_one_is_not_told() -> None:
    frames = Checks(request(), Judge("{")).watch(stream(answer("{")))
    told = [await anext(frames), await anext(frames)]
    with pytest.raises(InvalidOutput) as caught:
        await anext(frames)
    assert caught.value.message.endswith(": it is wrong")
    assert "wrong" not in str(caught.value)  # which logs show
    assert [type(event) for frame in told for event in frame.events] == [ChoiceStarted, TextDelta]
    assert (caught.value.status, caught.value.code) == (502, "invalid_output")


async def test_a_beginning_is_no_fault() -> None:
    judge = Judge()
    await watched(Checks(request(), judge), answer("{", reason="length"))
    assert (judge.asked, judge.cut) == ([(SCHEMA, "{")], [True])
    with pytest.raises(InvalidOutput):
        await watched(Checks(request(), Judge("no")), answer("no", reason="length"))
    await watched(Checks(request(), Judge("")), answer(reason="length"))  # thoughts, say, and nothing else


async def test_what_a_stop_string_cut_is_no_fault() -> None:
    for cutting in (request(stop=("}",)), request(stop_token_ids=(7,))):
        judge = Judge()
        await watched(Checks(cutting, judge), answer("{"))
        assert judge.cut == [True]


@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_a_beginning_that_takes_too_long_to_check_passes(reason: FinishReason) -> None:
    class Slow(Judge):
        async def fault_of(self, constraint: Constraint, text: str, *, cut: bool = False) -> str | None:
            raise InvalidRequest("The schema took longer than 1 s.")

    frames = answer("{", reason=reason)
    if reason == "length":
        assert await watched(Checks(request(), Slow()), frames) == frames
    else:
        with pytest.raises(InvalidRequest):
            await watched(Checks(request(), Slow()), frames)


@pytest.mark.parametrize("text", ["{", "}"])
async def test_what_no_other_reader_can_check_is_held_against_its_rule(text: str) -> None:
    class Unread(Judge):
        async def fault_of(self, constraint: Constraint, text: str, *, cut: bool = False) -> str | None:
            if not cut:
                raise InvalidRequest("The schema can't be checked.")
            return await super().fault_of(constraint, text, cut=cut)

    checks = Checks(request(), Unread("}"))
    if text == "{":
        await watched(checks, answer(text))
    else:
        with pytest.raises(InvalidOutput):
            await watched(checks, answer(text))


@pytest.mark.parametrize(("text", "held"), [("yes", True), ("no", False)])
async def test_completions_are_held_too(text: str, held: bool) -> None:
    class Choices(Judge):
        async def fault_of(self, constraint: Constraint, text: str, *, cut: bool = False) -> str | None:
            assert isinstance(constraint, ChoiceFormat)
            return None if text in constraint.options else "it is none of the choices."

    guided = ChoiceFormat(options=("yes",), path="guided_choice")
    asked = CompletionRequest(model="m", prompts=("Is it?",), sampling=Sampling(), guided=guided, fields={}, sent={})
    checks = Checks(asked, Choices())
    assert checks.any
    if held:
        await watched(checks, answer(text))
    else:
        with pytest.raises(InvalidOutput):
            await watched(checks, answer(text))


async def test_choices_are_told_apart() -> None:
    judge = Judge()
    both = [frame for pair in zip(answer("1", "2"), answer("3", "4", choice=1), strict=True) for frame in pair]
    await watched(Checks(request(), judge), both)
    assert judge.asked == [(SCHEMA, "12"), (SCHEMA, "34")]


@pytest.mark.parametrize("formatted", [True, False])
async def test_calls_are_held_against_their_parameters(formatted: bool) -> None:
    judge = Judge()
    frames = [
        Frame.of(ChoiceStarted(0)),
        Frame.of(ToolCallDelta(choice=0, call=0, id="a", name="sort"), ToolCallDelta(choice=0, call=0, arguments="[")),
        Frame.of(ToolCallDelta(choice=0, call=0, arguments="]")),
        Frame.of(ToolCallDelta(choice=0, call=1, id="b", name="sort", arguments="[1]")),
        Frame.of(ChoiceFinished(0, "tool_calls")),
    ]
    await watched(Checks(request(formatted=formatted, tools=True), judge), frames)
    assert judge.asked == [(PARAMETERS, "[]"), (PARAMETERS, "[1]")]


@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_a_required_call_that_is_missing_is_a_fault(reason: FinishReason) -> None:
    checks = Checks(request(tools=True, required=True), Judge())
    if reason == "stop":
        with pytest.raises(InvalidOutput) as caught:
            await watched(checks, answer("Hello"))
        assert "no tool was called" in caught.value.message
    else:
        await watched(checks, answer("Hello", reason=reason))


@pytest.mark.parametrize(("asked", "any_"), [({"formatted": False}, False), ({}, True), ({"tools": True}, True)])
def test_whether_there_is_anything_to_check(asked: dict[str, bool], any_: bool) -> None:
    assert Checks(request(**asked), Judge()).any is any_  # type: ignore[arg-type]


@pytest.mark.parametrize(("texts", "attempts"), [(("{}",), 1), (("{", "{}"), 2)])
async def test_a_whole_answer_is_made_once_more(texts: tuple[str, ...], attempts: int) -> None:
    opened: list[int] = []

    @asynccontextmanager
    async def attempt(number: int) -> AsyncIterator[AsyncIterator[Frame]]:
        opened.append(number)
        yield Checks(request(), Judge("{")).watch(stream(answer(texts[number])))

    frames = await whole(attempt)
    assert frames[1].events == (TextDelta(0, "{}"),)
    assert opened == list(range(attempts))


async def test_and_no_more_than_once() -> None:
    @asynccontextmanager
    async def attempt(_: int) -> AsyncIterator[AsyncIterator[Frame]]:
        yield Checks(request(), Judge("{")).watch(stream(answer("{")))

    with pytest.raises(InvalidOutput):
        await whole(attempt)


def test_any_object_is_a_schema() -> None:
    assert msgspec.json.decode(ANY_OBJECT) == {"type": "object"}
