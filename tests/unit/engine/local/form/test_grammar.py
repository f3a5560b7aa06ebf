"""Every grammar compiles, takes what it should, and nothing else."""

import pytest
from tests.answer_forms import BOTH, CONTROL, CONTROL_ID, TIME, WEATHER, CompactRules, accepts, written

from narthex.core.tools import Tool, Tools
from narthex.engine.local.form.formats import FORMATS, HERMES, CallFormat
from narthex.engine.local.form.grammar import Calls, Shape, compose
from narthex.engine.local.form.thinking import Marks, Thinking

pytestmark = pytest.mark.anyio

ONE = ("get_weather", '{"city":"</tool_call> in \\"Rome\\""}')
TWO = ("get_time", '{"a":[1,{"b":null}],"c":"}"}')
JSON = b'{"type":"object","properties":{"n":{"type":"integer","maximum":9,"minimum":0}},"additionalProperties":false}'
MAY_THINK = Thinking(marks=Marks("<think>", "</think>"), opened=False)
THINKS = Thinking(marks=Marks("<think>", "</think>"), opened=True)

every_format = pytest.mark.parametrize("row", FORMATS, ids=lambda row: row.name)


async def grammar(
    row: CallFormat | None = None,
    *,
    tools: Tools = BOTH,
    json: bytes = b"",
    thinking: Thinking | None = None,
    ids: dict[str, int] | None = None,
) -> str:
    rules = CompactRules()
    calls = None
    if row is not None:
        pairs = [(tool.name, await rules.rule(tool.parameters, path="")) for tool in tools.callable_]
        calls = Calls(format=row, tools=pairs, required=tools.required, parallel=row.parallel(tools.parallel))
    held = await rules.rule(json, path="") if json else ""
    return compose(Shape(thinking=thinking, calls=calls, text=held, ids=ids or {}))


def choose(*, required: bool = False, parallel: bool = True, callable_: tuple[object, ...] = (WEATHER, TIME)) -> Tools:
    return Tools(
        all_=tuple(dict.fromkeys((WEATHER, TIME, *callable_))),
        callable_=[each.name for each in callable_],
        required=required,
        parallel=parallel,
    )


async def test_without_any_form_there_is_no_grammar() -> None:
    assert await grammar() == ""
    assert await grammar(thinking=MAY_THINK) == ""


@every_format
async def test_text_or_calls(row: CallFormat) -> None:
    held = await grammar(row)
    for text in ("", "Hello.\n{[<", '{"name": "Bob"}', "<|a|> <b>", "\U0001f600"):
        assert accepts(held, text) is True, text
    assert accepts(held, written(row, ONE)) is True
    assert accepts(held, written(row, ONE, TWO)) is (row.separator is not None)
    assert accepts(held, written(row, ONE) + "x") is False
    assert accepts(held, written(row, ("get_weather", '{"town":"Rome"}'))) is False
    assert accepts(held, written(row, ONE)[:-1]) is None


@pytest.mark.parametrize("row", [row for row in FORMATS if row.trigger], ids=lambda row: row.name)
async def test_calls_may_follow_text(row: CallFormat) -> None:
    held = await grammar(row)
    assert accepts(held, f"Let me see.\n\n{written(row, ONE, TWO)}") is True
    assert accepts(held, written(row, ("get_rain", "{}"))) is False
    assert accepts(held, row.trigger) is None


@every_format
async def test_required_calls(row: CallFormat) -> None:
    held = await grammar(row, tools=choose(required=True))
    assert accepts(held, "") is None
    assert accepts(held, "Hello") is False
    assert accepts(held, written(row, ONE)) is True
    assert accepts(held, f"Well: {written(row, ONE)}") is False
    assert accepts(held, written(row, ("get_rain", "{}"))) is False


@every_format
async def test_only_callable_tools_can_be_called(row: CallFormat) -> None:
    for required in (False, True):
        held = await grammar(row, tools=choose(required=required, callable_=(TIME,)))
        assert accepts(held, written(row, TWO)) is True
        whole = accepts(held, written(row, ONE))
        assert whole is (not (row.trigger or required))  # else it is text, which anything may be


@pytest.mark.parametrize("row", [row for row in FORMATS if row.separator is not None], ids=lambda row: row.name)
async def test_one_call_or_up_to_sixteen(row: CallFormat) -> None:
    several, one = await grammar(row), await grammar(row, tools=choose(parallel=False))
    assert accepts(several, written(row, *[ONE] * 16)) is True
    assert accepts(several, written(row, *[ONE] * 17)) is False
    assert accepts(one, written(row, ONE)) is True
    assert accepts(one, written(row, ONE, TWO)) is False


@pytest.mark.parametrize("thinking", [None, MAY_THINK])
async def test_json(thinking: Thinking | None) -> None:
    held = await grammar(json=JSON, thinking=thinking)
    assert accepts(held, '{"n":3}') is True
    for wrong in ("", '{"n":30}', "Here: {}", "\n{}", '{"n":3}\n'):
        assert accepts(held, wrong) is not True, wrong


@pytest.mark.parametrize("row", [row for row in FORMATS if row.trigger], ids=lambda row: row.name)
async def test_json_or_calls(row: CallFormat) -> None:
    held = await grammar(row, json=JSON, thinking=MAY_THINK)
    assert accepts(held, '{"n":3}') is True
    assert accepts(held, written(row, ONE, TWO)) is True
    assert accepts(held, "Hello") is False
    assert accepts(held, '{"n":3}' + written(row, ONE)) is False
    assert accepts(held, f"<think>Call?</think>\n\n{written(row, ONE)}") is True
    required = await grammar(row, json=JSON, tools=choose(required=True))
    assert accepts(required, '{"n":3}') is False
    assert accepts(required, written(row, ONE)) is True


@every_format
@pytest.mark.parametrize("required", [False, True])
async def test_thoughts_are_free_and_come_first(row: CallFormat, required: bool) -> None:
    held = await grammar(row, tools=choose(required=required), thinking=MAY_THINK)
    thoughts = f"\n<think>\nI could {written(row, TWO)}\n</think>\n\n"
    assert accepts(held, thoughts + written(row, ONE)) is True
    assert accepts(held, f"{thoughts}Hello") is (not required)
    assert accepts(held, written(row, ONE)) is True
    assert accepts(held, "<think>Hm") is None
    opened = await grammar(row, tools=choose(required=required), thinking=THINKS)
    assert accepts(opened, f"Hm {written(row, TWO)}\n</think>{written(row, ONE)}") is True
    assert accepts(opened, written(row, ONE)) is None


async def test_json_after_thoughts() -> None:
    held = await grammar(json=JSON, thinking=THINKS)
    assert accepts(held, 'I think {"n":30}.\n</think>\n\n{"n":3}') is True
    assert accepts(held, '</think>{"n":3}') is True
    assert accepts(held, f'</think>{" " * 8}{{"n":3}}') is True
    assert accepts(held, f'</think>{" " * 9}{{"n":3}}') is False
    assert accepts(held, "</think>Hello") is False


async def test_control_tokens_or_their_text() -> None:
    """Which of the two a model has depends on its vocabulary."""
    row = next(row for row in FORMATS if row.name == "mistral_named")
    one, two = (f'{name}[ARGS]{{"city":"x"}}' for name in ("get_weather", "get_time"))
    for required in (False, True):
        held = await grammar(row, tools=choose(required=required), ids={"[TOOL_CALLS]": CONTROL_ID})
        assert accepts(held, f"{CONTROL}{one}") is True
        assert accepts(held, f"{CONTROL}{one}{CONTROL}{two}") is True
        assert accepts(held, f"[TOOL_CALLS]{one}[TOOL_CALLS]{two}") is True
        assert accepts(held, f"{CONTROL}{one}{one}") is False
        assert accepts(held, f"{CONTROL}{CONTROL}") is False
        assert accepts(held, f"So: {CONTROL}{one}") is (not required)
    assert accepts(await grammar(row), f"{CONTROL}{one}") is False


async def test_thoughts_between_control_tokens() -> None:
    held = await grammar(json=JSON, thinking=MAY_THINK, ids={"<think>": CONTROL_ID})
    assert accepts(held, f'\n{CONTROL}hm</think>{{"n":3}}') is True
    assert accepts(held, '{"n":3}') is True
    held = await grammar(HERMES, thinking=THINKS, ids={"</think>": CONTROL_ID})
    assert accepts(held, f"hm{CONTROL}Hello") is True
    assert accepts(held, f"hm{CONTROL}\n{written(HERMES, ONE)}") is True


async def test_schemas_that_are_the_same_have_one_rule() -> None:
    held = await grammar(HERMES, tools=choose(callable_=(WEATHER, TIME, TIME)))
    assert held.count("arguments_") == held.count("arguments_0") + held.count("arguments_1")


async def test_a_hundred_tools() -> None:
    tools = tuple(Tool(name=f"tool_{number}", parameters=WEATHER.parameters, path="") for number in range(128))
    held = await grammar(HERMES, tools=choose(callable_=tools))
    assert accepts(held, written(HERMES, ("tool_99", '{"city":"x"}'), ("tool_9", '{"city":"y"}'))) is True
    assert accepts(held, written(HERMES, ("tool_999", '{"city":"x"}'))) is False
