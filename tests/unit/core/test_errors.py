"""The error tree keeps its promises."""

import inspect

import pytest

from narthex.core import errors
from narthex.core.errors import BY_NAME, MethodNotAllowed, ModelNotFound, NarthexError, RequestError

STATUSES = {
    "NarthexError": 500, "RequestError": 400, "InvalidRequest": 400, "UnsupportedParameter": 400,
    "UnknownParameter": 400, "ContextLengthExceeded": 400, "AuthenticationFailed": 401, "PermissionDenied": 403,
    "NotFound": 404, "ModelNotFound": 404, "RouteNotFound": 404, "MethodNotAllowed": 405, "Conflict": 409,
    "Superseded": 409,
    "RequestTooLarge": 413, "UnsupportedMediaType": 415, "LimitExceeded": 429, "QueueFull": 429, "UpstreamError": 502,
    "UpstreamRejected": 400, "UpstreamRateLimited": 429, "UpstreamUnavailable": 502, "UpstreamProtocolError": 502,
    "UpstreamCredentials": 502, "UpstreamTimeout": 504, "CallersTimeout": 504,
    "EngineError": 503, "EngineStarting": 503, "EngineUnavailable": 503, "ModelLoadFailed": 503,
    "EngineCrashed": 502, "InvalidOutput": 502, "SpeechFailed": 502, "Draining": 503,
    "StorageError": 503, "StorageFull": 507, "ConfigError": 500,
}  # fmt: skip
CODES = {
    "UnsupportedParameter": "unsupported_parameter", "UnknownParameter": "unknown_parameter",
    "ContextLengthExceeded": "context_length_exceeded", "PermissionDenied": "insufficient_permissions",
    "ModelNotFound": "model_not_found", "MethodNotAllowed": "method_not_supported", "Conflict": "conflict",
    "Superseded": "superseded",
    "RequestTooLarge": "request_too_large", "UnsupportedMediaType": "unsupported_media_type",
    "LimitExceeded": "rate_limit_exceeded", "UpstreamUnavailable": "upstream_error", "UpstreamTimeout": "timeout",
    "EngineStarting": "overloaded", "Draining": "overloaded", "NarthexError": None, "InvalidRequest": None,
    "AuthenticationFailed": None, "RouteNotFound": None,
}  # fmt: skip


def make(kind: type[NarthexError], message: str | None = None) -> NarthexError:
    return MethodNotAllowed(message or "No.", allow=("GET",)) if kind is MethodNotAllowed else kind(message)


def test_the_contract_names_every_status() -> None:
    assert {name: kind.status for name, kind in BY_NAME.items() if name in STATUSES} == STATUSES
    ours = {name for name, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, NarthexError)}
    assert ours == BY_NAME.keys() == STATUSES.keys()


def test_the_contract_names_the_codes() -> None:
    assert {name: make(BY_NAME[name]).code for name in CODES} == CODES


@pytest.mark.parametrize("kind", BY_NAME.values(), ids=lambda kind: kind.__name__)
def test_the_first_line_of_the_docstring_is_the_message(kind: type[NarthexError]) -> None:
    if kind is not MethodNotAllowed:
        assert kind().message == str(kind()) == (kind.__doc__ or "").splitlines()[0]
    error = make(kind, "Words.")
    assert error.message == "Words."
    assert f"{kind.__name__} " in f"{errors.__doc__} "
    if issubclass(kind, RequestError):
        assert 400 <= error.status < 500


def test_only_a_bare_error_hides_its_message() -> None:
    assert NarthexError("a secret path").public_message == "Internal error."
    assert errors.Draining("Wait.").public_message == "Wait."


def test_details_travel_along() -> None:
    error = errors.LimitExceeded("Slow.", param="n", code="tokens", retry_after_s=1.5)
    assert (error.param, error.code, error.retry_after_s, error.retryable) == ("n", "tokens", 1.5, True)
    assert MethodNotAllowed("No.", allow=("GET", "HEAD")).allow == ("GET", "HEAD")


def test_a_model_that_is_unknown_or_not_granted_is_named_alike() -> None:
    error = ModelNotFound.named("m" * 300)
    assert error.param == "model"
    assert "m" * 200 + "'" in error.message
