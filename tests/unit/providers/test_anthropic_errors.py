"""Refusals of Anthropic's API, and error events of its streams."""

from typing import Any

import msgspec
import pytest

from narthex.core.errors import (
    UpstreamCredentials,
    UpstreamError,
    UpstreamProtocolError,
    UpstreamRateLimited,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from narthex.providers.anthropic_errors import parse_error, stream_error

SECRET = "org-123 owns sk-ant-1"
REFUSED = "The model's server refused the request."


def body(**error: Any) -> bytes:
    return msgspec.json.encode({"type": "error", "error": error, "request_id": "req_1"})


@pytest.mark.parametrize(
    ("status", "kind", "ours"),
    [
        (400, "invalid_request_error", UpstreamRejected),
        (401, "authentication_error", UpstreamCredentials),
        (402, "billing_error", UpstreamRateLimited),
        (403, "permission_error", UpstreamCredentials),
        (404, "not_found_error", UpstreamRejected),
        (413, "request_too_large", UpstreamRejected),
        (429, "rate_limit_error", UpstreamRateLimited),
        (500, "api_error", UpstreamUnavailable),
        (504, "timeout_error", UpstreamTimeout),
        (529, "overloaded_error", UpstreamUnavailable),
    ],
)
def test_statuses_and_types(status: int, kind: str, ours: type[UpstreamError]) -> None:
    for error in (
        parse_error(status, [], body(type=kind, message=SECRET)),
        stream_error({"type": kind, "message": SECRET}),
    ):
        assert type(error) is ours
        assert (SECRET in str(error)) == (ours is UpstreamRejected)


@pytest.mark.parametrize(
    ("status", "ours"),
    [(302, UpstreamProtocolError), (408, UpstreamTimeout), (422, UpstreamRejected), (502, UpstreamUnavailable)],
)
def test_answers_of_others_in_between(status: int, ours: type[UpstreamError]) -> None:
    for text in (b"<html>" + SECRET.encode(), b"", b"[" * 100_000, b'"a"', b"\xff", b'{"error":"a"}'):
        error = parse_error(status, [], text)
        assert (type(error), SECRET in str(error)) == (ours, False)


@pytest.mark.parametrize("error", [None, "text", ["list"], {}, {"type": "news"}, {"type": 3, "message": SECRET}])
def test_an_error_event_that_says_little(error: Any) -> None:
    assert str(stream_error(error)) == "The model's server failed."


@pytest.mark.parametrize(
    "message",
    [
        "prompt is too long: 205000 tokens > 200000 maximum",
        "input length and `max_tokens` exceed context limit: 190000 + 20000 > 200000",
    ],
)
def test_a_prompt_that_is_too_long(message: str) -> None:
    error = parse_error(400, [], body(type="invalid_request_error", message=message))
    assert isinstance(error, UpstreamRejected)
    assert (error.message, error.param, error.code) == (message, "messages", "context_length_exceeded")
    assert (error.status, error.type, error.retryable) == (400, "invalid_request_error", False)


@pytest.mark.parametrize(
    "message",
    [
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
        "You have reached your specified API usage limits. You will regain access on 2026-12-01.",
    ],
)
def test_what_the_operator_owes_is_not_told(message: str) -> None:
    error = parse_error(400, [], body(type="invalid_request_error", message=message))
    assert type(error) is UpstreamRateLimited
    assert error.retryable
    assert "API" not in error.message


@pytest.mark.parametrize(("message", "told"), [("x" * 9999, "x" * 2000), ("", REFUSED), (3, REFUSED), (None, REFUSED)])
def test_what_a_refusal_says(message: Any, told: str) -> None:
    error = parse_error(400, [], body(type="invalid_request_error", message=message))
    assert (error.message, error.param, error.code) == (told, None, None)


def test_when_to_come_back() -> None:
    for status in (429, 529):
        assert parse_error(status, [(b"retry-after", b"7")], b"").retry_after_s == 7.0
        assert parse_error(status, [], b"").retry_after_s is None
