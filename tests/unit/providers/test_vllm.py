"""vLLM: what its own fields become, and what it dropped, ignores and refuses."""

import json
from typing import Any

import msgspec
import pytest
from tests.written_requests import HI, chat, completion, sent

from narthex.core.capabilities import refusal, without_effect
from narthex.core.fold import Fold, folded
from narthex.core.stream import EmbeddingsReady, Frame
from narthex.providers.openai import ChatDecoder
from narthex.providers.presets import PRESETS
from narthex.providers.repeated import Repeated
from narthex.providers.traits import ModelTraits
from narthex.providers.vllm import VllmChat, VllmCompletions
from narthex.wire.sse import encode

CHAT = VllmChat(PRESETS["vllm"].traits)
COMPLETIONS = VllmCompletions(PRESETS["vllm"].traits)
TOOL = {"type": "function", "function": {"name": "add"}}
NAMED = {"type": "function", "function": {"name": "add"}}


def built(**fields: Any) -> dict[str, Any]:
    return sent(CHAT, chat(**fields))


def completed(**fields: Any) -> dict[str, Any]:
    return sent(COMPLETIONS, completion(**fields))


# --- constrained output ----------------------------------------------------------------------------------------------

GUIDED = [
    ({"guided_json": {"type": "object"}}, {"json": {"type": "object"}}),
    ({"guided_json": '{"type":"string"}'}, {"json": '{"type":"string"}'}),
    ({"guided_regex": "a+"}, {"regex": "a+"}),
    ({"guided_choice": ["a", "b"]}, {"choice": ["a", "b"]}),
    ({"guided_grammar": 'root ::= "a"'}, {"grammar": 'root ::= "a"'}),
    ({"guided_json": {}, "guided_whitespace_pattern": " ?"}, {"json": {}, "whitespace_pattern": " ?"}),
    ({"structured_outputs": {"json_object": True, "disable_any_whitespace": True}},) * 2,
    ({"guided_decoding_backend": "xgrammar"}, None),
]


@pytest.mark.parametrize(("fields", "expected"), GUIDED)
def test_older_fields_become_today_s(fields: dict[str, Any], expected: dict[str, Any] | None) -> None:
    expected = expected.get("structured_outputs", expected) if expected else None
    for body in (built(**fields), completed(**fields)):
        assert body.get("structured_outputs") == expected
        assert not any(name.startswith("guided") for name in body)
    assert refusal(chat(**fields).fields, CHAT.capabilities(), model="m") is None


def test_the_choice_of_a_backend_has_no_effect() -> None:
    assert without_effect({"guided_decoding_backend": "auto"}, CHAT.capabilities()) == ("guided_decoding_backend",)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "text"}},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": "none"},
    ],
)
def test_what_does_not_contradict_passes(fields: dict[str, Any]) -> None:
    assert built(guided_regex="a", **fields)["structured_outputs"] == {"regex": "a"}


DEEP: dict[str, Any] = {}
for _ in range(40):
    DEEP = {"items": DEEP}

REFUSED = [
    ("guided_json", {"title": "x" * 70_000}),
    ("guided_json", {"enum": [[] for _ in range(2001)]}),
    ("guided_json", DEEP),
    ("guided_json", {"type": "strin"}),
    ("guided_json", {"properties": {"a": {"type": ["string", "nil"]}}}),
    ("guided_json", {"pattern": "a" * 1025}),
    ("guided_json", json.dumps({"type": "strin"})),
    ("structured_outputs", {"json": {"type": "strin"}}),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_values_that_could_harm_the_server_are_refused(name: str, value: Any) -> None:
    error = refusal({name: value}, CHAT.capabilities(), model="m")
    assert error is not None
    assert (error.param or "").startswith(name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("guided_json", {"type": ["string", "null"], "pattern": "a+", "properties": {"type": {"const": 1}}}),
        ("guided_json", {"properties": {"type": {"type": "string"}, "pattern": {"type": "string"}}}),
        ("guided_grammar", 'root ::= ("a" | "b")*'),
        ("chat_template_kwargs", {"enable_thinking": False, "tags": ["a", "b"]}),
        ("structured_outputs", {"json": {}, "whitespace_pattern": " ?", "disable_additional_properties": False}),
    ],
)
def test_usual_values_pass(name: str, value: Any) -> None:
    assert refusal({name: value}, CHAT.capabilities(), model="m") is None


def test_templates_and_their_variables_are_sent() -> None:
    """Who may send one is the router's to know."""
    own = {"chat_template": "{{ 1 }}", "chat_template_kwargs": {"enable_thinking": False}, "min_tokens": 3}
    body = built(**own, add_special_tokens=True, echo=True)
    assert {name: body[name] for name in own} == own
    assert (body["add_special_tokens"], body["echo"]) == (True, True)


def test_a_format_without_a_schema_is_any_object() -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "a"}}
    assert built(response_format=wanted)["response_format"] == {"type": "json_object"}
    wanted["json_schema"] = {"name": "a", "schema": {"type": "object"}}
    assert built(response_format=wanted)["response_format"] == wanted
    assert "structured_outputs" not in built(response_format=wanted)


# --- sampling --------------------------------------------------------------------------------------------------------


def test_its_own_fields_are_sent_as_they_are() -> None:
    own = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.1, "stop_token_ids": [2], "ignore_eos": True}
    for body in (built(**own), completed(**own)):
        assert {name: body[name] for name in own} == own


@pytest.mark.parametrize("fields", [{"top_p": 0}, {"top_p": 0, "temperature": 1.5}, {"temperature": 1e-6}])
def test_only_the_top_token(fields: dict[str, Any]) -> None:
    for body in (built(**fields), completed(**fields)):
        assert body["temperature"] == 0
        assert "top_p" not in body


def test_other_sampling_is_left_alone() -> None:
    assert built(temperature=0.005, top_p=0.5, n=3)["n"] == 3
    assert built(temperature=0.005)["temperature"] == 0.005


def test_a_model_may_be_told_to_continue() -> None:
    codec = VllmChat(ModelTraits(prefill=True))
    open_ended = chat(messages=[HI, {"role": "assistant", "content": "The"}])
    body = json.loads(codec.build(open_ended, model="m"))
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert "continue_final_message" not in json.loads(codec.build(chat(), model="m"))
    for told in ({"add_generation_prompt": True}, {"add_generation_prompt": False}, {"continue_final_message": False}):
        asked = chat(messages=[HI, {"role": "assistant", "content": "The"}], **told)
        assert not json.loads(codec.build(asked, model="m")).get("continue_final_message")
    assert "continue_final_message" not in json.loads(CHAT.build(open_ended, model="m"))


def test_the_last_message_is_continued_where_the_caller_says_so() -> None:
    asked = chat(messages=[HI, {"role": "assistant", "content": "The "}], continue_final_message=True)
    body = json.loads(CHAT.build(asked, model="m"))
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["messages"][-1]["content"] == "The "  # the server knows what to do with the space
    assert isinstance(CHAT.decoder(msgspec.structs.replace(asked, stream=True)), ChatDecoder)


@pytest.mark.parametrize("prefill", [True, False])
def test_a_beginning_is_always_continued(prefill: bool) -> None:
    codec = VllmChat(ModelTraits(prefill=prefill))
    request = msgspec.structs.replace(chat(), begun="The")
    assert codec.continues(request)
    body = json.loads(codec.build(request, model="m"))
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert body["messages"][-1] == {"role": "assistant", "content": "The"}
    assert not codec.continues(msgspec.structs.replace(chat(), begun="\n"))
    assert not VllmChat(ModelTraits(reasoning=True)).continues(request)


# --- greedy requests for several choices -----------------------------------------------------------------------------


def told(frames: list[Frame]) -> Fold:
    return folded(frames)


def test_a_greedy_chat_is_asked_once_and_told_as_often() -> None:
    assert "n" not in built(n=3, temperature=0)
    decoder = CHAT.decoder(chat(n=3, temperature=0))
    used = {"prompt_tokens": 4, "completion_tokens": 5, "completion_tokens_details": {"reasoning_tokens": 2}}
    answer = {"choices": [{"index": 0, "delta": {"content": "Hi"}, "finish_reason": "stop"}], "usage": used}
    frames = [*decoder.feed(encode(json.dumps(answer).encode())), *decoder.end()]
    assert frames[-1].billed is not None
    assert frames[-1].billed.completion_tokens == 5
    fold = told(frames)
    assert [(choice.index, choice.text) for choice in fold.choices] == [(index, ["Hi"]) for index in range(3)]
    assert fold.usage is not None
    assert (fold.usage.prompt_tokens, fold.usage.completion_tokens, fold.usage.reasoning_tokens) == (4, 15, 6)


def test_one_greedy_answer_is_passed_on_as_it_is() -> None:
    for request in (chat(temperature=0), chat(n=2, temperature=0.5)):
        assert not isinstance(CHAT.decoder(request), Repeated)
    for other in (completion(temperature=0), completion(n=2)):
        assert not isinstance(COMPLETIONS.decoder(other), Repeated)


@pytest.mark.parametrize("fields", [{"n": 2}, {"n": 2, "best_of": 3}])
def test_greedy_completions_of_several_prompts(fields: dict[str, Any]) -> None:
    body = completed(prompt=["a", "b"], temperature=0, **fields)
    assert not {"n", "best_of", "logprobs"} & set(body)
    decoder = COMPLETIONS.decoder(completion(prompt=["a", "b"], temperature=0, **fields))
    answer = {"choices": [{"index": index, "text": text, "finish_reason": "stop"} for index, text in enumerate("AB")]}
    fold = told([*decoder.feed(encode(json.dumps(answer).encode())), *decoder.end()])
    assert ["".join(choice.text) for choice in fold.choices] == ["A", "A", "B", "B"]


def test_what_belongs_to_no_choice_is_not_repeated() -> None:
    class OneFrame:
        def feed(self, data: bytes) -> Any:
            del data
            return iter((Frame.of(EmbeddingsReady((b"1234",))),))

        def end(self) -> Any:
            return iter(())

    assert [frame.events for frame in Repeated(OneFrame(), times=2).feed(b"")] == [()]


def test_it_never_learns_what_it_would_ignore() -> None:
    body = built(user="me", metadata={"a": "b"}, prompt_cache_key="k", service_tier="flex")
    assert set(body) == {"model", "messages"}
