"""Answers that are held to their form while they pass, on scripts; on a clock that jumps."""

import json
from typing import Any

import pytest
from tests.routing_parts import Played, Step, outcomes, routed
from tests.scripted_deployment import START, STOP, TAKES, USED, principal, text
from tests.virtual_time import VirtualLoop

from narthex.core.capabilities import Capabilities, State
from narthex.core.errors import UpstreamProtocolError, UpstreamUnavailable
from narthex.core.ports import Call
from narthex.core.stream import ChoiceFinished, ChoiceStarted, Event, Frame, TextDelta, ToolCallDelta, Usage
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.routing.fanout import FanOut
from narthex.routing.route import Rules
from narthex.routing.validated import NotAsAsked, Validated, with_one_call
from narthex.sandbox.validity import fault

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> tuple[str, dict[str, Any]]:
    return "asyncio", {"loop_factory": VirtualLoop}


OBJECT = {"type": "json_object"}
TOOL = {"type": "function", "function": {"name": "add"}}
ALL = {**TAKES, **dict.fromkeys(("response_format", "tools", "tool_choice", "parallel_tool_calls"), State.NATIVE)}
RULES = Rules(attempts=5, backoff_s=0.5)


class Compiler:
    def of(self, owner: str) -> "Compiler":
        assert owner == principal().key.id
        return self

    async def rule(self, schema: bytes, *, path: str) -> str:
        raise AssertionError

    async def fault(self, schema: bytes, text: str) -> str | None:
        return fault(schema, text)


def asking(*, stream: bool = True, **fields: Any) -> Call:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "stream": stream, **fields}
    request = ChatDialect().decode(json.dumps(body).encode(), profile="openai", strict=True).request
    return Call(request, id="1", surface="chat", principal=principal(), started_s=0.0)


def checked(*scripts: tuple[Step, ...], name: str = "a/1") -> tuple[Played, Validated]:
    """A deployment, and the same with its answers checked."""
    played = Played(name, *scripts, takes=ALL)
    return played, Validated(played, Compiler())


def says(*words: str) -> tuple[Frame, ...]:
    return (START, *map(text, words), STOP, USED)


def calls(*made: tuple[int, str | None, str], choice: int = 0) -> Frame:
    """Deltas of calls: number, name where it begins, arguments."""
    return Frame.of(
        *(
            ToolCallDelta(choice=choice, call=number, id=name and f"call_{number}", name=name, arguments=arguments)
            for number, name, arguments in made
        )
    )


async def read(deployment: Validated, call: Call) -> tuple[list[Frame], Exception | None]:
    """The frames of an answer, and what it ended with."""
    found: list[Frame] = []
    try:
        async with deployment.open(call) as frames:
            async for frame in frames:
                found.append(frame)  # noqa: PERF401 - those before the error are kept
    except (NotAsAsked, UpstreamProtocolError, UpstreamUnavailable) as error:
        return found, error
    return found, None


def events(frames: list[Frame]) -> list[Event]:
    return [event for frame in frames for event in frame.events]


async def test_what_it_says_of_itself_is_the_deployments_own() -> None:
    played, deployment = checked(says("{}"))
    assert (deployment.name, deployment.fingerprint, deployment.capabilities("chat")) == ("a/1", None, ALL)
    assert deployment.continues(asking()) is False
    assert played.opened == 0


def test_one_call_at_a_time_is_brought_about_wherever_there_are_tools() -> None:
    tools: Capabilities = {"tools": State.NATIVE}
    assert with_one_call(tools, "chat") == {**tools, "parallel_tool_calls": State.EMULATED}
    assert with_one_call(tools, "completions") is tools
    assert with_one_call(TAKES, "chat") is TAKES
    for state in (State.NATIVE, State.EMULATED, State.NO_EFFECT):
        honoured = {**tools, "parallel_tool_calls": state}
        assert with_one_call(honoured, "chat") is honoured
    assert Validated(Played("a/1", takes=None), Compiler()).capabilities("chat") is None


async def test_frames_of_requests_without_a_form_are_not_looked_at() -> None:
    def unreadable(data: bytes) -> tuple[Event, ...]:
        raise AssertionError(data)

    script = (Frame("x", b"...", decode=unreadable),)
    assert len((await read(checked(script)[1], asking()))[0]) == 1
    body = EmbeddingsDialect().decode(b'{"model": "m", "input": "a"}', profile="openai", strict=True).request
    call = Call(body, id="1", surface="embeddings", principal=principal(), started_s=0.0)
    assert len((await read(checked(script)[1], call))[0]) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_what_fits_passes_as_it_came(stream: bool) -> None:
    script = says('{"a"', ": 1}")
    frames, error = await read(checked(script)[1], asking(stream=stream, response_format=OBJECT))
    assert (tuple(frames), error) == (script, None)


async def test_of_a_stream_the_finish_is_not_told_but_its_bill_is_kept() -> None:
    frames, error = await read(checked(says("No", "."))[1], asking(response_format=OBJECT))
    assert isinstance(error, NotAsAsked)
    assert (error.status, error.code, error.retryable) == (502, "invalid_output", True)
    *told, bill = frames
    assert events(told) == [ChoiceStarted(0), TextDelta(0, "No"), TextDelta(0, ".")]
    assert (bill.usage, bill.events) == (Usage(prompt_tokens=3, completion_tokens=2), ())


@pytest.mark.parametrize(
    "rest",
    [
        (),
        (Frame.of(ChoiceStarted(1)), Frame.of(TextDelta(1, "more"))),
        (Frame(), Frame()),
    ],
    ids=["nothing", "another choice", "empty frames"],
)
async def test_there_may_be_no_bill(rest: tuple[Frame, ...]) -> None:
    frames, error = await read(checked((START, text("No"), STOP, *rest))[1], asking(response_format=OBJECT))
    assert isinstance(error, NotAsAsked)
    assert (frames[-1].usage, frames[-1].events) == (None, ())


async def test_an_answer_that_is_sent_whole_is_counted_before_it_fails() -> None:
    script = says("No")
    frames, error = await read(checked(script)[1], asking(stream=False, response_format=OBJECT))
    assert tuple(frames) == script
    assert isinstance(error, NotAsAsked)


@pytest.mark.parametrize("stream", [False, True])
async def test_events_out_of_order_are_the_servers_fault(stream: bool) -> None:
    _, error = await read(checked((text("more"),))[1], asking(stream=stream, response_format=OBJECT))
    assert isinstance(error, UpstreamProtocolError)


async def test_every_choice_of_a_fan_out_is_looked_at() -> None:
    played = Played("a/1", says("{}"), says("No"), takes=ALL)
    call = asking(stream=False, response_format=OBJECT, n=2)
    frames, error = await read(Validated(FanOut(played), Compiler()), call)
    assert isinstance(error, NotAsAsked)
    assert played.closed == 2
    assert frames[-1].usage == Usage(prompt_tokens=3, completion_tokens=4)


@pytest.mark.parametrize("stream", [False, True])
async def test_who_leaves_leaves_nothing_open(stream: bool) -> None:
    played, deployment = checked(says("{", "}"))
    async with deployment.open(asking(stream=stream, response_format=OBJECT)) as frames:
        assert await anext(frames) == START
    assert played.closed == 1
    with pytest.raises(StopAsyncIteration):
        await anext(frames)


async def test_a_fault_is_told_in_short_and_to_the_caller_alone() -> None:
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"enum": ["a" * 5000]}}}
    _, error = await read(checked(says('"b"'))[1], asking(response_format=schema))
    assert isinstance(error, NotAsAsked)
    assert '"b"' in error.message
    assert len(error.message) < 400
    assert '"b"' not in str(error)


# --- calls -----------------------------------------------------------------------------------------------------------

ENDED = Frame.of(ChoiceFinished(0, "tool_calls"))
ALONE = {"tools": [TOOL], "parallel_tool_calls": False}


async def test_a_call_that_must_not_be_is_never_told() -> None:
    script = (START, text("Well"), calls((0, "add", "{")), calls((0, None, "}")), ENDED, USED)
    frames, error = await read(checked(script)[1], asking(tools=[TOOL], tool_choice="none"))
    assert events(frames) == [ChoiceStarted(0), TextDelta(0, "Well")]
    assert isinstance(error, NotAsAsked)


@pytest.mark.parametrize("stream", [False, True])
async def test_only_the_first_call_is_told(stream: bool) -> None:
    script = (
        START,
        calls((2, "add", "{")),
        calls((2, None, "}"), (3, "add", "{")),
        calls((3, None, "}")),
        Frame.of(*calls((4, "add", "{}")).events, *ENDED.events, billed=Usage(prompt_tokens=1)),
        USED,
    )
    frames, error = await read(checked(script)[1], asking(stream=stream, **ALONE))
    assert error is None
    assert events(frames) == [
        ChoiceStarted(0),
        *calls((2, "add", "{"), (2, None, "}")).events,
        ChoiceFinished(0, "tool_calls"),
        *USED.events,
    ]
    assert (frames[0], frames[1], frames[-1]) == (script[0], script[1], USED)
    assert (frames[3].finishes, frames[3].billed) == (True, Usage(prompt_tokens=1))


async def test_each_choice_has_its_first_call() -> None:
    script = (
        Frame.of(ChoiceStarted(0), ChoiceStarted(1)),
        calls((0, "add", "{}"), (1, "add", "{}")),
        calls((1, "add", "{}"), (0, "add", "{}"), choice=1),
        Frame.of(ChoiceFinished(0, "tool_calls"), ChoiceFinished(1, "tool_calls")),
    )
    frames, _ = await read(checked(script)[1], asking(**ALONE))
    made = [(event.choice, event.call) for event in events(frames) if isinstance(event, ToolCallDelta)]
    assert made == [(0, 0), (1, 1)]


# --- by the router ---------------------------------------------------------------------------------------------------


async def through(call: Call, *deployments: Validated, rules: Rules = RULES) -> list[Event]:
    async with routed(*deployments, rules=rules).open(call) as frames:  # type: ignore[arg-type]
        return [event async for frame in frames for event in frame.events]


async def test_it_is_made_anew_by_the_next_and_both_are_billed() -> None:
    (_, one), (_, two) = checked(says("No")), checked(says("{}"), name="b/2")
    call = asking(stream=False, response_format=OBJECT)
    assert TextDelta(0, "{}") in await through(call, one, two)
    assert outcomes(call) == [("a/1", "NotAsAsked"), ("b/2", "answered")]
    assert [attempt.usage is not None for attempt in call.attempts] == [True, True]


@pytest.mark.parametrize("stream", [False, True])
async def test_once_and_no_more(stream: bool) -> None:
    """Also of a stream, as long as nothing of it has been told."""
    one, one_checked = checked(says())
    call = asking(stream=stream, response_format=OBJECT)
    with pytest.raises(NotAsAsked):
        await through(call, one_checked)
    assert one.opened == 2
    assert [attempt.usage for attempt in call.attempts] == [Usage(prompt_tokens=3, completion_tokens=2)] * 2


async def test_outages_between_do_not_count() -> None:
    down = (UpstreamUnavailable(),)
    one, one_checked = checked(down, says("No"), down, says("{}"))
    call = asking(stream=False, response_format=OBJECT)
    assert TextDelta(0, "{}") in await through(call, one_checked)
    assert one.opened == 4


async def test_not_if_there_is_to_be_one_attempt() -> None:
    one, one_checked = checked(says("No"))
    with pytest.raises(NotAsAsked):
        await through(asking(stream=False, response_format=OBJECT), one_checked, rules=Rules(attempts=1))
    assert one.opened == 1


async def test_a_stream_is_not_made_anew_once_it_was_told() -> None:
    one, one_checked = checked(says("No"), says("{}"))
    call = asking(response_format=OBJECT)
    with pytest.raises(NotAsAsked):
        await through(call, one_checked, rules=Rules(attempts=5, rescue=True))
    assert (one.opened, one.closed) == (1, 1)
    assert call.attempts[0].usage == Usage(prompt_tokens=3, completion_tokens=2)
