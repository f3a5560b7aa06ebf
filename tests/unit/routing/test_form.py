"""What requests ask of their answers, and which answers have it."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from narthex.core.chat import ChatRequest
from narthex.core.completions import CompletionRequest
from narthex.core.constrained import ANY_OBJECT
from narthex.core.embeddings import EmbeddingsRequest
from narthex.core.errors import EngineUnavailable, InvalidRequest
from narthex.core.fold import FoldedCall, FoldedChoice
from narthex.core.ports import Request
from narthex.core.sent import Sent
from narthex.core.stream import FinishReason
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.routing.form import Check, Form, form_of, not_begun
from narthex.sandbox.validity import fault

pytestmark = pytest.mark.anyio

SCHEMA = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"]}
PERSON = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}


def function(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": SCHEMA, **more}}


ADD, SEND = function("add", strict=True), function("send")
CUSTOM = {"type": "custom", "custom": {"name": "draw"}}
TOOLS = [ADD, SEND, CUSTOM]


class Compiler:
    """Checks at once, or can't."""

    def __init__(self, error: Exception | None = None) -> None:
        self._error = error

    def of(self, owner: str) -> "Compiler":
        return self

    async def rule(self, schema: bytes, *, path: str) -> str:
        raise AssertionError

    async def fault(self, schema: bytes, text: str) -> str | None:
        if self._error is not None:
            raise self._error
        return fault(schema, text)


def chat(**fields: Any) -> ChatRequest:
    body = {"model": "m", "messages": [{"role": "user", "content": "Hello"}], **fields}
    request = ChatDialect().decode(json.dumps(body).encode(), profile="openai", strict=True).request
    assert isinstance(request, ChatRequest)
    return request


def texts(**fields: Any) -> CompletionRequest:
    body = {"model": "m", "prompt": "Hello", **fields}
    request = CompletionsDialect().decode(json.dumps(body).encode(), profile="openai", strict=True).request
    assert isinstance(request, CompletionRequest)
    return request


def vectors() -> EmbeddingsRequest:
    request = EmbeddingsDialect().decode(b'{"model": "m", "input": "a"}', profile="openai", strict=True).request
    assert isinstance(request, EmbeddingsRequest)
    return request


def form(request: Request) -> Form:
    found = form_of(request)
    assert found is not None
    return found


@pytest.mark.parametrize(
    "request_",
    [
        vectors(),
        chat(),
        texts(),
        chat(response_format={"type": "text"}),
        chat(tools=[SEND]),
        chat(tools=[SEND], tool_choice="auto", parallel_tool_calls=True),
        chat(functions=[SEND["function"]], function_call="auto"),
        texts(guided_choice=["a"], echo=True),
        texts(structured_outputs={"grammar": "start: 'a'"}),
    ],
)
def test_nearly_all_ask_for_no_form(request_: Request) -> None:
    assert form_of(request_) is None


@pytest.mark.parametrize(
    ("request_", "asked"),
    [
        (chat(response_format={"type": "json_object"}), Form(schema=ANY_OBJECT)),
        (chat(response_format={"type": "json_object"}, stop="x"), Form(schema=ANY_OBJECT, may_be_cut=True)),
        (texts(guided_json='{"type": "string"}'), Form(schema=b'{"type": "string"}')),
        (texts(structured_outputs={"json_object": True}), Form(schema=ANY_OBJECT)),
        (chat(guided_choice=["a", "b"]), Form(options=("a", "b"))),
        (texts(guided_regex="a|b"), Form(pattern=b'{"type":"string","pattern":"^(?:a|b)$"}')),
        (chat(tools=TOOLS[1:], tool_choice="none"), Form(calling="never")),
        (chat(tools=TOOLS[1:], tool_choice="required"), Form(calling="required")),
        (chat(tools=TOOLS[1:], parallel_tool_calls=False), Form(alone=True)),
        (
            chat(tools=TOOLS[1:], tool_choice={"type": "custom", "custom": {"name": "draw"}}),
            Form(calling="required", names=frozenset({"draw"})),
        ),
        (
            chat(functions=[SEND["function"]], function_call={"name": "send"}),
            Form(calling="required", names=frozenset({"send"})),
        ),
        (chat(functions=[SEND["function"]], function_call="none"), Form(calling="never")),
    ],
)
def test_what_is_asked_for(request_: Request, asked: Form) -> None:
    assert form(request_) == asked


def test_a_schema_is_the_callers_own() -> None:
    assert json.loads(form(chat(response_format=PERSON)).schema or b"") == SCHEMA
    assert json.loads(form(texts(guided_json=SCHEMA)).schema or b"") == SCHEMA


@pytest.mark.parametrize("fields", [{"response_format": PERSON}, {"tools": TOOLS}, {"tools": [SEND]}])
def test_requests_that_are_alike_ask_for_the_same(fields: dict[str, Any]) -> None:
    dialect = ChatDialect()
    found = []
    for text in "abcd":
        body = {"model": "m", "messages": [{"role": "user", "content": text}], **fields}
        request = dialect.decode(json.dumps(body).encode(), profile="openai", strict=True).request
        found.append((isinstance(request.sent, Sent), form_of(request)))
    assert [alike for alike, _ in found] == [False, False, True, True]
    assert found[0][1] == found[1][1] == found[2][1]
    assert found[3][1] is found[2][1]


def test_only_strict_functions_have_their_arguments_checked() -> None:
    strict = form(chat(tools=TOOLS)).strict
    assert {name: json.loads(schema) for name, schema in strict.items()} == {"add": SCHEMA}


@pytest.mark.parametrize(("mode", "calling"), [("auto", "maybe"), ("required", "required")])
def test_some_of_the_tools_may_be_allowed(mode: str, calling: str) -> None:
    allowed = [{"type": "function", "function": {"name": "send"}}, CUSTOM]
    chosen = {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": allowed}}
    found = form(chat(tools=TOOLS, tool_choice=chosen))
    assert (found.calling, found.names) == (calling, {"send", "draw"})


# --- answers ---------------------------------------------------------------------------------------------------------


def said(text: str = "", *, finish: FinishReason = "stop", refusal: str = "", thought: str = "") -> FoldedChoice:
    pieces = [text[:3], text[3:]]
    return FoldedChoice(
        0,
        text=pieces,
        finish_reason=finish,
        refusal=[refusal] if refusal else [],
        reasoning=[thought] if thought else [],
    )


def called(name: str, arguments: str = "{}", finish: FinishReason = "tool_calls") -> FoldedChoice:
    return FoldedChoice(0, calls={0: FoldedCall("call_1", name, [arguments])}, finish_reason=finish)


async def why(request: Request, choice: FoldedChoice, compiler: Compiler | None = None) -> str:
    """What is wrong with an answer; "" if nothing is."""
    return await Check(form(request), compiler or Compiler(), deployment="a/m").fault(choice) or ""


JSON_OBJECT = chat(response_format={"type": "json_object"})
AS_PERSON = chat(response_format=PERSON)


@pytest.mark.parametrize(
    ("request_", "choice", "fault_"),
    [
        (JSON_OBJECT, said(' {"a": 1}\n'), ""),
        (JSON_OBJECT, said("{}"), ""),
        (JSON_OBJECT, said("[]"), "not an object"),
        (JSON_OBJECT, said('{"a": 1'), "not valid JSON"),
        (JSON_OBJECT, said("[", finish="length"), "not begin as an object"),
        (JSON_OBJECT, said(' {"a', finish="length"), ""),
        (AS_PERSON, said('{"age": 3}'), ""),
        (AS_PERSON, said('{"age": "3"}'), "age"),
        (AS_PERSON, said('{"age": '), "not valid JSON"),
        (AS_PERSON, said('{"age": ', finish="length"), ""),
        (AS_PERSON, said('{"age": x', finish="length"), "not the beginning"),
        (AS_PERSON, said(""), "it is empty"),
        (AS_PERSON, said("", finish="length"), ""),
        (AS_PERSON, said(" ", thought='{"age": 3}'), "thought"),
        (AS_PERSON, said("", refusal="No."), ""),
        (AS_PERSON, said("Ag", finish="content_filter"), ""),
        (chat(response_format=PERSON, stop="x"), said('{"age": '), ""),
        (chat(response_format=PERSON, tools=[SEND]), called("send", "no"), ""),
        (texts(guided_choice=["yes", "no"]), said("no"), ""),
        (texts(guided_choice=["yes", "no"]), said("nope"), "none of the choices"),
        (texts(guided_choice=["yes", "no"]), said("ye", finish="length"), ""),
        (texts(guided_regex="a|bc"), said("bc"), ""),
        (texts(guided_regex="a|bc"), said("abc"), "regular expression"),
        (texts(guided_regex="a|bc"), said("b", finish="length"), ""),
        (chat(tools=TOOLS), said("Hello"), ""),
        (chat(tools=TOOLS), called("add", '{"age": 3}'), ""),
        (chat(tools=TOOLS), called("add", "{}"), "the arguments of 'add'"),
        (chat(tools=TOOLS), called("add", '{"ag', finish="length"), ""),
        (chat(tools=TOOLS), called("add", "age", finish="length"), "the arguments of 'add'"),
        (chat(tools=TOOLS), called("send", "no"), ""),
        (chat(tools=TOOLS, tool_choice="none"), called("send"), "a tool was called"),
        (chat(tools=TOOLS, tool_choice="none"), said("Hello"), ""),
        (chat(tools=TOOLS, tool_choice="required"), said("Hello"), "no tool was called"),
        (chat(tools=TOOLS, tool_choice="required"), said("Hello", finish="length"), ""),
        (chat(tools=TOOLS, tool_choice="required"), said("", refusal="No."), ""),
        (chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "send"}}), called("send"), ""),
        (chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "send"}}), called("add"), "'add'"),
        (chat(tools=TOOLS, tool_choice={"type": "custom", "custom": {"name": "draw"}}), called(""), ""),
    ],
)
async def test_who_has_it(request_: Request, choice: FoldedChoice, fault_: str) -> None:
    found = await why(request_, choice)
    assert fault_ in found
    assert bool(fault_) is bool(found)


@pytest.mark.parametrize("error", [EngineUnavailable(), InvalidRequest()], ids=repr)
async def test_an_answer_that_cannot_be_checked_is_not_thrown_away(error: Exception) -> None:
    assert await why(AS_PERSON, said('{"age": "old"}'), Compiler(error)) == ""
    assert await why(AS_PERSON, said("old"), Compiler(error))


@pytest.mark.parametrize("text", ["", " ", "{", '{"a', '{"a": tr', "[1, 2", '"ab\\', "-", "1e", '{"a": "\\u00', "nul"])
def test_beginnings(text: str) -> None:
    assert not_begun(text) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
        max_leaves=8,
    ),
    st.booleans(),
)
def test_every_beginning_of_json_is_one(value: Any, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only)
    for length in range(len(text) + 1):
        assert not_begun(text[:length]) is None, text[:length]


@pytest.mark.parametrize("text", ["Hello", '{"a" 1', "{'a", "[1,]", '{"a": tru}', "```json\n{", '{"a": NaN'])
def test_what_is_no_beginning(text: str) -> None:
    assert not_begun(text)
