"""Guided output by the embedded model: what is finished is of the form, and what can't be held is refused soon."""

import asyncio
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from openai import AsyncOpenAI
from tests.grammars import ARITHMETIC, GRAMMARS, HOSTILE_GRAMMARS, HOSTILE_PATTERNS, PATTERNS
from tests.server_process import CHAT_MODEL

from narthex.core.constrained import GrammarFormat, RegexFormat
from narthex.sandbox.forms import fault_of

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]
pytestmark = pytest.mark.patient

ASK = [{"role": "user", "content": "Give me an example."}]
SCHEMA = {"type": "object", "properties": {"a": {"enum": [1, 2]}, "b": {"type": "boolean"}}, "required": ["a", "b"]}
CLOSED = SCHEMA | {"additionalProperties": False}
FULL_STOP = 30
"""The model's token for it."""
CHOICES: list[list[str]] = [
    ["yes", "no"],
    ["yes", "yes, of course", "no", "no, never"],
    ["été", "hiver"],
    ["a\nb", "c\td"],
    ['"quoted"', "{braces}", "[brackets]"],
    ["😀", "😢"],
    ["positive", "negative", "neutral"],
    [".*", "a|b", "(c)"],
    [f"item {number}" for number in range(1000)],
    ["one"],
]
BOUNDED_GRAMMARS = [name for name in GRAMMARS if name not in {"arithmetic", "json", "repeats"}][:10]


async def made(client: AsyncOpenAI, *, stream: bool, **fields: Any) -> tuple[str, str | None]:
    """The text of one answer, and how it finished."""
    options = {"model": CHAT_MODEL, "messages": ASK, "seed": 7, "extra_body": {"max_tokens": 16} | fields}
    if not stream:
        (choice,) = (await client.chat.completions.create(**options)).choices
        return choice.message.content or "", choice.finish_reason
    text, finish = "", None
    async for chunk in await client.chat.completions.create(**options, stream=True):
        for each in chunk.choices:
            text += each.delta.content or ""
            finish = each.finish_reason or finish
    return text, finish


async def each(client: AsyncOpenAI, *fields: dict[str, Any]) -> list[tuple[str, str | None]]:
    """The answers to several requests side by side, every second one as a stream."""
    return await asyncio.gather(*(made(client, stream=bool(at % 2), **one) for at, one in enumerate(fields)))


@pytest.mark.anyio
async def test_answers_match_their_regular_expressions(aclient: AsyncOpenAI) -> None:
    patterns = [pattern for pattern, _, _ in PATTERNS.values()]
    assert len(patterns) == 20
    answers = await each(aclient, *({"guided_regex": pattern} for pattern in patterns))
    for pattern, (text, finish) in zip(patterns, answers, strict=True):
        fault = fault_of(RegexFormat(pattern=pattern, path=""), text, cut=finish == "length")
        assert fault is None, (pattern, text)
        assert finish == "length" or re.fullmatch(pattern, text), (pattern, text)


@pytest.mark.anyio
async def test_answers_are_one_of_the_choices(aclient: AsyncOpenAI) -> None:
    answers = await each(aclient, *({"guided_choice": options} for options in CHOICES))
    for options, (text, finish) in zip(CHOICES, answers, strict=True):
        assert text in options
        assert finish == "stop"


@pytest.mark.anyio
async def test_answers_are_derived_by_their_grammars(aclient: AsyncOpenAI) -> None:
    grammars = [*(GRAMMARS[name][0] for name in BOUNDED_GRAMMARS), ARITHMETIC]
    assert len(grammars) == 11
    answers = await each(aclient, *({"guided_grammar": grammar} for grammar in grammars))
    for grammar, (text, finish) in zip(grammars, answers, strict=True):
        fault = fault_of(GrammarFormat(grammar=grammar, path=""), text, cut=finish == "length")
        assert fault is None, (grammar, text)


# --- one at a time ---------------------------------------------------------------------------------------------------


def chat(http: httpx2.Client, **fields: Any) -> httpx2.Response:
    return http.post(
        "/v1/chat/completions", json=fields | {"model": CHAT_MODEL, "messages": ASK} | {"max_tokens": 40} | fields
    )


def text_of(answer: httpx2.Response) -> str:
    assert answer.status_code == 200, answer.text
    content: str = answer.json()["choices"][0]["message"]["content"]
    return content


@pytest.mark.parametrize(
    ("fields", "layout"),
    [
        ({"guided_json": CLOSED}, r'\{"a": [12], "b": (true|false)\}'),
        ({"guided_json": json.dumps(CLOSED)}, r'\{"a": [12], "b": (true|false)\}'),
        ({"guided_json": CLOSED, "guided_whitespace_pattern": r"\n?"}, r'\{"a":[12],"b":(true|false)\}'),
        ({"structured_outputs": {"json": CLOSED, "disable_any_whitespace": True}}, r'\{"a":[12],"b":(true|false)\}'),
    ],
)
def test_json_in_its_layout(http: httpx2.Client, fields: dict[str, Any], layout: str) -> None:
    assert re.fullmatch(layout, text_of(chat(http, **fields)))


def test_a_limit_leaves_a_beginning(http: httpx2.Client) -> None:
    answer = chat(http, guided_regex="[0-9]{2}-[a-z]{30}", max_tokens=5)
    assert answer.json()["choices"][0]["finish_reason"] == "length"
    assert re.fullmatch("[0-9]{1,2}(-[a-z]*)?", text_of(answer))


def test_what_rules_out_the_end_is_an_error_and_no_answer(http: httpx2.Client) -> None:
    """Without tokens to end by, the engine writes on behind the form."""
    error = chat(http, guided_choice=["yes", "no"], logit_bias={"0": -100, "2": -100}, max_tokens=8)
    assert (error.status_code, error.json()["error"]["code"]) == (502, "invalid_output")
    both_ = chat(http, guided_choice=["yes", "no"], ignore_eos=True)
    assert (both_.status_code, both_.json()["error"]["param"]) == (400, "ignore_eos")


def test_several_choices_and_the_best_of_them(http: httpx2.Client) -> None:
    answer = chat(http, guided_choice=["red", "green"], n=2, best_of=3)
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1]
    assert {choice["message"]["content"] for choice in answer.json()["choices"]} <= {"red", "green"}
    assert "logprobs" not in answer.json()["choices"][0] or answer.json()["choices"][0]["logprobs"] is None


def test_completions_are_guided_behind_their_prompts(http: httpx2.Client) -> None:
    body = {"model": CHAT_MODEL, "prompt": ["Is it? ", "Was it? "], "guided_choice": ["yes", "no"], "echo": True}
    answer = http.post("/v1/completions", json=body).json()
    assert all(re.fullmatch(r"(Is|Was) it\? (yes|no)", choice["text"]) for choice in answer["choices"])
    body = {"model": CHAT_MODEL, "prompt": "Is it? ", "guided_json": CLOSED, "max_tokens": 40}
    assert json.loads(http.post("/v1/completions", json=body).json()["choices"][0]["text"]).keys() == {"a", "b"}


def test_a_constraint_stands_beside_tools_that_have_to_be_called(http: httpx2.Client) -> None:
    parameters = {"type": "object", "properties": {}, "additionalProperties": False}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    called = chat(http, guided_choice=["yes", "no"], tools=tools, tool_choice="required", max_tokens=60)
    assert called.json()["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == "look"
    assert text_of(chat(http, guided_choice=["yes", "no"], tools=tools, tool_choice="none")) in {"yes", "no"}
    error = chat(http, guided_choice=["yes", "no"], tools=tools).json()["error"]
    assert (error["param"], error["code"]) == ("guided_choice", "unsupported_value")


# --- how answers end -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_is_told_where_that_is_asked_for(http: httpx2.Client, stream: bool) -> None:
    told = {"stop": ["e"], "include_stop_str_in_output": True, "temperature": 0, "stream": stream}
    answer = chat(http, **told)
    if stream:
        events = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
        text = "".join(event["choices"][0]["delta"].get("content") or "" for event in events)
    else:
        text = text_of(answer)
    assert text.endswith("e")
    assert "e" not in text[:-1]


def test_a_token_ends_an_answer(http: httpx2.Client) -> None:
    ending = {"stop_token_ids": [FULL_STOP], "temperature": 0, "guided_regex": "[a-z]{1,5}[.][0-9]{40}"}
    answer = chat(http, **ending, include_stop_str_in_output=True)
    assert re.fullmatch("[a-z]{1,5}[.]", text_of(answer))
    assert answer.json()["choices"][0]["finish_reason"] == "stop"
    assert text_of(chat(http, **ending)) == text_of(answer)[:-1]
    unknown = chat(http, stop_token_ids=[10_000_000]).json()["error"]
    assert unknown["param"] == "stop_token_ids"


def test_an_answer_may_have_to_go_on_to_its_limit(http: httpx2.Client) -> None:
    answer = chat(http, ignore_eos=True, temperature=0, max_tokens=60).json()
    assert (answer["choices"][0]["finish_reason"], answer["usage"]["completion_tokens"]) == ("length", 60)


def test_a_chat_tells_what_it_goes_on_from(http: httpx2.Client) -> None:
    messages = [*ASK, {"role": "assistant", "content": "For instance: "}]
    assert text_of(chat(http, messages=messages, echo=True, max_tokens=2)).startswith("For instance: ")


# --- what can't be held ----------------------------------------------------------------------------------------------


def hostile() -> Iterator[tuple[str, Any]]:
    """Field and value, after what has brought other servers down."""
    for grammar in HOSTILE_GRAMMARS.values():
        yield "guided_grammar", grammar
    for pattern in HOSTILE_PATTERNS.values():
        yield "guided_regex", pattern
    deep: dict[str, Any] = {}
    for _ in range(40):
        deep = {"items": deep}
    for schema in (
        {"type": "something"}, {"type": 1}, {"type": "string", "pattern": "("}, {"pattern": "(a{1000}){1000}"},
        {"properties": []}, {"$ref": "#/nowhere"}, {"$ref": "#"}, deep, {"not": {}}, {"uniqueItems": True},
        {"title": "x" * 70_000}, {"minItems": 10**9, "type": "array"}, {"pattern": "a" * 1025}, '{"type":', "[]", 7,
    ):  # fmt: skip
        yield "guided_json", schema
    yield "guided_choice", []
    yield "guided_choice", [""]
    yield "guided_choice", ["a"] * 1001
    yield "guided_choice", [f"{number}{'x' * 90}" for number in range(1000)]
    yield "structured_outputs", {"regex": "("}
    yield "structured_outputs", {"grammar": "root ::= root"}
    yield "structured_outputs", {"structural_tag": "{}"}


@pytest.mark.anyio
async def test_hostile_constraints_cost_nobody_else_anything(aclient: AsyncOpenAI, http: httpx2.Client) -> None:
    other = asyncio.ensure_future(made(aclient, stream=True, ignore_eos=True, max_tokens=100))
    asked = 0
    assert not other.done()
    for field, value in hostile():
        took: list[float] = []
        while not took or (took[-1] >= 2 and len(took) < 5):  # whoever works beside us may hold one up
            began = time.monotonic()
            answer = await asyncio.to_thread(chat, http, **{field: value})
            took.append(time.monotonic() - began)
        error = answer.json()["error"]
        assert (answer.status_code, (error["param"] or "").partition("[")[0].partition(".")[0]) == (400, field), value
        assert took[-1] < 2, (field, str(value)[:80], took)
        asked += 1
    assert asked > 60
    text, finish = await other
    assert (bool(text), finish) == (True, "length")
