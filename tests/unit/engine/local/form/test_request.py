"""The form of the answer to a request."""

import pytest
from msgspec import structs
from tests.answer_forms import (
    ANY,
    BOTH,
    CITY,
    CONTROL,
    CONTROL_ID,
    NATIVE,
    TIME,
    WEATHER,
    CompactRules,
    accepts,
    asked,
    read,
    told,
    written,
)

from narthex.core.chat import Sampling
from narthex.core.completions import CompletionRequest
from narthex.core.constrained import ChoiceFormat, Constraint, GrammarFormat, JsonFormat, RegexFormat
from narthex.core.errors import InvalidRequest
from narthex.core.tools import Tool, Tools
from narthex.engine.local.form.formats import FORMATS, HERMES, call_format
from narthex.engine.local.form.request import TokenId, check_sizes, completion_form, form_of
from narthex.engine.local.reading import ANY_TEXT, Form

pytestmark = pytest.mark.anyio

THINKS = "{{ m.content.split('</think>')[-1] }}"
CALL = ("get_weather", '{"city":"Rome"}')


async def form(
    tools: Tools | None = None,
    *,
    json: bytes | None = None,
    template: str = "",
    opened: str = "",
    token_id: TokenId | None = None,
) -> Form:
    request = asked(tools, json=json)
    return await form_of(request, template=template, opened=opened, grammars=CompactRules(), token_id=token_id)


async def test_any_text() -> None:
    assert await form() is ANY_TEXT
    assert await form(template=NATIVE) is ANY_TEXT
    assert await form(template=THINKS, opened="<think>\n\n</think>\n\n") is ANY_TEXT


async def test_thoughts_alone_need_no_grammar() -> None:
    async def nobody(text: str) -> int | None:
        raise AssertionError(text)

    wanted = await form(template=THINKS, opened="<think>\n", token_id=nobody)
    assert wanted.grammar == ""
    assert wanted.preserved == ("<think>", "</think>")
    assert told(read(wanted, "Hm.\n</think>\n\nHi.\n")) == ("Hm.", "Hi.\n", [], "stop")


async def test_tools() -> None:
    for template in ("", NATIVE):
        wanted = await form(BOTH, template=template)
        assert wanted.grammar.startswith("%llguidance {}\n")
        assert wanted.preserved == ("<tool_call>", "</tool_call>")
        assert told(read(wanted, f"So:\n{written(HERMES, CALL)}")) == ("", "So:", [CALL], "tool_calls")


async def test_tools_that_are_only_known_are_not_read() -> None:
    wanted = await form(Tools(all_=(WEATHER, TIME), callable_=[each.name for each in (TIME,)]))
    assert accepts(wanted.grammar, written(HERMES, CALL)) is False
    assert told(read(wanted, written(HERMES, CALL), reason="length"))[2] == []


async def test_json() -> None:
    wanted = await form(json=CITY)
    assert accepts(wanted.grammar, '{"city":"Rome"}') is True
    assert wanted.preserved == ()
    assert told(read(wanted, '{"city":"<tool_call>"}')) == ("", '{"city":"<tool_call>"}', [], "stop")


@pytest.mark.parametrize(
    ("guided", "text"),
    [
        (ChoiceFormat(options=("yes", "no"), path="guided_choice"), "no"),
        (RegexFormat(pattern="[0-9]{2}", path="guided_regex"), "12"),
        (GrammarFormat(grammar='root ::= "(" root ")" | "a"', path="guided_grammar"), "((a))"),
        (JsonFormat(schema=CITY, path="guided_json"), '{"city":"Rome"}'),
    ],
)
async def test_other_forms(guided: Constraint, text: str) -> None:
    request = structs.replace(asked(), guided=guided)
    wanted = await form_of(request, template=THINKS, opened="", grammars=CompactRules())
    for thoughts in ("", "<think>Hm.</think>\n"):
        assert accepts(wanted.grammar, f"{thoughts}{text}") is True
        assert accepts(wanted.grammar, f"{thoughts}{text}?") is False
    assert told(read(wanted, text)) == ("", text, [], "stop")
    completion = CompletionRequest(model="m", prompts=("A",), sampling=Sampling(), guided=guided, fields={}, sent={})
    held = await completion_form(completion, CompactRules())
    assert accepts(held.grammar, text) is True
    assert await completion_form(structs.replace(completion, guided=None), CompactRules()) is ANY_TEXT


async def test_text_that_is_no_json_can_t_be_told_from_calls() -> None:
    guided = ChoiceFormat(options=("yes", "no"), path="guided_choice")
    with pytest.raises(InvalidRequest) as caught:
        await form_of(structs.replace(asked(BOTH), guided=guided), template="", opened="", grammars=CompactRules())
    assert (caught.value.param, caught.value.code) == ("guided_choice", "unsupported_value")
    required = structs.replace(asked(Tools(all_=(TIME,), required=True)), guided=guided)
    wanted = await form_of(required, template="", opened="", grammars=CompactRules())
    assert accepts(wanted.grammar, "yes") is False


async def test_json_or_a_call() -> None:
    wanted = await form(BOTH, json=CITY)
    text = f'{{"city":{written(HERMES, ("get_time", "{}"))!r}}}'
    assert told(read(wanted, text)) == ("", text, [], "stop")
    assert told(read(wanted, "\n" + written(HERMES, CALL))) == ("", "", [CALL], "tool_calls")


async def test_arguments_are_an_object_even_if_the_schema_does_not_say_so() -> None:
    for schema, value, accepted in (
        (b"{}", "{}", True),
        (b"{}", "[]", False),
        (b'{"properties":{"a":{"type":"null"}}}', '{"a":null}', True),
        (b'{"properties":{"a":{"type":"null"}}}', "1", False),
        (b'{"anyOf":[{"type":"object"}]}', "{}", True),
        (b"true", "3", True),
    ):
        tool = Tool(name="f", parameters=schema, path="")
        wanted = await form_of(asked(Tools(all_=(tool,))), template="", opened="", grammars=_AnyRules())
        assert accepts(wanted.grammar, written(HERMES, ("f", value))) is accepted, schema


class _AnyRules(CompactRules):
    async def rule(self, schema: bytes, *, path: str) -> str:
        return "%json true" if schema == b"true" else await super().rule(schema, path=path)


async def test_a_schema_that_cannot_be_held_is_named() -> None:
    tool = Tool(name="f", parameters=b'{"not":{}}', path="tools[7].function.parameters")
    with pytest.raises(InvalidRequest) as caught:
        await form(Tools(all_=(tool,)))
    assert caught.value.param == "tools[7].function.parameters"
    with pytest.raises(InvalidRequest) as caught:
        await form(json=b'{"not":{}}')
    assert caught.value.param == "response_format"


async def test_markers_that_are_tokens_are_named_by_their_ids() -> None:
    async def token_id(text: str) -> int | None:
        return CONTROL_ID if text == "<tool_call>" else None

    wanted = await form(Tools(all_=(TIME,), required=True), token_id=token_id)
    call = written(HERMES, ("get_time", "{}"))
    assert accepts(wanted.grammar, call.replace("<tool_call>", CONTROL)) is True
    assert accepts(wanted.grammar, call) is True
    assert TIME.parameters == ANY


@pytest.mark.parametrize("template", ["", *("{% if tools %}" + "".join(row.marks) for row in FORMATS)])
@pytest.mark.parametrize("required", [False, True])
async def test_a_line_break_that_stops_cuts_no_call(template: str, required: bool) -> None:
    tools = Tools(all_=(WEATHER, TIME), required=required, parallel=True)
    wanted = await form_of(asked(tools, stop=("\n",)), template=template, opened="", grammars=CompactRules())
    row = call_format(template).on_one_line()
    calls = [CALL, ("get_time", "{}")][: 2 if row.separator is not None else 1]
    text = written(row, *calls)
    assert "\n" not in text
    assert accepts(wanted.grammar, text) is True
    assert told(read(wanted, *text)) == ("", "", calls, "tool_calls")


def test_a_tool_that_is_too_large_is_refused_before_it_is_told_of() -> None:
    parameters = b'{"title":"' + b"x" * 64 * 1024 + b'"}'
    large = Tool(name="large", parameters=parameters, path="tools[1].function.parameters")
    check_sizes(asked())
    check_sizes(asked(BOTH))
    with pytest.raises(InvalidRequest) as caught:
        check_sizes(asked(Tools(all_=(WEATHER, large), callable_=("get_weather",))))
    assert (caught.value.param, caught.value.code) == ("tools[1].function.parameters", "invalid_json_schema")


@pytest.mark.parametrize("stop", ["}", "arg", "get_", "tool_call>"])
async def test_a_stop_string_that_would_cut_a_required_call_is_refused(stop: str) -> None:
    for required in (False, True):
        tools = Tools(all_=(WEATHER, TIME), required=required)
        request = asked(tools, stop=("END", stop))
        if not required:
            assert (await form_of(request, template="", opened="", grammars=CompactRules())).grammar
            continue
        with pytest.raises(InvalidRequest) as caught:
            await form_of(request, template="", opened="", grammars=CompactRules())
        assert caught.value.param == "stop"


@pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)
async def test_what_a_grammar_takes_is_read(row) -> None:
    template = "{% if tools %}" + "".join(row.marks)
    calls = [CALL, ("get_time", '{"a":"]<|"}')][: 2 if row.separator is not None else 1]
    wanted = await form(BOTH, template=template)
    text = written(row, *calls)
    assert accepts(wanted.grammar, text) is True
    assert told(read(wanted, *text)) == ("", "", calls, "tool_calls")
