"""Addresses of upstreams: what is read, what is refused, what is never shown."""

import pytest

from narthex.core.errors import ConfigError
from narthex.upstream.address import Address


@pytest.mark.parametrize(
    ("text", "host", "port", "base", "authority"),
    [
        ("http://a.example", "a.example", 80, "", "a.example"),
        ("http://a.example:80/v1/", "a.example", 80, "/v1", "a.example"),
        ("https://a.example/v1", "a.example", 443, "/v1", "a.example"),
        ("https://a.example:8443", "a.example", 8443, "", "a.example:8443"),
        ("http://A.Example:8000/x%20y", "a.example", 8000, "/x%20y", "a.example:8000"),
        ("http://127.0.0.1:1", "127.0.0.1", 1, "", "127.0.0.1:1"),
        ("http://[::1]:8000/v1", "::1", 8000, "/v1", "[::1]:8000"),
        ("http://bücher.example", "xn--bcher-kva.example", 80, "", "xn--bcher-kva.example"),
    ],
)
def test_tcp(text: str, host: str, port: int, base: str, authority: str) -> None:
    address = Address.parse(text)
    assert (address.host, address.port, address.base, address.authority) == (host, port, base, authority)
    assert not address.socket


@pytest.mark.parametrize(
    ("text", "socket", "base"),
    [
        ("unix:/run/a b.sock".replace(" ", "%20"), "/run/a b.sock", ""),
        ("unix:///run/a.sock", "/run/a.sock", ""),
        ("http+unix://%2Frun%2Fa.sock", "/run/a.sock", ""),
        ("http+unix://%2Frun%2Fa.sock/v1/", "/run/a.sock", "/v1"),
    ],
)
def test_unix(text: str, socket: str, base: str) -> None:
    address = Address.parse(text)
    assert (address.socket, address.base, address.authority) == (socket, base, "localhost")
    assert str(address) == f"unix:{socket}"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "a.example",
        "ftp://a.example",
        "http://",
        "http://:80",
        "http://a.example:0",
        "http://a.example:99999",
        "http://a.example:x",
        "http://a.example/?q=1",
        "http://a.example/#f",
        "http://a.example/a b",
        "http://a.example/\r\nx: y",
        "http://[::1",
        "http://a..example",
        "http://a.example/é",
        "unix:relative.sock",
        "http+unix:///run/a.sock",
    ],
)
def test_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        Address.parse(text)


def test_user_and_password_become_a_header_and_are_never_shown() -> None:
    address = Address.parse("http://us%65r:p%40ss@a.example/v1")
    assert address.basic_authorization == "Basic dXNlcjpwQHNz"
    assert "p@ss" not in f"{address!r} {address} {[address]}"
    assert "p%40ss" not in f"{address!r} {address}"
    assert Address.parse("http://a.example").basic_authorization is None
    with pytest.raises(ConfigError) as caught:
        Address.parse("http://user:secret@a.example:x")
    assert "secret" not in str(caught.value)


def test_equal_addresses_are_one_key() -> None:
    assert len({Address.parse("http://a.example"), Address.parse("http://a.example:80/")}) == 1
