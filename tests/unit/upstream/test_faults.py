"""The table of foreign exceptions is complete."""

import socket
import ssl

import httptools
import pytest

from narthex.core.errors import UpstreamError, UpstreamProtocolError, UpstreamTimeout, UpstreamUnavailable
from narthex.upstream.faults import FOREIGN, TABLE, translate


def tree(kind: type[Exception]) -> set[type[Exception]]:
    return {kind}.union(*(tree(child) for child in kind.__subclasses__() if child.__module__ == "builtins"))


def of(module: object) -> set[type[Exception]]:
    public = {name: kind for name, kind in vars(module).items() if not name.startswith("_")}
    return {kind for kind in public.values() if isinstance(kind, type) and issubclass(kind, Exception)}


# what a stream transport, a resolver, a TLS handshake, a timeout and the parser may raise
ENTERING = tree(OSError) | of(socket) | of(ssl) | of(httptools)


@pytest.mark.parametrize("kind", sorted(ENTERING, key=repr), ids=repr)
def test_every_class_that_may_enter_is_caught_and_translated(kind: type[Exception]) -> None:
    assert issubclass(kind, FOREIGN)
    error = translate(kind.__new__(kind))
    assert isinstance(error, UpstreamError)
    assert error.retryable


@pytest.mark.parametrize(
    ("error", "ours"),
    [
        (ConnectionRefusedError(), UpstreamUnavailable),
        (OSError(113, "no route"), UpstreamUnavailable),
        (TimeoutError(), UpstreamTimeout),
        (OSError(110, "timed out"), UpstreamTimeout),
        (ssl.SSLEOFError(), UpstreamUnavailable),
        (httptools.HttpParserInvalidStatusError(), UpstreamProtocolError),
        (httptools.HttpParserUpgrade(3), UpstreamProtocolError),
        (ZeroDivisionError(), UpstreamUnavailable),
    ],
)
def test_translations(error: Exception, ours: type[UpstreamError]) -> None:
    assert type(translate(error)) is ours


def test_a_row_wins_over_its_base_classes() -> None:
    for kind, (ours, message) in TABLE.items():
        error = translate(kind.__new__(kind))
        assert (type(error), error.message) == (ours, message)


def test_messages_repeat_nothing_of_the_cause() -> None:
    assert "10.0.0.7" not in str(translate(ConnectionRefusedError(111, "connect to 10.0.0.7")))
