"""Every class of error, as the official client and plain HTTP see it. Source: contract sections 1.9 and 9."""

import json
import time
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI
from tests.server_process import CHAT_MODEL, EMBEDDING_MODEL, Server

pytest_plugins = ["tests.models_fixture", "tests.server_fixture", "tests.client_fixture"]

HELLO = [{"role": "user", "content": "Hello!"}]
CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}


def described(answer: httpx2.Response) -> tuple[int, str, str | None, str | None]:
    """(status, type, code, param), after a look at the rest of the error."""
    body = answer.json()
    assert body.keys() == {"error"}
    error = body["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["message"]
    assert answer.headers["x-request-id"].startswith("req_")
    return answer.status_code, error["type"], error["code"], error["param"]


def refused(code: str | None, param: str | None) -> tuple[int, str, str | None, str | None]:
    return 400, "invalid_request_error", code, param


# --- 400: fields -----------------------------------------------------------------------------------------------------

FAULTS: list[tuple[dict[str, Any], str, str]] = [
    ({"model": None}, "invalid_type", "model"),
    ({"model": 3}, "invalid_type", "model"),
    ({"model": ""}, "invalid_value", "model"),
    ({"messages": []}, "empty_array", "messages"),
    ({"messages": "hello"}, "invalid_type", "messages"),
    ({"messages": None}, "invalid_type", "messages"),
    ({"messages": [3]}, "invalid_type", "messages[0]"),
    ({"messages": [{"content": "a"}]}, "missing_required_parameter", "messages[0].role"),
    ({"messages": [{"role": "user"}]}, "missing_required_parameter", "messages[0].content"),
    ({"messages": [{"role": "user", "content": None}]}, "invalid_type", "messages[0].content"),
    ({"messages": [{"role": "user", "content": []}]}, "empty_array", "messages[0].content"),
    ({"messages": [{"role": "robot", "content": "a"}]}, "invalid_value", "messages[0].role"),
    ({"messages": [{"role": "user", "content": [{"type": "poem"}]}]}, "invalid_value", "messages[0].content[0].type"),
    ({"messages": [{"role": "user", "content": "a", "mood": 1}]}, "unknown_parameter", "messages[0].mood"),
    ({"messages": [{"role": "assistant"}]}, "missing_required_parameter", "messages[0].content"),
    ({"n": 0}, "integer_below_min_value", "n"),
    ({"n": 129}, "integer_above_max_value", "n"),
    ({"n": "1"}, "invalid_type", "n"),
    ({"n": 1.5}, "invalid_type", "n"),
    ({"temperature": -0.1}, "decimal_below_min_value", "temperature"),
    ({"temperature": 2.1}, "decimal_above_max_value", "temperature"),
    ({"temperature": "1"}, "invalid_type", "temperature"),
    ({"temperature": True}, "invalid_type", "temperature"),
    ({"top_p": -0.5}, "decimal_below_min_value", "top_p"),
    ({"top_p": 1.1}, "decimal_above_max_value", "top_p"),
    ({"frequency_penalty": 2.01}, "decimal_above_max_value", "frequency_penalty"),
    ({"presence_penalty": -2.01}, "decimal_below_min_value", "presence_penalty"),
    ({"max_tokens": 0}, "integer_below_min_value", "max_tokens"),
    ({"max_completion_tokens": 0}, "integer_below_min_value", "max_completion_tokens"),
    ({"max_tokens": 1.5}, "invalid_type", "max_tokens"),
    ({"stop": ""}, "invalid_value", "stop"),
    ({"stop": ["a", ""]}, "invalid_value", "stop[1]"),
    ({"stop": ["1", "2", "3", "4", "5"]}, "array_above_max_length", "stop"),
    ({"stop": 3}, "invalid_type", "stop"),
    ({"stream": "yes"}, "invalid_type", "stream"),
    ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "invalid_type", "stream_options.include_usage"),
    ({"seed": 1.5}, "invalid_type", "seed"),
    ({"top_logprobs": 21, "logprobs": True}, "integer_above_max_value", "top_logprobs"),
    ({"top_logprobs": -1, "logprobs": True}, "integer_below_min_value", "top_logprobs"),
    ({"top_logprobs": 2}, "invalid_value", "top_logprobs"),
    ({"top_logprobs": 2, "logprobs": False}, "invalid_value", "top_logprobs"),
    ({"logit_bias": {"a": 1}}, "invalid_value", "logit_bias"),
    ({"logit_bias": {"5": 101}}, "integer_above_max_value", "logit_bias.5"),
    ({"logit_bias": {"5": "x"}}, "invalid_type", "logit_bias.5"),
    ({"tools": []}, "empty_array", "tools"),
    ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
    ({"function_call": "auto"}, "invalid_value", "function_call"),
    ({"metadata": {"a": "b" * 513}}, "string_above_max_length", "metadata.a"),
    ({"metadata": {"a" * 65: "b"}}, "string_above_max_length", "metadata"),
    ({"metadata": {str(i): "b" for i in range(17)}}, "object_above_max_properties", "metadata"),
    ({"response_format": {"type": "poem"}}, "invalid_value", "response_format.type"),
    ({"response_format": {}}, "missing_required_parameter", "response_format.type"),
    ({"service_tier": "gold"}, "invalid_value", "service_tier"),
    ({"modalities": []}, "empty_array", "modalities"),
    ({"modalities": ["audio"]}, "missing_required_parameter", "audio"),
    ({"user": 7}, "invalid_type", "user"),
    ({"safety_identifier": "x" * 65}, "string_above_max_length", "safety_identifier"),
    ({"nonsense": 1}, "unknown_parameter", "nonsense"),
    ({"Temperature": 1}, "unknown_parameter", "Temperature"),
    ({"model": EMBEDDING_MODEL}, "unsupported_value", "model"),
]


@pytest.mark.parametrize(
    ("body", "code", "param"),
    FAULTS,
    ids=[f"{param}-{code}-{number}" for number, (_, code, param) in enumerate(FAULTS)],
)
def test_the_field_at_fault_is_named(http: httpx2.Client, body: dict[str, Any], code: str, param: str) -> None:
    answer = http.post(CHAT, json={"model": CHAT_MODEL, "messages": HELLO, "max_tokens": 1} | body)
    assert described(answer) == refused(code, param), answer.text


@pytest.mark.parametrize("name", ["model", "messages"])
def test_a_required_field_is_absent(http: httpx2.Client, name: str) -> None:
    body = {"model": CHAT_MODEL, "messages": HELLO}
    del body[name]
    assert described(http.post(CHAT, json=body)) == refused("missing_required_parameter", name)


@pytest.mark.parametrize(
    "body",
    [
        {"n": 1},
        {"temperature": 0},
        {"temperature": 2},
        {"top_p": -1},
        {"top_p": 1},
        {"stop": ["a", "b", "c", "d"]},
        {"max_tokens": 1.0},
        {"logprobs": False},
        {"frequency_penalty": -2, "presence_penalty": 2},
        {"seed": 9223372036854776000},
        {"modalities": ["text"]},
        {"response_format": {"type": "text"}},
        {"tool_choice": "none"},
    ],
    ids=str,
)
def test_the_edge_of_what_is_allowed(http: httpx2.Client, body: dict[str, Any]) -> None:
    answer = http.post(CHAT, json={"model": CHAT_MODEL, "messages": HELLO, "max_tokens": 1} | body)
    assert answer.status_code == 200, answer.text


def test_the_clients_exception_tells_the_same(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=CHAT_MODEL, messages=HELLO, temperature=3)  # type: ignore[arg-type]
    error = caught.value
    assert (error.status_code, error.code, error.param) == (400, "decimal_above_max_value", "temperature")
    assert error.type == "invalid_request_error"
    assert error.request_id == error.response.headers["x-request-id"]
    assert "temperature" in error.message


# --- 400: bodies -----------------------------------------------------------------------------------------------------

START = b'{"model": "smollm2-135m-instruct", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 1'
BODIES: list[tuple[bytes, str | None, str | None]] = [
    (b"", None, None),
    (b"hello", None, None),
    (b"[]", None, None),
    (b"null", None, None),
    (START, None, None),
    (START + b"} x", None, None),
    (START + b', "user": "\xff\xfe"}', None, None),
    (START + b', "user": "\xed\xa0\x80"}', None, None),
    (START + b', "user": NaN}', None, None),
    (b"\xef\xbb\xbf" + START + b"}", None, None),
    (START + b', "user": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", None, None),
    (START + b', "max_tokens": 2}', None, "max_tokens"),
    (START + b', "max\\u005ftokens": 2}', None, "max_tokens"),
    (START + b', "seed": 123456789012345678901234567890}', "integer_above_max_value", "seed"),
    (START + b', "n": 18446744073709551616}', "integer_above_max_value", "n"),
    (START + b', "temperature": 1e400}', None, None),
]


@pytest.mark.parametrize(("body", "code", "param"), BODIES, ids=[str(number) for number in range(len(BODIES))])
def test_a_body_that_can_not_be_read(http: httpx2.Client, body: bytes, code: str | None, param: str | None) -> None:
    answer = http.post(CHAT, content=body, headers=JSON)
    assert described(answer) == refused(code, param), answer.text


def test_a_body_in_pieces(http: httpx2.Client) -> None:
    answer = http.post(CHAT, content=iter([START[:20], START[20:], b"}"]), headers=JSON)
    assert answer.status_code == 200, answer.text


# --- 401 and 403 -----------------------------------------------------------------------------------------------------


def ask(server: Server, headers: dict[str, str]) -> httpx2.Response:
    body = {"model": CHAT_MODEL, "messages": HELLO, "max_tokens": 1}
    return httpx2.post(server.url + CHAT, json=body, headers=headers, timeout=120)


def test_no_key(server: Server) -> None:
    for headers in ({}, {"authorization": server.admin_key}, {"authorization": "Basic abc"}, {"x-api-key": ""}):
        answer = ask(server, headers)
        assert described(answer) == (401, "invalid_request_error", None, None)
        assert answer.headers["www-authenticate"] == "Bearer"


def test_a_wrong_key(server: Server) -> None:
    for wrong in ("nx-wrong", server.admin_key + "x", server.admin_key[:-1], "x" * 5000, "'; drop table keys; --"):
        answer = ask(server, {"authorization": f"Bearer {wrong}"})
        assert described(answer) == (401, "invalid_request_error", "invalid_api_key", None)
        assert server.admin_key not in answer.text
    with (
        OpenAI(base_url=server.base_url, api_key="nx-wrong", max_retries=0) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        client.models.list()
    assert caught.value.code == "invalid_api_key"


@pytest.mark.parametrize(
    "headers",
    [
        lambda key: {"authorization": f"Bearer {key}"},
        lambda key: {"authorization": f"bearer {key}"},
        lambda key: {"authorization": f"BEARER   {key}"},
        lambda key: {"x-api-key": key},
        lambda key: {"x-api-key": key, "authorization": f"Bearer {key}"},
    ],
    ids=["Bearer", "bearer", "BEARER", "x-api-key", "both"],
)
def test_ways_to_send_a_key(server: Server, headers: Callable[[str], dict[str, str]]) -> None:
    assert ask(server, headers(server.admin_key)).status_code == 200


def test_two_keys_that_differ(server: Server) -> None:
    answer = ask(server, {"x-api-key": server.key(), "authorization": f"Bearer {server.admin_key}"})
    assert described(answer) == (401, "invalid_request_error", "invalid_api_key", None)


def test_a_revoked_key(server: Server) -> None:
    key = server.key(name="to be revoked")
    headers = {"authorization": f"Bearer {key}"}
    assert ask(server, headers).status_code == 200
    server.revoke("to be revoked")
    assert described(ask(server, headers)) == (401, "invalid_request_error", "invalid_api_key", None)


def test_an_expired_key(server: Server) -> None:
    key = server.key(expires_ms=time.time_ns() // 1_000_000 - 1)
    answer = ask(server, {"authorization": f"Bearer {key}"})
    assert described(answer) == (401, "invalid_request_error", "invalid_api_key", None)


def test_a_surface_that_is_not_granted(server: Server) -> None:
    key = server.key(surfaces=("embeddings",))
    expected = (403, "permission_error", "insufficient_permissions", None)
    assert described(ask(server, {"authorization": f"Bearer {key}"})) == expected
    with (
        OpenAI(base_url=server.base_url, api_key=key, max_retries=0) as client,
        pytest.raises(openai.PermissionDeniedError),
    ):
        client.completions.create(model=CHAT_MODEL, prompt="a")


def test_a_model_that_is_not_granted_is_unknown(server: Server) -> None:
    key = server.key(models=("other",))
    answer = ask(server, {"authorization": f"Bearer {key}"})
    assert described(answer) == (404, "invalid_request_error", "model_not_found", "model")
    other = httpx2.post(
        server.url + CHAT,
        json={"model": "nobody", "messages": HELLO},
        headers={"authorization": f"Bearer {server.admin_key}"},
    )
    assert other.json()["error"]["message"] == answer.json()["error"]["message"].replace(CHAT_MODEL, "nobody")


def test_metrics_are_for_admins(server: Server) -> None:
    with server.http(server.key()) as ordinary:
        assert described(ordinary.get("/metrics"))[:3] == (403, "permission_error", "insufficient_permissions")


# --- 404, 405, 413, 415 ----------------------------------------------------------------------------------------------


def test_an_unknown_model(client: OpenAI) -> None:
    for name in ("nobody", CHAT_MODEL.upper(), "local/" + CHAT_MODEL):
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model=name, messages=HELLO)  # type: ignore[arg-type]
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_an_unknown_url(http: httpx2.Client) -> None:
    for path in ("/v1/nothing", "/v1", "/", "/v1/chat/completions/", "/v1//models", "/V1/models"):
        answer = http.post(path, json={})
        assert described(answer) == (404, "invalid_request_error", None, None), path
        assert f"POST {path}" in answer.json()["error"]["message"]


def test_a_method_that_is_not_allowed(http: httpx2.Client) -> None:
    for method, path, allow in (
        ("PUT", CHAT, "POST"),
        ("DELETE", "/v1/embeddings", "POST"),
        ("GET", "/v1/completions", "POST"),
        ("POST", "/v1/models", "GET"),
        ("PATCH", f"/v1/models/{CHAT_MODEL}", "DELETE, GET"),
    ):
        answer = http.request(method, path)
        assert described(answer) == (405, "invalid_request_error", "method_not_supported", None)
        assert allow in answer.headers["allow"]


def test_a_body_that_is_too_large(server: Server, http: httpx2.Client) -> None:
    large = b'{"user": "' + b"x" * 16 * 1024 * 1024 + b'"}'
    expected = (413, "invalid_request_error", "request_too_large", None)
    assert described(http.post(CHAT, content=large, headers=JSON)) == expected
    with server.http() as fresh:  # without a length, it is found out on the way
        assert described(fresh.post(CHAT, content=iter([large]), headers=JSON)) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": "multipart/form-data; boundary=x"},
        {"content-type": "application/json; charset=latin-1"},
        {"content-type": "application/json", "content-encoding": "gzip"},
    ],
    ids=str,
)
def test_another_media_type(http: httpx2.Client, headers: dict[str, str]) -> None:
    answer = http.post(CHAT, content=START + b"}", headers=headers)
    assert described(answer) == (415, "invalid_request_error", "unsupported_media_type", None)


@pytest.mark.parametrize("kind", ["application/json", "application/json; charset=UTF-8", "application/vnd.x+json"])
def test_media_types_that_will_do(http: httpx2.Client, kind: str) -> None:
    assert http.post(CHAT, content=START + b"}", headers={"content-type": kind}).status_code == 200


def test_another_host_name_is_refused(http: httpx2.Client) -> None:
    answer = http.get("/v1/models", headers={"host": "evil.example"})
    assert answer.status_code in {400, 403, 421}
    assert "evil.example" in answer.json()["error"]["message"]


def test_no_fault_of_a_caller_is_logged_with_its_key(server: Server) -> None:
    ask(server, {"authorization": f"Bearer {server.admin_key}x"})
    ask(server, {"x-api-key": server.admin_key})
    assert server.admin_key not in json.dumps(server.log_lines())
