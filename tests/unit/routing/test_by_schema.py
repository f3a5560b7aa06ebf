"""Constraints of vLLM's at servers that know only schemas, on scripts."""

import json
from typing import Any

import msgspec
import pytest
from tests.routing_parts import Played, Step
from tests.scripted_deployment import START, STOP, TAKES, USED, principal, text

from narthex.core.capabilities import Capabilities, Limited, State, refusal, without_effect
from narthex.core.chat import ChatRequest
from narthex.core.errors import NarthexError, UnsupportedParameter
from narthex.core.ports import Call
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
    UsageReported,
)
from narthex.dialects.openai_chat import ChatDialect
from narthex.providers.openai_rows import format_without
from narthex.routing.by_schema import ENVELOPE_TOKENS, ROOMY_TOKENS, BySchema, with_schemas
from narthex.routing.fanout import FanOut
from narthex.routing.validated import NotAsAsked, Validated
from narthex.sandbox.validity import fault

pytestmark = pytest.mark.anyio

ALL: Capabilities = {**TAKES, "response_format": State.NATIVE, "tools": State.NATIVE, "stop": State.NATIVE}
CLOSED = {
    "type": "object",
    "properties": {"a": {"type": "string"}},
    "required": ["a"],
    "additionalProperties": False,
}
OPEN = {"type": "object", "properties": {"a": {"type": "string"}}}
DEEP: dict[str, Any] = {"type": "object"}
for _ in range(40):
    DEEP = {"type": "object", "properties": {"a": DEEP}}
TOOL = {"type": "function", "function": {"name": "add"}}
CHOICES = {"guided_choice": ["yes", "no"]}
TAKEN_FOR = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "schema": {
            "type": "object",
            "properties": {"choice": {"type": "string", "enum": ["yes", "no"]}},
            "required": ["choice"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}


def request(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}
    decoded = ChatDialect().decode(json.dumps(body).encode(), profile="openai", strict=True).request
    assert isinstance(decoded, ChatRequest)
    return decoded


def asking(**fields: Any) -> Call:
    return Call(request(**fields), id="1", surface="chat", principal=principal(), started_s=0.0)


def made(*scripts: tuple[Step, ...], takes: Capabilities = ALL, **more: Any) -> tuple[Played, BySchema]:
    played = Played("a/1", *scripts, takes=takes)
    return played, BySchema(played, **more)


def says(*words: str, reason: str = "stop") -> tuple[Frame, ...]:
    return (START, *map(text, words), Frame.of(ChoiceFinished(0, reason)), USED)  # type: ignore[arg-type]


async def events(deployment: BySchema | Validated, call: Call) -> list[Event]:
    async with deployment.open(call) as frames:
        return [event async for frame in frames for event in frame.events]


async def chosen(*words: str, reason: str = "stop", **fields: Any) -> tuple[str, str]:
    """The text and the finish of an answer to a request for a choice."""
    _, deployment = made(says(*words, reason=reason))
    found = await events(deployment, asking(**(CHOICES | fields)))
    ((finish),) = [event.reason for event in found if isinstance(event, ChoiceFinished)]
    return "".join(event.text for event in found if isinstance(event, TextDelta)), finish


# --- what is honoured ------------------------------------------------------------------------------------------------


def test_where_there_are_schemas_there_are_choices_and_json() -> None:
    honoured = with_schemas(ALL, "chat")
    assert {name for name in honoured if name not in ALL} == {
        "guided_json",
        "guided_choice",
        "structured_outputs",
        "guided_decoding_backend",
    }
    assert "guided_json" not in with_schemas(ALL, "chat", refused={"guided_json"})
    assert without_effect(request(guided_decoding_backend="auto").fields, honoured) == ("guided_decoding_backend",)


@pytest.mark.parametrize(
    "takes",
    [
        TAKES,
        ALL | {"response_format": State.NO_EFFECT},
        ALL | {"response_format": format_without("json_schema")},
        ALL | {"guided_json": State.NATIVE},
        ALL | {"structured_outputs": State.NATIVE},
    ],
    ids=["no format", "no effect", "no schemas", "its own", "its own, newer"],
)
def test_elsewhere_nothing_is_added(takes: Capabilities) -> None:
    assert with_schemas(takes, "chat") is takes
    assert made(takes=takes)[1].capabilities("chat") == takes


def test_texts_have_no_format() -> None:
    assert with_schemas(ALL, "completions") is ALL


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_json": CLOSED}, None),
        ({"guided_json": json.dumps(OPEN)}, None),
        ({"guided_json": {"type": "array"}}, "guided_json"),
        ({"guided_json": {}}, "guided_json"),
        ({"guided_json": {"type": "object", "anyOf": [CLOSED]}}, "guided_json"),
        ({"guided_json": DEEP}, "guided_json"),
        ({"guided_json": json.dumps(DEEP)}, "guided_json"),
        ({"guided_json": {"type": "object", "properties": {"a": {"type": "text"}}}}, "guided_json"),
        ({"structured_outputs": {"json": DEEP}}, "structured_outputs.json"),
        (CHOICES, None),
        ({"guided_regex": "a"}, "guided_regex"),
        ({"guided_grammar": 'root ::= "a"'}, "guided_grammar"),
        ({"guided_json": OPEN, "guided_whitespace_pattern": " ?"}, "guided_whitespace_pattern"),
        ({"structured_outputs": {"json": OPEN}}, None),
        ({"structured_outputs": {"choice": ["a"]}}, None),
        ({"structured_outputs": {"json_object": True}}, None),
        ({"structured_outputs": {"json": {"enum": [1]}}}, "structured_outputs.json"),
        ({"structured_outputs": {"regex": "a"}}, "structured_outputs.regex"),
        ({"structured_outputs": {"grammar": "a"}}, "structured_outputs.grammar"),
        (
            {"structured_outputs": {"json": OPEN, "whitespace_pattern": " ?"}},
            "structured_outputs.whitespace_pattern",
        ),
        (
            {"structured_outputs": {"json": OPEN, "disable_any_whitespace": True}},
            "structured_outputs.disable_any_whitespace",
        ),
    ],
    ids=str,
)
def test_what_no_format_can_say_is_refused_by_name(fields: dict[str, Any], param: str | None) -> None:
    error = refusal(request(**fields).fields, with_schemas(ALL, "chat"), model="m")
    assert (error and error.param) == param


def test_what_the_servers_own_format_refuses_is_refused_by_the_callers_name() -> None:
    takes = ALL | {"response_format": format_without("json_object")}
    asked = request(structured_outputs={"json_object": True})
    error = refusal(asked.fields, with_schemas(takes, "chat"), model="m")
    assert error is not None
    assert (error.param, error.code) == ("structured_outputs.json_object", "unsupported_value")


# --- what is sent ----------------------------------------------------------------------------------------------------


def formats(schema: dict[str, Any], *, strict: bool) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


@pytest.mark.parametrize(
    ("fields", "wanted"),
    [
        ({"guided_json": CLOSED}, formats(CLOSED, strict=True)),
        ({"guided_json": json.dumps(CLOSED)}, formats(CLOSED, strict=True)),
        ({"guided_json": OPEN}, formats(OPEN, strict=False)),
        ({"structured_outputs": {"json": CLOSED}}, formats(CLOSED, strict=True)),
        ({"structured_outputs": {"json_object": True}}, {"type": "json_object"}),
        (CHOICES, TAKEN_FOR),
        ({"guided_choice": ["yes", "no", "yes"]}, TAKEN_FOR),
        ({"structured_outputs": {"choice": ["yes", "no"]}}, TAKEN_FOR),
    ],
    ids=str,
)
async def test_a_constraint_is_asked_for_as_a_format(fields: dict[str, Any], wanted: dict[str, Any]) -> None:
    played, deployment = made(says('{"choice": "yes"}'))
    await events(deployment, asking(**fields, guided_decoding_backend="auto"))
    (asked,) = played.asked
    assert isinstance(asked, ChatRequest)
    assert asked.guided is None
    assert asked.fields["response_format"] == wanted == json.loads(bytes(asked.sent["response_format"]))
    assert not {"structured_outputs", "guided_decoding_backend", *fields} & (asked.fields.keys() | asked.sent.keys())
    assert asked.response_format is not None
    schema = wanted.get("json_schema", {}).get("schema", {"type": "object"})
    assert json.loads(asked.response_format.schema) == schema


@pytest.mark.parametrize(
    "part",
    [
        {"type": "string", "format": "email"},
        {"type": "object"},
        {"type": "object", "properties": {"b": {}}, "required": [], "additionalProperties": False},
        {"type": "object", "properties": {"b": {}}, "required": ["b"], "additionalProperties": False},
        {"anyOf": [{"type": "string"}, OPEN]},
        {"type": "array", "items": OPEN},
        {"type": "array", "items": True},
        {"type": "object", "properties": []},
        {"type": "object", "required": 1},
        {"$ref": "#", "$defs": "x"},
        {"$ref": "#/properties/a/$defs/x", "$defs": {"x": True}},
        {"enum": ["yes", "no"]},
        {"const": 1},
        {"description": "anything"},
        True,
    ],
    ids=str,
)
async def test_a_schema_that_may_not_be_taken_strictly_is_not_sent_as_such(part: Any) -> None:
    schema = {**CLOSED, "properties": {"a": part}}
    played, deployment = made(says("{}"))
    await events(deployment, asking(guided_json=schema))
    assert played.asked[0].fields["response_format"] == formats(schema, strict=False)


async def test_a_strict_one_may_be_nested() -> None:
    schema = {
        **CLOSED,
        "properties": {
            "a": {"anyOf": [CLOSED, {"type": "array", "items": CLOSED}, {"type": "integer", "enum": [1]}]},
        },
        "$defs": {"b": {"$ref": "#"}},
    }
    played, deployment = made(says("{}"))
    await events(deployment, asking(guided_json=schema))
    assert played.asked[0].fields["response_format"]["json_schema"]["strict"] is True


async def test_a_choice_shows_that_it_is_being_written() -> None:
    """Clocks of the router's run between frames, and nothing of a choice is told before it is whole."""
    sent = says('{"choice', '": "y', 'es"}')
    _, deployment = made(sent)
    async with deployment.open(asking(**CHOICES)) as frames:
        told = [frame async for frame in frames]
    assert len(told) == len(sent)
    assert [frame.events for frame in told[1:4]] == [(), (), ()]


async def test_a_limit_leaves_room_for_the_envelope() -> None:
    played, deployment = made(says('{"choice": "yes"}'))
    await events(deployment, asking(**CHOICES, max_tokens=2, max_completion_tokens=3))
    (asked,) = played.asked
    assert isinstance(asked, ChatRequest)
    assert (asked.fields["max_tokens"], asked.sent["max_completion_tokens"]) == (
        2 + ENVELOPE_TOKENS,
        msgspec.Raw(b"%d" % (3 + ENVELOPE_TOKENS)),
    )
    assert asked.sampling.max_tokens == 3 + ENVELOPE_TOKENS
    await events(deployment, asking(**CHOICES, max_tokens=ROOMY_TOKENS))
    assert played.asked[1].fields["max_tokens"] == ROOMY_TOKENS


async def test_who_asks_for_no_such_thing_is_not_touched() -> None:
    played, deployment = made(says("{}"))
    for call in (asking(), asking(response_format={"type": "json_object"})):
        assert await events(deployment, call) == [event for frame in says("{}") for event in frame.events]
        assert played.asked[-1] is call.request
    played, deployment = made(says("yes"), takes=ALL | {"guided_choice": State.NATIVE})
    call = asking(**CHOICES)
    await events(deployment, call)
    assert played.asked == [call.request]


# --- what comes back -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "reason", "told"),
    [
        (('{"choice":"yes"}',), "stop", ("yes", "stop")),
        (('\n{ "cho', 'ice" : "y', 'es"}\n'), "stop", ("yes", "stop")),
        (('{"choice": "ye',), "length", ("ye", "length")),
        (('{"cho',), "length", ("", "length")),
        ((), "length", ("", "length")),
        (("yes",), "stop", ("yes", "stop")),
        (('{"other": "yes"}',), "stop", ('{"other": "yes"}', "stop")),
        (('{"choice": 1}',), "stop", ('{"choice": 1}', "stop")),
        (('["yes"]',), "stop", ('["yes"]', "stop")),
        (("No id",), "length", ("No id", "length")),
    ],
    ids=str,
)
async def test_a_choice_is_taken_out_of_its_envelope(
    words: tuple[str, ...], reason: str, told: tuple[str, str]
) -> None:
    assert await chosen(*words, reason=reason) == told


async def test_stop_strings_are_those_of_the_choice_and_not_of_its_envelope() -> None:
    assert await chosen('{"choice":"yes"}', stop=["c", "}"]) == ("yes", "stop")
    assert await chosen('{"choice":"yes"}', stop=["s", "es"]) == ("y", "stop")
    assert await chosen('{"choice":"ye', reason="length", stop=["e"]) == ("y", "stop")
    played, deployment = made(says('{"choice":"yes"}'))
    await events(deployment, asking(**CHOICES, stop=["c"]))
    (asked,) = played.asked
    assert isinstance(asked, ChatRequest)
    assert (asked.sampling.stop, "stop" in asked.fields, "stop" in asked.sent) == ((), False, False)


async def test_what_else_a_choice_tells_passes_and_usage_is_kept() -> None:
    call = ToolCallDelta(choice=1, call=0, id="c", name="add", arguments="{}")
    used = UsageReported(Usage(prompt_tokens=1))
    script = (
        Frame.of(ChoiceStarted(0), ChoiceStarted(1), ChoiceStarted(2)),
        Frame.of(ReasoningDelta(0, "Hm."), TextDelta(0, '{"choice":')),
        Frame.of(TextDelta(0, '"no"}')),
        Frame.of(RefusalDelta(2, "Never."), call),
        Frame.of(*(ChoiceFinished(number, "stop") for number in range(3))),
        Frame.of(used, billed=Usage(prompt_tokens=2)),
        Frame(usage=Usage(prompt_tokens=3)),
    )
    _, deployment = made(script)
    async with deployment.open(asking(**CHOICES, n=3, tools=[TOOL])) as frames:
        found = [frame async for frame in frames]
    assert [event for frame in found for event in frame.events] == [
        *(ChoiceStarted(number) for number in range(3)),
        ReasoningDelta(0, "Hm."),
        RefusalDelta(2, "Never."),
        call,
        TextDelta(0, "no"),
        *(ChoiceFinished(number, "stop") for number in range(3)),
        used,
    ]
    assert [frame.finishes for frame in found] == [False, False, False, False, True, False, False]
    assert (found[-2].billed, found[-1].usage) == (Usage(prompt_tokens=2), Usage(prompt_tokens=3))


async def test_each_of_a_fan_out_is_taken_out() -> None:
    played = Played("a/1", says('{"choice":"yes"}'), says('{"choice":"no"}'), takes=ALL)
    async with FanOut(BySchema(played)).open(asking(**CHOICES, n=2)) as frames:
        texts = [event.text async for frame in frames for event in frame.events if isinstance(event, TextDelta)]
    assert sorted(texts) == ["no", "yes"]


class Compiler:
    def of(self, owner: str) -> "Compiler":
        return self

    async def rule(self, schema: bytes, *, path: str) -> str:
        raise AssertionError

    async def fault(self, schema: bytes, text: str) -> str | None:
        return fault(schema, text)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("fields", "words", "good"),
    [
        (CHOICES, '{"choice":"yes"}', True),
        (CHOICES, '{"choice":"maybe"}', False),
        (CHOICES, '{"option":"yes"}', False),
        ({"guided_json": CLOSED}, '{"a": "b"}', True),
        ({"guided_json": CLOSED}, '{"a": 1}', False),
        ({"structured_outputs": {"json_object": True}}, "[]", False),
    ],
    ids=str,
)
async def test_what_comes_of_it_is_checked(fields: dict[str, Any], words: str, *, good: bool, stream: bool) -> None:
    _, deployment = made(says(words))
    checked = Validated(deployment, Compiler())
    if good:
        assert STOP.events[0] in await events(checked, asking(**fields, stream=stream))
        return
    with pytest.raises(NotAsAsked):
        await events(checked, asking(**fields, stream=stream))


# --- faults ----------------------------------------------------------------------------------------------------------


async def test_tokens_of_an_envelope_are_not_told_for_those_of_a_choice() -> None:
    played, deployment = made(says("{}"))
    for logprobs, more in ((True, {}), (True, {"top_logprobs": 2})):
        with pytest.raises(UnsupportedParameter) as raised:
            await events(deployment, asking(**CHOICES, logprobs=logprobs, **more))
        assert (raised.value.param, raised.value.code) == ("logprobs", "unsupported_value")
    assert played.opened == 0
    await events(deployment, asking(guided_json=OPEN, logprobs=True))
    assert played.opened == 1


@pytest.mark.parametrize(
    ("param", "told"),
    [("response_format", "guided_choice"), ("response_format.json_schema.schema", "guided_choice"), ("tools", "tools")],
)
async def test_an_error_names_what_the_caller_wrote(param: str, told: str) -> None:
    played, deployment = made((UnsupportedParameter("No.", param=param),))
    with pytest.raises(UnsupportedParameter) as raised:
        await events(deployment, asking(**CHOICES))
    assert (raised.value.param, played.closed) == (told, 1)


async def test_an_error_that_names_nothing_is_left_alone() -> None:
    _, deployment = made((NarthexError("No."),))
    with pytest.raises(NarthexError) as raised:
        await events(deployment, asking(structured_outputs={"choice": ["a"]}))
    assert raised.value.param is None


async def test_who_leaves_leaves_nothing_open() -> None:
    played, deployment = made(says('{"choice":"yes"}'))
    async with deployment.open(asking(**CHOICES)) as frames:
        assert (await anext(aiter(frames))).events == START.events
    assert played.closed == 1


def test_the_rules_tell_their_limits() -> None:
    rules = with_schemas(ALL, "chat")
    told = {name: rule.limits for name, rule in rules.items() if isinstance(rule, Limited)}
    assert told == {
        "guided_json": "schemas of objects, within limits",
        "structured_outputs": "choices and JSON objects, without options",
    }
