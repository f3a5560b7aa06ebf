"""Refusals of servers that speak OpenAI's format."""

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
from narthex.providers.openai_errors import parse_error


def body(**error: Any) -> bytes:
    return msgspec.json.encode({"error": error})


@pytest.mark.parametrize(
    ("status", "ours"),
    [
        (401, UpstreamCredentials),
        (403, UpstreamCredentials),
        (408, UpstreamTimeout),
        (429, UpstreamRateLimited),
        (500, UpstreamUnavailable),
        (503, UpstreamUnavailable),
        (529, UpstreamUnavailable),
        (400, UpstreamRejected),
        (404, UpstreamRejected),
        (422, UpstreamRejected),
        (302, UpstreamProtocolError),
        (204, UpstreamProtocolError),
    ],
)
def test_statuses(status: int, ours: type[UpstreamError]) -> None:
    for text in (
        body(message="Incorrect key sk-abc of org-123"),
        b"<html>org-123",
        b"",
        b"[" * 100_000,
        b'"org-123"',
        b"\xff",
    ):
        error = parse_error(status, [], text)
        assert type(error) is ours
        assert ours is UpstreamRejected or "org-123" not in str(error)


@pytest.mark.parametrize(
    ("text", "message", "param", "code"),
    [
        (body(message="m", param="n", code="context_length_exceeded"), "m", "n", "context_length_exceeded"),
        (body(message="m", code=400), "m", None, None),
        (body(message="m", code="400"), "m", None, None),
        (body(message="m", code="40303"), "m", None, "40303"),
        (body(message="m", code=40303), "m", None, "40303"),
        (body(message="m", code=True, param=3), "m", None, None),
        (body(message="m", code=None), "m", None, None),
        (body(message=""), "The model's server refused the request.", None, None),
        (body(message=["m"]), "The model's server refused the request.", None, None),
        (b'{"error":"text"}', "text", None, None),
        (b'{"error":["text"]}', "The model's server refused the request.", None, None),
        (b'{"object":"error","message":"old","code":400}', "old", None, None),
        (b'{"detail":"Not Found"}', "Not Found", None, None),
        (b'{"detail":[{"loc":[]}]}', "The model's server refused the request.", None, None),
        (b"[]", "The model's server refused the request.", None, None),
        (body(message="x" * 9999), "x" * 2000, None, None),
    ],
)  # fmt: skip
def test_what_a_refusal_says(text: bytes, message: str, param: str | None, code: str | None) -> None:
    error = parse_error(400, [], text)
    assert (error.message, error.param, error.code) == (message, param, code)
