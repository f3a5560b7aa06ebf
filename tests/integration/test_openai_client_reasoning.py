"""Models that think: the chat model with a template of such a model, which shows it how answers begin."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from tests.chat_gguf import rewritten
from tests.server_process import CHAT_MODEL, StartServer

pytest_plugins = ["tests.models_fixture", "tests.server_fixture"]

THOUGHT = "The user counts. I count too."
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' %}<think>\nTHOUGHT\n</think>\n\n{% endif %}"
    "{{ m.content.split('</think>')[-1] }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"
).replace("THOUGHT", THOUGHT)
OPENING = TEMPLATE.partition("{% if enable_thinking")[0] + "<think>\n"
COUNTING: list[dict[str, Any]] = [
    turn
    for number in range(1, 9, 2)
    for turn in ({"role": "user", "content": str(number)}, {"role": "assistant", "content": f'{{"n": {number + 1}}}'})
] + [{"role": "user", "content": "9"}]
"""After this even a small model thinks the same, and answers in the same form."""
FORM = {
    "type": "json_schema",
    "json_schema": {
        "name": "count",
        "schema": {
            "type": "object",
            "properties": {"n": {"type": "integer", "enum": [7, 10]}},
            "required": ["n"],
            "additionalProperties": False,
        },
    },
}
TOOL = {"type": "function", "function": {"name": "count", "parameters": FORM["json_schema"]["schema"]}}  # type: ignore[index]


@pytest.fixture(scope="module")
def thinking(start_server: StartServer, models_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OpenAI]:
    """A client of a server with two models: `thinks` opens its thoughts itself, for `opened` the prompt does."""
    folder = tmp_path_factory.mktemp("models")
    (source,) = (models_dir / CHAT_MODEL).glob("*.gguf")
    local = {
        name: {
            "source": str(rewritten(source, folder / f"{name}.gguf", template=template)),
            "context": 2048,
            "threads": 1,
        }
        for name, template in (("thinks", TEMPLATE), ("opened", OPENING))
    }
    with (
        start_server({"engine": {"default": None, "models": local}}, models=()) as server,
        OpenAI(base_url=server.base_url, api_key=server.admin_key, max_retries=0, timeout=120) as client,
    ):
        yield client
    shutil.rmtree(folder)


def ask(client: OpenAI, model: str, **more: Any) -> Any:
    options = {"messages": COUNTING, "max_tokens": 60, "temperature": 0} | more
    return client.chat.completions.create(model=model, **options)


@pytest.mark.parametrize("model", ["thinks", "opened"])
def test_thoughts_are_told_apart(thinking: OpenAI, model: str) -> None:
    answer = ask(thinking, model)
    choice = answer.choices[0]
    assert choice.message.reasoning_content == THOUGHT
    assert choice.message.content == '{"n": 10}'
    assert choice.finish_reason == "stop"
    assert 5 <= answer.usage.completion_tokens_details.reasoning_tokens < answer.usage.completion_tokens


@pytest.mark.parametrize("model", ["thinks", "opened"])
def test_a_stream_tells_the_same(thinking: OpenAI, model: str) -> None:
    deltas = [chunk.choices[0].delta for chunk in ask(thinking, model, stream=True)]
    thoughts = [delta.reasoning_content for delta in deltas if getattr(delta, "reasoning_content", None)]
    assert "".join(thoughts) == THOUGHT
    assert len(thoughts) > 3
    assert "".join(delta.content or "" for delta in deltas) == '{"n": 10}'


@pytest.mark.parametrize("model", ["thinks", "opened"])
def test_the_form_holds_for_the_answer_and_not_for_the_thoughts(thinking: OpenAI, model: str) -> None:
    message = ask(thinking, model, response_format=FORM).choices[0].message
    assert message.reasoning_content == THOUGHT
    assert json.loads(message.content)["n"] in {7, 10}


@pytest.mark.parametrize("model", ["thinks", "opened"])
def test_a_required_call_comes_after_the_thoughts(thinking: OpenAI, model: str) -> None:
    choice = ask(thinking, model, tools=[TOOL], tool_choice="required", parallel_tool_calls=False).choices[0]
    assert choice.message.reasoning_content == THOUGHT
    assert choice.message.content is None
    assert json.loads(choice.message.tool_calls[0].function.arguments)["n"] in {7, 10}
    assert choice.finish_reason == "tool_calls"


def test_thoughts_that_reach_the_limit(thinking: OpenAI) -> None:
    answer = ask(thinking, "opened", max_tokens=4, response_format=FORM)
    (choice,) = answer.choices
    assert choice.finish_reason == "length"
    assert THOUGHT.startswith(choice.message.reasoning_content)
    assert not choice.message.content
    assert answer.usage.completion_tokens_details.reasoning_tokens == 4


def test_thinking_is_switched_off(thinking: OpenAI) -> None:
    answer = ask(thinking, "thinks", reasoning_effort="none", response_format=FORM)
    assert getattr(answer.choices[0].message, "reasoning_content", None) is None
    assert json.loads(answer.choices[0].message.content)["n"] in {7, 10}
    assert answer.usage.completion_tokens_details.reasoning_tokens == 0
    assert ask(thinking, "thinks", reasoning_effort="high").choices[0].message.reasoning_content == THOUGHT
    with pytest.raises(openai.BadRequestError) as caught:
        ask(thinking, "opened", reasoning_effort="none")
    assert (caught.value.param, caught.value.code) == ("reasoning_effort", "unsupported_parameter")
