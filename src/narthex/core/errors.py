"""The whole error tree. An error knows its status, type, code and whether a retry may help; a dialect alone renders it.

Source: contract section 1.9.

    NarthexError                   500, the caller sees only "Internal error."
      RequestError                 the caller can mend it
        InvalidRequest 400 · UnsupportedParameter 400 · UnknownParameter 400 · ContextLengthExceeded 400
        AuthenticationFailed 401 · PermissionDenied 403 · NotFound 404 · ModelNotFound 404 · RouteNotFound 404
        MethodNotAllowed 405 · Conflict 409 · Superseded 409 · RequestTooLarge 413 · UnsupportedMediaType 415
        LimitExceeded 429 · QueueFull 429
      UpstreamError                a provider failed
        UpstreamRejected 400 · UpstreamRateLimited 429 · UpstreamUnavailable 502 · UpstreamProtocolError 502
        UpstreamCredentials 502 · UpstreamTimeout 504 · CallersTimeout 504
      EngineError                  a child of ours failed
        EngineStarting 503 · EngineUnavailable 503 · ModelLoadFailed 503 · EngineCrashed 502
      InvalidOutput 502
      SpeechFailed 502
      Draining 503
      StorageError 503 · StorageFull 507
      ConfigError                  at start only; names the setting
"""

from typing import ClassVar

from typing_extensions import override


class NarthexError(Exception):
    """Internal error."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    default_code: ClassVar[str] = ""  # "": the code is null
    retryable: ClassVar[bool] = False
    by_wish: ClassVar[bool] = False
    """The caller asked for such an end: it is no failure of ours, whatever its status."""

    def __init__(
        self,
        message: str | None = None,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
    ) -> None:
        """Keep what a dialect needs to render the error.

        Args:
            message: for the caller; the class's first docstring line when absent. Never holds a secret.
            param: path of the field at fault, e.g. `messages[0].content`.
            code: overrides the class's code.
            retry_after_s: seconds until a retry may pass; becomes `Retry-After`, rounded up.
        """
        self.message = message or (type(self).__doc__ or "Internal error.").splitlines()[0]
        self.param = param
        self.retry_after_s = retry_after_s
        self.code = code or self.default_code or None
        super().__init__(self.message)

    @property
    def public_message(self) -> str:
        """What the caller may read: our own faults say nothing of their cause."""
        return self.message if type(self) is not NarthexError else "Internal error."


# --- the caller can mend it ----------------------------------------------------------------------------------------


class RequestError(NarthexError):
    """The request can't be served as it is."""

    status = 400
    type = "invalid_request_error"


class InvalidRequest(RequestError):
    """The request is invalid."""


class UnsupportedParameter(RequestError):
    """This parameter is not supported by the model."""

    default_code = "unsupported_parameter"


class UnknownParameter(RequestError):
    """Unknown parameter."""

    default_code = "unknown_parameter"


class ContextLengthExceeded(RequestError):
    """The prompt does not fit the model's context window."""

    default_code = "context_length_exceeded"


class AuthenticationFailed(RequestError):
    """You didn't provide an API key. Send it as `Authorization: Bearer <key>` or as `x-api-key: <key>`."""

    status = 401


class PermissionDenied(RequestError):
    """This key may not use this endpoint."""

    status = 403
    type = "permission_error"
    default_code = "insufficient_permissions"


class NotFound(RequestError):
    """There is no such object."""

    status = 404
    default_code = "not_found"


class ModelNotFound(RequestError):
    """The model does not exist or this key may not use it."""

    status = 404
    default_code = "model_not_found"

    @classmethod
    def named(cls, model: str) -> "ModelNotFound":
        """The same words whether the model is unknown or only not granted, so that nothing leaks."""
        return cls(f"The model '{model[:200]}' does not exist or you do not have access to it.", param="model")


class RouteNotFound(RequestError):
    """Unknown URL."""

    status = 404


class MethodNotAllowed(RequestError):
    """This method is not allowed here."""

    status = 405
    default_code = "method_not_supported"

    def __init__(self, message: str, *, allow: tuple[str, ...]) -> None:
        """`allow`: the methods that the route takes, for the `Allow` header."""
        super().__init__(message)
        self.allow = allow


class Conflict(RequestError):
    """The object exists already."""

    status = 409
    default_code = "conflict"


class Superseded(Conflict):
    """The collection was rebuilt meanwhile: ask again."""

    default_code = "superseded"
    retryable = True


class RequestTooLarge(RequestError):
    """The request body is too large."""

    status = 413
    default_code = "request_too_large"


class UnsupportedMediaType(RequestError):
    """Send the body as `Content-Type: application/json`."""

    status = 415
    default_code = "unsupported_media_type"


class LimitExceeded(RequestError):
    """Rate limit reached."""

    status = 429
    type = "requests"
    default_code = "rate_limit_exceeded"
    retryable = True


class QueueFull(LimitExceeded):
    """Too many requests wait for this model already."""


# --- a provider failed ---------------------------------------------------------------------------------------------


class UpstreamError(NarthexError):
    """The model's server failed."""

    status = 502
    default_code = "upstream_error"
    retryable = True


class UpstreamRejected(UpstreamError):
    """The model's server refused the request."""

    status = 400
    type = "invalid_request_error"
    default_code = ""
    retryable = False


class UpstreamRateLimited(UpstreamError):
    """The model's server is over its rate limit."""

    status = 429
    type = "requests"
    default_code = "rate_limit_exceeded"


class UpstreamUnavailable(UpstreamError):
    """The model's server could not be reached."""


class UpstreamProtocolError(UpstreamError):
    """The model's server sent an answer that can't be read."""


class UpstreamCredentials(UpstreamError):
    """The model's server refused our credentials."""

    retryable = False


class UpstreamTimeout(UpstreamError):
    """The model's server took too long."""

    status = 504
    default_code = "timeout"


class CallersTimeout(UpstreamTimeout):
    """The request took longer than its caller allowed."""

    retryable = False
    by_wish = True


# --- a child of ours failed ----------------------------------------------------------------------------------------


class EngineError(NarthexError):
    """The embedded engine failed."""

    status = 503
    default_code = "overloaded"
    retryable = True


class EngineStarting(EngineError):
    """The model is being loaded."""


class EngineUnavailable(EngineError):
    """The embedded engine can't take this request now."""


class ModelLoadFailed(EngineError):
    """The model could not be loaded."""

    default_code = "model_load_failed"
    retryable = False


class EngineCrashed(EngineError):
    """The embedded engine ended in the middle of the answer."""

    status = 502
    default_code = "upstream_error"


class InvalidOutput(NarthexError):
    """The model's answer does not have the form that was asked for."""

    status = 502
    default_code = "invalid_output"

    @override
    def __str__(self) -> str:
        return self.message.partition(":")[0]  # the rest may quote the answer, which is not for logs


class SpeechFailed(NarthexError):
    """The answer was written, but could not be spoken."""

    status = 502
    default_code = "upstream_error"


class Draining(NarthexError):
    """This server is shutting down."""

    status = 503
    default_code = "overloaded"
    retryable = True


# --- storage, settings ---------------------------------------------------------------------------------------------


class StorageError(NarthexError):
    """The database can't answer now."""

    status = 503
    default_code = "storage_unavailable"
    retryable = True


class StorageFull(StorageError):
    """The disk is full: nothing can be written."""

    status = 507
    default_code = "storage_full"
    retryable = False


class ConfigError(NarthexError):
    """The configuration is invalid."""


def _tree(root: type[NarthexError]) -> dict[str, type[NarthexError]]:
    found = {root.__name__: root}
    for child in root.__subclasses__():
        found |= _tree(child)
    return found


BY_NAME: dict[str, type[NarthexError]] = _tree(NarthexError)
"""Every error class by its name: how an error crosses a process boundary."""
