"""How long servers ask to stay away, form by form, and what tells nothing."""

from typing import Any

import msgspec
import pytest

from narthex.core.errors import UpstreamRateLimited, UpstreamUnavailable
from narthex.providers import anthropic_errors, openai_errors
from narthex.providers.openai_refusals import refusal
from narthex.providers.retry_hints import retry_after_s

DATE = "Sat, 21 Nov 2026 08:00:00 GMT"
RETRY_INFO = "type.googleapis.com/google.rpc.RetryInfo"


def fields(**values: str) -> list[tuple[bytes, bytes]]:
    return [(name.replace("_", "-").encode(), value.encode("latin-1")) for name, value in values.items()]


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ([], None),
        (fields(retry_after="2"), 2.0),
        (fields(retry_after="0.5"), 0.5),
        (fields(retry_after_ms="250", retry_after="9"), 0.25),
        (fields(retry_after_ms="x", retry_after="9"), 9.0),
        (fields(x_ms_retry_after_ms="1500", retry_after="9"), 1.5),
        (fields(retry_after="1e9"), 1e9),
        (fields(retry_after="-1"), None),
        (fields(retry_after="inf"), None),
        (fields(retry_after="nan"), None),
        (fields(retry_after=""), None),
        (fields(retry_after="soon"), None),
        (fields(retry_after="\xff"), None),
        ([(b"retry-after", b"3"), (b"retry-after", b"4")], 3.0),
        (fields(date=DATE, retry_after="Sat, 21 Nov 2026 08:00:30 GMT"), 30.0),
        (fields(date=DATE, retry_after="Sat, 21 Nov 2026 07:00:30 GMT"), 0.0),
        (fields(date="Sat, 21 Nov 2026 08:00:00", retry_after="Sat, 21 Nov 2026 07:00:30 GMT"), None),
        (fields(date="x", retry_after="Sat, 21 Nov 2026 07:00:30 GMT"), None),
        (fields(retry_after="Sat, 21 Nov 2026 08:00:30 GMT"), None),
    ],
)
def test_headers_that_tell_a_wait(headers: list[tuple[bytes, bytes]], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds
    assert openai_errors.parse_error(429, headers, b"").retry_after_s == seconds
    assert openai_errors.parse_error(503, headers, b"").retry_after_s == seconds
    assert anthropic_errors.parse_error(529, headers, b"").retry_after_s == seconds


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        (fields(x_ratelimit_reset_requests="1s"), 1.0),
        (fields(x_ratelimit_reset_requests="6m0s"), 360.0),
        (fields(x_ratelimit_reset_tokens="20ms"), 0.02),
        (fields(x_ratelimit_reset_tokens="1h2m3.5s"), 3723.5),
        (fields(x_ratelimit_reset_tokens="1d"), 86400.0),
        (fields(x_ratelimit_reset_requests="1s", x_ratelimit_reset_tokens="6m0s"), 360.0),
        (
            fields(
                x_ratelimit_remaining_requests="0", x_ratelimit_reset_requests="2s",
                x_ratelimit_remaining_tokens="149", x_ratelimit_reset_tokens="6m0s",
            ),
            2.0,
        ),
        (fields(x_ratelimit_remaining_tokens="149", x_ratelimit_reset_tokens="6m0s"), None),
        (fields(x_ratelimit_remaining_tokens="-5", x_ratelimit_reset_tokens="6s"), 6.0),
        (fields(x_ratelimit_reset_tokens="-6s"), None),
        (fields(x_ratelimit_reset_tokens="1e9s"), None),
        (fields(x_ratelimit_reset_tokens="NaNs"), None),
        (fields(x_ratelimit_reset_tokens="99999999999999999999s"), None),
        (fields(x_ratelimit_reset_tokens="6"), None),
        (fields(x_ratelimit_reset_tokens="\u0665s".encode().decode("latin-1")), None),
        (fields(x_ratelimit_reset_requests="x", x_ratelimit_reset_tokens="3s"), 3.0),
        (fields(retry_after="7", x_ratelimit_reset_tokens="3s"), 7.0),
        (fields(date=DATE, anthropic_ratelimit_requests_reset="2026-11-21T08:00:30Z"), 30.0),
        (
            fields(
                date=DATE, anthropic_ratelimit_requests_reset="2026-11-21T08:00:30Z",
                anthropic_ratelimit_input_tokens_reset="2026-11-21T09:01:00+01:00",
            ),
            60.0,
        ),
        (
            fields(
                date=DATE, anthropic_ratelimit_output_tokens_reset="2026-11-21T08:00:02Z",
                anthropic_ratelimit_tokens_reset="2026-11-21T08:01:00Z", anthropic_ratelimit_tokens_remaining="400",
            ),
            2.0,
        ),
        (fields(date=DATE, anthropic_ratelimit_tokens_reset="2026-11-21T07:59:00Z"), 0.0),
        (fields(date=DATE, anthropic_ratelimit_tokens_reset="2026-11-21T08:59:00"), None),
        (fields(date=DATE, anthropic_ratelimit_tokens_reset="tomorrow"), None),
        (fields(anthropic_ratelimit_tokens_reset="2026-11-21T08:00:30Z"), None),
    ],
)  # fmt: skip
def test_headers_that_tell_of_a_reset(headers: list[tuple[bytes, bytes]], seconds: float | None) -> None:
    assert openai_errors.parse_error(429, headers, b"").retry_after_s == seconds
    assert anthropic_errors.parse_error(429, headers, b"").retry_after_s == seconds
    # They come with every answer: only where a limit was reached do they tell when to come back.
    unlimited = [each for each in headers if each[0] != b"retry-after"]
    assert openai_errors.parse_error(503, unlimited, b"").retry_after_s is None


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        ({"code": 429, "details": [{"@type": RETRY_INFO, "retryDelay": "17s"}]}, 17.0),
        ({"code": 429, "details": [{"@type": "…QuotaFailure"}, {"@type": RETRY_INFO, "retryDelay": "0.25s"}]}, 0.25),
        ({"code": 429, "details": [3, None, {"retryDelay": 17}, {"retryDelay": "-17s"}]}, None),
        ({"code": 429, "details": {"retryDelay": "17s"}}, None),
        ({"code": 429, "details": [{"retryDelay": "1e9s"}, {"retryDelay": "NaNs"}, {"retryDelay": "inf"}]}, None),
        ({"message": "Rate limit reached for gpt-x on tokens. Please try again in 1.2s. Visit …"}, 1.2),
        ({"message": "Please try again in 20ms."}, 0.02),
        ({"message": "Please try again in 6m0s."}, 360.0),
        ({"message": "Please try again in 7m12.5s. Need more tokens?"}, 432.5),
        ({"message": "Please retry after 26 seconds."}, 26.0),
        ({"message": "Please retry after 1 second."}, 1.0),
        ({"message": "Quota exceeded. Please retry in 17.479s."}, 17.479),
        ({"message": "Please try again in 3 days."}, None),
        ({"message": "Please try again in -3s."}, None),
        ({"message": "Please try again in 1e9s."}, None),
        ({"message": "Please try again in 12345678901s."}, None),
        ({"message": "Please try again in soon."}, None),
        ({"message": "Please try again in 5smart."}, None),
        ({"message": f"{'x' * 5000} try again in 5s"}, None),
        ({"message": ["try again in 5s"]}, None),
        ({"message": "wait", "details": [{"retryDelay": "2s"}]}, 2.0),
        ({"message": "try again in 9s", "details": [{"retryDelay": "2s"}]}, 2.0),
        ("try again in 5s", None),
        ([], None),
    ],
)  # fmt: skip
def test_bodies(error: Any, seconds: float | None) -> None:
    body = msgspec.json.encode({"error": error})
    for text in (body, b"[%b]" % body):
        limited = refusal(429, [], text)
        assert (type(limited), limited.retry_after_s) == (UpstreamRateLimited, seconds)
        failed = refusal(503, [], text)
        assert (type(failed), failed.retry_after_s) == (UpstreamUnavailable, seconds)
        assert refusal(429, fields(retry_after="8"), text).retry_after_s == 8.0
    assert anthropic_errors.parse_error(429, [], body).retry_after_s == seconds
    flat = {"type": "rate_limit_error", "code": "rate_limit_exceeded"} | (error if isinstance(error, dict) else {})
    if flat["code"] == "rate_limit_exceeded":
        assert openai_errors.stream_error(flat).retry_after_s == seconds


def test_a_body_without_an_error_object_may_tell() -> None:
    assert refusal(429, [], b'{"message":"try again in 2s"}').retry_after_s == 2.0
    assert refusal(429, [], b"try again in 2s").retry_after_s is None
    assert retry_after_s([], ["try again in 2s"]) is None


@pytest.mark.parametrize("status", [400, 401, 404, 408])
def test_other_refusals_tell_no_wait(status: int) -> None:
    assert refusal(status, fields(retry_after="8"), b'{"error":{"message":"try again in 2s"}}').retry_after_s is None
