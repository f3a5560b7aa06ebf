"""SGLang: constraints under its names, and what it does not take."""

import json
import re
from typing import Any

import msgspec
import pytest
from tests.written_requests import HI, chat, completion, sent

from narthex.core.capabilities import refusal
from narthex.core.errors import UnsupportedParameter
from narthex.providers.presets import PRESETS
from narthex.providers.sglang import SglangChat, SglangCompletions
from narthex.providers.traits import ModelTraits

CHAT = SglangChat(PRESETS["sglang"].traits)
COMPLETIONS = SglangCompletions(PRESETS["sglang"].traits)
BEGUN = [HI, {"role": "assistant", "content": "The "}]
SCHEMA = {"type": "object", "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "add"}}


def built(**fields: Any) -> dict[str, Any]:
    return sent(CHAT, chat(**fields))


def completed(**fields: Any) -> dict[str, Any]:
    return sent(COMPLETIONS, completion(**fields))


def as_told(name: str, value: Any) -> list[dict[str, Any]]:
    """A constraint by its older name, and by today's."""
    return [{f"guided_{name}": value}, {"structured_outputs": {name: value}}]


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [("regex", "a+", {"regex": "a+"}), ("grammar", 'root ::= "a"', {"ebnf": 'root ::= "a"'})],
)
def test_patterns_and_grammars_have_names_of_their_own(name: str, value: Any, expected: dict[str, Any]) -> None:
    for fields in as_told(name, value):
        for body in (built(**fields), completed(**fields)):
            assert expected.items() <= body.items()
            assert not any(each.startswith(("guided", "structured")) for each in body)
        assert refusal(chat(**fields).fields, CHAT.capabilities(), model="m") is None
        assert refusal(completion(**fields).fields, COMPLETIONS.capabilities(), model="m") is None


def test_choices_are_a_pattern_of_exactly_these() -> None:
    options = ["yes (or so)", "a|b", "1+1=2?", "[x]", "\\d", "$5.00", "{}"]
    for fields in as_told("choice", options):
        pattern = built(**fields)["regex"]
        assert completed(**fields)["regex"] == pattern
        assert all(re.fullmatch(pattern, option) for option in options)
        assert not any(re.fullmatch(pattern, other) for other in ("a", "b", "11=2", "x", "5", "$5x00"))


def test_schemas_are_formats_of_chats_and_texts_of_texts() -> None:
    for fields in as_told("json", SCHEMA):
        form = built(**fields)["response_format"]
        assert (form["type"], form["json_schema"]["schema"]) == ("json_schema", SCHEMA)
        assert json.loads(completed(**fields)["json_schema"]) == SCHEMA
    assert built(structured_outputs={"json_object": True})["response_format"]["type"] == "json_schema"
    own = {"type": "json_object"}
    assert built(response_format=own)["response_format"] == own


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_grammar": "start: /a/"}, "guided_grammar"),
        ({"structured_outputs": {"grammar": "start: /a/"}}, "structured_outputs.grammar"),
        ({"structured_outputs": {"json": {}, "whitespace_pattern": " ?"}}, "structured_outputs.whitespace_pattern"),
        (
            {"structured_outputs": {"json": {}, "disable_any_whitespace": True}},
            "structured_outputs.disable_any_whitespace",
        ),
        ({"structured_outputs": {"json": {"type": "strin"}}}, "structured_outputs.json"),
        ({"guided_json": {"type": "strin"}}, "guided_json"),
        ({"guided_json": {}, "guided_whitespace_pattern": " ?"}, "guided_whitespace_pattern"),
        ({"seed": 7}, "seed"),
        ({"chat_template": "x"}, "chat_template"),
        ({"add_generation_prompt": False}, "add_generation_prompt"),
        ({"repetition_penalty": 2.5}, "repetition_penalty"),
        ({"reasoning_effort": "max"}, "reasoning_effort"),
        ({"echo": True}, "echo"),
    ],
)
def test_what_it_does_not_know_is_refused(fields: dict[str, Any], param: str) -> None:
    error = refusal(chat(**fields).fields, CHAT.capabilities(), model="m")
    assert error is not None
    assert error.param == param


def test_a_text_has_at_least_a_token() -> None:
    error = refusal(completion(max_tokens=0).fields, COMPLETIONS.capabilities(), model="m")
    assert error is not None
    assert error.param == "max_tokens"
    assert refusal(completion(max_tokens=1, best_of=2).fields, COMPLETIONS.capabilities(), model="m") is None
    assert refusal(
        chat(structured_outputs={"json": {}, "disable_any_whitespace": False}).fields,
        CHAT.capabilities(),
        model="m",
    ) is None  # fmt: skip


def test_tools_do_not_stand_beside_a_constraint() -> None:
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
    for fields, param in (({"guided_regex": "a"}, "guided_regex"), ({"response_format": form}, "response_format")):
        with pytest.raises(UnsupportedParameter) as caught:
            CHAT.build(chat(tools=[TOOL], **fields), model="m")
        assert caught.value.param == param
        CHAT.build(chat(tools=[TOOL], tool_choice="none", **fields), model="m")


def test_its_own_names_and_bounds() -> None:
    own = {"top_k": 5, "min_p": 0.1, "min_tokens": 2, "stop_token_ids": [2], "ignore_eos": True}
    for body in (built(**own), completed(**own)):
        assert {name: body[name] for name in own} == own
    for body in (built(include_stop_str_in_output=True), completed(include_stop_str_in_output=True)):
        assert body["no_stop_trim"] is True
        assert "include_stop_str_in_output" not in body
    for body in (built(top_p=0, top_k=0), completed(top_p=0, top_k=0)):
        assert (body["temperature"], body["top_k"], "top_p" in body) == (0, -1, False)


def test_going_on_with_a_message_or_with_an_answer() -> None:
    body = built(messages=BEGUN, continue_final_message=True, chat_template_kwargs={"enable_thinking": False})
    assert (body["continue_final_message"], body["messages"]) == (True, BEGUN)
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "continue_final_message" not in built(messages=BEGUN)
    request = msgspec.structs.replace(chat(), begun="The")
    assert CHAT.continues(request)
    assert not SglangChat(ModelTraits(reasoning=True)).continues(request)
    body = json.loads(CHAT.build(request, model="m"))
    assert (body["continue_final_message"], body["messages"][-1]["content"]) == (True, "The")
