"""`response_format` through the official client: what is finished is valid, and what can't be held is refused."""

import asyncio
import json
from typing import Any

import jsonschema_rs
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from tests.schemas import BOUNDED, SMALL, WORD, obj
from tests.server_process import CHAT_MODEL

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

ASK = [{"role": "user", "content": "Give me an example as JSON."}]


def form(schema: Any, *, strict: bool | None = True) -> dict[str, Any]:
    """The field for a schema."""
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": strict}}


def ask(client: OpenAI, response_format: Any, **options: Any) -> Any:
    options = {"model": CHAT_MODEL, "messages": ASK, "max_tokens": 300} | options
    return client.chat.completions.create(response_format=response_format, **options)


@pytest.mark.anyio
async def test_every_finished_answer_is_valid_and_nearly_all_finish(aclient: AsyncOpenAI) -> None:
    async def one(schema: Any) -> Any:
        answer = await aclient.chat.completions.create(
            model=CHAT_MODEL, messages=ASK, max_tokens=1024, response_format=form(schema), seed=7
        )
        return answer.choices[0]

    answers = dict(zip(BOUNDED, await asyncio.gather(*map(one, BOUNDED.values())), strict=True))
    finished = {name: choice for name, choice in answers.items() if choice.finish_reason == "stop"}
    for name, choice in finished.items():
        value = json.loads(choice.message.content)
        validator = jsonschema_rs.validator_for(BOUNDED[name], validate_formats=True)
        assert validator.is_valid(value), f"{name}: {choice.message.content}"
    assert {choice.finish_reason for choice in answers.values()} <= {"stop", "length"}
    assert len(BOUNDED) == 30
    assert len(finished) >= 27, sorted(answers.keys() - finished.keys())


@pytest.mark.parametrize("strict", [True, False, None])
def test_a_schema_holds_whatever_strict_says(client: OpenAI, strict: bool | None) -> None:
    choice = ask(client, form(obj(name=WORD, age=SMALL), strict=strict)).choices[0]
    assert choice.finish_reason == "stop"
    assert json.loads(choice.message.content).keys() == {"name", "age"}


def test_json_mode(client: OpenAI) -> None:
    for seed in range(5):
        choice = ask(client, {"type": "json_object"}, seed=seed, max_tokens=200).choices[0]
        text = choice.message.content
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(text), dict)
        assert text.startswith("{")
        assert "   " not in text.replace('"', "")[:20]


def test_a_limit_leaves_a_valid_beginning(client: OpenAI) -> None:
    answer = ask(client, form(obj(name=WORD, age=SMALL)), max_tokens=3)
    assert answer.choices[0].finish_reason == "length"
    assert '{"name": "'.startswith(answer.choices[0].message.content[:9])


def test_a_stop_string_may_cut_json(client: OpenAI) -> None:
    answer = ask(client, form(obj(name=WORD, age=SMALL)), stop='"age"')
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content.startswith('{"name": "')
    assert "age" not in answer.choices[0].message.content


def test_several_choices_are_each_valid(client: OpenAI) -> None:
    schema = obj(colour={"enum": ["red", "green", "blue"]}, n=SMALL)
    answer = ask(client, form(schema), n=5)
    assert [choice.index for choice in answer.choices] == list(range(5))
    for choice in answer.choices:
        jsonschema_rs.validate(schema, json.loads(choice.message.content))


def test_a_stream_is_the_answer(client: OpenAI) -> None:
    options: dict[str, Any] = {"temperature": 0}
    response_format = form(BOUNDED["array of objects"])
    whole = ask(client, response_format, **options).choices[0].message.content
    chunks = list(ask(client, response_format, stream=True, **options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == whole
    assert chunks[-1].choices[0].finish_reason == "stop"


def test_the_parse_helper_of_the_official_client(client: OpenAI) -> None:
    class Person(BaseModel):
        name: str
        age: int

    answer = client.chat.completions.parse(
        model=CHAT_MODEL, messages=ASK, response_format=Person, temperature=0, max_tokens=200
    )
    parsed = answer.choices[0].message.parsed
    assert isinstance(parsed, Person)


def test_a_schema_of_booleans(client: OpenAI) -> None:
    """`true` as a subschema is anything, `false` nothing."""
    schema = obj(anything=True) | {"properties": {"anything": True, "nothing": False}, "required": ["anything"]}
    text = ask(client, form(schema), max_tokens=40).choices[0].message.content
    assert text.startswith('{"anything": ')


REFUSED: dict[str, tuple[Any, str]] = {
    "unique items": (obj(a={"type": "array", "items": SMALL, "uniqueItems": True}), "properties.a.uniqueItems"),
    "not": (obj(a={"not": {"type": "string"}}), "properties.a.not"),
    "overlapping one of": (obj(a={"oneOf": [{"type": "integer"}, {"type": "number"}]}), "properties.a.oneOf"),
    "an unknown type": ({"type": "text"}, "type"),
    "a pattern that is none": (obj(a={"type": "string", "pattern": "("}), "properties.a.pattern"),
    "a ref to nowhere": (obj(a={"$ref": "#/$defs/nowhere"}), "properties.a.$ref"),
    "a remote ref": (obj(a={"$ref": "https://example.com/schema.json"}), "properties.a.$ref"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_held_is_refused_where_it_stands(client: OpenAI, case: str) -> None:
    schema, place = REFUSED[case]
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, form(schema))
    assert caught.value.param == f"response_format.json_schema.schema.{place}"
    assert caught.value.code == "invalid_json_schema"
