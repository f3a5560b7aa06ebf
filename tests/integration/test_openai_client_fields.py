"""What becomes of each field on the embedded engine: honoured, refused by name, or named as without effect; null."""

from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

HELLO = [{"role": "user", "content": "Hello!"}]
CHAT = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
FILE = {"type": "file", "file": {"file_id": "f"}}


@pytest.fixture(scope="module")
def lenient(server: Server) -> Iterator[httpx2.Client]:
    """With a key that drops what is unknown."""
    with server.http(server.key(strict=False)) as client:
        yield client


def ask(client: httpx2.Client, **fields: Any) -> httpx2.Response:
    return client.post(CHAT, json={"model": CHAT_MODEL, "messages": HELLO, "max_tokens": 1} | fields)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL]}, "tools"),
        ({"functions": [{"name": "f"}]}, "functions"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {}}}}, "response_format"),
        ({"logprobs": True}, "logprobs"),
        ({"logprobs": True, "top_logprobs": 2}, "logprobs"),
        ({"logit_bias": {"5": 10}}, "logit_bias"),
        ({"prediction": {"type": "content", "content": "a"}}, "prediction"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, "modalities"),
        ({"web_search_options": {}}, "web_search_options"),
        ({"reasoning_effort": "low"}, "reasoning_effort"),
        ({"verbosity": "low"}, "verbosity"),
        ({"memory_strategy": {"name": "last_k", "k": 3}}, "memory_strategy"),
        ({"guided_regex": "[a-z]+"}, "guided_regex"),
        ({"guided_json": {}}, "guided_json"),
        ({"guided_choice": ["a", "b"]}, "guided_choice"),
        ({"guided_grammar": 'start: "x"'}, "guided_grammar"),
        ({"top_k": 5}, "top_k"),
        ({"min_p": 0.5}, "min_p"),
        ({"best_of": 2}, "best_of"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"messages": [{"role": "user", "content": [IMAGE]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}, SOUND]}]}, "messages[0].content[1]"),
        ({"messages": [*HELLO, {"role": "user", "content": [FILE]}]}, "messages[1].content[0]"),
        ({"messages": [*HELLO, {"role": "assistant", "audio": {"id": "a"}}]}, "messages[1].audio"),
    ],
    ids=str,
)
def test_honoured_or_refused_by_name(
    http: httpx2.Client, lenient: httpx2.Client, fields: dict[str, Any], param: str
) -> None:
    """Never dropped in silence, for a lenient key neither."""
    for client in (http, lenient):
        answer = ask(client, **fields)
        if answer.status_code != 200:
            error = answer.json()["error"]
            assert (answer.status_code, error["param"]) == (400, param), error
            assert error["code"] in {"unsupported_parameter", "unsupported_value"}
            assert param.split("[", maxsplit=1)[0] in error["message"] or "model" in error["message"]
        else:
            assert param not in answer.headers.get("x-narthex-ignored", "").split(", ")


@pytest.mark.direct
@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"user": "u"}, "user"),
        ({"safety_identifier": "s"}, "safety_identifier"),
        ({"prompt_cache_key": "k"}, "prompt_cache_key"),
        ({"prompt_cache_retention": "24h"}, "prompt_cache_retention"),
        ({"metadata": {"a": "b"}}, "metadata"),
        ({"audio": {"voice": "alloy", "format": "mp3"}}, "audio"),
    ],
    ids=str,
)
def test_hints_without_effect_are_named(http: httpx2.Client, fields: dict[str, Any], named: str) -> None:
    answer = ask(http, **fields)
    assert answer.status_code == 200, answer.text
    assert answer.headers["x-narthex-ignored"] == named
    streamed = ask(http, stream=True, **fields)
    assert streamed.headers["x-narthex-ignored"] == named


@pytest.mark.direct
def test_several_are_named_together(http: httpx2.Client) -> None:
    answer = ask(http, user="u", metadata={}, temperature=0)
    assert set(answer.headers["x-narthex-ignored"].split(", ")) == {"user", "metadata"}


def test_a_strict_key_refuses_unknown_fields(http: httpx2.Client) -> None:
    error = ask(http, zzz=1).json()["error"]
    assert (error["code"], error["param"]) == ("unknown_parameter", "zzz")


@pytest.mark.direct
def test_a_lenient_key_drops_and_names_them(lenient: httpx2.Client) -> None:
    answer = ask(lenient, zzz=1, yyy={"a": []}, user="u")
    assert answer.status_code == 200, answer.text
    assert set(answer.headers["x-narthex-ignored"].split(", ")) == {"zzz", "yyy", "user"}
    answer = lenient.post("/v1/embeddings", json={"model": EMBEDDING_MODEL, "input": "a", "zzz": 1})
    assert (answer.status_code, answer.headers["x-narthex-ignored"]) == (200, "zzz")
    answer = lenient.post("/v1/completions", json={"model": CHAT_MODEL, "prompt": "a", "max_tokens": 1, "zzz": 1})
    assert (answer.status_code, answer.headers["x-narthex-ignored"]) == (200, "zzz")


@pytest.mark.parametrize("name", ["Stream", "MAX_TOKENS", "Model", "top_P"])
def test_another_case_is_refused_for_all(http: httpx2.Client, lenient: httpx2.Client, name: str) -> None:
    for client in (http, lenient):
        error = ask(client, **{name: 1}).json()["error"]
        assert (error["code"], error["param"]) == ("unknown_parameter", name)


def test_a_name_that_is_no_header_text(lenient: httpx2.Client) -> None:
    answer = ask(lenient, **{"na\r\nme: \u2603": 1})
    assert answer.status_code == 200
    assert answer.headers["x-narthex-ignored"].isascii()
    assert "\n" not in answer.headers["x-narthex-ignored"]


OPTIONAL = [
    "store",
    "metadata",
    "frequency_penalty",
    "presence_penalty",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "max_tokens",
    "max_completion_tokens",
    "n",
    "modalities",
    "prediction",
    "audio",
    "response_format",
    "seed",
    "service_tier",
    "stop",
    "stream",
    "stream_options",
    "temperature",
    "top_p",
    "tools",
    "tool_choice",
    "parallel_tool_calls",
    "user",
    "function_call",
    "functions",
    "reasoning_effort",
    "verbosity",
    "web_search_options",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "prompt_cache_options",
    "moderation",
]


def test_null_is_the_default_for_every_optional_field(http: httpx2.Client) -> None:
    answer = ask(http, **(dict.fromkeys(OPTIONAL) | {"max_tokens": 2}))
    assert answer.status_code == 200, answer.text
    assert answer.json()["usage"]["completion_tokens"] == 2
    assert "x-narthex-ignored" not in answer.headers
    assert "service_tier" not in answer.json()


@pytest.mark.parametrize("name", OPTIONAL)
def test_null_is_the_default_for_each(http: httpx2.Client, name: str) -> None:
    answer = ask(http, **({"max_completion_tokens": 1} | {name: None} | {"max_tokens": 1}))
    assert answer.status_code == 200, answer.text


def test_null_in_completions_and_embeddings(http: httpx2.Client) -> None:
    names = (
        "best_of echo frequency_penalty presence_penalty logit_bias logprobs n seed stop stream stream_options suffix"
    )
    body: dict[str, Any] = dict.fromkeys((*names.split(), "temperature", "top_p", "user", "prompt"))
    answer = http.post("/v1/completions", json=body | {"model": CHAT_MODEL, "max_tokens": 1})
    assert answer.status_code == 200, answer.text
    body = dict.fromkeys(("encoding_format", "dimensions", "user"))
    answer = http.post("/v1/embeddings", json=body | {"model": EMBEDDING_MODEL, "input": "a"})
    assert answer.status_code == 200, answer.text
