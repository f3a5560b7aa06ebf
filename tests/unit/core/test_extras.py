"""What callers may never add to the request that a model's server gets, and what is told of what they may."""

import pytest

from narthex.core.errors import UpstreamRejected
from narthex.core.extras import HEADERS, NEVER_PARAMS, PARAMS, header_fault, hide, is_header_value, param_fault
from narthex.dialects import openai_chat, openai_completions, openai_embeddings, scale_chat, scale_completions

NEVER = (
    "authorization", "Authorization", "x-api-key", "API-KEY", "host", "cookie", "content-length", "Content-Anything",
    "transfer-encoding", "connection", "keep-alive", "te", "trailer", "upgrade", "proxy-authorization", "Proxy-X",
    "forwarded", "x-forwarded-for", "X-Forwarded-Anything", "accept-encoding", "expect",
)  # fmt: skip


@pytest.mark.parametrize("name", NEVER)
def test_some_headers_are_never_a_callers(name: str) -> None:
    assert header_fault(name) == "such a header is never a caller's to set"


@pytest.mark.parametrize("name", ["", "a b", "a:", "x\r\ny", "x\n", "é", "x" * 101])
def test_some_names_are_no_headers(name: str) -> None:
    assert header_fault(name) == "it is no name of a header"


@pytest.mark.parametrize("name", ["x-team", "X-Team", "anthropic-beta", "traceparent"])
def test_other_headers_can_be_allowed(name: str) -> None:
    assert header_fault(name) is None


@pytest.mark.parametrize(
    ("value", "sound"),
    [("a", True), ("a b\tc", True), ("x" * 4096, True), ("", False), (" a", False), ("a ", False), ("a\r\nb: c", False)]
    + [(odd, False) for odd in ("a\nb", "a\rb", "a\x00b", "é", "x" * 4097)],
)
def test_values_are_one_line_of_ascii(value: str, sound: bool) -> None:
    assert is_header_value(value) is sound


def test_no_request_field_can_be_replaced() -> None:
    surfaces = (openai_chat, openai_completions, openai_embeddings, scale_chat, scale_completions)
    assert {name for surface in surfaces for name in surface.FORM.known} <= NEVER_PARAMS


@pytest.mark.parametrize("name", ["model", "Messages", "tokenize", "chat_template", "chat_template_kwargs", "n"])
def test_what_is_checked_can_t_be_allowed(name: str) -> None:
    assert param_fault(name) == "callers can't replace what is checked"


@pytest.mark.parametrize("name", ["", "a\nb", "x" * 101])
def test_some_texts_are_no_names(name: str) -> None:
    assert param_fault(name) == "it is no name of a parameter"


def test_other_params_can_be_allowed() -> None:
    assert param_fault("mirostat") is None


def test_what_was_added_is_hidden_in_errors() -> None:
    said = "x-team 'secret-value' and ['deep-secret'] are bad, short is not 7 either"
    error = UpstreamRejected(said, param="a.secret-value", code="no-deep-secret")
    hide(error, {PARAMS: {"a": ["deep-secret", {"b": 7}], "c": "short"}, HEADERS: {"x-team": "secret-value"}})
    assert error.message == str(error) == "x-team '***' and ['***'] are bad, short is not 7 either"
    assert (error.param, error.code) == ("a.***", "no-***")


def test_what_an_error_does_not_tell_stays_untold() -> None:
    error = UpstreamRejected("Some refusal.")
    hide(error, {HEADERS: {"x-team": "secret-value"}})
    assert (error.message, error.param, error.code) == ("Some refusal.", None, None)
