"""What single rows of the table say, beyond what all of them have to do."""

import json
from typing import Any

import pytest

from narthex.core.capabilities import State, refusal, state_of
from narthex.core.fold import Fold, folded
from narthex.core.ports import Request, Surface
from narthex.dialects.openai_chat import ChatDialect
from narthex.dialects.openai_completions import CompletionsDialect
from narthex.dialects.openai_embeddings import EmbeddingsDialect
from narthex.providers.codec import AnyCodec
from narthex.providers.presets import PRESETS, codecs, request_headers
from narthex.providers.traits import ModelTraits
from narthex.wire.sse import encode

DIALECTS = {"chat": ChatDialect(), "completions": CompletionsDialect(), "embeddings": EmbeddingsDialect()}
BASE = {
    "chat": {"messages": [{"role": "user", "content": "Hi"}]},
    "completions": {"prompt": "Once"},
    "embeddings": {"input": "text"},
}
TOOL = {"type": "function", "function": {"name": "add"}}
CUSTOM = {"type": "custom", "custom": {"name": "add"}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}
NAMED = {"type": "function", "function": {"name": "add"}}
ALLOWED = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED]}}


def made(name: str, surface: Surface = "chat", traits: ModelTraits | None = None) -> AnyCodec:
    return codecs(PRESETS[name], traits or PRESETS[name].traits)[surface]


def decoded(surface: str, **fields: Any) -> Request:
    body = json.dumps({"model": "m"} | BASE[surface] | fields).encode()
    return DIALECTS[surface].decode(body, profile="openai", strict=True).request


def built(name: str, surface: Surface = "chat", **fields: Any) -> dict[str, Any]:
    body: dict[str, Any] = json.loads(made(name, surface).build(decoded(surface, **fields), model="theirs"))
    return body


@pytest.mark.parametrize(
    ("name", "surface", "fields", "param"),
    [
        ("groq", "chat", {"logprobs": True}, "logprobs"),
        ("groq", "chat", {"logit_bias": {"1": 1}}, "logit_bias"),
        ("groq", "chat", {"n": 1}, "n"),
        ("groq", "chat", {"frequency_penalty": 0.5}, "frequency_penalty"),
        ("groq", "chat", {"presence_penalty": -2}, "presence_penalty"),
        ("groq", "chat", {"messages": [{"role": "user", "content": "Hi", "name": "me"}]}, "messages[0].name"),
        ("groq", "chat", {"tools": [TOOL, CUSTOM]}, "tools[1].type"),
        ("groq", "chat", {"tools": [TOOL], "tool_choice": ALLOWED}, "tool_choice.type"),
        ("deepseek", "chat", {"response_format": SCHEMA}, "response_format.type"),
        ("deepseek", "chat", {"seed": 7}, "seed"),
        ("lm-studio", "chat", {"response_format": {"type": "json_object"}}, "response_format.type"),
        ("lm-studio", "chat", {"tools": [TOOL], "tool_choice": NAMED}, "tool_choice"),
        ("ollama", "chat", {"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ("ollama", "completions", {"prompt": ["a", "b"]}, "prompt"),
        ("ollama", "completions", {"prompt": [1, 2]}, "prompt"),
        ("ollama", "completions", {"best_of": 2}, "best_of"),
        ("llama.cpp", "completions", {"logprobs": 1}, "logprobs"),
        ("azure", "chat", {"web_search_options": {}}, "web_search_options"),
        ("mistral", "chat", {"logit_bias": {"1": 1}}, "logit_bias"),
        ("vllm", "chat", {"tools": [CUSTOM]}, "tools[0].type"),
        ("openai", "chat", {"guided_json": {}}, "guided_json"),
        ("openai-compatible", "chat", {"top_k": 4}, "top_k"),
        ("gemini", "chat", {"presence_penalty": 1}, "presence_penalty"),
        ("oxyapi", "chat", {"logprobs": True, "top_logprobs": 6}, "top_logprobs"),
        ("oxyapi", "chat", {"response_format": SCHEMA}, "response_format.type"),
        ("oxyapi", "chat", {"tools": [TOOL], "tool_choice": "required"}, "tool_choice"),
        ("oxyapi", "chat", {"tools": [TOOL], "tool_choice": ALLOWED}, "tool_choice"),
        ("oxyapi", "chat", {"tools": [TOOL], "parallel_tool_calls": True}, "parallel_tool_calls"),
    ],
)
def test_what_a_server_can_t_do_is_refused(name: str, surface: Surface, fields: dict[str, Any], param: str) -> None:
    error = refusal(decoded(surface, **fields).fields, made(name, surface).capabilities(), model="m")
    assert error is not None
    assert error.param == param


@pytest.mark.parametrize(
    ("name", "surface", "fields"),
    [
        ("groq", "chat", {"logprobs": False, "presence_penalty": 0, "tools": [TOOL], "tool_choice": NAMED}),
        ("deepseek", "chat", {"response_format": {"type": "json_object"}}),
        ("lm-studio", "chat", {"response_format": SCHEMA, "tools": [TOOL], "tool_choice": "required"}),
        ("ollama", "completions", {"prompt": ["a"]}),
        ("ollama", "completions", {"prompt": None}),
        ("openai", "completions", {"best_of": 3, "logprobs": 2}),
        ("oxyapi", "chat", {"logprobs": True, "top_logprobs": 5, "tools": [TOOL], "tool_choice": NAMED}),
        ("oxyapi", "chat", {"functions": [TOOL["function"]], "function_call": "auto"}),
        ("narthex", "chat", {"top_k": 4, "min_p": 0.1, "guided_choice": ["a", "b"], "chat_template": "x"}),
        ("narthex", "chat", {"tools": [TOOL, CUSTOM], "store": True, "reasoning_effort": "low"}),
        ("narthex", "completions", {"repetition_penalty": 1.1, "echo": True, "best_of": 3}),
    ],
)
def test_what_it_can_passes(name: str, surface: Surface, fields: dict[str, Any]) -> None:
    assert refusal(decoded(surface, **fields).fields, made(name, surface).capabilities(), model="m") is None


def test_oxyapi_knows_the_older_names_only() -> None:
    body = built("oxyapi", max_completion_tokens=5, stream=True, stream_options={"include_usage": True}, user="me")
    assert (body["max_tokens"], body["user"], body["stream"]) == (5, "me", True)
    assert not {"max_completion_tokens", "stream_options"} & set(body)
    functions = built("oxyapi", functions=[TOOL["function"]], function_call="auto")
    assert (functions["functions"], functions["function_call"]) == ([TOOL["function"]], "auto")


def test_another_narthex_is_sent_everything_as_it_came() -> None:
    fields: dict[str, Any] = {"top_k": 4, "guided_regex": "a+", "max_completion_tokens": 5, "seed": 7}
    body = built("narthex", messages=[{"role": "developer", "content": "Hi"}], **fields)
    assert {name: body[name] for name in fields} == fields
    assert body["messages"] == [{"role": "developer", "content": "Hi"}]


@pytest.mark.parametrize(
    ("kind", "surfaces"),
    [
        (None, {"chat", "completions", "embeddings", "images", "speech"}),
        ("chat", {"chat", "completions"}),
        ("embedding", {"embeddings"}),
        ("image", {"images"}),
        ("speech", {"speech"}),
    ],
)
def test_a_model_of_one_kind_is_asked_for_that_only(kind: Any, surfaces: set[str]) -> None:
    assert set(codecs(PRESETS["openai"], ModelTraits(kind=kind))) == surfaces


def test_names_tell_what_anthropic_s_models_can() -> None:
    preset = PRESETS["anthropic"]
    newest = codecs(preset, preset.traits_of("claude-opus-5-5"))["chat"]
    request = decoded("chat", temperature=0.5)
    error = refusal(request.fields, newest.capabilities(), model="m")
    assert error is not None
    assert error.param == "temperature"
    older = codecs(preset, preset.traits_of("claude-3-7-sonnet-latest"))["chat"]
    assert refusal(request.fields, older.capabilities(), model="m") is None
    assert PRESETS["openai"].traits_of("claude-opus-5-5") == PRESETS["openai"].traits


def test_mistral_has_names_of_its_own() -> None:
    body = built("mistral", seed=7, max_completion_tokens=5, stream=True, stream_options={"include_usage": True})
    assert (body["random_seed"], body["max_tokens"]) == (7, 5)
    assert not {"seed", "max_completion_tokens", "stream_options"} & set(body)
    assert built("mistral", "embeddings", dimensions=8)["output_dimension"] == 8


def answered(name: str, *deltas: dict[str, Any], finish: str = "stop") -> Fold:
    chunks = [{"choices": [{"index": 0, "delta": delta}]} for delta in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": finish}], "usage": {"prompt_tokens": 3}})
    decoder = made(name).decoder(decoded("chat", tools=[TOOL]))
    sent = [encode(json.dumps(each).encode()) for each in chunks]
    return folded([*(frame for each in sent for frame in decoder.feed(each)), *decoder.end()])


def called(arguments: str, **fields: Any) -> dict[str, Any]:
    return {"tool_calls": [{"function": {"arguments": arguments} | fields.pop("function", {})} | fields]}


def test_gemini_s_calls_are_told_apart_by_their_ids() -> None:
    fold = answered(
        "gemini",
        {"content": "Let me see."},
        called("{", id="a", index=0, function={"name": "add"}),
        called("}"),
        called("{}", id="b", index=0, function={"name": "add"}),
        called(" ", id="a", index=0),
        called("[]", function={"name": "sub"}),
    )
    (choice,) = fold.choices
    assert choice.finish_reason == "tool_calls"
    assert [(call.id, call.name, call.arguments) for call in choice.calls.values()] == [
        ("a", "add", "{} "),
        ("b", "add", "{}"),
        ("call_2", "sub", "[]"),
    ]
    assert fold.usage is not None


def test_gemini_s_first_call_may_be_without_a_name() -> None:
    assert [call.id for call in answered("gemini", called("{}")).choices[0].calls.values()] == ["call_0"]
    assert answered("gemini", {"content": "No."}).choices[0].finish_reason == "stop"


def test_mistral_thinks_in_parts() -> None:
    thought = [{"type": "thinking", "thinking": [{"type": "text", "text": "2+2"}]}]
    whole = [{"type": "thinking", "thinking": "!"}, {"type": "text", "text": "4"}, {"type": "reference"}]
    (choice,) = answered("mistral", {"content": thought}, {"content": whole}, {"content": "."}).choices
    assert ("".join(choice.reasoning), "".join(choice.text)) == ("2+2!", "4.")


def test_openrouter_is_to_ask_only_those_who_know_all_fields() -> None:
    assert built("openrouter")["provider"] == {"require_parameters": True}


def test_numbers_are_asked_for_as_text_where_that_is_known() -> None:
    assert built("ollama", "embeddings")["encoding_format"] == "base64"
    assert "encoding_format" not in built("together", "embeddings", encoding_format="base64")


def test_openai_takes_the_newer_limit_and_others_as_it_was_sent() -> None:
    assert built("openai", max_tokens=5)["max_completion_tokens"] == 5
    assert built("openai-compatible", max_tokens=5)["max_tokens"] == 5


def test_where_the_key_goes() -> None:
    assert request_headers(PRESETS["openai"], "sk-1") == {"authorization": "Bearer sk-1"}
    assert request_headers(PRESETS["azure"], "sk-1") == {"api-key": "sk-1"}
    assert request_headers(PRESETS["anthropic"], "sk-1")["x-api-key"] == "sk-1"
    assert "anthropic-version" in request_headers(PRESETS["anthropic"], None)
    assert request_headers(PRESETS["ollama"], None) == {}


def test_anthropic_s_models_differ_by_their_traits() -> None:
    plain = json.loads(made("anthropic").build(decoded("chat"), model="claude"))
    assert plain["max_tokens"] == 4096
    told = made("anthropic", traits=ModelTraits(answer_tokens=99, reasoning=False, refused=frozenset(("stop",))))
    assert json.loads(told.build(decoded("chat"), model="claude"))["max_tokens"] == 99
    assert state_of("stop", told.capabilities()) is State.REFUSED
    assert refusal({"reasoning_effort": "high"}, told.capabilities(), model="m") is not None


def test_what_an_image_model_refuses_is_refused() -> None:
    codec = codecs(PRESETS["openai"], ModelTraits(refused=frozenset(("style",))))["images"]
    assert "style" not in codec.capabilities()
