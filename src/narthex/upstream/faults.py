"""Foreign exceptions that a connection can meet, and which of our errors each becomes. By type, never by message.

The messages name no address: callers read them. The cause stays attached for our own logs.
"""

import socket
import ssl

import httptools

from narthex.core.errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable

TABLE: dict[type[Exception], tuple[type[UpstreamError], str]] = {
    OSError: (UpstreamUnavailable, "The connection to the model's server failed."),
    TimeoutError: (UpstreamTimeout, "The model's server took too long to connect."),
    ConnectionRefusedError: (UpstreamUnavailable, "The model's server refused the connection."),
    ConnectionResetError: (UpstreamUnavailable, "The model's server reset the connection."),
    BrokenPipeError: (UpstreamUnavailable, "The model's server closed the connection."),
    FileNotFoundError: (UpstreamUnavailable, "The model's server does not listen."),
    socket.gaierror: (UpstreamUnavailable, "The name of the model's server can't be resolved."),
    ssl.SSLError: (UpstreamUnavailable, "The TLS connection to the model's server failed."),
    ssl.SSLCertVerificationError: (UpstreamUnavailable, "The certificate of the model's server can't be verified."),
    httptools.HttpParserError: (UpstreamProtocolError, "The model's server sent no valid HTTP."),
    httptools.HttpParserUpgrade: (UpstreamProtocolError, "The model's server changed the protocol."),
}
"""Every class stands for its subclasses that have no row of their own."""

FOREIGN = tuple(TABLE)
"""What to catch where foreign exceptions enter."""


def translate(error: Exception) -> UpstreamError:
    """Our error for a foreign one; raise it `from` that one.

    A class without a row, which would be a gap in the table, is still the upstream's failure.
    """
    for kind in type(error).__mro__:
        if kind in TABLE:
            ours, message = TABLE[kind]
            return ours(message)
    return UpstreamUnavailable()


def as_ours(failure: Exception) -> UpstreamError:
    """An error of ours as it is, or what a foreign one is to the caller."""
    if isinstance(failure, UpstreamError):
        return failure
    error = translate(failure)
    error.__cause__ = failure
    return error


def broken_off(*, within: bool) -> UpstreamError:
    """A server has closed its connection before or within its answer."""
    if within:
        return UpstreamProtocolError("The model's server closed the connection in the middle of its answer.")
    return UpstreamUnavailable("The model's server closed the connection before it answered.")
