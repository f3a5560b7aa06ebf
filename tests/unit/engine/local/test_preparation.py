"""From a chat to the tokens that its engine gets, without an engine: a token is a character here."""

from collections.abc import Mapping
from typing import Any

import pytest
from tests.answer_forms import CompactRules
from tests.written_requests import HI, chat

from narthex.core.errors import InvalidRequest
from narthex.engine.local.llama import Props
from narthex.engine.local.preparation import Facts, LocalModel, Preparation
from narthex.sandbox import templates

pytestmark = pytest.mark.anyio

CHATML = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
THINKS = CHATML + "<think>\n{# </think> #}"
BEGUN = [HI, {"role": "assistant", "content": "Well "}]


class Server:
    longest = 0

    async def props(self) -> Props:
        return Props()

    async def tokenize(self, text: str, *, control: bool, begin: bool) -> list[int]:
        self.longest = max(self.longest, len(text))
        return [*map(ord, "^" * begin + text)]

    async def vocabulary_size(self) -> int:
        return 0


class Templates:
    """Renders here, and notes what was brought."""

    def __init__(self) -> None:
        self.brought: list[int] = []

    async def render(self, template: str, variables: Mapping[str, Any]) -> str:
        return templates.render(template, variables)

    async def render_brought(self, template: str, variables: Mapping[str, Any], *, most_chars: int) -> str:
        self.brought.append(most_chars)
        return templates.render_brought(template, variables, most_chars=most_chars)


def preparing(own: str, server: Server, rendering: Templates | None = None) -> Preparation:
    """With a model whose template is `own`."""
    model = LocalModel(name="m", child="", fingerprint="", window=100, facts=lambda: Facts(template=own))
    return Preparation(
        model,
        server,  # type: ignore[arg-type]
        templates=rendering or Templates(),
        ensure=None,  # type: ignore[arg-type]
    )


async def read(own: str, *, rendering: Templates | None = None, **fields: Any) -> str:
    """What the engine reads of a chat with a model whose template is `own`."""
    ready = await preparing(own, Server(), rendering).prepare(chat(**fields), CompactRules())
    assert ready.begun == 0
    return "".join(map(chr, ready.prompts[0]))


async def test_a_model_without_a_template_answers_no_chat_but_by_one_that_is_brought() -> None:
    with pytest.raises(InvalidRequest, match="has no chat template") as caught:
        await read("")
    assert (caught.value.param, caught.value.code) == ("messages", "unsupported_value")
    rendering = Templates()
    assert await read("", rendering=rendering, chat_template=CHATML) == "^<user>Hi<assistant>"
    assert rendering.brought == [6400]


async def test_its_own_template_is_not_looked_at_then() -> None:
    assert await read("{{ nosuchfilter | nosuchfilter }}", chat_template="{{ messages[0].content }}!") == "^Hi!"
    with pytest.raises(InvalidRequest, match="not valid") as caught:
        await read(CHATML, chat_template="{% if")
    assert caught.value.param == "chat_template"


@pytest.mark.parametrize(
    ("own", "fields", "text"),
    [
        (CHATML, {}, "^<user>Hi<assistant>Well <assistant>"),
        (CHATML, {"add_generation_prompt": False}, "^<user>Hi<assistant>Well "),
        (CHATML, {"continue_final_message": True}, "^<user>Hi<assistant>Well "),
        (CHATML, {"continue_final_message": True, "add_special_tokens": False}, "<user>Hi<assistant>Well "),
        (THINKS, {"continue_final_message": True}, "^<user>Hi<assistant><think>\n\n</think>\n\nWell "),
    ],
)
async def test_where_the_answer_begins(own: str, fields: dict[str, Any], text: str) -> None:
    assert await read(own, messages=BEGUN, **fields) == text


async def test_an_end_that_can_t_be_put_off() -> None:
    with pytest.raises(InvalidRequest) as caught:
        await read(CHATML, min_tokens=3, stop=["a"])
    assert (caught.value.param, caught.value.code) == ("min_tokens", "unsupported_value")


async def test_a_prediction_takes_no_more_than_can_come_true() -> None:
    server = Server()
    prediction = {"type": "content", "content": "x" * 1_000_000}
    ready = await preparing(CHATML, server).prepare(chat(prediction=prediction), CompactRules())
    assert (len(ready.predicted), server.longest) == (100, 6400)
    ready = await preparing(CHATML, server).prepare(
        chat(prediction=prediction | {"content": "all of it"}), CompactRules()
    )
    assert "".join(map(chr, ready.predicted)) == "all of it"


NAMED: list[Any] = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi", "name": "ada"}]
RESULT: list[Any] = [
    {"role": "assistant", "function_call": {"name": "look", "arguments": "{}"}},
    {"role": "function", "content": "4", "name": "look"},
]


@pytest.mark.parametrize(
    ("own", "messages", "unheard"),
    [
        (CHATML, NAMED, ("messages.name",)),
        (CHATML, NAMED[:1], ()),
        ("{% for m in messages %}{{ m.name }}{{ m.content }}{% endfor %}", NAMED, ()),
        ("{% if not messages[-1].name %}{{ raise_exception('Who?') }}{% endif %}!", NAMED, ()),
        (CHATML, RESULT, ()),
    ],
    ids=["dropped", "nobody is named", "told", "wanted", "a function's"],
)
async def test_names_that_a_template_drops(own: str, messages: list[Any], unheard: tuple[str, ...]) -> None:
    ready = await preparing(own, Server()).prepare(chat(messages=messages), CompactRules())
    assert ready.unheard == unheard
