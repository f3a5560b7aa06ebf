"""What a caller has of an answer that broke off, and what the rest is asked for with."""

from typing import Any

import msgspec
import pytest

from narthex.core.completions import CompletionRequest
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import UpstreamProtocolError
from narthex.core.ports import Request
from narthex.core.stream import (
    ChoiceFinished,
    ChoiceStarted,
    Event,
    Frame,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
    ToolCallDelta,
    Usage,
    UsageGoingOn,
    UsageReported,
)
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.routing.rescue import Told, can_be_rescued

USER = {"role": "user", "content": "Hello"}
TOOL = {"type": "function", "function": {"name": "f"}}
START = ChoiceStarted(0)


def chat(**fields: Any) -> Any:
    body = {"model": "m", "messages": [USER], "stream": True, **fields}
    return ChatDialect().decode(msgspec.json.encode(body), profile="openai", strict=True).request


def text(**fields: Any) -> Any:
    body = {"model": "m", "prompt": "Hello", "stream": True, **fields}
    return CompletionsDialect().decode(msgspec.json.encode(body), profile="openai", strict=True).request


def seen(told: Told, *events: Event) -> list[Event]:
    return [event for each in events for event in told.next(Frame.of(each)).events]


def guided(request: Any, name: str) -> Request:
    changed: Request = msgspec.structs.replace(request, fields={**request.fields, name: "x"})
    return changed


@pytest.mark.parametrize(
    "request_",
    [
        chat(),
        chat(response_format={"type": "text"}, n=1, logprobs=False, stop=["."], seed=1, temperature=0.5, store=True),
        chat(messages=[{"role": "assistant", "content": "Hm"}, USER]),
        text(),
        text(echo=False, best_of=1, suffix="", stop="x"),
        text(prompt=["one"]),
    ],
)
def test_plain_streams_are_gone_on_with(request_: Request) -> None:
    assert can_be_rescued(request_)


@pytest.mark.parametrize(
    "request_",
    [
        chat(stream=False),
        chat(n=2),
        chat(logprobs=True),
        chat(tools=[TOOL]),
        chat(tools=[TOOL], tool_choice="none"),
        chat(functions=[{"name": "f"}]),
        chat(response_format={"type": "json_object"}),
        chat(web_search_options={}),
        chat(messages=[USER, {"role": "assistant", "content": "Hm"}]),
        guided(chat(), "guided_regex"),
        guided(chat(), "structured_outputs"),
        guided(text(), "guided_json"),
        text(stream=False),
        text(n=2),
        text(logprobs=0),
        text(echo=True),
        text(suffix="end"),
        text(prompt=["one", "two"]),
        text(prompt=[1, 2]),
        text(prompt=""),
        text(prompt=None),
        EmbeddingsRequest(model="m", fields={}, sent={}),
    ],
)
def test_others_are_not(request_: Request) -> None:
    assert not can_be_rescued(request_)


def test_nothing_is_changed_of_what_comes_first() -> None:
    told = Told(chat())
    frame = Frame("openai.chat", b"{}", events=(START, TextDelta(0, "Hi")))
    assert told.next(frame) is frame


@pytest.mark.parametrize(
    ("limits", "left"),
    [
        ({}, {}),
        ({"max_tokens": 10}, {"max_tokens": 7}),
        ({"max_completion_tokens": 10}, {"max_completion_tokens": 7}),
        ({"max_completion_tokens": 10, "max_tokens": 20}, {"max_completion_tokens": 7, "max_tokens": 7}),
    ],
)
def test_the_rest_is_asked_for_with_the_limit_that_is_left(limits: dict[str, int], left: dict[str, int]) -> None:
    asked = chat(**limits, temperature=0.5)
    told = Told(asked)
    seen(told, START, ReasoningDelta(0, "Hm"), TextDelta(0, "Once"), TextDelta(0, ""), TextDelta(0, " upon"))
    rest = told.continuation()
    assert rest is not None
    assert not isinstance(rest, EmbeddingsRequest)
    assert rest.begun == "Once upon"  # type: ignore[union-attr]
    assert rest.sampling.max_tokens == (7 if left else None)  # type: ignore[union-attr]
    assert {name: msgspec.json.decode(rest.sent[name]) for name in left} == left
    assert {name: rest.fields[name] for name in left} == left
    same = msgspec.structs.replace(rest, begun="", sampling=asked.sampling, fields=asked.fields, sent=asked.sent)  # type: ignore[call-overload]
    assert same == asked
    assert rest.fields.keys() == asked.fields.keys()


def test_the_limit_of_text_completions_is_theirs_even_if_it_was_not_sent() -> None:
    told = Told(text())
    seen(told, START, TextDelta(0, "Once"))
    rest = told.continuation()
    assert isinstance(rest, CompletionRequest)
    assert (rest.begun, rest.sampling.max_tokens, "max_tokens" in rest.sent) == ("Once", 15, False)


@pytest.mark.parametrize(
    "events",
    [
        (START,),
        (START, TextDelta(0, "")),
        (START, ReasoningDelta(0, "Hm")),
        (START, TextDelta(0, "a"), RefusalDelta(0, "No")),
        (START, TextDelta(0, "a"), ToolCallDelta(choice=0, call=0, id="c", name="f")),
        (START, TextDelta(0, "a"), ChoiceFinished(0, "stop")),
    ],
)
def test_what_is_no_open_text_is_not_gone_on_with(events: tuple[Event, ...]) -> None:
    told = Told(chat())
    seen(told, *events)
    assert told.continuation() is None


def test_a_long_answer_is_remembered_whole() -> None:
    told = Told(chat())
    pieces = [f"{number} " for number in range(300)]
    seen(told, START, *(TextDelta(0, piece) for piece in pieces))
    rest = told.continuation()
    assert getattr(rest, "begun", None) == "".join(pieces)


def test_what_is_passed_on_unread_must_be_readable_to_go_on_with() -> None:
    def unreadable(_: bytes) -> tuple[Event, ...]:
        raise UpstreamProtocolError

    told = Told(chat())
    seen(told, START, TextDelta(0, "a"))
    frame = Frame("openai.chat", b"{}", decode=unreadable)
    assert told.next(frame) is frame
    assert told.at_its_limit is None
    assert told.continuation() is None


def test_the_caller_sees_one_answer() -> None:
    told = Told(chat())
    seen(told, START, ReasoningDelta(0, "Hm"), TextDelta(0, "a"), TextDelta(0, "b"))
    assert told.continuation() is not None
    used = Usage(prompt_tokens=12, completion_tokens=4, cached_tokens=11, reasoning_tokens=1)
    rest = seen(told, START, TextDelta(0, "c"), ChoiceFinished(0, "stop"), UsageReported(used))
    whole = Usage(prompt_tokens=10, completion_tokens=7, cached_tokens=10, reasoning_tokens=2)
    assert rest == [TextDelta(0, "c"), ChoiceFinished(0, "stop"), UsageReported(whole)]


def test_who_knows_the_length_of_what_was_begun_is_believed() -> None:
    told = Told(chat())
    seen(told, START, TextDelta(0, "a"))
    told.continuation()
    used = UsageGoingOn(prompt_tokens=12, completion_tokens=4, begun_tokens=5)
    (reported,) = seen(told, UsageReported(used))
    assert isinstance(reported, UsageReported)
    assert (reported.usage.prompt_tokens, reported.usage.completion_tokens, reported.usage.total_tokens) == (7, 9, 16)


def test_a_usage_that_cannot_be_is_not_made_negative() -> None:
    told = Told(chat())
    seen(told, START, TextDelta(0, "a"), TextDelta(0, "b"))
    told.continuation()
    (reported,) = seen(told, UsageReported(Usage(prompt_tokens=1)))
    assert reported == UsageReported(Usage(prompt_tokens=0, completion_tokens=1))


@pytest.mark.parametrize("event", [ReasoningDelta(0, "Hm"), RefusalDelta(0, "No"), ToolCallDelta(choice=0, call=0)])
def test_who_does_something_else_does_not_go_on(event: Event) -> None:
    told = Told(chat())
    seen(told, START, TextDelta(0, "a"))
    told.continuation()
    with pytest.raises(UpstreamProtocolError):
        told.next(Frame.of(START, event))
    assert told.continuation() is not None


@pytest.mark.parametrize(
    ("limit", "events", "ended"),
    [
        (None, (TextDelta(0, "a"),), False),
        (2, (TextDelta(0, "a"),), False),
        (2, (TextDelta(0, "a"), TextDelta(0, "b")), True),
        (2, (ReasoningDelta(0, "a"), ReasoningDelta(0, "b")), True),
        (1, (TextDelta(0, "a"), ChoiceFinished(0, "length")), False),
    ],
)
def test_an_answer_that_had_to_end_there_has_ended(limit: int | None, events: tuple[Event, ...], ended: bool) -> None:
    told = Told(chat(**({} if limit is None else {"max_tokens": limit})))
    seen(told, START, *events)
    end = told.at_its_limit
    assert (end is not None) is ended
    if end is not None:
        assert end.events[0] == ChoiceFinished(0, "length")
        assert end.usage is not None
        assert end.usage.completion_tokens == 2
