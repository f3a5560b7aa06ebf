"""A prompt that is too long, as servers say it."""

import json
from typing import Any

import pytest

from narthex.core.errors import UpstreamCredentials, UpstreamRejected, UpstreamUnavailable
from narthex.providers.openai_refusals import refusal


def parsed(error: Any, status: int = 400) -> Any:
    return refusal(status, [], json.dumps({"error": error}).encode())


@pytest.mark.parametrize(
    "error",
    [
        {"message": "Too long.", "type": "exceed_context_size_error", "code": 400, "n_prompt_tokens": 9, "n_ctx": 8},
        {"message": "Too long.", "type": "BadRequestError", "param": "input_tokens", "code": 400},
        {"message": "Too long.", "type": "invalid_request_error", "code": "context_length_exceeded"},
    ],
)
def test_it_has_the_contract_s_code(error: Any) -> None:
    found = parsed(error)
    assert isinstance(found, UpstreamRejected)
    assert (found.code, found.message) == ("context_length_exceeded", "Too long.")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ({"message": "No.", "type": "BadRequestError", "param": "top_p", "code": 400}, None),
        ({"message": "No.", "type": 7}, None),
        ({"message": "No.", "code": "invalid_value"}, "invalid_value"),
        ("No.", None),
    ],
)
def test_other_refusals_stay_as_they_are(error: Any, code: str | None) -> None:
    found = parsed(error)
    assert isinstance(found, UpstreamRejected)
    assert (found.code, found.message) == (code, "No.")


def test_an_array_of_errors_is_its_first() -> None:
    found = refusal(400, [], b'[{"error": {"code": 400, "message": "No.", "status": "INVALID_ARGUMENT"}}]')
    assert isinstance(found, UpstreamRejected)
    assert (found.message, found.code) == ("No.", None)
    assert isinstance(refusal(400, [], b"[]"), UpstreamRejected)


def test_a_bill_is_not_the_caller_s() -> None:
    assert isinstance(refusal(402, [], b'{"error": {"message": "Top up at sk-canary."}}'), UpstreamCredentials)


def test_failures_are_no_refusals() -> None:
    assert isinstance(parsed({"type": "exceed_context_size_error"}, 500), UpstreamUnavailable)
